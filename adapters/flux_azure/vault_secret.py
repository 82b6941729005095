"""One secret in Key Vault: its newest version is read, and another one set. It must not log one, nor quote it.

Two requests of its REST interface (7.4), in place of a package that only one app would load, once a day. Older versions
stay: this deletes nothing.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flux_core.errors import DefinitionError, InvocationError, SchedulerUnavailable
from flux_core.rotation import SecretVersion

if TYPE_CHECKING:
    from flux_azure.identity import Identity

_VERSION: Final = "7.4"
_TIMEOUT: Final = 10.0
"""Seconds of one request. Nobody waits for it."""
_OK: Final = 200
_ADVICE: Final = {
    401: "The vault does not know the app's identity: check AZURE_CLIENT_ID.",
    403: "The app's identity needs the actions getSecret and setSecret on the secret; a secret may also be disabled.",
    404: "Check FLUX_CALLBACK_SECRET.",
}


class VaultSecret:
    """The secret at `address`, `https://VAULT.vault.azure.net/secrets/NAME`."""

    def __init__(self, address: str, identity: Identity) -> None:
        """`identity` gives tokens for Key Vault."""
        self.address = address
        self._identity = identity

    def newest(self) -> SecretVersion:
        """The version that was set last. `InvocationError` if it cannot be had, `DefinitionError` if it is no text."""
        told = self._asked("GET")
        text = told.get("value")
        if not isinstance(text, str):
            raise DefinitionError(f"The secret {self.address} has to hold id:secret[,id:secret].")
        try:
            return SecretVersion(text, float(told["attributes"]["created"]))
        except (KeyError, TypeError, ValueError):
            raise InvocationError(f"Key Vault did not tell how old {self.address} is.") from None

    def add(self, text: str) -> None:
        """Another version, which is the newest from then on."""
        self._asked("PUT", {"value": text})

    def _asked(self, method: str, body: object = None) -> dict[str, Any]:
        try:
            token = self._identity.token()
        except SchedulerUnavailable as error:
            raise InvocationError(
                f"Key Vault is entered by the app's identity, and that gave no token: {error}"
            ) from error
        parts = urlsplit(self.address)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{parts.path}?api-version={_VERSION}", content, headers)
            answer = connection.getresponse()
            raw = answer.read()
            told = json.loads(raw) if answer.status == _OK else {}
        except (OSError, HTTPException, ValueError) as error:
            raise InvocationError(f"Key Vault did not answer for {self.address} ({type(error).__name__}).") from None
        finally:
            connection.close()
        if answer.status != _OK:
            # Not Azure's own words, which may quote what was sent.
            advice = _ADVICE.get(answer.status, "It is tried again by the next run.")
            raise InvocationError(f"Key Vault refused {method} {self.address} (HTTP {answer.status}). {advice}")
        return told if isinstance(told, dict) else {}
