"""`flux dev` keeps workflows awake: the pump by a virtual clock, the command as a process over SQLite."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from flux_cli.chronicle import store_name
from flux_cli.pump import Advanced, Exited, Looked, PassedOver, Pump, StoreBack, StoreSilent
from flux_core import (
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    RetryPolicy,
    StorageUnavailable,
    create_workflow,
    sleep,
)
from flux_core.payloads import MemoryPayloads
from flux_core.testing import VirtualClock
from flux_local import SQLiteStorage
from tests.cli.conftest import module_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from flux_cli.pump import Told
    from tests.cli.conftest import Flux


class Bench:
    """A pump whose waiting is the virtual clock's, and what it told."""

    def __init__(self, storage: Any = None, **options: Any) -> None:
        self.clock = VirtualClock()
        self.storage = MemoryStorage() if storage is None else storage
        self.naps = create_workflow("nap").step("nap", lambda ctx: sleep(ctx.input)).step("last", lambda ctx: ctx.id)
        self.engine = FluxEngine(self.storage, workflows=[self.naps], clock=self.clock, **options)
        self.events: list[Told] = []
        self.waited: list[float] = []
        self.pump = Pump(self.engine, self.events.append, interval=1.0, wait=self.wait)
        self.until = 60.0

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.clock.advance(seconds)
        if self.clock.monotonic() >= self.until:
            self.pump.stop()

    def run(self, seconds: float = 60.0) -> None:
        self.until = self.clock.monotonic() + seconds
        self.pump.run()

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def advanced(self) -> list[tuple[str, str]]:
        return [(event.result.id, event.result.status) for event in self.told(Advanced)]


