"""The storage account of the function app, as `AzureWebJobsStorage` names it. It must not send a request.

The setting is the Functions host's own. It holds a connection string, or is split into settings whose names begin with
`AzureWebJobsStorage__` and that say which account the app's identity may use. The queue is in this account, and so
are the blobs of an `az://` address, unless obstore's own `AZURE_STORAGE_ACCOUNT_NAME` says otherwise.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECTION: Final = "AzureWebJobsStorage"
ACCOUNT_NAME: Final = "AzureWebJobsStorage__accountName"
QUEUE_SERVICE: Final = "AzureWebJobsStorage__queueServiceUri"
BLOB_SERVICE: Final = "AzureWebJobsStorage__blobServiceUri"
CLIENT_ID: Final = "AzureWebJobsStorage__clientId"
OBSTORE_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"
TOKEN: Final = "AZURE_STORAGE_TOKEN"  # noqa: S105 -- the name of a setting
"""obstore's own, too: a token of whoever works on a machine that has no identity."""

_SUFFIX: Final = "core.windows.net"
_EMULATOR: Final = "devstoreaccount1"
_EMULATOR_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that the emulator has everywhere; it is no secret."""


class Account(NamedTuple):
    """Where the account is, and by what it is entered: its key, a signature, or else the app's identity."""

    name: str
    queues: str
    """The address of its queue service, without a slash at the end."""
    blobs: str
    key: str = ""
    """Base64."""
    signature: str = ""
    """A shared access signature: parameters of a query."""
    client_id: str = ""
    """Which of the identities that were assigned to the app; empty for the system's."""
    token: str = ""
    """One that somebody has asked for already, and that nobody renews."""

    def __repr__(self) -> str:
        return f"Account({self.name!r}, {self.queues!r}, {self.blobs!r}, ...)"  # whoever logs it logs no key

    @property
    def by_identity(self) -> bool:
        """Whether requests carry a token of the app's identity."""
        return not (self.key or self.signature or self.token)

    def blob_options(self) -> dict[str, str]:
        """The options by which obstore finds the account's blobs."""
        ways_in = {
            "account_key": self.key,
            "sas_token": self.signature,
            "client_id": self.client_id,
            "token": self.token,
        }
        given = {option: value for option, value in ways_in.items() if value}
        return {"account_name": self.name, "endpoint": self.blobs, **given}


def account(environment: Mapping[str, str]) -> Account:
    """The account that the settings name; `DefinitionError` says which of them is missing or cannot be read."""
    text = environment.get(CONNECTION, "").strip()
    if text:
        return _from_connection_string(text)
    name = environment.get(ACCOUNT_NAME, "").strip()
    queues = environment.get(QUEUE_SERVICE, "").strip().rstrip("/")
    blobs = environment.get(BLOB_SERVICE, "").strip().rstrip("/")
    if not name and queues:
        name = _account_of(queues)
    if not name:
        raise DefinitionError(
            f"No storage account is named: set {CONNECTION} to its connection string, or {ACCOUNT_NAME} to its name "
            f"for an app that enters it by its identity."
        )
    return Account(
        name,
        queues or f"https://{name}.queue.{_SUFFIX}",
        blobs or f"https://{name}.blob.{_SUFFIX}",
        client_id=environment.get(CLIENT_ID, "").strip(),
        token=environment.get(TOKEN, "").strip(),
    )


def blob_account(environment: Mapping[str, str]) -> Account:
    """The account of the blobs: obstore's settings name it, or else it is the app's. `DefinitionError` as above."""
    name = environment.get(OBSTORE_ACCOUNT, "").strip()
    if not name:
        return account(environment)

    def first(*names: str) -> str:
        return next((given for one in names if (given := environment.get(one, "").strip())), "")

    return Account(
        name,
        f"https://{name}.queue.{_SUFFIX}",
        first("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT").rstrip("/") or f"https://{name}.blob.{_SUFFIX}",
        first("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY"),
        first("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY").lstrip("?"),
        first("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
        first(TOKEN),
    )


def _from_connection_string(text: str) -> Account:
    fields: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        fields[name.strip().lower()] = value.strip()
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        base = fields.get("developmentstorageproxyuri", "http://127.0.0.1").rstrip("/")
        return Account(_EMULATOR, f"{base}:10001/{_EMULATOR}", f"{base}:10000/{_EMULATOR}", _EMULATOR_KEY)
    scheme = fields.get("defaultendpointsprotocol") or "https"
    suffix = fields.get("endpointsuffix") or _SUFFIX
    queues, blobs = fields.get("queueendpoint", "").rstrip("/"), fields.get("blobendpoint", "").rstrip("/")
    name = fields.get("accountname") or _account_of(queues or blobs)
    key, signature = fields.get("accountkey", ""), fields.get("sharedaccesssignature", "").lstrip("?")
    if not name or not (key or signature) or not _is_base64(key):
        raise DefinitionError(
            f"{CONNECTION} is not the connection string of a storage account: it needs AccountName=... and "
            f"AccountKey=..., or endpoints and SharedAccessSignature=.... The command "
            f"az storage account show-connection-string prints it."
        )
    return Account(
        name,
        queues or f"{scheme}://{name}.queue.{suffix}",
        blobs or f"{scheme}://{name}.blob.{suffix}",
        key,
        signature,
    )


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _account_of(endpoint: str) -> str:
    """The account in an address such as https://account.queue.core.windows.net; empty if there is none."""
    return endpoint.partition("://")[2].partition("/")[0].partition(".")[0]
