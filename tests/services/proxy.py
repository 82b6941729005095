"""A proxy between a store and its service: it counts requests, loses answers, and gives answers of its own."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

LOSE = "lose the answer"
HANG = "never answer"


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    body: bytes = b""


class Proxy:
    """Passes requests on to `target`, on a free port of 127.0.0.1, in threads of this process."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self.seen: list[Seen] = []
        self.rule: Callable[[Seen], str | int | None] = lambda _: None
        """What becomes of a request: None (passed on), `LOSE`, `HANG`, or a status that is answered instead."""
        self.body = b""
        """What stands in such an answer."""
        self._open = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = Seen(self.command, self.path, body)
                proxy.seen.append(seen)
                verdict = proxy.rule(seen)
                if verdict == HANG:
                    proxy._open.wait()
                if verdict == HANG or isinstance(verdict, int):
                    self.answer(verdict if isinstance(verdict, int) else 500, [], proxy.body)
                    return
                upstream = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                reply = upstream.getresponse()
                content = reply.read()
                upstream.close()
                if verdict == LOSE:
                    self.close_connection = True
                    return
                self.answer(reply.status, reply.getheaders(), content)

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                with suppress(OSError):  # whoever asked may have given up
                    self.send_response_only(status)
                    for name, value in headers:
                        if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                            self.send_header(name, value)
                    length = {name.lower(): value for name, value in headers}.get("content-length")
                    size = length if self.command == "HEAD" and length else str(len(content))
                    self.send_header("Content-Length", size)
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815 -- so http.server names them

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}{parts.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and let whoever hangs go."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