class TestThePump:
    def test_wakes_each_instance_when_its_time_comes_and_not_before(self) -> None:
        bench = Bench()
        for seconds in (7.5, 2.25, 0.5):
            bench.engine.execute(bench.naps, seconds, f"n-{seconds}")
        ends: list[tuple[str, float]] = []

        def told(event: Told) -> None:
            if isinstance(event, Advanced):
                ends.append((event.result.id, round(bench.clock.monotonic(), 1)))

        bench.pump = Pump(bench.engine, told, wait=bench.wait)
        bench.run()
        assert ends == [("n-0.5", 0.5), ("n-2.25", 2.3), ("n-7.5", 7.5)]

    def test_looks_at_least_every_interval_because_others_write_too(self) -> None:
        bench = Bench()
        bench.run(10)
        assert bench.waited == [1.0] * 10

    def test_sleeps_no_longer_than_to_the_next_timer(self) -> None:
        bench = Bench()
        bench.engine.execute(bench.naps, 2.25, "n")
        bench.run(3)
        assert bench.waited[:3] == [1.0, 1.0, pytest.approx(0.251)]

    def test_goes_on_at_once_after_a_sweep_that_did_something(self) -> None:
        bench = Bench()
        for number in range(250):
            bench.engine.execute(bench.naps, 0.5, f"n-{number}")
        bench.run(2)
        assert len(bench.advanced) == 250
        looked = [(event.advanced, event.pause) for event in bench.told(Looked)]
        assert [look for look in looked if look[0]] == [(100, 0.0), (100, 0.0), (50, 0.0)]

    def test_takes_over_what_a_dead_process_left(self) -> None:
        bench = Bench(lease=10)

        class Killed(BaseException):
            pass

        dies = [True]

        def work(ctx: Any) -> str:
            if dies.pop():
                raise Killed
            return "done"

        flow = create_workflow("flow").step("work", work)
        with suppress(Killed):
            dies.append(True)
            bench.engine.execute(flow, id="f")
        dies[:] = [False]
        bench.run(30)
        assert bench.advanced == [("f", "completed")]

    def test_tells_nothing_of_a_tick_that_found_nothing_to_do(self) -> None:
        bench = Bench()
        bench.engine.execute(bench.naps, 50, "n")
        bench.clock.advance(1)
        header = bench.storage.header(InstanceRef("default", "nap", "n"))
        assert header is not None
        assert bench.storage.nudge(InstanceRef("default", "nap", "n"), header.epoch, bench.clock.now())
        bench.run(5)
        assert bench.advanced == []
        assert bench.told(PassedOver) == []

    def test_passes_over_what_it_does_not_know_tells_it_once_and_wakes_the_others(self) -> None:
        bench = Bench()
        other = create_workflow("other").step("nap", lambda ctx: sleep(1))
        elsewhere = FluxEngine(bench.storage, workflows=[other], clock=bench.clock)
        for number in range(150):  # more than one look sees
            elsewhere.execute(other, id=f"x-{number}")
        bench.engine.execute(bench.naps, 20, "n")
        bench.run(120)
        assert bench.advanced == [("n", "completed")]
        passed = bench.told(PassedOver)
        assert len(passed) == len({event.ref for event in passed}) == 150
        assert passed[0].why == "this engine does not know its workflow"
        assert min(bench.waited) > 0

    def test_passes_over_what_cannot_be_read_and_tries_again_now_and_then(self) -> None:
        bench = Bench()
        bench.engine.execute(bench.naps, 1, "n")
        ref = InstanceRef("default", "nap", "n")
        log = bench.storage._logs[ref]
        whole, log[1] = log[1], b"damaged"
        bench.run(10)
        (passed,) = bench.told(PassedOver)
        assert "record 1 of default/nap/n cannot be read" in passed.why
        log[1] = whole
        bench.pump = Pump(bench.engine, bench.events.append, wait=bench.wait) if bench.pump.stopping else bench.pump
        bench.run(40)
        assert bench.advanced == [("n", "completed")]

    def test_survives_a_store_that_does_not_answer_backs_off_and_says_so(self) -> None:
        class Silent(MemoryStorage):
            silent = False

            def due(self, until: int, limit: int) -> Any:
                if self.silent:
                    raise StorageUnavailable("it is locked")
                return super().due(until, limit)

        store = Silent()
        bench = Bench(store)
        bench.engine.execute(bench.naps, 30, "n")
        store.silent = True
        counted = bench.wait

        def wait_(seconds: float) -> None:
            counted(seconds)
            if len(bench.waited) == 7:
                store.silent = False

        bench.pump._wait = wait_
        bench.run(200)
        silent = bench.told(StoreSilent)
        assert [event.pause for event in silent] == [1, 2, 4, 8, 16, 30, 30]
        assert silent[0].why == "it is locked"
        kinds = [type(event) for event in bench.events if not isinstance(event, (Looked, StoreSilent))]
        assert kinds == [Advanced, StoreBack]
        assert bench.advanced == [("n", "completed")]

    def test_survives_a_handler_that_calls_sys_exit(self) -> None:
        bench = Bench()

        def leave(ctx: Any) -> None:
            raise SystemExit(3)

        flow = create_workflow("flow").step("nap", lambda ctx: sleep(1)).step("leave", leave)
        bench.engine.execute(flow, id="f")
        bench.engine.execute(bench.naps, 2, "n")
        bench.run(30)
        assert {event.code for event in bench.told(Exited)} == {3}
        assert bench.engine.get(flow, "f").status == "stuck"
        assert ("n", "completed") in bench.advanced

    def test_lets_the_running_step_end_and_hands_the_instance_over_when_it_is_stopped(self) -> None:
        bench = Bench()
        ran: list[str] = []

        def first(ctx: Any) -> None:
            ran.append("first")
            bench.pump.stop()

        flow = create_workflow("flow").step("nap", lambda ctx: sleep(1)).step("first", first)
        flow.step("second", lambda ctx: ran.append("second"))
        bench.engine.execute(flow, id="f")
        bench.engine.execute(bench.naps, 1, "n")
        bench.run(30)
        assert ran == ["first"]
        assert len(bench.advanced) == 1  # nor was the other one begun
        again = Pump(bench.engine, bench.events.append)
        assert again.once() == 2  # at once: nobody has to wait for a lease to end
        assert ran == ["first", "second"]
        assert bench.engine.get(flow, "f").status == "completed"

    def test_runs_a_commit_without_a_time_limit(self) -> None:
        bench = Bench()
        flow = create_workflow("flow").step("nap", lambda ctx: sleep(1)).step("a", lambda ctx: 1)
        flow.commit("charge", lambda ctx: 2, timeout=None, idempotent=True).step("b", lambda ctx: 3)
        bench.engine.execute(flow, id="f")
        bench.run(5)
        assert bench.engine.get(flow, "f").status == "completed"

    def test_retries_what_was_put_off(self) -> None:
        bench = Bench()

        def flaky(ctx: Any) -> str:
            if ctx.attempt < 3:
                raise OSError("not yet")
            return "now"

        flow = create_workflow("flow").step("flaky", flaky, retry=RetryPolicy(initial=5, maximum=5, jitter=False))
        bench.engine.execute(flow, id="f")
        bench.run(20)
        assert bench.advanced == [("f", "suspended"), ("f", "completed")]

    def test_two_of_them_over_one_store_wake_each_instance_once(self) -> None:
        bench = Bench()
        ran: list[str] = []
        flow = create_workflow("flow").step("nap", lambda ctx: sleep(1)).step("work", lambda ctx: ran.append(ctx.id))
        for number in range(20):
            bench.engine.execute(flow, id=f"f-{number}")
        second = Pump(bench.engine, bench.events.append, wait=bench.wait)
        counted = bench.wait

        def both(seconds: float) -> None:
            counted(seconds)
            second.once()

        bench.pump._wait = both
        bench.run(5)
        assert sorted(ran) == sorted(f"f-{number}" for number in range(20))
        assert all(bench.engine.get(flow, f"f-{number}").status == "completed" for number in range(20))

    def test_once_wakes_what_is_due_and_ends(self) -> None:
        bench = Bench()
        for number in range(230):
            bench.engine.execute(bench.naps, 1, f"n-{number}")
        bench.engine.execute(bench.naps, 9, "later")
        bench.clock.advance(2)
        assert bench.pump.once() == 230
        assert bench.engine.get(bench.naps, "later").status == "suspended"

    def test_knows_what_is_ahead(self) -> None:
        bench = Bench()
        for seconds in (30, 10, 20):
            bench.engine.execute(bench.naps, seconds, f"n-{seconds}")
        assert [entry.ref.id for entry in bench.pump.ahead(2)] == ["n-10", "n-20"]

    def test_can_be_woken_and_stopped_while_it_sleeps(self) -> None:
        """By a signal handler, or by another thread."""
        from threading import Thread

        engine = FluxEngine(workflows=[create_workflow("w").step("s", lambda ctx: 1)])
        looks: list[float] = []

        def told(event: Told) -> None:
            looks.append(time.monotonic())
            Thread(target=pump.wake if len(looks) < 3 else pump.stop).start()

        pump = Pump(engine, told, interval=60)
        pump.run()
        assert len(looks) == 3


