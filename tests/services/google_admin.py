"""The administration of Firestore, Cloud Tasks and Cloud Scheduler for tests: there are no emulators of it.

It answers GETs as Google's REST does: what is listed comes in pages, what is not there is 404 with Google's form of an
error, and nobody is answered who does not show the token that it has given for a service account's signature.
"""

from __future__ import annotations

import http.server
import json
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flux_gcp.firestore_indexes import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ACCOUNT: Final = "doctor@flux-test.iam.gserviceaccount.com"
PROJECT: Final = "flux-test"
_TOKEN: Final = "token-of-the-test"  # noqa: S105 -- it opens nothing
_PAGE: Final = 2
_OVERRIDDEN: Final = "indexConfig.usesAncestorConfig=false OR ttlConfig:*"


class GoogleAdmin:
    """Resources by their path without the version, lists by the path of theirs; a test changes what it likes."""

    def __init__(self) -> None:
        self.one: dict[str, dict[str, Any]] = {}
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        """By a part of a path: the status and the error that it is answered with."""
        self.asked: list[str] = []
        """Paths, in their order."""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """End its thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def key_file(self, folder: Path) -> str:
        """The path of a service account's key, for GOOGLE_APPLICATION_CREDENTIALS; its tokens come from here."""
        path = folder / "key.json"
        tree = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": _private_key(),
            "client_email": ACCOUNT,
            "token_uri": f"{self.address}/token",
        }
        path.write_text(json.dumps(tree), encoding="utf-8")
        return str(path)

    def refuse(self, path: str, status: int, message: str, reason: str = "", name: str = "") -> None:
        """Answer what has `path` in it with an error."""
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
        self.refusals[path] = (status, {"code": status, "message": message, "status": name, "details": details})

    # --- what a deployment has ---------------------------------------------------------------------------------

    def deploy_database(self, name: str, prefix: str = "flux_") -> None:
        """As `infra/` deploys it. `name`: projects/P/databases/D."""
        wanted = definitions(prefix)
        self.one[name] = {
            "name": name,
            "type": "FIRESTORE_NATIVE",
            "locationId": "eur3",
            "pointInTimeRecoveryEnablement": "POINT_IN_TIME_RECOVERY_ENABLED",
            "deleteProtectionState": "DELETE_PROTECTION_ENABLED",
        }
        self.lists[f"{name}/collectionGroups/-/indexes"] = [
            {
                "name": f"{name}/collectionGroups/{index['collectionGroup']}/indexes/CICA{number}",
                "queryScope": index["queryScope"],
                "fields": [*index["fields"], {"fieldPath": "__name__", "order": index["fields"][-1]["order"]}],
                "state": "READY",
            }
            for number, index in enumerate(wanted["indexes"])
        ]
        self.lists[f"{name}/collectionGroups/-/fields"] = [
            {"name": f"{name}/collectionGroups/__default__/fields/*", "indexConfig": {"indexes": [{"state": "READY"}]}},
            *(
                {
                    "name": f"{name}/collectionGroups/{one['collectionGroup']}/fields/{one['fieldPath']}",
                    "indexConfig": {},
                    **({"ttlConfig": {"state": "ACTIVE"}} if one.get("ttl") else {}),
                }
                for one in wanted["fieldOverrides"]
            ),
        ]

    def deploy_queue(self, name: str) -> None:
        """Likewise. `name`: projects/P/locations/L/queues/Q."""
        self.one[name] = {
            "name": name,
            "state": "RUNNING",
            "rateLimits": {"maxDispatchesPerSecond": 500.0, "maxBurstSize": 100, "maxConcurrentDispatches": 160},
            "retryConfig": {"maxAttempts": 30, "minBackoff": "1s", "maxBackoff": "300s", "maxDoublings": 8},
        }
        self.lists[f"{name}/tasks"] = []

    # --- the server's side -------------------------------------------------------------------------------------

    def answer(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        self.asked.append(path)
        for part, (status, error) in self.refusals.items():
            if part in path:
                return status, {"error": error}
        name = path.split("/", 2)[2]
        if name in self.one:
            return 200, self.one[name]
        if name not in self.lists:
            return 404, {"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}
        found = self.lists[name]
        if query.get("filter") == [_OVERRIDDEN]:
            found = [one for one in found if not one["indexConfig"].get("usesAncestorConfig") or "ttlConfig" in one]
        start = int(query.get("pageToken", ["0"])[0])
        end = start + min(_PAGE, int(query.get("pageSize", ["1000"])[0]))
        page: dict[str, Any] = {name.rpartition("/")[2]: found[start:end]} if found else {}
        if end < len(found):
            page["nextPageToken"] = str(end)
        return 200, page


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*pem).decode()


def _handler(admin: GoogleAdmin) -> type[http.server.BaseHTTPRequestHandler]:
    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body at once: a second packet would wait 40 ms for the first one's receipt

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
            status, error = admin.refusals.get("/token", (200, {}))
            told = {"access_token": _TOKEN, "expires_in": 3600, "token_type": "Bearer"} if status == 200 else error
            self._tell(status, told)

        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Bearer {_TOKEN}":
                self._tell(401, {"error": {"code": 401, "message": "no valid token", "status": "UNAUTHENTICATED"}})
                return
            parts = urlsplit(self.path)
            self._tell(*admin.answer(unquote(parts.path), parse_qs(parts.query)))

        def _tell(self, status: int, tree: dict[str, Any]) -> None:
            body = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Answers
