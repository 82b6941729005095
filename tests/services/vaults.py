"""Secret Manager and Key Vault for tests: no emulators of them exist, so these speak the services' REST protocols.

What they do as the services do: a caller without the right bearer token is refused; the newest version is the one that
counts, and no version is ever changed; what is unknown is 404. Each is a server on a free port of this machine.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN: Final = "token-of-the-function"  # noqa: S105 -- of a fake
_LATEST: Final = re.compile(r"/v1/(?P<secret>projects/[^/]+/secrets/[^/:]+)/versions/latest")
_ACCESS: Final = re.compile(r"/v1/(?P<secret>projects/[^/]+/secrets/[^/:]+)/versions/(?P<number>\d+):access")
_ADD: Final = re.compile(r"/v1/(?P<secret>projects/[^/]+/secrets/[^/:]+):addVersion")
_SECRET: Final = re.compile(r"/secrets/(?P<secret>[A-Za-z0-9-]+)/?")


V = TypeVar("V", bound="Vault")


class Version(NamedTuple):
    """One version of a secret."""

    text: str
    created: float
    """Seconds since the epoch."""
    enabled: bool = True


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Vault:
    """Secrets by their names: their versions, the oldest first."""

    def __init__(self) -> None:
        self.secrets: dict[str, list[Version]] = {}
        self.now = 1_700_000_000.0
        self.asked: list[str] = []
        self.failing: int | None = None
        """The status that every request is answered with."""
        self.url = ""
        self.allowed = TOKEN

    def put(self, name: str, text: str) -> None:
        """Add a version."""
        self.secrets.setdefault(name, []).append(Version(text, self.now))

    def text(self, name: str) -> str:
        """Of the newest version."""
        return self.secrets[name][-1].text

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> dict[str, Any]:
        """What the service says; `Refusal` for an error."""
        raise NotImplementedError

    def admit(self, authorization: str) -> None:
        """`Refusal` for who has not the right token, and while all are refused."""
        if authorization != f"Bearer {self.allowed}":
            raise Refusal(401, "UNAUTHENTICATED")
        if self.failing is not None:
            raise Refusal(self.failing, "FAILING")

    def newest(self, name: str) -> Version:
        """Its newest version, or the refusal of the service."""
        if not self.secrets.get(name):
            raise Refusal(404, "NOT_FOUND")
        return self.secrets[name][-1]


class SecretManager(Vault):
    """Secret Manager, v1: versions.get of the alias `latest`, versions.access, addVersion."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> dict[str, Any]:
        """As documented for `projects.secrets.versions`."""
        if method == "GET" and (found := _LATEST.fullmatch(path)):
            newest = self.newest(found["secret"])
            return {
                "name": f"{found['secret']}/versions/{len(self.secrets[found['secret']])}",
                "createTime": datetime.fromtimestamp(newest.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "state": "ENABLED" if newest.enabled else "DISABLED",
            }
        if method == "GET" and (found := _ACCESS.fullmatch(path)):
            version = self.secrets[found["secret"]][int(found["number"]) - 1]
            if not version.enabled:
                raise Refusal(400, "FAILED_PRECONDITION")
            return {"name": path[4:-7], "payload": {"data": base64.b64encode(version.text.encode()).decode()}}
        if method == "POST" and (found := _ADD.fullmatch(path)):
            self.newest(found["secret"])
            self.put(found["secret"], base64.b64decode(body["payload"]["data"], validate=True).decode())
            return {"name": f"{found['secret']}/versions/{len(self.secrets[found['secret']])}", "state": "ENABLED"}
        raise Refusal(404, "NOT_FOUND")


class KeyVault(Vault):
    """Key Vault, 7.4: Get Secret without a version, Set Secret."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> dict[str, Any]:
        """As documented for `secrets`."""
        if query.get("api-version") != ["7.4"]:
            raise Refusal(400, "BadParameter")
        found = _SECRET.fullmatch(path)
        if found is None or method not in {"GET", "PUT"}:
            raise Refusal(404, "NOT_FOUND")
        name = found["secret"]
        if method == "PUT":
            self.put(name, body["value"])
        newest = self.newest(name)
        if not newest.enabled:
            raise Refusal(403, "Forbidden")
        return {
            "value": newest.text,
            "id": f"{self.url}/secrets/{name}/{len(self.secrets[name]):032}",
            "attributes": {"enabled": True, "created": int(newest.created), "updated": int(self.now)},
        }


@contextmanager
def served(vault: V) -> Iterator[V]:
    """Serve it until the block ends; `vault.url` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            vault.asked.append(f"{self.command} {parts.path}")
            try:
                vault.admit(self.headers.get("Authorization", ""))
                told = vault.answer(self.command, parts.path, parse_qs(parts.query), json.loads(raw) if raw else None)
                status = 200
            except Refusal as refusal:
                # Both services repeat what they were sent in some errors.
                status, told = refusal.status, {"error": {"status": refusal.code, "message": raw.decode()}}
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vault.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield vault
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def identity() -> Iterator[tuple[dict[str, str], list[dict[str, list[str]]]]]:
    """What Azure serves to the processes of an app: the environment that says where, and what was asked for."""
    asked: list[dict[str, list[str]]] = []

    class Platform(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(parse_qs(urlsplit(self.path).query))
            body = json.dumps({"access_token": TOKEN, "expires_on": "4102444800"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    where = f"http://127.0.0.1:{server.server_address[1]}/token"
    try:
        yield {"IDENTITY_ENDPOINT": where, "IDENTITY_HEADER": "a-header"}, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
