"""A storage account as the doctor asks it: GET, and one error for all that it does not tell. It must not judge."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from flux_azure.account import TOKEN
from flux_azure.admission import headers, target
from flux_azure.identity import ENDPOINT, Identity
from flux_core.errors import InvocationError, SchedulerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_azure.account import Account

LOG_IN: Final = (
    f"export {TOKEN}=$(az account get-access-token --resource https://storage.azure.com/ --query accessToken "
    f"--output tsv)"
)
"""How a machine that has no identity of its own gets in as whoever works there."""

_TIMEOUT: Final = 10.0
_UNAUTHORISED: Final = 401
_FORBIDDEN: Final = 403
_MISSING: Final = 404
_WRONG: Final = 400
_NO_KEYS: Final = "KeyBasedAuthenticationNotPermitted"


class Refused(InvocationError):
    """Azure has not told."""


class Missing(Refused):
    """There is no such thing."""


class Answer(NamedTuple):
    """What was asked for. Names of headers are in lower case."""

    headers: Mapping[str, str]
    content: str

    def field(self, *path: str) -> str:
        """The text of the first element of that path in the XML, empty if it is not there."""
        text = self.content
        for name in path:
            text = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
        return text


class Services:
    """The blobs and queues of one account."""

    def __init__(self, account: Account, environment: Mapping[str, str]) -> None:
        """Sends nothing yet."""
        self.account = account
        self.can_enter = not account.by_identity or bool(environment.get(ENDPOINT))
        """Whether there is anything to enter it with; an app's identity is only where the app runs."""
        self._identity = Identity(account.client_id, environment) if account.by_identity else None

    def blobs(self, path: str = "", **query: str) -> Answer:
        """The answer of the blob service; `Refused` or `Missing` says why there is none."""
        return self._asked(self.account.blobs, path, query, "Storage Blob Data Contributor")

    def queues(self, path: str = "", **query: str) -> Answer:
        """The same of the queue service."""
        return self._asked(self.account.queues, path, query, "Storage Queue Data Contributor")

    def _asked(self, service: str, path: str, query: Mapping[str, str], role: str) -> Answer:
        if not self.can_enter:
            raise Refused(
                f"the storage account {self.account.name!r} is entered by the app's identity, which this machine does "
                f"not have. Enter it as yourself: {LOG_IN}"
            )
        parts = urlsplit(service)
        where = f"{parts.path}/{path}"
        given = headers(self.account, "GET", where, query)
        kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            if self._identity is not None:
                given["Authorization"] = f"Bearer {self._identity.token()}"
            connection.request("GET", target(self.account, where, query), headers=given)
            answer = connection.getresponse()
            content = answer.read().decode(errors="replace")
        except SchedulerUnavailable as error:
            raise Refused(str(error)) from error
        except (OSError, HTTPException) as error:
            raise Refused(f"{service} did not answer ({str(error) or error!r}): check the account's name") from error
        finally:
            connection.close()
        told = Answer({name.lower(): value for name, value in answer.getheaders()}, content)
        if answer.status >= _WRONG:
            raise self._refused(answer.status, told, role)
        return told

    def _refused(self, status: int, told: Answer, role: str) -> Refused:
        said = told.field("Code") or told.headers.get("x-ms-error-code") or f"HTTP {status}"
        if status == _MISSING:
            return Missing(f"there is none (Azure: {said})")
        if said == _NO_KEYS:
            return Refused(f"the storage account {self.account.name!r} takes no key. Enter it as yourself: {LOG_IN}")
        if status in {_UNAUTHORISED, _FORBIDDEN}:
            return Refused(
                f"you may not look at it (Azure: {said}): you need the role {role} on the storage account "
                f"{self.account.name!r}, its firewall has to let you in, and a token holds for an hour"
            )
        return Refused(f"Azure did not tell: {said}")