# --- the command --------------------------------------------------------------------------------------------

NAPS = """
import os, time
from flux_core import FluxEngine, create_workflow, sleep, wait
from flux_local import SQLiteStorage

def work(ctx):
    with open("effects", "a") as file:
        file.write(ctx.id + "\\n")
    time.sleep(ctx.input.get("takes", 0))
    if ctx.input.get("bad"):
        raise ValueError("no stock")

nap = (
    create_workflow("nap")
    .step("nap", lambda ctx: sleep(ctx.input["sleeps"]))
    .step("work", work, retries=0)
    .step("ask", lambda ctx: wait("go") if ctx.input.get("ask") else None)
)
engine = FluxEngine(SQLiteStorage("store.db", synchronous="OFF"), workflows=[nap])
"""


@pytest.fixture
def naps(flux: Flux) -> Flux:
    flux.write_app(NAPS)
    return flux


def begin(flux: Flux, id_: str, sleeps: float = 0.2, **more: object) -> None:
    module_of(flux).engine.execute("nap", {"sleeps": sleeps, **more}, id_)


def status(flux: Flux, id_: str) -> str:
    found: str = module_of(flux).engine.get("nap", id_).status
    return found


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not come so far"
        time.sleep(0.01)


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, list[str], str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out.splitlines(), err


