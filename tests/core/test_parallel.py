"""`.parallel`: branches that run at the same time, each step a checkpoint; what they write comes together then."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    DefinitionError,
    FluxEngine,
    MemoryStorage,
    NonRetryable,
    Refused,
    UnknownStep,
    create_workflow,
    flow,
    wait,
)
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from flux_core import Context, FlowBuilder, FluxResult, Header, InstanceRef, WorkflowBuilder
    from flux_core.state import ErrorInfo
    from tests.core.conftest import Lab


def fail(ctx: Context) -> None:
    message = f"{ctx.step} broke"
    raise NonRetryable(message)


def sets(**values: Any) -> Any:
    def handler(ctx: Context) -> None:
        ctx.data.update(values)

    return handler


def statuses(result: FluxResult) -> dict[str, str]:
    return {step.path: step.status for step in result.history}


def _error(result: FluxResult) -> ErrorInfo:
    assert result.error is not None
    return result.error


class TestBranches:
    def test_are_handlers_or_named_flows_and_bring_a_dict_of_their_outputs(self, lab: Lab) -> None:
        def reserve(ctx: Context) -> str:
            return "r"

        pay = flow("pay").step("charge", lambda ctx: 10).step("book", lambda ctx: ctx.results["charge"] + 1)
        w = create_workflow("order").parallel("fan", reserve, pay).step("end", lambda ctx: ctx.results["fan"])
        result = lab.engine().execute(w, None, "o-1")
        assert result.history[-1].output == {"reserve": "r", "pay": 11}
        assert set(statuses(result)) == {"fan", "fan.reserve.reserve", "fan.pay.charge", "fan.pay.book", "end"}
        assert set(statuses(result).values()) == {"completed"}
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_without_a_name_are_called_by_their_place(self, lab: Lab) -> None:
        w = create_workflow("order").parallel("fan", lambda ctx: 1, flow().step("a", lambda ctx: 2))
        assert lab.engine().execute(w, None, "o-1").history[0].output == {"0": 1, "1": 2}

    def test_run_at_the_same_time_on_threads_and_as_tasks(self) -> None:
        met = threading.Barrier(2, timeout=10)
        here, there = asyncio.Event(), asyncio.Event()

        def left(ctx: Context) -> int:
            return met.wait() * 0

        def right(ctx: Context) -> int:
            return met.wait() * 0

        async def first(ctx: Context) -> None:
            here.set()
            await asyncio.wait_for(there.wait(), 10)

        async def second(ctx: Context) -> None:
            there.set()
            await asyncio.wait_for(here.wait(), 10)

        w = create_workflow("order").parallel("sync", left, right).parallel("tasks", first, second)
        result = FluxEngine(MemoryStorage()).execute(w)
        assert result.status == "completed", result.error

    def test_are_limited_by_max_concurrency(self) -> None:
        lock, now, most = threading.Lock(), [0], [0]

        def work(ctx: Context) -> None:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.02)
            with lock:
                now[0] -= 1

        branches = [flow(f"b{n}").step("work", work) for n in range(6)]
        w = create_workflow("order").parallel("fan", *branches, max_concurrency=2)
        assert FluxEngine(MemoryStorage()).execute(w).status == "completed"
        assert most == [2]

    def test_cost_one_record_for_the_fork_and_none_for_the_join(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", sets(a=1)), flow("b").commit("y", lab.note("y"))
        )
        lab.engine().execute(w, None, "o-1")
        assert sorted(lab.types("o-1")) == sorted(["start", "decide", "intent", "step", "step", "end"])

    def test_nest(self, lab: Lab) -> None:
        inner = flow("in").parallel("deep", flow("x").step("a", sets(x=1)), flow("y").step("b", sets(y=2)))
        inner.step("seen", lambda ctx: dict(ctx.data))
        w = create_workflow("order").step("begin", sets(s=0)).parallel("fan", inner, flow("c").step("z", sets(z=3)))
        result = lab.engine().execute(w, None, "o-1")
        assert result.data == {"s": 0, "x": 1, "y": 2, "z": 3}
        seen = next(step for step in result.history if step.path == "fan.in.seen")
        assert seen.output == {"s": 0, "x": 1, "y": 2}

    def test_after_a_crash_only_what_was_under_way_runs_again(self, lab: Lab) -> None:
        def work(ctx: Context) -> None:
            lab.calls.append(ctx.path or "")
            if len(lab.calls) == 4:
                raise Killed

        def two(name: str) -> FlowBuilder:
            return flow(name).step("one", work).step("two", work)

        w = create_workflow("order").parallel("fan", two("a"), two("b"))
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        before, lab.calls[:] = list(lab.calls), []
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert before == ["fan.a.one", "fan.b.one", "fan.a.two", "fan.b.two"]
        assert set(lab.calls) == {"fan.a.two", "fan.b.two"}

    def test_that_have_not_begun_when_the_invocation_dies_never_begin(self, lab: Lab) -> None:
        class Dying(MemoryStorage):
            def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
                if seq == 3:
                    raise Killed
                return super().append(ref, seq, record, header)

        lab.storage = Dying()
        fan = [flow(name).commit("charge", lab.note(name)) for name in ("a", "b")]
        with pytest.raises(Killed):  # at the intent of the second, when the first was handed over already
            lab.engine().execute(create_workflow("order").parallel("fan", *fan), None, "o-1")
        assert lab.calls == []


class TestData:
    def test_of_a_branch_is_that_of_the_fork_and_its_own_writes(self, lab: Lab) -> None:
        def branch(name: str) -> Any:
            return flow(name).step("set", sets(**{name: name})).step("see", lambda ctx: dict(ctx.data))

        w = create_workflow("order").step("begin", sets(begun=1)).parallel("fan", branch("a"), branch("b"))
        w.step("end", lambda ctx: dict(ctx.data))
        result = lab.engine().execute(w, None, "o-1")
        outputs = {step.path: step.output for step in result.history}
        assert outputs["fan.a.see"] == {"begun": 1, "a": "a"}
        assert outputs["fan.b.see"] == {"begun": 1, "b": "b"}
        assert outputs["end"] == {"begun": 1, "a": "a", "b": "b"}

    def test_inside_of_values_is_not_shared_between_branches(self, lab: Lab) -> None:
        def spoil(ctx: Context) -> None:
            ctx.data["list"].append("spoilt")
            raise NonRetryable("no")

        w = create_workflow("order").step("begin", sets(list=[1]))
        w.parallel("fan", flow("a").step("x", spoil), flow("b").step("y", lambda ctx: ctx.data["list"]))
        result = lab.engine().execute(w, None, "o-1")
        assert {step.path: step.output for step in result.history}["fan.b.y"] == [1]
        assert result.data == {"list": [1]}

    def test_key_written_by_two_branches_fails_the_step_and_says_what_to_do(self, lab: Lab) -> None:
        w = create_workflow("order").parallel("fan", flow("a").step("x", sets(k=1)), flow("b").step("y", sets(k=2)))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, _error(result).type, _error(result).step) == ("failed", "WriteConflict", "fan")
        assert "'a' and 'b' have both written ctx.data['k']" in str(result.error)
        assert "merge={'k': function of the list of values}" in str(result.error)

    def test_deleted_and_written_is_a_conflict_too(self, lab: Lab) -> None:
        w = create_workflow("order").step("begin", sets(k=1))
        w.parallel("fan", flow("a").step("x", lambda ctx: ctx.data.pop("k")), flow("b").step("y", sets(k=2)))
        assert _error(lab.engine().execute(w, None, "o-1")).type == "WriteConflict"

    def test_key_written_by_two_branches_is_what_merge_makes_of_it(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", sets(k=1, a=1)), flow("b").step("y", sets(k=2)), merge={"k": sum}
        )  # fmt: skip
        result = lab.engine().execute(w.step("end", lambda ctx: dict(ctx.data)), None, "o-1")
        assert (result.status, result.data) == ("completed", {"k": 3, "a": 1})
        assert result.history[-1].output == {"k": 3, "a": 1}
        assert lab.types("o-1").count("join") == 1

    def test_may_be_merged_by_one_function_for_all_keys(self, lab: Lab) -> None:
        def merge(key: str, values: list[Any]) -> object:
            return [key, *values]

        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", sets(k=1, m=3)), flow("b").step("y", sets(k=2, m=4)), merge=merge
        )  # fmt: skip
        assert lab.engine().execute(w, None, "o-1").data == {"k": ["k", 1, 2], "m": ["m", 3, 4]}

    def test_merge_that_raises_is_tried_again_and_then_fails_the_step(self, lab: Lab) -> None:
        def merge(values: list[Any]) -> object:
            lab.calls.append("merge")
            raise ValueError("no idea")

        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", sets(k=1)), flow("b").step("y", sets(k=2)), merge={"k": merge}, retries=1
        )  # fmt: skip
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error), lab.calls) == ("failed", "no idea", ["merge", "merge"])


class TestAFailure:
    def order(self, lab: Lab, **options: Any) -> WorkflowBuilder:

        def undo(what: str) -> Any:
            return lab.note(f"undo {what}")

        good = flow("good").step("one", lab.note("one"), compensate=undo("one"))
        good.step("two", lab.note("two"), compensate=undo("two"))
        w = create_workflow("order").step("begin", lab.note("begin"), compensate=undo("begin"))
        return w.parallel("fan", flow("bad").step("break", fail), good, **options).step("end", lab.note("end"))

    def test_lets_nothing_new_begin_and_undoes_the_completed_siblings(self, lab: Lab) -> None:
        w = self.order(lab)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error)) == ("rolled_back", "break broke")
        assert lab.calls == ["begin", "one", "undo one", "undo begin"]
        assert statuses(result) == {
            "begin": "compensated", "fan": "failed", "fan.bad.break": "failed", "fan.good.one": "compensated",
            "end": "pending",
        }  # fmt: skip
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_with_wait_all_lets_the_others_go_on_to_their_end_first(self, lab: Lab) -> None:
        w = self.order(lab, on_error="wait_all")
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error), _error(result).step) == (
            "rolled_back",
            "break broke",
            "fan.bad.break",
        )
        assert lab.calls == ["begin", "one", "two", "undo two", "undo one", "undo begin"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_of_two_branches_is_told_by_the_first(self, lab: Lab) -> None:
        w = create_workflow("order").parallel("fan", flow("a").step("x", fail), flow("b").step("y", fail))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error)) == ("failed", "x broke")
        assert statuses(result) == {"fan": "failed", "fan.a.x": "failed", "fan.b.y": "failed"}

    def test_compensators_see_the_data_of_their_own_branch(self, lab: Lab) -> None:
        def undo(ctx: Context) -> None:
            lab.calls.append(f"{ctx.path} {ctx.data['id']}")

        a = flow("a").step("x", sets(id="A"), compensate=undo)
        b = flow("b").step("y", sets(id="B"), compensate=undo).step("z", fail)
        result = lab.engine().execute(create_workflow("order").parallel("fan", a, b), None, "o-1")
        assert result.status == "rolled_back"
        assert lab.calls == ["fan.b.y B", "fan.a.x A"]

    def test_inside_of_an_inner_fork_stops_at_the_first_that_waits_for_all(self, lab: Lab) -> None:
        inner = flow("in").parallel(
            "deep", flow("x").step("a", fail), flow("y").step("b", lab.note("b")).step("c", lab.note("c"))
        )
        w = create_workflow("order").parallel(
            "fan", inner.step("never", lab.note("never")), flow("o").step("p", lab.note("p")).step("q", lab.note("q")),
            on_error="wait_all",
        )  # fmt: skip
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error)) == ("failed", "a broke")
        assert lab.calls == ["p", "b", "q"]

    def test_of_a_commit_of_unknown_outcome_stops_all_until_somebody_says(self, lab: Lab) -> None:
        def charge(ctx: Context) -> None:
            raise ConnectionError("lost")

        w = create_workflow("order").parallel(
            "fan", flow("a").commit("pay", charge), flow("b").step("x", lab.note("x"))
        )
        result = lab.engine().execute(w.step("end", lab.note("end")), None, "o-1")
        assert (result.status, lab.calls) == ("stuck", ["x"])
        result = lab.engine().complete_step(w, "o-1", "fan.a.pay", "paid")
        assert (result.status, lab.calls) == ("completed", ["x", "end"])
        assert result.history[0].output == {"a": "paid", "b": None}
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_retried_in_its_own_branch_while_the_others_go_on(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> None:
            lab.calls.append(f"flaky {ctx.attempt}")
            if ctx.attempt == 1:
                raise ValueError("once")

        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", flaky), flow("b").step("y", lab.note("y")).step("z", lab.note("z"))
        )  # fmt: skip
        assert lab.engine().execute(w, None, "o-1").status == "completed"
        assert lab.calls == ["flaky 1", "y", "z", "flaky 2"]

    def test_with_a_long_back_off_suspends_when_nothing_else_can_run(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> None:
            lab.calls.append(f"flaky {ctx.attempt}")
            if ctx.attempt == 1:
                raise ValueError("once")

        w = create_workflow("order").parallel("fan", flow("a").step("x", flaky), flow("b").step("y", lab.note("y")))
        result = lab.engine(inline_backoff=0).execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("suspended", ["flaky 1", "y"])
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").status == "completed"
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)


class TestWaits:
    def order(self, lab: Lab) -> WorkflowBuilder:
        a = flow("a").wait("ask", "go").step("after", lab.note("a"))
        b = flow("b").wait("ask", "go").step("after", lab.note("b"))
        return (
            create_workflow("order")
            .parallel("fan", a, b, flow("c").step("x", lab.note("c")))
            .step("end", lab.note("end"))
        )

    def test_suspend_when_nothing_else_can_run(self, lab: Lab) -> None:
        w = self.order(lab)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("suspended", ["c"])
        assert statuses(result)["fan.a.ask"] == statuses(result)["fan.b.ask"] == "suspended"
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_of_the_same_signal_take_one_each_the_first_in_the_definition_first(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "go", 1).status == "suspended"
        assert lab.calls == ["c", "a"]
        result = lab.engine().signal(w, "o-1", "go", 2)
        assert (result.status, lab.calls) == ("completed", ["c", "a", "b", "end"])
        outputs = {step.path: step.output for step in result.history}
        assert (outputs["fan.a.ask"], outputs["fan.b.ask"]) == (1, 2)
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_take_what_was_sent_before_in_one_look(self, lab: Lab) -> None:
        w = create_workflow("order").wait("first", "begin").parallel(
            "fan", *[flow(f"b{n}").wait("ask", "go") for n in range(5)]
        )  # fmt: skip
        lab.engine().execute(w, None, "o-1")
        for n in range(5):
            lab.engine().signal(w, "o-1", "go", n)
            lab.clock.advance(1)
        result = lab.engine().signal(w, "o-1", "begin")
        assert (result.status, result.history[1].output) == ("completed", {f"b{n}": n for n in range(5)})

    def test_time_out_each_by_itself(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").wait("ask", "go", timeout=60, on_timeout="late"), flow("b").sleep("nap", 120),
            flow("c").wait("other", "go", timeout=600, on_timeout=None),
        )  # fmt: skip
        lab.engine().execute(w, None, "o-1")
        header = lab.storage.header(lab.ref("o-1"))
        assert header is not None
        assert header.due == lab.clock.now() + 60_000
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, statuses(result)["fan.a.ask"], statuses(result)["fan.b.nap"]) == (
            "suspended", "completed", "suspended",
        )  # fmt: skip
        lab.clock.advance(60)
        assert statuses(lab.engine().wake(w, "o-1"))["fan.b.nap"] == "completed"
        result = lab.engine().signal(w, "o-1", "go", "now")
        assert (result.status, result.history[0].output) == ("completed", {"a": "late", "b": None, "c": "now"})

    def test_that_time_out_fail_the_fork(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan",
            flow("a").wait("ask", "go", timeout=60),
            flow("b").step("x", lab.note("x"), compensate=lab.note("undo")),
        )
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(61)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, _error(result).type, lab.calls) == ("rolled_back", "WaitTimeout", ["x", "undo"])

    def test_of_a_handler_suspend_its_branch_alone(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").commit("ask", lambda ctx: wait("go")), flow("b").step("x", lab.note("x"))
        )  # fmt: skip
        assert lab.engine().execute(w, None, "o-1").status == "suspended"
        assert lab.engine().signal(w, "o-1", "go", 7).history[0].output == {"a": 7, "b": None}


class TestVerbs:
    def test_cancel_inside_undoes_the_branches_in_reverse_order_of_completion(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", lab.note("x"), compensate=lab.note("undo x")).wait("ask", "go"),
            flow("b").step("y", lab.note("y"), compensate=lab.note("undo y")).wait("ask", "go"),
        )  # fmt: skip
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1")
        assert (result.status, lab.calls) == ("cancelled", ["x", "y", "undo y", "undo x"])
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_cancel_while_branches_run_records_and_undoes_what_they_did(self, lab: Lab) -> None:
        def slow(ctx: Context) -> None:
            lab.calls.append("x")
            lab.engine().cancel(w, "o-1")

        w = create_workflow("order").parallel(
            "fan", flow("a").commit("x", slow, compensate=lab.note("undo x")).step("never", lab.note("never")),
            flow("b").commit("y", lab.note("y"), compensate=lab.note("undo y")).step("never", lab.note("never")),
        )  # fmt: skip
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("cancelled", ["x", "y", "undo y", "undo x"])
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_pause_while_branches_run_takes_effect_after_them(self, lab: Lab) -> None:
        def slow(ctx: Context) -> None:
            lab.engine().pause(w, "o-1")

        w = create_workflow("order").parallel(
            "fan",
            flow("a").step("x", slow).step("later", lab.note("a")),
            flow("b").step("y", lab.note("y")).step("later", lab.note("b")),
        )
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("paused", ["y"])
        assert lab.engine().unpause(w, "o-1").status == "completed"
        assert lab.calls == ["y", "a", "b"]

    def test_retry_of_a_step_in_a_branch_leaves_the_other_branches_alone(self, lab: Lab) -> None:
        def x(ctx: Context) -> None:
            lab.calls.append(f"x sees {dict(ctx.data)}")
            ctx.data["x"] = lab.calls.count("x2")

        w = create_workflow("order").step("begin", sets(begun=1)).parallel(
            "fan", flow("a").step("x1", sets(one=1)).step("x", x).step("x2", lab.note("x2")),
            flow("b").step("y", lab.note("y")).step("set", sets(y=1)),
        ).step("end", lambda ctx: dict(ctx.data))  # fmt: skip
        lab.engine().execute(w, None, "o-1")
        lab.calls.clear()
        result = lab.engine().retry_step(w, "o-1", "fan.a.x", force=True)
        assert (result.status, lab.calls) == ("completed", ["x sees {'begun': 1, 'one': 1}", "x2"])
        assert result.history[-1].output == {"begun": 1, "one": 1, "x": 0, "y": 1}
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_resume_after_a_failure_runs_what_failed_and_what_had_not_begun(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> None:
            lab.calls.append(f"flaky {ctx.data.get('own')}")
            if len(lab.calls) < 3:
                raise NonRetryable("not yet")

        w = (
            create_workflow("order")
            .parallel(
                "fan",
                flow("a").step("own", sets(own=1)).step("x", flaky),
                flow("b").step("y", lab.note("y")).step("z", lab.note("z")),
            )
            .step("end", lambda ctx: dict(ctx.data))
        )
        assert lab.engine().execute(w, None, "o-1").status == "failed"
        assert lab.calls == ["y", "flaky 1", "z"]
        result = lab.engine().resume(w, "o-1")
        assert (result.status, result.data) == ("completed", {"own": 1})
        assert lab.calls == ["y", "flaky 1", "z", "flaky 1"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_resume_after_a_rollback_makes_every_branch_again(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> None:
            if lab.calls.count("undo y") == 0:
                raise NonRetryable("not yet")
            lab.calls.append("x")

        w = create_workflow("order").step("begin", lab.note("begin"), compensate=lab.note("undo begin")).parallel(
            "fan", flow("a").step("x", flaky), flow("b").commit("y", lab.note("y"), compensate=lab.note("undo y"))
        )  # fmt: skip
        assert lab.engine().execute(w, None, "o-1").status == "rolled_back"
        assert lab.engine().resume(w, "o-1").status == "completed"
        assert lab.calls == ["begin", "y", "undo y", "undo begin", "begin", "x", "y"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_retry_with_wait_all_runs_every_branch_that_failed(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> str:
            lab.calls.append(ctx.path or "")
            if len(lab.calls) <= 2:
                raise NonRetryable("not yet")
            return "ok"

        w = create_workflow("order").parallel(
            "fan",
            flow("a").step("x", flaky),
            flow("b").step("y", flaky),
            flow("c").step("z", lab.note("z")),
            on_error="wait_all",
        )
        assert lab.engine().execute(w, None, "o-1").status == "failed"
        result = lab.engine().retry_step(w, "o-1", "fan.b.y")
        assert (result.status, lab.calls) == ("completed", ["fan.a.x", "fan.b.y", "z", "fan.a.x", "fan.b.y"])
        assert result.history[0].output == {"a": "ok", "b": "ok", "c": None}

    def test_retry_of_the_whole_begins_it_anew(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", lab.note("x")), flow("b").commit("y", lab.note("y"))
        )
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().retry_step(w, "o-1", "fan", force=True)
        assert (result.status, lab.calls) == ("completed", ["x", "y", "x"])

    def test_retry_while_another_branch_waits_lets_it_wait_on(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").step("x", lab.note("x")).wait("ask", "go"), flow("b").wait("ask", "other")
        )  # fmt: skip
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().retry_step(w, "o-1", "fan.a.x")
        assert (result.status, lab.calls) == ("suspended", ["x", "x"])
        assert statuses(result)["fan.b.ask"] == "suspended"
        lab.engine().signal(w, "o-1", "other", 2)
        assert lab.engine().signal(w, "o-1", "go", 1).history[0].output == {"a": 1, "b": 2}
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_retry_of_one_of_two_steps_of_unknown_outcome_leaves_the_other_one_in_doubt(self, lab: Lab) -> None:
        def charge(ctx: Context) -> str:
            lab.calls.append(f"{ctx.path} {ctx.attempt}")
            if len(lab.calls) == 1:
                raise Killed
            return "paid"

        fan = [flow(name).commit("charge", charge) for name in ("a", "b")]
        w = create_workflow("order").parallel("fan", *fan)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        stuck = lab.engine().wake(w, "o-1")
        assert (stuck.status, stuck.state.stuck and stuck.state.stuck[1]) == ("stuck", "fan.a.charge")
        stuck = lab.engine().retry_step(w, "o-1", "fan.a.charge")
        assert (stuck.status, stuck.state.stuck and stuck.state.stuck[1]) == ("stuck", "fan.b.charge")
        assert lab.engine().retry_step(w, "o-1", "fan.b.charge").status == "completed"
        assert [call.partition(" ")[0] for call in lab.calls] == ["fan.a.charge", "fan.a.charge", "fan.b.charge"]

    def test_retry_of_a_branch_that_has_not_begun_is_refused(self, lab: Lab) -> None:
        w = create_workflow("order").wait("first", "go").parallel("fan", flow("a").step("x", lab.note("x")))
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(Refused, match="has not come to that step"):
            lab.engine().retry_step(w, "o-1", "fan.a.x")
        with pytest.raises(UnknownStep, match=r"has no step 'fan\.b\.x'"):
            lab.engine().retry_step(w, "o-1", "fan.b.x")

    def test_skip_of_the_whole_ends_what_waits_inside(self, lab: Lab) -> None:
        w = create_workflow("order").parallel("fan", flow("a").wait("ask", "go"), flow("b").wait("ask", "go"))
        lab.engine().execute(w.step("end", lambda ctx: "fan" in ctx.results), None, "o-1")
        result = lab.engine().skip_step(w, "o-1", "fan")
        assert (result.status, result.history[-1].output) == ("completed", False)
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_complete_of_one_wait_lets_its_branch_go_on(self, lab: Lab) -> None:
        w = create_workflow("order").parallel(
            "fan", flow("a").wait("ask", "go").step("x", lab.note("x")), flow("b").wait("ask", "go")
        )
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().complete_step(w, "o-1", "fan.a.ask", 5)
        assert (result.status, lab.calls) == ("suspended", ["x"])
        assert lab.engine().complete_step(w, "o-1", "fan.b.ask", 6).history[0].output == {"a": None, "b": 6}


class TestADefinition:
    @pytest.mark.parametrize(
        ("branches", "options", "says"),
        [
            ([], {}, "has no branches"),
            ([fail, fail], {}, "two branches are called 'fail'"),
            ([3], {}, "must be a flow\\(\\) or a function"),
            ([flow("a")], {}, "flow\\('a'\\) has no steps"),
            ([fail], {"max_concurrency": 0}, "max_concurrency must be a whole number from 1 on"),
            ([fail], {"on_error": "ignore"}, 'on_error must be "fail_fast" or "wait_all"'),
            ([fail], {"merge": "last"}, "merge must be a dict"),
            ([fail], {"merge": {}}, "merge must be a dict"),
            ([fail], {"when": fail}, "there is no option 'when'"),
        ],
    )
    def test_that_is_wrong_says_what_to_change(self, branches: list[Any], options: Any, says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            create_workflow("order").parallel("fan", *branches, **options)

    def test_describes_its_branches(self) -> None:
        w = create_workflow("order").parallel(
            "fan", fail, flow("b").commit("pay", fail), on_error="wait_all", max_concurrency=2
        )
        (told,) = w.describe()["steps"]
        assert (told["kind"], told["on_error"], told["max_concurrency"], told["has_merge"]) == (
            "parallel",
            "wait_all",
            2,
            False,
        )
        assert {name: [step["name"] for step in body] for name, body in told["bodies"].items()} == {
            "fail": ["fail"],
            "b": ["pay"],
        }

    def test_with_a_bad_flow_name(self) -> None:
        with pytest.raises(DefinitionError):
            flow("a.b")
