"""Google Cloud as the doctor asks it: its services' REST, and one error for all that they do not tell.

It must not judge an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import google.auth
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession, Request

from flux_core.errors import InvocationError
from flux_gcp.settings import EMULATOR, GOOGLE_PROJECT, TASKS_EMULATOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIRESTORE: Final = "firestore"
TASKS: Final = "cloudtasks"
SCHEDULER: Final = "cloudscheduler"
EMULATED: Final = "flux-emulator"
"""The project of an emulator, where none is named."""
ADDRESSES: Final = {name: f"https://{name}.googleapis.com" for name in (FIRESTORE, TASKS, SCHEDULER)}
_EMULATED_BY: Final = {FIRESTORE: EMULATOR, TASKS: TASKS_EMULATOR, SCHEDULER: TASKS_EMULATOR}
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_PATIENCE: Final = 20.0
_DENIED, _UNKNOWN_CALLER, _ABSENT, _WRONG = 403, 401, 404, 400
_LOG_IN: Final = "log in (gcloud auth application-default login), or set GOOGLE_APPLICATION_CREDENTIALS to a key file"


class Refused(InvocationError):
    """Google has not told."""


class Absent(Refused):
    """What was asked for is not there."""


class Services:
    """Google Cloud as it is asked here. What `environment` has an emulator for is not asked: that has no settings."""

    def __init__(self, environment: Mapping[str, str], addresses: Mapping[str, str] = ADDRESSES) -> None:
        """Looks for nothing yet. `addresses`: by service."""
        self._environment = environment
        self._addresses = addresses
        self._project: str | None = None
        self._opened: AuthorizedSession | None = None

    def identity(self) -> str:
        """Who asks, with credentials that Google has just renewed; `Refused` says how to have some."""
        session = self._session()
        try:
            session.credentials.refresh(Request())
        except TransportError as error:
            raise Refused(
                f"Google could not be asked who you are: see that the network leads there ({error})"
            ) from error
        except GoogleAuthError as error:
            raise Refused(f"your Google credentials are not valid any more: {_LOG_IN} ({error})") from error
        account = getattr(session.credentials, "service_account_email", "") or getattr(
            session.credentials, "account", ""
        )
        return str(account or "a user of gcloud")

    def project(self) -> str | None:
        """The project that the environment or the credentials name."""
        named = self._environment.get(GOOGLE_PROJECT) or (EMULATED if self._environment.get(EMULATOR) else None)
        if named:
            return named
        self._session()
        return self._project

    def ask(self, service: str, path: str, permission: str, **parameters: str) -> dict[str, Any]:
        """The answer to a GET. `Refused` says why there is none, `Absent` that there is no such thing.

        `permission` is what the caller has to have.
        """
        emulator = self._environment.get(_EMULATED_BY[service])
        if emulator:
            raise Refused(
                f"{_EMULATED_BY[service]} names an emulator ({emulator}), which has none of this to look "
                f"at: look again where it is deployed"
            )
        try:
            answer = self._session().get(f"{self._addresses[service]}/{path}", params=parameters, timeout=_PATIENCE)
            body = answer.json()
        except GoogleAuthError as error:
            raise Refused(f"your Google credentials are not valid: {_LOG_IN} ({error})") from error
        except OSError as error:  # of `requests`, all of whose errors are one; no JSON is one, too
            raise Refused(
                f"{self._addresses[service]} did not answer: see that the network leads there ({error})"
            ) from error
        if answer.status_code >= _WRONG:
            raise _refusal(answer.status_code, body.get("error", {}), service, permission)
        told: dict[str, Any] = body
        return told

    def all(self, service: str, path: str, of: str, permission: str, **parameters: str) -> list[dict[str, Any]]:
        """What is listed under `of`, on all pages."""
        found: list[dict[str, Any]] = []
        page = parameters
        while True:
            told = self.ask(service, path, permission, **page)
            found += told.get(of, ())
            if not told.get("nextPageToken"):
                return found
            page = {**parameters, "pageToken": told["nextPageToken"]}

    def _session(self) -> AuthorizedSession:
        if self._opened is None:
            try:
                credentials, self._project = google.auth.default(scopes=_SCOPES)
            except GoogleAuthError as error:
                raise Refused(f"there are no Google credentials here: {_LOG_IN} ({error})") from error
            self._opened = AuthorizedSession(credentials)
        return self._opened


def _refusal(status: int, error: Mapping[str, Any], service: str, permission: str) -> Refused:
    said = error.get("message", status)
    reasons = {detail.get("reason") for detail in error.get("details", ())}
    if "SERVICE_DISABLED" in reasons:
        return Refused(f"its API is off: gcloud services enable {service}.googleapis.com (Google: {said})")
    if status == _DENIED:
        return Refused(f"your credentials may not look at it: they need {permission} (Google: {said})")
    if status == _UNKNOWN_CALLER:
        return Refused(f"Google does not accept your credentials: {_LOG_IN} (Google: {said})")
    return (Absent if status == _ABSENT else Refused)(f"Google did not tell: {said}")
