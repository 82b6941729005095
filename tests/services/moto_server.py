"""`python -m tests.services.moto_server`: AWS as moto plays it, on a free port that it prints.

moto looks at a condition and then writes, as two steps that other threads can come between: its conditional writes
and transactions are not atomic by themselves. Here the requests that have to be are carried out one after the other:
those to DynamoDB, and writes to S3. Everything else runs side by side, since a long poll must not hold up the rest.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class OneAtATime:
    """A WSGI application around moto's."""

    def __init__(self, moto: Callable[..., Iterable[bytes]]) -> None:
        self._moto = moto
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if not _must_be_atomic(environ):
            return self._moto(environ, start_response)
        with self._turn:
            return list(self._moto(environ, start_response))


def _must_be_atomic(environ: dict[str, Any]) -> bool:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return bool(target.startswith("DynamoDB"))
    return environ["REQUEST_METHOD"] in {"PUT", "DELETE", "POST"} and "/s3/" in environ.get("HTTP_AUTHORIZATION", "")


class KeepsConnections(WSGIRequestHandler):
    """Connections are used again, as AWS's are; and no line is printed for each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    app = OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=KeepsConnections)
    print(server.port, flush=True)  # noqa: T201 -- whoever started it reads where it is
    server.serve_forever()


if __name__ == "__main__":
    main()
