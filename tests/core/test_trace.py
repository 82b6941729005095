"""Trace events tell each kind of run in its order, and a sink that fails changes nothing."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    EVENT_TYPES,
    Context,
    FluxConsoleLogger,
    FluxSilentLogger,
    JsonFileTraceSink,
    NonRetryable,
    RetryPolicy,
    Unknown,
    create_workflow,
    flow,
    sleep,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.core.conftest import Lab


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


def fails_once(ctx: Context) -> str:
    if ctx.attempt == 1:
        message = "once"
        raise OSError(message)
    return "ok"


class TestTheOrderOfEvents:
    def test_of_a_run_that_completes(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).commit("b", lab.note("b"))
        lab.engine(trace=lab.events).execute(w)
        assert lab.events.types == [
            "workflow:start", "step:start a", "step:complete a", "step:start b", "step:complete b", "workflow:complete",
        ]  # fmt: skip

    def test_tells_of_a_cancel_once_though_the_owner_meets_it_too(self, lab: Lab) -> None:
        def cancels(ctx: Context) -> None:
            engine.cancel(w, ctx.id)

        w = create_workflow("order").step("a", cancels).step("b", lab.note("b"))
        engine = lab.engine(trace=lab.events)
        assert engine.execute(w).status == "cancelled"
        assert lab.events.types.count("workflow:cancel") == 1

    def test_of_branches_that_fail_begin_one_rollback_when_the_instance_turns_back(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("l").step("a", boom), flow("m").step("b", lab.note("b")), flow("r").step("c", boom),
            on_error="wait_all",
        )  # fmt: skip
        lab.engine(trace=lab.events).execute(w, None, "held")
        assert lab.events.types[5:] == [
            "step:error a", "step:complete b", "step:error c", "step:error fan",
            "workflow:rollback_start", "workflow:error",
        ]  # fmt: skip
        lab.events.all.clear()
        w = create_workflow("order").parallel("fan", flow("l").step("a", boom), flow("r").step("b", boom))
        lab.engine(trace=lab.events).execute(w, None, "at-once")
        assert lab.events.types[3:] == [
            "step:start b", "step:error a", "workflow:rollback_start", "step:error b", "workflow:error",
        ]  # fmt: skip

    def test_of_a_step_that_starts_a_child_ends_like_any_other(self, lab: Lab) -> None:
        hooks: list[str] = []
        on = {
            "step_complete": lambda name, ctx, result: hooks.append(f"{name}: {result}"),
            "step_error": lambda name, ctx, error: hooks.append(f"{name}: {error.type}"),
        }
        good, bad = create_workflow("good").step("g", lambda ctx: None), create_workflow("bad").step("x", boom)
        engine = lab.engine(trace=lab.events, on=on)
        engine.execute(create_workflow("order").child("call", good), None, "o-1")
        assert [t for t in lab.events.types if t.endswith("call")] == ["step:start call", "step:complete call"]
        assert hooks == ["g: None", "call: {}"]
        lab.events.all.clear()
        engine.execute(create_workflow("orders").child("call", bad), None, "o-1")
        parents = [e["type"] for e in lab.events.all if e["workflow_name"] == "orders"]
        assert parents == ["workflow:start", "step:start", "step:error", "workflow:rollback_start", "workflow:error"]
        assert hooks[2:] == ["x: NonRetryable", "call: ChildFailed"]

    def test_of_a_run_with_a_skipped_step(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), when=lambda ctx: False)
        w.commit("b", lab.note("b"), when=lambda ctx: False)
        lab.engine(trace=lab.events).execute(w)
        assert [t for t in lab.events.types if not t.startswith("step:start")] == [
            "workflow:start", "step:skipped a", "step:skipped b", "workflow:complete",
        ]  # fmt: skip

    @pytest.mark.parametrize("durable", [False, True])
    def test_of_a_run_with_a_retry(self, durable: bool, lab: Lab) -> None:
        w = create_workflow("order").step(
            "a", fails_once, retry=RetryPolicy(60 if durable else 1, jitter=False, maximum=60)
        )
        lab.engine(trace=lab.events).execute(w, None, "o-1")
        if durable:
            lab.clock.advance(60)
            lab.engine(trace=lab.events).wake(w, "o-1")
        told = [t for t in lab.events.types if t != "step:start a"]
        assert told == ["workflow:start", "step:retry a", "step:complete a", "workflow:complete"]
        assert lab.events.types[1] == "step:start a"

    def test_of_a_run_that_fails_and_is_undone(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo")).step("b", boom)
        lab.engine(trace=lab.events).execute(w)
        assert lab.events.types == [
            "workflow:start", "step:start a", "step:complete a", "step:start b", "step:error b",
            "workflow:rollback_start", "step:compensate a", "workflow:rollback_complete",
        ]  # fmt: skip

    def test_of_a_run_with_a_compensation_that_fails(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=boom).step("b", boom)
        lab.engine(trace=lab.events).execute(w)
        assert lab.events.types[4:] == ["step:error b", "workflow:rollback_start", "step:error a", "workflow:error"]

    def test_of_a_wait_and_its_signal(self, lab: Lab) -> None:
        w = create_workflow("order").step("gate", lambda ctx: wait("go")).step("b", lab.note("b"))
        engine = lab.engine(trace=lab.events)
        engine.execute(w, None, "o-1")
        engine.signal(w, "o-1", "go", 7)
        assert lab.events.types == [
            "workflow:start", "step:start gate", "step:suspend gate", "signal:received gate",
            "step:start b", "step:complete b", "workflow:complete",
        ]  # fmt: skip

    def test_of_a_sleep(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(5))
        lab.engine(trace=lab.events).execute(w, None, "o-1")
        lab.clock.advance(5)
        lab.engine(trace=lab.events).wake(w, "o-1")
        assert lab.events.types[1:] == ["step:start nap", "step:suspend nap", "step:complete nap", "workflow:complete"]

    def test_of_a_wait_that_times_out(self, lab: Lab) -> None:
        w = create_workflow("order").step("gate", lambda ctx: wait("go", timeout=5))
        lab.engine(trace=lab.events).execute(w, None, "o-1")
        lab.clock.advance(5)
        lab.engine(trace=lab.events).wake(w, "o-1")
        told = [t for t in lab.events.types[3:] if "rollback" not in t]
        assert told == ["step:error gate", "workflow:error"]

    def test_of_a_cancel(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("a", lab.note("a"), compensate=lab.note("undo"))
            .step("g", lambda ctx: wait("go"))
        )
        engine = lab.engine(trace=lab.events)
        engine.execute(w, None, "o-1")
        engine.cancel(w, "o-1", "why not", who="ann")
        assert lab.events.types[5:] == ["workflow:cancel", "step:compensate a", "workflow:rollback_complete"]
        assert lab.events.of("workflow:cancel")[0]["meta"] == {"why": "why not", "by": "ann"}

    def test_of_a_quarantine(self, lab: Lab) -> None:
        def charge(ctx: Context) -> None:
            raise Unknown

        lab.engine(trace=lab.events).execute(create_workflow("order").commit("charge", charge))
        assert lab.events.types == ["workflow:start", "step:start charge", "workflow:stuck"]
        (event,) = lab.events.of("workflow:stuck")
        assert (event["status"], event["meta"]) == ("stuck", {"reason": "unknown_outcome", "step": "charge"})

    def test_of_a_recovery(self, lab: Lab, killed: type[BaseException]) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.die(ctx) if not lab.calls else "ok")
        with pytest.raises(killed):
            lab.engine(trace=lab.events).execute(w, None, "o-1")
        lab.past_the_lease()
        lab.calls.append("healthy")
        lab.engine(trace=lab.events).wake(w, "o-1")
        assert lab.events.types == [
            "workflow:start", "step:start a", "workflow:recovered", "step:start a", "step:complete a",
            "workflow:complete",
        ]  # fmt: skip

    def test_of_a_hand_over(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.clock.advance(20)).step("b", lab.note("b"))
        lab.engine(trace=lab.events).execute(w, None, "o-1", deadline=10)
        assert lab.events.types[-1] == "workflow:handover"

    def test_of_a_changed_definition(self, lab: Lab) -> None:
        lab.engine().execute(create_workflow("order").step("a", lambda ctx: wait("go")), None, "o-1")
        lab.engine(trace=lab.events).wake(create_workflow("order").step("b", lab.note("b")), "o-1")
        assert lab.events.types == ["workflow:blocked"]

    def test_of_what_a_retry_keeps_is_not_told_again(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).commit("b", lab.note("b")).step("c", boom)
        lab.engine().execute(w, None, "o-1")
        lab.engine(trace=lab.events).retry_step(w, "o-1", "a")
        assert [t for t in lab.events.types if t.endswith(" b")] == []


class TestTheFields:
    def test_of_every_event_are_its_type_time_and_instance(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("a", lab.note("a"), compensate=lab.note("u"))
            .step("b", fails_once)
            .step("c", boom)
        )
        lab.engine(trace=lab.events).execute(w, None, "o-1")
        assert all(
            (event["workflow_id"], event["workflow_name"]) == ("o-1", "order") and type(event["timestamp"]) is int
            for event in lab.events.all
        )
        assert {event["type"] for event in lab.events.all} <= set(EVENT_TYPES)

    def test_of_a_steps_events_are_its_place_kind_and_retries(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).commit("b", fails_once, retries=2)
        lab.engine(trace=lab.events).execute(w)
        start, retry, complete = [event for event in lab.events.all if event.get("step_name") == "b"]
        common = {"step_name": "b", "step_index": 1, "commit": True, "max_retries": 2}
        assert common.items() <= start.items()
        assert (start["status"], start["retries"]) == ("running", 0)
        assert common.items() <= retry.items()
        assert (retry["error"], retry["retries"]) == ("once", 1)
        assert common.items() <= complete.items()
        assert (complete["status"], complete["retries"]) == ("completed", 1)

    def test_of_an_end_are_status_data_or_error(self, lab: Lab) -> None:
        good = create_workflow("good").step("a", lambda ctx: ctx.data.update(x=1))
        lab.engine(trace=lab.events).execute(good, {"in": 1})
        assert lab.events.of("workflow:start")[0]["input"] == {"in": 1}
        assert (lab.events.of("workflow:complete")[0]["status"], lab.events.of("workflow:complete")[0]["data"]) == (
            "completed", {"x": 1},
        )  # fmt: skip
        lab.engine(trace=lab.events).execute(create_workflow("bad").step("a", boom))
        (error,) = lab.events.of("workflow:error")
        assert (error["status"], error["error"]) == ("failed", "boom")
        assert lab.events.of("step:error")[0]["error"] == "boom"

    def test_of_a_duration_are_seconds(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.clock.advance(1.5))
        lab.engine(trace=lab.events).execute(w)
        assert lab.events.of("step:complete")[0]["duration"] == pytest.approx(1.5)

    def test_of_a_signal_are_its_name(self, lab: Lab) -> None:
        w = create_workflow("order").step("gate", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.engine(trace=lab.events).signal(w, "o-1", "go")
        (event,) = lab.events.of("signal:received")
        assert (event["step_name"], event["meta"]) == ("gate", {"signal": "go"})


class Broken:
    """A sink that raises at every event."""

    def emit(self, event: Mapping[str, object]) -> None:
        message = "the collector is down"
        raise OSError(message)


class TestASinkThatFails:
    def test_changes_nothing_and_is_counted_and_logged(self, lab: Lab) -> None:
        engine = lab.engine(trace=[Broken(), lab.events])
        result = engine.execute(create_workflow("order").step("a", lab.note("a")))
        assert result.status == "completed"
        assert len(lab.events.all) == 4, "the other sink is told everything"
        assert engine.telemetry.errors == 4
        assert (
            "error",
            "a trace sink raised; the workflow goes on",
            {"error": "OSError('the collector is down')"},
        ) in (lab.log.lines)

    def test_cannot_change_what_others_are_told_or_what_is_recorded(self, lab: Lab) -> None:
        class Meddler:
            def emit(self, event: dict[str, Any]) -> None:
                if isinstance(event.get("data"), dict):
                    event["data"]["x"] = "meddled"
                if isinstance(event.get("input"), dict):
                    event["input"]["n"] = "meddled"

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1)).step("b", lambda ctx: ctx.input["n"])
        result = lab.engine(trace=Meddler()).execute(w, {"n": 1}, "o-1")
        assert (result.data, result.history[1].output) == ({"x": 1}, 1)

    def test_with_a_logger_that_fails_too_changes_nothing(self, lab: Lab) -> None:
        class BrokenLogger:
            def debug(self, message: str, **fields: object) -> None:
                raise OSError

            info = warn = error = debug

        engine = lab.engine(trace=Broken(), logger=BrokenLogger())
        w = create_workflow("order").step("a", lab.note("a")).step("b", boom)
        assert engine.execute(w).status == "failed"


class TestALogger:
    def test_that_fails_never_changes_an_outcome(self, lab: Lab, killed: type[BaseException]) -> None:
        class BrokenLogger:
            def debug(self, message: str, **fields: object) -> None:
                raise OSError

            info = warn = error = debug

        def charge(ctx: Context) -> None:
            raise Unknown

        engine = lab.engine(trace=lab.events, logger=BrokenLogger())
        assert engine.execute(create_workflow("one").commit("a", charge)).status == "stuck"
        w = create_workflow("two").step("a", lab.note("a"), compensate=boom).step("b", boom)
        assert engine.execute(w).status == "failed"
        w = create_workflow("three").step("a", lambda ctx: wait("go"))
        engine.execute(w, None, "o-1")
        assert engine.signal(w, "o-1", "go").status == "completed"
        engine.execute(w, None, "o-2")
        assert engine.wake(create_workflow("three").step("b", lab.note("b")), "o-2").status == "blocked"
        lab.engine().execute(create_workflow("four").step("a", lambda ctx: sleep(1)), None, "o-3")
        lab.clock.advance(1)
        assert lab.engine(logger=BrokenLogger()).recover() == []

    def test_that_lacks_a_level_never_changes_an_outcome(self, lab: Lab) -> None:
        class Half:
            def info(self, message: str, **fields: object) -> None:
                lab.calls.append(message)

            warn = info

        half: Any = Half()
        w = create_workflow("order").step("a", lambda ctx: wait("go")).step("b", lambda ctx: ctx.log.info("here"))
        engine = lab.engine(trace=lab.events, logger=half)
        engine.execute(w, None, "o-1")
        assert engine.signal(w, "o-1", "go").status == "completed"
        assert (lab.calls, engine.telemetry.errors) == (["here"], 1)

    def test_takes_the_handlers_field_where_the_kit_has_one_of_that_name(self, lab: Lab) -> None:
        result = lab.engine().execute(
            create_workflow("order").step("a", lambda ctx: ctx.log.info("charged", id="ch-1", step=2)), None, "o-1"
        )
        assert result.status == "completed"
        assert lab.log.lines == [("info", "charged", {"workflow": "order", "id": "ch-1", "step": 2, "attempt": 1})]

    def test_of_the_console_writes_lines_from_its_level_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = FluxConsoleLogger("warn")
        logger.info("unheard")
        logger.warn("heard", workflow="order", id="o-1")
        assert capsys.readouterr().err == "[flux] warn  heard workflow=order id=o-1\n"
        with pytest.raises(ValueError, match="level must be one of debug, info, warn, error; got 'loud'"):
            FluxConsoleLogger("loud")

    def test_that_is_silent_says_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        FluxSilentLogger().error("unheard", workflow="order")
        assert capsys.readouterr() == ("", "")


class TestTheJsonFileSink:
    def run(self, lab: Lab, path: Path, *, reset: bool = False) -> list[dict[str, Any]]:
        sink = JsonFileTraceSink(str(path), reset=reset)
        lab.engine(trace=sink).execute(create_workflow("order").step("a", lab.note("a")))
        sink.close()
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def test_writes_one_line_of_json_an_event_and_creates_the_folder(self, lab: Lab, tmp_path: Path) -> None:
        events = self.run(lab, tmp_path / "deep" / "er" / "trace.jsonl")
        assert [event["type"] for event in events] == [
            "workflow:start",
            "step:start",
            "step:complete",
            "workflow:complete",
        ]

    def test_appends_to_what_is_there(self, lab: Lab, tmp_path: Path) -> None:
        self.run(lab, tmp_path / "trace.jsonl")
        assert len(self.run(lab, tmp_path / "trace.jsonl")) == 8

    def test_with_reset_empties_the_file_once(self, lab: Lab, tmp_path: Path) -> None:
        path = tmp_path / "trace.jsonl"
        self.run(lab, path)
        assert len(self.run(lab, path, reset=True)) == 4
        sink = JsonFileTraceSink(str(path), reset=True)
        sink.emit({"type": "one"})
        sink.close()
        sink.emit({"type": "two"})
        sink.close()
        assert len(path.read_text("utf-8").splitlines()) == 2

    def test_may_be_shared_by_threads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two first events at once must not both open, and with it empty, the file."""
        path = tmp_path / "trace.jsonl"
        sink = JsonFileTraceSink(str(path), reset=True)
        opened, real = [], sink._open

        def slow() -> Any:
            opened.append(1)
            time.sleep(0.05)
            return real()

        monkeypatch.setattr(sink, "_open", slow)
        threads = [threading.Thread(target=sink.emit, args=({"type": n},)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.close()
        assert sorted(path.read_text("utf-8").split()) == [f'{{"type":{n}}}' for n in range(4)]
        assert opened == [1]

    def test_opens_nothing_before_the_first_event(self, tmp_path: Path) -> None:
        JsonFileTraceSink(str(tmp_path / "deep" / "trace.jsonl")).close()
        assert list(tmp_path.iterdir()) == []

    def test_flushes_each_line(self, tmp_path: Path) -> None:
        sink = JsonFileTraceSink(str(tmp_path / "trace.jsonl"))
        sink.emit({"type": "one"})
        assert (tmp_path / "trace.jsonl").read_text("utf-8") == '{"type":"one"}\n'
        sink.close()

    def test_writes_values_of_every_type(self, lab: Lab, tmp_path: Path) -> None:
        from decimal import Decimal

        path = tmp_path / "trace.jsonl"
        sink = JsonFileTraceSink(str(path))
        engine = lab.engine(trace=sink)
        raw = {"price": Decimal("1.10"), "raw": b"\xff", "tuple keys": {(1, 2): 3}, "lone": "\ud800"}
        engine.execute(create_workflow("order").step("a", lab.note("a")), raw)
        sink.close()
        assert engine.telemetry.errors == 0
        assert len(path.read_text("utf-8").splitlines()) == 4

    def test_that_cannot_write_changes_nothing(self, lab: Lab, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        engine = lab.engine(trace=JsonFileTraceSink(str(tmp_path / "file" / "trace.jsonl")))
        assert engine.execute(create_workflow("order").step("a", lab.note("a"))).status == "completed"
        assert engine.telemetry.errors == 4


def test_a_logger_of_the_standard_library_gets_the_fields_in_its_lines(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    engine = lab.engine(logger=logging.getLogger("shop"))
    engine.execute(create_workflow("order").step("a", lambda ctx: ctx.log.warn("low stock", item=7)), None, "o-1")
    assert caplog.messages == ["low stock workflow=order id=o-1 step=a attempt=1 item=7"]
    assert engine.telemetry.errors == 0


def test_a_sink_that_changes_an_event_changes_it_for_no_other_sink(lab: Lab) -> None:
    class Eraser:
        def emit(self, event: Any) -> None:
            event.clear()

    lab.engine(trace=[Eraser(), lab.events, Eraser()]).execute(create_workflow("order").step("a", lambda ctx: 1))
    assert [event["type"] for event in lab.events.all] == [
        "workflow:start",
        "step:start",
        "step:complete",
        "workflow:complete",
    ]
