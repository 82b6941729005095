"""A token of the app's own identity, asked of the platform and kept until it nearly ends. It must not log one.

The platform serves `IDENTITY_ENDPOINT` to the processes of a function app. One small request takes the place of the
package `azure-identity`, whose import would be the greater part of a cold start (docs/decisions/0024).
"""

from __future__ import annotations

import json
import os
import time
from http.client import HTTPConnection, HTTPException
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from flux_core.errors import SchedulerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT: Final = "IDENTITY_ENDPOINT"
HEADER: Final = "IDENTITY_HEADER"
"""Azure's own names, which the platform sets where an identity is assigned to the app."""

STORAGE: Final = "https://storage.azure.com/"
VAULT: Final = "https://vault.azure.net"
"""What tokens are for, as the platform is asked for them."""
_VERSION: Final = "2019-08-01"
_EARLY: Final = 300.0
"""Seconds before its end when a token is asked for anew."""
_TIMEOUT: Final = 3.0
_OK: Final = 200


class Identity:
    """Tokens for Azure Storage, or for another `resource`. Threads may share it."""

    def __init__(
        self, client_id: str = "", environment: Mapping[str, str] | None = None, resource: str = STORAGE
    ) -> None:
        """`client_id`: which of the assigned identities; empty for the system's."""
        self._client_id = client_id
        self._resource = resource
        self._environment = os.environ if environment is None else environment
        self._lock = Lock()
        self._token = ""
        self._until = 0.0

    def token(self) -> str:
        """One that holds for some minutes; `SchedulerUnavailable` if the platform gave none."""
        with self._lock:
            if time.time() >= self._until:
                self._token, self._until = self._asked()
            return self._token

    def forget(self) -> None:
        """The service refused the token: ask for another one."""
        with self._lock:
            self._until = 0.0

    def _asked(self) -> tuple[str, float]:
        endpoint, header = self._environment.get(ENDPOINT, ""), self._environment.get(HEADER, "")
        if not endpoint or not header:
            raise SchedulerUnavailable(
                "The storage account is to be entered by the app's identity, and the app has none (IDENTITY_ENDPOINT "
                "is not set). Assign one: az functionapp identity assign, or set AzureWebJobsStorage to a connection "
                "string."
            )
        query = {"api-version": _VERSION, "resource": self._resource}
        if self._client_id:
            query["client_id"] = self._client_id
        parts = urlsplit(endpoint)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", f"{parts.path}?{urlencode(query)}", headers={"X-IDENTITY-HEADER": header})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != _OK:
                raise SchedulerUnavailable(
                    f"The platform gave no token for the app's identity (HTTP {answer.status}): "
                    f"{content[:300].decode(errors='replace')}. Check that the identity is assigned to the app and, "
                    f"where AzureWebJobsStorage__clientId is set, that it names that identity."
                )
            told = json.loads(content)
            return str(told["access_token"]), float(told["expires_on"]) - _EARLY
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise SchedulerUnavailable(
                f"The platform's identity endpoint did not answer as documented ({error!r}); the due index keeps what "
                f"was to be scheduled."
            ) from error
        finally:
            connection.close()