class TestTheCommand:
    def test_wakes_sleepers_and_prints_a_line_for_each(self, naps: Flux) -> None:
        begin(naps, "n-1")
        begin(naps, "n-2", ask=True)
        begin(naps, "n-3", bad=True)
        process = naps.start("dev", "--no-serve", "--app", naps.app)
        until(lambda: status(naps, "n-3") == "failed")
        code, lines, err = stopped(process, signal.SIGINT)
        assert code == 130
        stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC "
        patterns = {
            "n-1": "nap/n-1 completed",
            "n-2": "nap/n-2 suspended: step ask waits for the signal go",
            "n-3": "nap/n-3 failed: at step work: ValueError: no stock",
        }
        assert len(lines) == 3
        for id_, pattern in patterns.items():
            (line,) = [line for line in lines if id_ in line]
            assert re.fullmatch(stamp + pattern, line), line
        assert f"flux dev: {naps.app} serves nap from SQLiteStorage store.db, tenant default" in err
        assert "flux dev: stopped by SIGINT; 3 instances went on" in err

    def test_names_the_store_and_not_the_layers_around_it(self, tmp_path: Path) -> None:
        storage = SQLiteStorage(tmp_path / "flux.db")
        engine = FluxEngine(storage, payloads=MemoryPayloads())
        assert store_name(engine) == f"SQLiteStorage {tmp_path / 'flux.db'}"

    def test_says_at_its_start_what_is_due(self, naps: Flux) -> None:
        begin(naps, "n-1", sleeps=0.2)
        begin(naps, "n-2", sleeps=0.2)
        begin(naps, "later", sleeps=7200)
        time.sleep(0.21)
        done = naps("dev", "--app", naps.app, "--once")
        assert "flux dev: 2 are due; the next timer is that of nap/later, in 120 min" in done.stderr
        assert "flux dev: done; 2 instances went on" in done.stderr

    def test_with_json_every_event_is_a_line(self, naps: Flux) -> None:
        begin(naps, "n-1", ask=True)
        process = naps.start("dev", "--no-serve", "--app", naps.app, "--json")
        until(lambda: "ask" in module_of(naps).engine.get("nap", "n-1").state.waits)
        code, lines, err = stopped(process, signal.SIGTERM)
        assert (code, err) == (143, "")
        started, advanced, end = map(json.loads, lines)
        assert {key: started[key] for key in ("event", "app", "workflows", "store", "tenant")} == {
            "event": "started", "app": naps.app, "workflows": ["nap"], "store": "SQLiteStorage store.db",
            "tenant": "default",
        }  # fmt: skip
        assert {**advanced, "at": 0} == {
            "event": "advanced", "at": 0, "tenant": "default", "workflow": "nap", "id": "n-1", "status": "suspended",
            "step": "ask", "waiting_for": ["go"], "goes_on_at": None, "error": None,
        }  # fmt: skip
        assert {**end, "at": 0} == {"event": "stopped", "at": 0, "advanced": 1, "how": "stopped by SIGTERM"}

    def test_lets_the_running_step_end_when_it_is_stopped(self, naps: Flux) -> None:
        begin(naps, "n-1", sleeps=0.2, takes=0.6)
        process = naps.start("dev", "--no-serve", "--app", naps.app)
        until((naps.folder / "effects").exists)
        code, _, err = stopped(process, signal.SIGTERM)
        assert code == 143
        assert "stopping; the step that runs may end, Ctrl-C again interrupts it" in err
        found = module_of(naps).engine.get("nap", "n-1")
        assert [step.status for step in found.history] == ["completed", "completed", "pending"]
        assert not found.state.owned
        naps("dev", "--app", naps.app, "--once")
        assert status(naps, "n-1") == "completed"
        assert (naps.folder / "effects").read_text() == "n-1\n"

    def test_a_second_ctrl_c_interrupts_the_step_and_lets_the_instance_go(self, naps: Flux) -> None:
        begin(naps, "n-1", sleeps=0.2, takes=20)
        process = naps.start("dev", "--no-serve", "--app", naps.app)
        until((naps.folder / "effects").exists)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in process.stderr.readline():
            pass
        code, _, err = stopped(process, signal.SIGINT)
        assert code == 130
        assert "interrupted; a step was cut off in the middle; its instance keeps what was recorded" in err
        assert not module_of(naps).engine.get("nap", "n-1").state.owned

    def test_two_at_once_do_no_harm(self, naps: Flux) -> None:
        for number in range(8):
            begin(naps, f"n-{number}", sleeps=0.3)
        both = [naps.start("dev", "--no-serve", "--app", naps.app, "--json") for _ in range(2)]
        for process in both:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "started"
        until(lambda: all(status(naps, f"n-{number}") == "completed" for number in range(8)))
        ended = [stopped(process, signal.SIGTERM) for process in both]
        assert [code for code, _, _ in ended] == [143, 143]
        assert sorted((naps.folder / "effects").read_text().split()) == [f"n-{number}" for number in range(8)]

    def test_what_it_does_not_know_is_told(self, naps: Flux) -> None:
        begin(naps, "n-1", sleeps=0.2)
        time.sleep(0.21)
        naps.write_app(NAPS.replace('"nap")', '"other")'))
        process = naps.start("dev", "--app", naps.app, "--once")
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "nothing is due" in err
        assert "instances of nap are due, too, which this engine does not know" in err
        assert "nap/n-1 is due and left alone: this engine does not know its workflow" in err

    def test_a_memory_engine_says_that_nobody_else_can_reach_it(self, flux: Flux) -> None:
        done = flux("dev", "--app", flux.app, "--once")
        assert done.exit_code == 0
        assert "keeps its instances in memory, where no other process can reach them" in done.stderr

    def test_a_store_that_cannot_be_used_is_one_sentence(self, naps: Flux) -> None:
        (naps.folder / "store.db").write_text("a shopping list, and quite a long one, so that it is no empty file" * 20)
        done = naps("dev", "--app", naps.app)
        assert (done.exit_code, done.stdout) == (3, "")
        assert "is not a SQLite database" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_an_engine_without_workflows_is_one_sentence(self, flux: Flux) -> None:
        flux.write_app("from flux_core import FluxEngine\nengine = FluxEngine()")
        done = flux("dev", "--app", flux.app)
        assert done.exit_code == 3
        assert "knows no workflow; pass it FluxEngine(workflows=[...])" in done.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_there_is_a_view_that_fits_it(columns: int, naps: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import struct
    import termios

    for number in range(3):
        begin(naps, f"n-{number}", sleeps=0.2, ask=True)
    begin(naps, "later-" + "x" * 110, sleeps=3600)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLUMNS", raising=False)
    try:
        process = naps.start("dev", "--no-serve", "--app", naps.app, stdout=theirs, stderr=theirs)
        shown = ""
        while "n-2 suspended" not in plain(shown):
            shown += os.read(ours, 100_000).decode()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        shown += os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 130
    last = plain(shown).rpartition("flux dev ")[2]
    for words in ("serves nap from SQLiteStorage", "4 suspended", "in 60 min nap/later-x", "stopped by SIGINT"):
        assert words in re.sub(r" +", " ", last), last
    assert all(len(line.rstrip()) <= columns for line in last.splitlines())


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text).replace("\r", "")


def test_a_reader_that_goes_away_is_no_traceback(naps: Flux) -> None:
    for number in range(5):
        begin(naps, f"n-{number}", sleeps=0.3)
    process = naps.start("dev", "--no-serve", "--app", naps.app, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Traceback" not in err
