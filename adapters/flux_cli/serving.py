"""The routes of `flux_core.http` on a laptop: a server of the standard library in front of a `Host`.

For development: no TLS and no login, so it listens on this machine alone unless told otherwise. It must not know a
verb, wake anything, or print; what it served is told as a value.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from errno import EADDRINUSE
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from flux_cli.exits import UNUSABLE, CommandFailed
from flux_core.errors import CallerError, PayloadTooLarge
from flux_core.http import PROBLEM, Request, Response, to_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.host import Host

HERE: Final = "127.0.0.1"
PORT: Final = 8000

_PATIENCE: Final = 30.0
"""Seconds that a client may take to send a request."""
_NAMES_OF_HERE: Final = frozenset({"localhost", HERE, "::1"})

_NO_BODY: Final = "HEAD"


class Served(NamedTuple):
    """A request was answered. Of a callback the path does not hold the token, which is a permission."""

    method: str
    path: str
    status: int
    seconds: float


class PortTaken(CommandFailed):
    """Somebody else listens there."""


class Serving:
    """Serves a host's routes from threads of its own, from `begin` to `end`."""

    def __init__(
        self,
        host: Host,
        told: Callable[[Served], object],
        *,
        stopping: Callable[[], bool],
        address: str = HERE,
        port: int = PORT,
    ) -> None:
        """Listens, but takes no request yet; `PortTaken` or `CommandFailed` if it may not. Port 0 is any free one.

        `told` is called by the threads that serve. Once `stopping`, no further step of a request starts.
        """
        self.host = host
        self.told = told
        self.stopping = stopping
        self._idle = Condition()
        self._at_work = 0
        try:
            self._server = _Server((address, port), self)
        except OSError as error:
            failed = PortTaken if error.errno == EADDRINUSE else CommandFailed
            what = "is in use, by another flux dev perhaps" if failed is PortTaken else f"cannot be used: {error}"
            message = (
                f"port {port} of {address} {what}; name another one, with --port {port + 1} for example, or serve no "
                f"routes, with --no-serve"
            )
            raise failed(message, UNUSABLE) from error
        except OverflowError as error:
            raise CommandFailed(f"there is no port {port}; ports are 0 (any free one) to 65535", UNUSABLE) from error
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where the routes are."""
        address, port = self._server.server_address[:2]
        return f"http://{address!s}:{port}"

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach it."""
        return self._server.server_address[0] not in _NAMES_OF_HERE

    @property
    def busy(self) -> bool:
        """Whether a request is being carried out right now."""
        return self._at_work > 0

    def begin(self) -> None:
        """Take requests from now on."""
        self._thread.start()

    def end(self) -> None:
        """Take no more, and wait until those that were taken are answered."""
        self.close()
        with self._idle:
            while self._at_work:
                self._idle.wait()

    def close(self) -> None:
        """Listen no more; again is harmless."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Request) -> Response:
        """Carry out a request; tells of it."""
        begun = monotonic()
        with self._idle:
            self._at_work += 1
        try:
            response = self.host.http(request, self._left)
        except SystemExit as left:  # a handler's; it ends the invocation, as it would on a cloud
            self.host.engine.logger.error("a handler called sys.exit; let it raise instead", code=repr(left.code))
            response = to_problem(RuntimeError("a handler called sys.exit"))
        with suppress(Exception):  # the answer is more important than a line about it
            self.told(Served(request.method, _shown(request.path), response.status, monotonic() - begun))
        return response

    def answered(self) -> None:
        """The answer of a request has been sent, or nobody wanted it any more."""
        with self._idle:
            self._at_work -= 1
            self._idle.notify_all()

    def _left(self) -> float:
        """Seconds that this process gives: none once it is to stop."""
        if self.stopping():
            return 0.0
        budget = self.host.settings.budget
        return self.host.settings.http_budget if budget is None else budget


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], serving: Serving) -> None:
        self.serving = serving
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "flux-dev"
    sys_version = ""
    timeout = _PATIENCE
    server: _Server

    def _serve(self) -> None:
        serving = self.server.serving
        try:
            self._refuse_other_pages()
            request = self._request(serving.host.settings.most_bytes)
        except CallerError as error:
            self.close_connection = True  # the rest of the request is still in the pipe
            self._send(to_problem(error))
            return
        try:
            self._send(serving.answer(request))
        finally:
            serving.answered()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 -- the library's

    def _refuse_other_pages(self) -> None:
        """A page from elsewhere, open in a browser on this machine, can reach it too, and must not."""
        origin = self.headers.get("origin")
        if origin is not None and _host_of(origin) not in _NAMES_OF_HERE:
            message = f"requests from pages of {origin[:80]!r} are not taken: this server is for this machine"
            raise CallerError(message)

    def _request(self, most_bytes: int) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        pairs = parse_qs(query, keep_blank_values=True)
        texts = {name: ",".join(values) for name, values in pairs.items()}
        return Request(self.command, path, texts, headers, self._body(headers, most_bytes))

    def _body(self, headers: dict[str, str], most_bytes: int) -> bytes:
        if "transfer-encoding" in headers:
            message = "a body has to come with its Content-Length, not in chunks"
            raise CallerError(message)
        text = headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()):
            message = f"the header Content-Length has to be a number, not {text[:20]!r}"
            raise CallerError(message)
        if len(text) > len(str(most_bytes)) or int(text) > most_bytes:
            message = f"the body has {text[:20]} bytes; at most {most_bytes} are taken (FLUX_MOST_BYTES)"
            raise PayloadTooLarge(message)
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            message = "the body is shorter than its Content-Length says"
            raise CallerError(message)
        return body

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if self.command != _NO_BODY:
            self.wfile.write(response.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses, as a problem like every other."""
        del explain
        title = message or "Bad request"
        body = {"type": "about:blank", "title": title, "status": int(code), "detail": title}
        self.close_connection = True
        self.request_version = self.protocol_version  # else it takes what it could not read for HTTP/0.9
        self._send(Response(int(code), {"content-type": PROBLEM}, json.dumps(body).encode()))

    def log_message(self, format: str, *args: object) -> None:
        """It is told otherwise."""


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def _shown(path: str) -> str:
    head, found, _ = path.partition("/callbacks/")
    return f"{head}{found}..." if found else path
