"""boto3's clients as a function needs them: made when first asked for, of one session. It must not send a request."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from flux_aws import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONNECT_TIMEOUT: Final = 2.0
READ_TIMEOUT: Final = 3.0
"""Seconds. A queue or a secret answers in a few milliseconds; an invocation must not end over one that does not."""
ATTEMPTS: Final = 2


class Sessions:
    """One boto3 session for all clients of a function: what it has read about AWS's services serves each."""

    def __init__(self, session: Any = None) -> None:
        """`session`: a `boto3.Session` of one's own."""
        self._session = session
        self._making = threading.Lock()

    @property
    def session(self) -> Any:
        """The session, made if need be."""
        with self._making:
            if self._session is None:
                import boto3

                self._session = boto3.session.Session()
            return self._session


class Client:
    """A client of one service. Threads may share it."""

    def __init__(
        self,
        service: str,
        sessions: Sessions | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        *,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """`region` and `endpoint` default to AWS's own settings; `read_timeout` is in seconds. Makes nothing yet."""
        self.service = service
        self._sessions = sessions or Sessions()
        self._region = region
        self._endpoint = endpoint
        self._read_timeout = read_timeout
        self._making = threading.Lock()
        self._client: Any = None

    def call(self, operation: str, translate: Callable[[Exception], Exception], **parameters: object) -> dict[str, Any]:
        """Ask AWS, twice if need be; an error of the SDK is raised as `translate` makes it."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self.client, operation)(**parameters)
        except (BotoCoreError, ClientError) as error:
            raise translate(error) from error
        return answer

    @property
    def client(self) -> Any:
        """boto3's client, made if need be: to hook into, too."""
        with self._making:
            if self._client is None:
                from botocore.config import Config

                config = Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=self._read_timeout,
                    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                    tcp_keepalive=True,
                )
                self._client = self._sessions.session.client(
                    self.service,
                    region_name=self._region or settings.region(),
                    endpoint_url=self._endpoint,
                    config=config,
                )
            return self._client

    def close(self) -> None:
        """Release the connections; the next call makes a new client."""
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()
