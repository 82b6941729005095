"""One request of Azure's queue service: put a message. It must not know what the message says.

The REST interface stands in for `azure-storage-queue`, which would be loaded for this one call and cost more than all
the rest of a cold start (docs/decisions/0024).
"""

from __future__ import annotations

import base64
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import create_default_context
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from flux_azure.admission import headers, target
from flux_azure.identity import Identity
from flux_core.errors import SchedulerUnavailable

if TYPE_CHECKING:
    from ssl import SSLContext

    from flux_azure.account import Account

LONGEST: Final = 7 * 86400
"""Seconds that a message can stay invisible: the service's limit."""
CONNECT_TIMEOUT: Final = 2.0
READ_TIMEOUT: Final = 3.0

_CREATED: Final = 201
_UNAUTHORISED: Final = 401
_FORBIDDEN: Final = 403
_MISSING: Final = 404
_BUSY: Final = 500
"""From here on the service itself is at fault, and one more try is worth it."""
_IDLE: Final = 4
"""Connections that are kept between requests."""


class StorageQueue:
    """One queue. Threads may share it. Nothing is sent before the first message."""

    def __init__(self, account: Account, name: str) -> None:
        """The queue `name` of the account."""
        self.name = name
        self._account = account
        self._parts = urlsplit(account.queues)
        self._path = f"{self._parts.path.rstrip('/')}/{quote(name)}/messages"
        self._identity = Identity(account.client_id) if account.by_identity else None
        self._idle: list[HTTPConnection] = []
        self._certificates: SSLContext | None = None

    def put(self, text: str, delay: float = 0.0) -> None:
        """Have `text` delivered in `delay` seconds, at least once; it never expires. Up to 48 KB.

        A second that has begun counts as a whole one, so that nothing comes too early. One more try is made where an
        answer is lost or the service is busy, so a message may be there twice. `SchedulerUnavailable` says what to do.
        """
        seconds = min(max(-int(-delay // 1), 0), LONGEST)
        encoded = base64.b64encode(text.encode()).decode()
        body = f"<QueueMessage><MessageText>{encoded}</MessageText></QueueMessage>".encode()
        status, content = 0, b""
        for last in (False, True):
            try:
                status, content = self._sent(seconds, body)
            except (OSError, HTTPException) as error:
                self.close()  # what was kept open over a pause of the process is likely to be closed over there
                if not last:
                    continue
                raise SchedulerUnavailable(
                    f"The queue {self.name!r} at {self._account.queues} did not answer ({error!r}). Nothing is lost: "
                    f"the sweep finds in the due index what was to be scheduled."
                ) from error
            if status == _CREATED:
                return
            if status == _UNAUTHORISED and self._identity is not None:
                self._identity.forget()
            elif status < _BUSY:
                break
        raise SchedulerUnavailable(self._advice(status, content))

    def close(self) -> None:
        """Close the connections that are kept."""
        while (connection := self._kept()) is not None:
            connection.close()

    def _sent(self, seconds: int, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; the connection is kept if all went well."""
        where, given = target(self._account, self._path, _query(seconds)), self._signed(seconds, body)
        connection = self._kept() or self._opened()
        try:
            connection.request("POST", where, body, given)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < _IDLE and not answer.will_close:
            self._idle.append(connection)
        else:
            connection.close()
        return answer.status, content

    def _kept(self) -> HTTPConnection | None:
        """A connection that nobody uses; another thread may take the last one at any time."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _opened(self) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            connection = HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)
        else:
            if self._certificates is None:
                self._certificates = create_default_context()  # reading them takes longer than a request
            connection = HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT, context=self._certificates)
        connection.connect()
        connection.sock.settimeout(READ_TIMEOUT)
        return connection

    def _signed(self, seconds: int, body: bytes) -> dict[str, str]:
        """The headers of a request, with what lets it in."""
        size, kind = len(body), "application/xml"
        given = headers(self._account, "POST", self._path, _query(seconds), length=size, kind=kind)
        if self._identity is not None:
            given["Authorization"] = f"Bearer {self._identity.token()}"
        return given

    def _advice(self, status: int, content: bytes) -> str:
        told = content.partition(b"<Code>")[2].partition(b"</Code>")[0].decode(errors="replace") or f"HTTP {status}"
        where = f"The queue {self.name!r} of the storage account {self._account.name!r} took no message ({told})."
        if status == _MISSING:
            return (
                f"{where} Create it: az storage queue create --name {self.name} --account-name "
                f"{self._account.name}; or correct FLUX_QUEUE."
            )
        if status in {_UNAUTHORISED, _FORBIDDEN}:
            return (
                f"{where} Correct AzureWebJobsStorage, or give the app's identity the role Storage Queue Data "
                f"Contributor on the account."
            )
        return f"{where} Nothing is lost: the sweep finds in the due index what was to be scheduled."


def _query(seconds: int) -> dict[str, str]:
    return {"visibilitytimeout": str(seconds), "messagettl": "-1"}
