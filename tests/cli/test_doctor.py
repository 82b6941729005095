"""`flux doctor`: what is looked at, how it is told, and what is wrong with asking for it."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from flux_cli.asking import asked
from flux_core.doctor import FAILURE, OK, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.cli.conftest import Flux

SHOP = """
from datetime import timedelta
from flux_core import FluxEngine, MemoryStorage, StorageUnavailable, create_workflow, wait
from flux_core.testing import VirtualClock

class Broken(MemoryStorage):
    def due(self, until, limit):
        raise StorageUnavailable("the index is not there")

order = create_workflow("order").step("ask", lambda ctx: wait("go", timeout=60))
engine = FluxEngine(MemoryStorage(), workflows=[order])
broken = FluxEngine(Broken(), workflows=[order])
clock = VirtualClock()
asleep = FluxEngine(MemoryStorage(), workflows=[order], clock=clock)
asleep.execute(order, id="o-1")
clock.advance(60 + 8 * 60)
"""


@pytest.fixture
def shop(flux: Flux) -> Flux:
    flux.write_app(SHOP)
    return flux


class TestTheAppsOwnStore:
    def test_all_is_well(self, shop: Flux) -> None:
        told = shop("doctor", "--app", shop.app)
        assert told.exit_code == 0
        assert [line.split()[0] for line in told.stdout.splitlines()[:-1]] == ["ok"] * 5
        assert told.stdout.splitlines()[-1] == "5 ok"

    def test_a_use_that_fails_is_told_with_what_the_store_says(self, shop: Flux) -> None:
        told = shop("doctor", "--app", f"{shop.module}:broken")
        assert told.exit_code == 1
        (line,) = (line for line in told.stdout.splitlines() if "due index" in line)
        assert " ".join(line.split()) == "fails here store, due index the index is not there"
        assert told.stdout.splitlines()[-1] == "3 ok, 2 failed"

    def test_what_nobody_has_woken_is_worth_a_look(self, shop: Flux) -> None:
        told = shop("doctor", "--app", f"{shop.module}:asleep")
        assert told.exit_code == 0
        assert "order/o-1 (8 min)" in told.stdout
        assert told.stdout.splitlines()[-1] == "4 ok, 1 to look at"

    def test_in_json_a_line_a_finding_and_a_summary(self, shop: Flux) -> None:
        told = shop("doctor", "--app", f"{shop.module}:broken", "--json")
        *found, summary = (json.loads(line) for line in told.stdout.splitlines())
        assert found[0] == {
            "where": "here", "subject": "store, reading", "standing": "ok", "said": "instances can be read",
        }  # fmt: skip
        assert summary == {"summary": True, "by_standing": {"ok": 3, "failure": 2}, "exit_code": 1}


class TestMisuse:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["mars"], "there is no cloud 'mars'; there are aws"),
            (["--worker", "w"], "say which cloud the functions are on: aws"),
            (["aws", "--header", "x: y"], "those of aws are not"),
            (["aws", "--header", "x"], "--header is NAME:VALUE"),
            (["aws", "--app", "a:b"], "--app is for the app's own store"),
            ([], "say what to look at: a cloud (aws, gcp, azure), or an app"),
        ],
    )
    def test_is_told_in_a_sentence(self, flux: Flux, words: list[str], said: str) -> None:
        told = flux("doctor", *words)
        assert (told.exit_code, told.stdout) == (2, "")
        assert said in told.stderr

    def test_a_cloud_whose_package_is_not_installed(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "flux_aws.doctor", None)
        told = flux("doctor", "aws")
        assert told.exit_code == 3
        assert "pip install 'flux-serverless[aws]'" in told.stderr

    def test_settings_that_are_missing_are_a_finding(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FLUX_TABLE", raising=False)
        told = flux("doctor", "aws")
        assert told.exit_code == 1
        assert "FLUX_TABLE" in told.stdout
        assert "name the functions instead (--worker NAME)" in told.stdout

    def test_so_is_a_region_that_is_not_named(
        self, flux: Flux, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        told = flux("doctor", "aws", "--worker", "shop")
        assert told.exit_code == 1
        assert "set AWS_REGION to the one that has the stack" in told.stdout


Answer = tuple[int, bytes]


@pytest.fixture
def served() -> Iterator[Callable[[int, bytes], tuple[str, list[Mapping[str, Any]]]]]:
    """A function that answers so; what it was asked."""
    servers: list[ThreadingHTTPServer] = []

    def serve(status: int, body: bytes) -> tuple[str, list[Mapping[str, Any]]]:
        was_asked: list[Mapping[str, Any]] = []

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                was_asked.append({"path": self.path, "key": self.headers["X-Key"], "body": json.loads(text)})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", was_asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class TestAskingOverHttp:
    def test_a_function_is_asked_as_its_part_with_the_headers_that_say_who_asks(self, served: Any) -> None:
        found = {"findings": [{"subject": "queue", "standing": "ok", "said": "takes a message"}]}
        address, was_asked = served(200, json.dumps(found).encode())
        assert list(asked(f"{address}/", "worker", {"X-Key": "k"})) == [Finding("queue", OK, "takes a message")]
        assert was_asked == [{"path": "/invoke", "key": "k", "body": {"action": "doctor", "part": "worker"}}]

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (401, b"", "answered 401: Unauthorized. It wants to know who asks: --header says it"),
            (403, b"no", "answered 403: no. Whoever asks may not: --header says who does"),
            (404, b"?", "There is no Flux at that address"),
            (500, b"oh", "answered 500: oh. Its log says more"),
            (200, b"<html>", "answered what is no doctor's: <html>. Check the address"),
            (200, b"[1]", "answered what is no doctor's: [1]"),
            (200, b'{"findings": [7]}', "answered what is no doctor's"),
        ],
    )
    def test_another_answer_is_told_with_what_to_do(self, served: Any, status: int, body: bytes, said: str) -> None:
        address, _ = served(status, body)
        (one,) = asked(address, "worker", {})
        assert one.standing == FAILURE
        assert f"{address} " in one.said
        assert said in one.said

    def test_so_is_none(self, served: Any) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        server.server_close()
        (one,) = asked(f"http://127.0.0.1:{server.server_port}", "api", {})
        assert one.standing == FAILURE
        assert "check the address" in one.said
