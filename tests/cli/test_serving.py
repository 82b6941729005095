"""`flux dev` serves the routes of a cloud's function on a laptop: real processes, real HTTP, real SQLite."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from http.client import HTTPConnection
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from flux_cli.chronicle import event_line
from flux_cli.exits import CommandFailed
from flux_cli.serving import PortTaken, Served, Serving
from flux_core import FluxEngine, create_workflow
from flux_core.host import Host
from flux_core.hosting import HostSettings
from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Flux

SHOP: Final = """
import time
from flux_core import Callbacks, FluxEngine, NonRetryable, create_workflow, sleep, wait
from flux_local import SQLiteStorage

def work(ctx):
    with open("effects", "a") as file:
        file.write(f"{ctx.id} {ctx.step}\\n")
    time.sleep(ctx.input.get("takes", 0))
    if ctx.input.get("bad"):
        raise NonRetryable("no stock")
    if ctx.input.get("leave"):
        raise SystemExit(3)

def ask(ctx):
    if ctx.input.get("ask"):
        ctx.data.link = ctx.callback_url("approval")
        return wait("approval", timeout=3600)

order = create_workflow("order").step("work", work).step("nap", lambda ctx: sleep(ctx.input.get("sleeps", 0.01)))
order.step("ask", ask).step("last", work)
engine = FluxEngine(
    SQLiteStorage("store.db", synchronous="OFF"),
    workflows=[order],
    callbacks=Callbacks("http://127.0.0.1:8000", {"k1": "k" * 32}),
)
"""
_NAP: Final = 'lambda ctx: sleep(ctx.input.get("sleeps", 0.01))'
WITHOUT_NAP: Final = SHOP.replace(f'"nap", {_NAP}', '"next", work')
RUN: Final = "/workflows/order/executions"


class Dev:
    """A running `flux dev` and requests to it."""

    def __init__(self, flux: Flux, *arguments: str) -> None:
        self.flux = flux
        self.process = flux.start("dev", "--app", flux.app, "--port", "0", "--json", *arguments)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        self.started: dict[str, Any] = json.loads(line)
        self.address = urlsplit(self.started["url"]).netloc
        self.printed: list[str] = []
        # A pipe that nobody reads is full after some hundred lines, and the process waits until there is room.
        self.reader = threading.Thread(target=self.printed.extend, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The status and the answer as JSON."""
        connection = HTTPConnection(self.address, timeout=30)
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, raw, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def raw(self, request: bytes) -> bytes:
        """What is answered to bytes that need not be HTTP."""
        host, _, port = self.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def status(self, id_: str) -> str:
        found: str = self.send("GET", f"{RUN}/{id_}")[1]["status"]
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, list[dict[str, Any]], str]:
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.reader.join()
        assert self.process.stderr is not None
        err = self.process.stderr.read()
        assert "Traceback" not in err, err
        return self.process.returncode, [json.loads(line) for line in self.printed], err


@pytest.fixture
def dev(flux: Flux) -> Iterator[Callable[..., Dev]]:
    """Starts `flux dev` over the shop; what still runs afterwards is ended."""
    flux.write_app(SHOP)
    running: list[Dev] = []

    def start(*arguments: str) -> Dev:
        found = Dev(flux, *arguments)
        running.append(found)
        return found

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.reader.join()
        for pipe in (one.process.stdout, one.process.stderr):
            assert pipe is not None
            pipe.close()


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it did not come so far"
        time.sleep(0.01)


