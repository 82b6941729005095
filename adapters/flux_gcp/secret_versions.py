"""The versions of one secret in Secret Manager: the newest is read, another is added, and none is changed or removed.

Three requests of its REST interface (v1), in place of a client library that only one function would load, once a day.
It must not know what a text means, and no message of it may show one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from flux_core.errors import DefinitionError, InvocationError
from flux_core.rotation import SecretVersion

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

SERVICE: Final = "https://secretmanager.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT: Final = 10.0
"""Seconds of one request. Nobody waits for it."""
_OK: Final = 200
_ADVICE: Final = {
    403: "The function's service account needs secretmanager.versions.get, .access and .add on the secret.",
    404: "Check FLUX_CALLBACK_SECRET, and that the secret has a version.",
}


class SecretVersions:
    """Of the secret `name`, `projects/PROJECT/secrets/NAME`."""

    def __init__(self, name: str, session: AuthorizedSession | None = None, service: str = SERVICE) -> None:
        """`session`: one of one's own; without it that of the process's own identity, made by the first request."""
        self.name = name
        self._session = session
        self._service = service

    def newest(self) -> SecretVersion:
        """The version that was added last. `InvocationError` if there is none now, `DefinitionError` if not text."""
        told = self._asked("GET", f"{self.name}/versions/latest")
        if told.get("state") != "ENABLED":
            raise InvocationError(
                f"The newest version of the secret {self.name} is {str(told.get('state')).lower()}: enable it, or add "
                f"another one with keys that are to be used."
            )
        # By its number: another version may have been added by now, which has another age.
        held = self._asked("GET", f"{told['name']}:access")
        try:
            text = b64decode(held["payload"]["data"]).decode()
        except ValueError:
            raise DefinitionError(f"The secret {self.name} has to hold id:secret[,id:secret], not bytes.") from None
        return SecretVersion(text, datetime.fromisoformat(told["createTime"]).timestamp())

    def add(self, text: str) -> None:
        """Another version, which is the newest from then on."""
        self._asked("POST", f"{self.name}:addVersion", {"payload": {"data": b64encode(text.encode()).decode()}})

    def _asked(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            answer = self._opened().request(method, f"{self._service}/v1/{path}", json=body, timeout=_TIMEOUT)
            told: dict[str, Any] = answer.json() if answer.content else {}
        except (RequestException, GoogleAuthError, OSError) as error:
            raise InvocationError(f"Secret Manager did not answer for {path} ({type(error).__name__}).") from error
        if answer.status_code != _OK:
            # Not Google's own words, which may quote what was sent.
            status = (told.get("error") or {}).get("status", "")
            advice = _ADVICE.get(answer.status_code, "It is tried again by the next run.")
            raise InvocationError(f"Secret Manager refused {path} (HTTP {answer.status_code} {status}). {advice}")
        return told

    def _opened(self) -> AuthorizedSession:
        if self._session is None:
            import google.auth
            from google.auth.transport.requests import AuthorizedSession

            credentials, _ = google.auth.default(scopes=[_SCOPE])
            self._session = AuthorizedSession(credentials)
        return self._session
