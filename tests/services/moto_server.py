"""`python -m tests.services.moto_server`: AWS as moto plays it, on a free port that it prints.

moto looks at a condition and then writes, as two steps that other threads can come between: its conditional writes
and transactions are not atomic by themselves. Here the requests that have to be are carried out one after the other:
those to DynamoDB, and writes to S3. Everything else runs side by side, since a long poll must not hold up the rest.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.services import moto_rotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse


class OneAtATime:
    """A WSGI application around moto's."""

    def __init__(self) -> None:
        self._any = DomainDispatcherApplication(create_backend_app)
        self._dynamodb = create_backend_app("dynamodb")  # asked directly: finding out whom costs a fifth of a request
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.startswith("DynamoDB_"):
            with self._turn:
                return list(self._dynamodb(environ, start_response))
        if not target and _writes_to_s3(environ):
            with self._turn:
                return list(self._any(environ, start_response))
        answer: Iterable[bytes] = self._any(environ, start_response)
        return answer


def _writes_to_s3(environ: dict[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] in {"PUT", "DELETE", "POST"} and "/s3/" in environ.get("HTTP_AUTHORIZATION", "")


class KeepsConnections(WSGIRequestHandler):
    """Connections are used again, as AWS's are; and no line is printed for each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    moto_rotation.teach()
    sys.setswitchinterval(0.02)  # most threads wait for their turn: no use in looking at them often
    server = make_server("127.0.0.1", 0, OneAtATime(), threaded=True, request_handler=KeepsConnections)
    print(server.port, flush=True)  # noqa: T201 -- whoever started it reads where it is
    server.serve_forever()


if __name__ == "__main__":
    main()