class TestTheRoutes:
    def test_are_those_of_a_cloud(self, dev: Callable[..., Dev]) -> None:
        shop = dev()
        code, body = shop.send("POST", RUN, {"ask": True}, idempotency_key="o-1")
        assert (code, body["id"], body["status"], body["created"]) == (202, "o-1", "suspended", True)
        until(lambda: shop.send("GET", f"{RUN}/o-1")[1].get("waiting_for") == ["approval"])
        code, body = shop.send("POST", f"{RUN}/o-1/signals/approval", {"ok": True})
        assert (code, body["status"]) == (200, "completed")
        assert [item["id"] for item in shop.send("GET", RUN)[1]["items"]] == ["o-1"]
        look = {"action": "get", "workflow": "order", "id": "o-1", "include": ["data"]}
        code, body = shop.send("POST", "/invoke", look)

        assert (code, set(body["data"])) == (200, {"link"})

    def test_go_on_beside_the_pump(self, dev: Callable[..., Dev]) -> None:
        """An instance that a request has started is woken when its time comes, here and with no request."""
        shop = dev("--interval", "20")
        for number in range(5):
            shop.send("POST", f"{RUN}?mode=async", {"sleeps": 0.3}, idempotency_key=f"o-{number}")
        until(lambda: all(shop.status(f"o-{number}") == "completed" for number in range(5)))

    def test_take_callbacks(self, dev: Callable[..., Dev]) -> None:
        shop = dev()
        shop.send("POST", RUN, {"ask": True}, idempotency_key="o-1")
        until(lambda: "waiting_for" in shop.send("GET", f"{RUN}/o-1")[1])
        link = shop.send("GET", f"{RUN}/o-1?include=data")[1]["data"]["link"]
        path = urlsplit(link).path
        assert shop.send("POST", path, {"ok": 1})[1] == {"id": "o-1", "status": "completed"}
        assert shop.send("POST", path[:-1], {"ok": 1})[0] == 403
        _, lines, _ = shop.stop()
        assert path.rpartition("/")[2] not in json.dumps(lines)
        assert "/callbacks/..." in [line.get("path") for line in lines]

    def test_are_shown_as_they_are_served(self, dev: Callable[..., Dev]) -> None:
        shop = dev()
        shop.send("POST", RUN, {"bad": True}, idempotency_key="o-1")
        shop.send("GET", "/nowhere?a=b")
        _, lines, _ = shop.stop()
        served = [line for line in lines if line["event"] == "served"]
        assert [(line["method"], line["path"], line["code"]) for line in served] == [
            ("POST", RUN, 200),
            ("GET", "/nowhere", 404),
        ]

    def test_serve_many_at_once(self, dev: Callable[..., Dev]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        shop = dev()
        with ThreadPoolExecutor(16) as pool:
            ids = [f"o-{number}" for number in range(16)]
            answers = list(pool.map(lambda id_: shop.send("POST", RUN, {"takes": 0.2}, idempotency_key=id_), ids))
        assert {code for code, _ in answers} <= {200, 202}

        until(lambda: all(shop.status(f"o-{number}") == "completed" for number in range(16)))

    def test_answer_within_the_budget_of_a_request(self, flux: Flux, dev: Callable[..., Dev], monkeypatch: Any) -> None:
        """FLUX_HTTP_BUDGET, as anywhere: the pump goes on with the rest."""
        monkeypatch.setenv("FLUX_HTTP_BUDGET", "0.5")
        flux.write_app(WITHOUT_NAP)
        shop = dev()
        code, body = shop.send("POST", RUN, {"takes": 0.3}, idempotency_key="o-1")
        assert (code, body["status"]) == (202, "running")
        until(lambda: shop.status("o-1") == "completed")
        ran = (flux.folder / "effects").read_text().splitlines()
        assert list(dict.fromkeys(ran)) == ["o-1 work", "o-1 next", "o-1 last"]

    def test_a_handler_that_calls_exit_is_a_500_and_nothing_else_ends(self, dev: Callable[..., Dev]) -> None:
        shop = dev()
        assert shop.send("POST", RUN, {"leave": True})[0] == 500
        assert shop.send("GET", RUN)[0] == 200


class TestWhatIsNotHttp:
    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"\x00\x01\x02\r\n\r\n", b"400"),
            (b"GET\r\n\r\n", b"400"),
            (b"GET / HTTP/9.9\r\n\r\n", b"505"),
            (b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", b"501"),
            (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
            (b"POST /invoke HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"400"),
            (b"POST /invoke HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
            (b"POST /invoke HTTP/1.1\r\ncontent-length: 999999999999999999\r\n\r\n", b"413"),
            (b"POST /invoke HTTP/1.1\r\ncontent-length: 262145\r\n\r\n", b"413"),
            (b"POST /invoke HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
            (b"POST /invoke HTTP/1.1\r\nconnection: close\r\n\r\n", b"400"),
            (b"GET /\xff\xfe HTTP/1.1\r\nconnection: close\r\n\r\n", b"404"),
        ],
        ids=lambda value: str(value[:30]),
    )
    def test_is_a_problem_and_the_server_goes_on(self, serving: Serving, request_: bytes, status: bytes) -> None:
        answer = asked(serving, request_)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == status
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == int(status)
        assert asked(serving, b"GET /workflows/w/executions HTTP/1.1\r\nconnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 200"
        )

    def test_a_body_that_ends_early_is_a_problem(self, serving: Serving) -> None:
        address = urlsplit(serving.url)
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
            connection.sendall(b"POST /invoke HTTP/1.1\r\ncontent-length: 10\r\n\r\n{}")
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert b"shorter than its Content-Length" in answer

    def test_a_head_request_has_no_body(self, serving: Serving) -> None:
        answer = asked(serving, b"HEAD /invoke HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405")
        assert answer.endswith(b"\r\n\r\n")

    def test_several_requests_may_share_a_connection(self, serving: Serving) -> None:
        one = b"POST /workflows/w/executions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
        last = b"GET /workflows/w/executions HTTP/1.1\r\nconnection: close\r\n\r\n"
        assert asked(serving, one + one + last).count(b"HTTP/1.1 200") == 3

    def test_a_parameter_given_twice_is_a_list_as_on_every_cloud(self, serving: Serving) -> None:
        asked(serving, b"POST /workflows/w/executions HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        for query, found in ((b"status=completed&status=stuck", 1), (b"status=stuck&status=failed", 0)):
            line = b"GET /workflows/w/executions?" + query + b" HTTP/1.1\r\nconnection: close\r\n\r\n"
            assert len(json.loads(asked(serving, line).partition(b"\r\n\r\n")[2])["items"]) == found


class TestAPageFromElsewhere:
    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://", "http://[x"]
    )
    def test_open_in_a_browser_here_cannot_use_it(self, serving: Serving, origin: str) -> None:
        request = f"POST /workflows/w/executions HTTP/1.1\r\norigin: {origin}\r\ncontent-length: 0\r\n\r\n"
        assert asked(serving, request.encode()).startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:80"])
    def test_of_this_machine_can(self, serving: Serving, origin: str) -> None:
        request = f"POST /workflows/w/executions HTTP/1.1\r\norigin: {origin}\r\nconnection: close\r\n\r\n"
        assert asked(serving, request.encode()).startswith(b"HTTP/1.1 200")


@pytest.fixture
def serving() -> Iterator[Serving]:
    """The routes of an engine in memory, in this process."""
    engine = FluxEngine(workflows=[create_workflow("w").step("s", lambda ctx: 1)])
    told: list[Served] = []
    found = Serving(Host(engine, HostSettings()), told.append, stopping=lambda: False, port=0)
    found.begin()
    yield found
    found.end()


def asked(serving: Serving, request: bytes) -> bytes:
    """What is answered to these bytes, until the connection ends."""
    address = urlsplit(serving.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


class TestALine:
    def test_of_a_request_says_what_was_asked_and_answered(self) -> None:
        line = event_line(Served("POST", "/workflows/order/executions", 202, 0.0314), 1_700_000_000_000, short=True)
        assert line.plain == "22:13:20 POST /workflows/order/executions 202 in 0.031 s"

    def test_of_a_hostile_request_is_printable(self) -> None:
        line = event_line(Served("GET", "/\x1b[2J\udc80", 404, 0), 0)
        assert line.plain.isprintable()

    def test_of_a_callback_does_not_hold_its_token(self, serving: Serving) -> None:
        told: list[Served] = []
        serving.told = told.append
        asked(serving, b"POST /callbacks/secret.token HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert [(one.path, one.status) for one in told] == [("/callbacks/...", 403)]


class TestItsPort:
    def test_is_of_this_machine_alone(self, dev: Callable[..., Dev]) -> None:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", dev().started["url"])

    def test_asked_for_and_taken_is_one_sentence_that_says_what_to_do(self, dev: Callable[..., Dev]) -> None:
        first = dev()
        port = first.address.partition(":")[2]
        done = first.flux("dev", "--app", first.flux.app, "--port", port)
        assert (done.exit_code, done.stdout) == (3, "")
        assert f"port {port} of 127.0.0.1 is in use, by another flux dev perhaps; name another one" in done.stderr
        assert "--no-serve" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_that_nobody_asked_for_and_is_taken_leaves_the_pump_alone(
        self, flux: Flux, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two of them do no harm."""
        flux.write_app(SHOP)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            monkeypatch.setattr(import_module("flux_cli.commands.dev"), "PORT", taken.getsockname()[1])
            module = module_of(flux)
            module.engine.execute("order", {"sleeps": 0}, "o-1", deadline=0)
            monkeypatch.setattr("flux_cli.pump.Pump.run", lambda self: self.once())
            done = flux("dev", "--app", flux.app)
        assert done.exit_code == 0
        assert "note: no routes are served: port" in done.stderr
        assert "order/o-1 completed" in done.stdout

    def test_is_no_number_that_is_none(self, flux: Flux) -> None:
        flux.write_app(SHOP)
        done = flux("dev", "--app", flux.app, "--port", "70000")
        assert (done.exit_code, "ports are 0 (any free one) to 65535" in done.stderr) == (3, True)

    def test_of_an_address_that_is_not_ours_is_one_sentence(self) -> None:
        host = Host(FluxEngine(), HostSettings())
        with pytest.raises(CommandFailed, match=r"port 0 of 192\.0\.2\.1 cannot be used") as raised:
            Serving(host, print, stopping=lambda: False, address="192.0.2.1", port=0)
        assert not isinstance(raised.value, PortTaken)

    def test_that_others_can_reach_is_warned_of(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        flux.write_app(SHOP)
        monkeypatch.setattr("flux_cli.pump.Pump.run", lambda self: None)
        done = flux("dev", "--app", flux.app, "--host", "0.0.0.0", "--port", "0")  # noqa: S104 -- for an instant
        assert done.exit_code == 0
        assert "can start, change and read workflows: there is no login" in done.stderr

    def test_may_be_none(self, flux: Flux) -> None:
        flux.write_app(SHOP)
        process = flux.start("dev", "--app", flux.app, "--no-serve", "--json")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"] is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 143

    def test_a_variable_that_is_wrong_is_one_sentence(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        flux.write_app(SHOP)
        monkeypatch.setenv("FLUX_HTTP_BUDGET", "soon")
        done = flux("dev", "--app", flux.app, "--port", "0")
        assert (done.exit_code, "FLUX_HTTP_BUDGET must be a number above 0" in done.stderr) == (3, True)


class TestCtrlC:
    def test_ends_both(self, dev: Callable[..., Dev]) -> None:
        shop = dev()
        shop.send("GET", RUN)
        code, lines, _ = shop.stop()
        assert (code, lines[-1]["event"]) == (130, "stopped")
        with pytest.raises(ConnectionRefusedError):
            shop.send("GET", RUN)

    def test_lets_the_step_of_a_request_end_and_hands_its_instance_over(
        self, flux: Flux, dev: Callable[..., Dev]
    ) -> None:
        from threading import Thread

        flux.write_app(WITHOUT_NAP)
        shop = dev()
        answers: list[Any] = []
        client = Thread(target=lambda: answers.append(shop.send("POST", RUN, {"takes": 1.0}, idempotency_key="o-1")))
        client.start()
        until((flux.folder / "effects").exists)
        code, lines, err = shop.stop(signal.SIGTERM)
        client.join(timeout=30)
        assert (code, lines[-1]["event"]) == (143, "stopped")
        assert "stopping; the step that runs may end" in err
        assert [(status, body["status"]) for status, body in answers] == [(202, "running")]
        assert (flux.folder / "effects").read_text() == "o-1 work\n"
        found = module_of(flux).engine.get("order", "o-1")
        assert not found.state.owned

    def test_twice_does_not_wait_for_a_request(self, flux: Flux, dev: Callable[..., Dev]) -> None:
        from contextlib import suppress
        from threading import Thread

        shop = dev()

        def ask() -> None:
            with suppress(OSError):
                shop.send("POST", RUN, {"takes": 300}, idempotency_key="o-1")

        client = Thread(target=ask)
        client.start()
        until((flux.folder / "effects").exists)
        shop.process.send_signal(signal.SIGINT)
        assert shop.process.stderr is not None
        while "stopping" not in shop.process.stderr.readline():
            pass
        code, _, err = shop.stop()
        client.join(timeout=30)
        assert code == 130
        assert "interrupted; a step was cut off in the middle" in err
