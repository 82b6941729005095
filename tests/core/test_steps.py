"""How one step runs: attempts, back-off, time limits, conditions, and what of an attempt counts afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from flux_core import (
    Context,
    NonRetryable,
    RetryPolicy,
    StepTimeout,
    create_workflow,
    register_type,
    wait,
)
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

EXACT = RetryPolicy(jitter=False)


@register_type
@dataclass
class Parcel:
    """A user's type that may be stored."""

    weight: Decimal
    sent: datetime


RICH: dict[str, Any] = {
    "tuple": (1, (2, 3)),
    "decimal": Decimal("1.10"),
    "datetime": datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "date": date(2030, 1, 2),
    "uuid": UUID(int=5),
    "bytes": b"\x00\xff",
    "dataclass": Parcel(Decimal("2.50"), datetime(2030, 1, 2, tzinfo=UTC)),
    "set": {1, 2},
    "integer keys": {1: "one", (2, 3): "two"},
    "looks like a tag": {"$d": "x"},
    "float": 1e100,
    "text": "\ud800 ü \x00",
    "big": 2**70,
}


def failing(lab: Lab, times: int, error: type[Exception] = ValueError) -> Callable[[Context], object]:
    """A handler that raises `times` times and then returns its attempt's number."""

    def handler(ctx: Context) -> int:
        lab.calls.append(f"{ctx.step}:{ctx.attempt}")
        if ctx.attempt <= times:
            message = f"attempt {ctx.attempt}"
            raise error(message)
        return ctx.attempt

    return handler


class TestAttempts:
    def test_there_are_three_retries_by_default_so_up_to_four_attempts(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 3))
        result = lab.engine(inline_backoff=10).execute(w)
        assert (result.status, result.history[0].output, result.history[0].retries) == ("completed", 4, 3)

        w = create_workflow("other").step("a", failing(lab, 4))
        result = lab.engine(inline_backoff=10).execute(w)
        assert (result.status, str(result.error), result.history[0].retries) == ("failed", "attempt 4", 3)
        assert lab.calls == ["a:1", "a:2", "a:3", "a:4"] * 2

    def test_zero_retries_mean_one_attempt(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 1), retries=0).step("b", lab.note("b"))
        result = lab.engine().execute(w)
        assert (result.status, lab.calls) == ("failed", ["a:1"])
        assert lab.statuses(result) == {"a": "failed", "b": "pending"}
        assert result.error is not None
        assert (result.error.type, result.error.message, result.error.step) == ("ValueError", "attempt 1", "a")

    def test_an_error_without_a_message_is_known_by_its_type(self, lab: Lab) -> None:
        def raises(ctx: Context) -> None:
            raise KeyError

        result = lab.engine().execute(create_workflow("order").step("a", raises, retries=0))
        assert str(result.error) == "KeyError"

    def test_non_retryable_fails_at_once_and_so_do_its_subclasses(self, lab: Lab) -> None:
        class CardDeclined(NonRetryable):
            pass

        result = lab.engine().execute(create_workflow("order").step("a", failing(lab, 9, CardDeclined)))
        assert (result.status, lab.calls) == ("failed", ["a:1"])

    def test_what_a_step_gives_up_on_fails_at_once_and_other_errors_are_retried(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 9, LookupError), give_up_on=(ValueError,))
        x = create_workflow("other").step("b", failing(lab, 9, UnicodeError), give_up_on=ValueError)
        engine = lab.engine(inline_backoff=10)
        engine.execute(w)
        engine.execute(x)
        assert lab.calls == ["a:1", "a:2", "a:3", "a:4", "b:1"]

    def test_an_error_with_a_broken_str_still_fails_the_step(self, lab: Lab) -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        result = lab.engine().execute(create_workflow("order").step("a", failing(lab, 9, Broken), retries=0))
        assert (result.status, result.error.type if result.error else None) == ("failed", "Broken")


class TestBackOff:
    def test_doubles_from_a_second_up_to_ten(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 6), retries=6, retry=EXACT)
        lab.engine(inline_backoff=10).execute(w)
        assert lab.clock.slept == [1, 2, 4, 8, 10, 10]

    def test_has_full_jitter_by_default(self, lab: Lab) -> None:
        lab.entropy.jitter = 0.25
        lab.engine(inline_backoff=10).execute(create_workflow("order").step("a", failing(lab, 3)))
        assert lab.clock.slept == [0.25, 0.5, 1.0]

    def test_up_to_two_seconds_is_slept_and_more_suspends_durably(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 3), retry=EXACT)
        engine = lab.engine()
        result = engine.execute(w, None, "o-1")
        assert (lab.clock.slept, result.status, lab.calls) == ([1, 2], "suspended", ["a:1", "a:2", "a:3"])
        assert lab.types("o-1") == ["start", "retry_wait", "susp"]
        assert lab.header("o-1").due == lab.clock.now() + 4000
        lab.clock.advance(3.999)
        assert engine.recover() == []
        lab.clock.advance(0.001)
        (recovered,) = engine.recover()
        assert (recovered.status, recovered.history[0].output, recovered.history[0].retries) == ("completed", 4, 3)
        assert (result.history[0].error, recovered.history[0].error) == ("attempt 3", None)

    def test_of_a_step_comes_before_the_workflows_and_the_engines(self, lab: Lab) -> None:
        own = RetryPolicy(0.1, jitter=False)
        w = create_workflow("order", retry=RetryPolicy(0.2, jitter=False)).step("a", failing(lab, 1), retry=own)
        w.step("b", failing(lab, 1))
        x = create_workflow("other").step("c", failing(lab, 1))
        engine = lab.engine(retry=RetryPolicy(0.3, jitter=False))
        engine.execute(w)
        engine.execute(x)
        assert lab.clock.slept == [0.1, 0.2, 0.3]

    def test_is_never_slept_past_the_deadline(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", failing(lab, 1), retry=EXACT)
        result = lab.engine().execute(w, None, "o-1", deadline=0.9)
        assert (result.status, lab.clock.slept) == ("suspended", [])

    @pytest.mark.parametrize(("attempt", "longest"), [(1, 1.0), (2, 3.0), (3, 9.0), (4, 20.0), (1000, 20.0)])
    def test_policy_grows_by_its_factor_up_to_its_maximum(self, attempt: int, longest: float) -> None:
        assert RetryPolicy(1, 3, 20, jitter=False).delay(attempt, 0.5) == longest
        assert RetryPolicy(1, 3, 20).delay(attempt, 0.5) == longest / 2
        assert RetryPolicy(1, 3, 20).delay(attempt, 0.0) == 0


class TestTimeout:
    def test_ends_a_sync_handler_and_counts_as_a_failed_attempt(self, lab: Lab) -> None:
        def slow(ctx: Context) -> str:
            lab.calls.append(f"attempt {ctx.attempt}")
            if ctx.attempt == 1:
                until = time.monotonic() + 20
                while time.monotonic() < until:
                    time.sleep(0.01)
            return "done"

        result = lab.engine(inline_backoff=10).execute(create_workflow("order").step("a", slow, timeout=0.03))
        assert (result.status, lab.calls) == ("completed", ["attempt 1", "attempt 2"])

    def test_ends_an_async_handler_and_names_the_limit(self, lab: Lab) -> None:
        async def slow(ctx: Context) -> None:
            await asyncio.sleep(20)

        result = lab.engine().execute(create_workflow("order").step("a", slow, timeout=0.02, retries=0))
        assert (result.status, result.error.type if result.error else None) == ("failed", "StepTimeout")
        assert "0.02" in str(result.error)

    def test_holds_off_the_main_thread_too(self, lab: Lab) -> None:
        released = threading.Event()

        def slow(ctx: Context) -> None:
            released.wait(20)

        results: list[Any] = []
        w = create_workflow("order").step("a", slow, timeout=0.02, retries=0)
        thread = threading.Thread(target=lambda: results.append(lab.engine().execute(w)))
        thread.start()
        thread.join(20)
        released.set()
        assert (results[0].status, results[0].error.type) == ("failed", "StepTimeout")

    def test_that_a_handler_raises_itself_is_the_handlers_error(self, lab: Lab) -> None:
        result = lab.engine(default_timeout=5).execute(
            create_workflow("o").step("a", failing(lab, 9, TimeoutError), retries=0)
        )
        assert (result.status, result.error.type if result.error else None) == ("failed", "TimeoutError")

    def test_leaves_a_late_handler_with_a_dead_context_whose_writes_change_nothing(self, lab: Lab) -> None:
        late: list[object] = []
        proceed, finished = threading.Event(), threading.Event()

        def slow(ctx: Context) -> str:
            if ctx.attempt == 1:
                data = ctx.data
                try:
                    while not proceed.wait(0.005):
                        pass
                    data["late"] = "direct"
                    for use in (lambda: ctx.data, lambda: ctx.input, lambda: ctx.idempotency_key, lambda: ctx.id):
                        try:
                            late.append(use())
                        except StepTimeout as error:
                            late.append(str(error))
                finally:
                    finished.set()
            return "late result" if ctx.attempt == 1 else "second"

        def second(ctx: Context) -> dict[str, object]:
            proceed.set()
            assert finished.wait(20)
            return dict(ctx.data)

        w = create_workflow("order").step("a", slow, timeout=0.02).step("b", second, timeout=25)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(lab.engine(inline_backoff=10).execute(w)))
        thread.start()
        thread.join(30)
        assert (results[0].status, results[0].history[0].output) == ("completed", "second")
        assert (results[0].data, results[0].history[1].output) == ({}, {})
        assert late == ["this attempt of step 'a' has been cut by its time limit; nothing it does counts any more"] * 4

    @pytest.mark.parametrize("what", ["data", "input", "results"])
    def test_leaves_a_late_handler_with_nothing_that_it_could_still_change(self, what: str, lab: Lab) -> None:
        proceed, finished = threading.Event(), threading.Event()

        def slow(ctx: Context) -> None:
            if ctx.attempt == 1:
                held = getattr(ctx, what)["box"]
                while not proceed.wait(0.005):
                    pass
                held.append("late")
                finished.set()

        def look(ctx: Context) -> object:
            proceed.set()
            assert finished.wait(20)
            return [ctx.data["box"], ctx.input["box"], ctx.results["box"]]

        def fill(ctx: Context) -> list[int]:
            ctx.data["box"] = [1]
            return [1]

        w = create_workflow("order").step("box", fill).step("slow", slow, timeout=0.02).step("look", look, timeout=25)
        results: list[Any] = []
        engine = lab.engine(inline_backoff=10)
        thread = threading.Thread(target=lambda: results.append(engine.execute(w, {"box": [1]}, "o-1")))
        thread.start()
        thread.join(30)
        assert (results[0].status, results[0].history[2].output) == ("completed", [[1], [1], [1]])
        assert engine.get(w, "o-1").data == {"box": [1]}

    def test_none_of_the_engine_means_no_limit(self, lab: Lab) -> None:
        seen: list[object] = []
        lab.engine(default_timeout=None).execute(
            create_workflow("o").step("a", lambda ctx: seen.append(ctx.remaining()))
        )
        lab.engine(default_timeout=30).execute(create_workflow("p").step("a", lambda ctx: seen.append(ctx.remaining())))
        assert seen == [None, 30]


class TestAHandler:
    def test_may_be_async(self, lab: Lab) -> None:
        async def handler(ctx: Context) -> int:
            await asyncio.sleep(0)
            ctx.data["n"] = 1
            return 5

        result = lab.engine(default_timeout=30).execute(create_workflow("order").step("a", handler))
        assert (result.history[0].output, result.data) == (5, {"n": 1})

    def test_runs_while_the_caller_has_an_event_loop_of_its_own(self, lab: Lab) -> None:
        async def handler(ctx: Context) -> int:
            await asyncio.sleep(0)
            return 5

        async def main() -> Any:
            return lab.engine(default_timeout=30).execute(create_workflow("order").step("a", handler))

        assert asyncio.run(main()).history[0].output == 5

    def test_sees_its_instance_in_the_context(self, lab: Lab) -> None:
        seen: dict[str, Any] = {}

        def look(ctx: Context) -> None:
            seen.update(
                id=ctx.id,
                workflow=ctx.workflow,
                tenant=ctx.tenant,
                input=ctx.input,
                step=ctx.step,
                attempt=ctx.attempt,
                status=ctx.status,
                current_step=ctx.current_step,
                results=dict.fromkeys(ctx.results),
                history=[(entry.name, entry.status) for entry in ctx.history],
            )

        w = create_workflow("order").step("a", lab.note("a", 1)).step("b", look).step("c", lab.note("c"))
        lab.engine(tenant="acme").execute(w, {"x": 1}, "o-1")
        assert seen == {
            "id": "o-1",
            "workflow": "order",
            "tenant": "acme",
            "input": {"x": 1},
            "step": "b",
            "attempt": 1,
            "status": "running",
            "current_step": 1,
            "results": {"a": None},
            "history": [("a", "completed"), ("b", "running"), ("c", "pending")],
        }

    def test_logs_with_the_instance_and_the_step_filled_in(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: ctx.log.info("charged", amount=5))
        lab.engine().execute(w, None, "o-1")
        expected = {"workflow": "order", "id": "o-1", "step": "a", "attempt": 1, "amount": 5}
        assert ("info", "charged", expected) in lab.log.lines

    def test_may_read_and_write_data_by_key_and_by_attribute(self, lab: Lab) -> None:
        def write(ctx: Context) -> None:
            ctx.data.total = 5
            ctx.data["by"] = "ann"

        w = create_workflow("order").step("a", write).step("b", lambda ctx: [ctx.data["total"], ctx.data.by])
        result = lab.engine().execute(w)
        assert (result.data, result.history[1].output) == ({"total": 5, "by": "ann"}, [5, "ann"])

    def test_may_replace_and_delete_data(self, lab: Lab) -> None:
        def replace(ctx: Context) -> None:
            ctx.data = {"b": 2, "c": 3}

        def delete(ctx: Context) -> None:
            del ctx.data["b"]

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(a=1)).step("b", replace).step("c", delete)
        result = lab.engine().execute(w, None, "o-1")
        assert result.data == {"c": 3}
        assert lab.engine().get(w, "o-1").data == {"c": 3}

    @pytest.mark.parametrize("value", [None, 5, ["a"], "text"])
    def test_that_replaces_data_by_what_is_no_dict_fails_its_step(self, value: Any, lab: Lab) -> None:
        def replace(ctx: Context) -> None:
            ctx.data = value

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(a=1)).step("b", replace)
        result = lab.engine().execute(w)
        assert (result.status, result.data) == ("failed", {"a": 1})
        assert '"b"' in str(result.error)
        assert "ctx.data" in str(result.error)

    def test_cannot_change_an_earlier_steps_output(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a", [1])).step("b", lambda ctx: ctx.results["a"].append(2))
        w.step("c", lambda ctx: ctx.results["a"])
        assert lab.engine().execute(w).history[2].output == [1]

    def test_that_kills_the_process_leaves_no_trace_of_its_attempt(self, lab: Lab, killed: type[BaseException]) -> None:
        def handler(ctx: Context) -> str:
            lab.calls.append(f"{ctx.attempt} {dict(ctx.data)}")
            if len(lab.calls) == 1:
                ctx.data["half"] = "done"
                raise killed
            return "whole"

        w = create_workflow("order").step("a", handler)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        result = lab.engine().wake(w, "o-1")
        assert (result.status, result.data, lab.calls) == ("completed", {}, ["1 {}", "1 {}"])


class TestAFailedAttempt:
    def test_leaves_no_writes_in_the_data_not_even_nested_ones(self, lab: Lab) -> None:
        def first(ctx: Context) -> None:
            ctx.data.update(box={"items": [1]}, gone=1, plain="a")

        def second(ctx: Context) -> object:
            before = repr(ctx.data)
            ctx.data["box"]["items"].append(2)
            ctx.data["box"]["more"] = {}
            ctx.data["new"] = 1
            ctx.data["plain"] = "b"
            del ctx.data["gone"]
            if ctx.attempt < 3:
                raise ValueError
            return before

        w = create_workflow("order").step("a", first).step("b", second)
        result = lab.engine(inline_backoff=10).execute(w)
        assert result.history[1].output == "{'box': {'items': [1]}, 'gone': 1, 'plain': 'a'}"
        assert result.data == {"box": {"items": [1, 2], "more": {}}, "plain": "b", "new": 1}

    def test_that_is_the_last_leaves_the_data_as_it_was(self, lab: Lab) -> None:
        def second(ctx: Context) -> None:
            ctx.data["box"].append(2)
            raise ValueError

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(box=[1])).step("b", second, retries=0)
        result = lab.engine().execute(w, None, "o-1")
        assert result.data == lab.engine().get(w, "o-1").data == {"box": [1]}


class TestACondition:
    @pytest.mark.parametrize("commit", [False, True])
    @pytest.mark.parametrize("holds", [False, True])
    @pytest.mark.parametrize("is_async", [False, True])
    def test_decides_whether_the_step_runs(self, commit: bool, holds: bool, is_async: bool, lab: Lab) -> None:
        def plain(ctx: Context) -> object:
            return ctx.input["go"]

        async def later(ctx: Context) -> object:
            await asyncio.sleep(0)
            return ctx.input["go"]

        w = create_workflow("order")
        (w.commit if commit else w.step)("a", lab.note("a", 1), when=later if is_async else plain)
        w.step("b", lambda ctx: ["a" in ctx.results, ctx.results.get("a", "absent"), len(ctx.results)])
        result = lab.engine(default_timeout=30).execute(w, {"go": holds}, "o-1")
        assert result.status == "completed"
        assert result.history[0].status == ("completed" if holds else "skipped")
        assert lab.calls == (["a"] if holds else [])
        assert result.history[1].output == ([True, 1, 1] if holds else [False, "absent", 0])
        if not holds:
            assert lab.types("o-1") == ["start", "skipped", "step", "end"]

    @pytest.mark.parametrize("commit", [False, True])
    def test_that_raises_is_a_step_failure_which_is_retried(self, commit: bool, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            lab.calls.append("when")
            message = "cannot tell"
            raise LookupError(message)

        w = create_workflow("order")
        (w.commit if commit else w.step)("a", lab.note("a"), when=when, retries=1)
        result = lab.engine().execute(w)
        assert (result.status, str(result.error), lab.calls) == ("failed", "cannot tell", ["when", "when"])

    @pytest.mark.parametrize("commit", [False, True])
    def test_that_raised_once_is_asked_again_before_the_step_runs(self, commit: bool, lab: Lab) -> None:
        answers = iter([None, False])

        def when(ctx: Context) -> bool:
            answer = next(answers)
            if answer is None:
                raise OSError
            return answer

        w = create_workflow("order")
        (w.commit if commit else w.step)("a", lab.note("a"), when=when)
        result = lab.engine().execute(w)
        assert (result.status, result.history[0].status, lab.calls) == ("completed", "skipped", [])

    def test_cannot_write_data(self, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            ctx.data["by"] = "condition"
            ctx.data["box"].append(2)
            return False

        w = create_workflow("order").step("x", lambda ctx: ctx.data.update(box=[1])).step("a", lab.note("a"), when=when)
        assert lab.engine().execute(w).data == {"box": [1]}

    @pytest.mark.parametrize("commit", [False, True])
    def test_that_holds_cannot_write_data_either(self, commit: bool, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            ctx.data["by"] = "condition"
            ctx.data["box"].append(2)
            return True

        w = create_workflow("order").step("x", lambda ctx: ctx.data.update(box=[1]))
        (w.commit if commit else w.step)("a", lambda ctx: dict(ctx.data), when=when)
        result = lab.engine().execute(w)
        assert (result.data, result.history[1].output) == ({"box": [1]}, {"box": [1]})

    @pytest.mark.parametrize("commit", [False, True])
    @pytest.mark.parametrize("holds", [False, True])
    def test_that_changes_the_input_fails_its_own_step(self, commit: bool, holds: bool, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            ctx.input["n"] = 2
            return holds

        w = create_workflow("order")
        (w.commit if commit else w.step)("a", lab.note("a"), when=when)
        result = lab.engine().execute(w.step("b", lambda ctx: ctx.input["n"]), {"n": 1}, "o-1")
        assert (result.status, lab.calls) == ("failed", [])
        assert str(result.error).startswith("step 'a' changed ctx.input")

    def test_shares_the_time_limit_with_its_handler(self, lab: Lab) -> None:
        """Else an attempt could take twice its limit, past the deadline and the half of a lease that nobody watches."""
        left: list[float | None] = []

        def when(ctx: Context) -> bool:
            left.append(ctx.remaining())
            time.sleep(0.3)
            return True

        def handler(ctx: Context) -> None:
            left.append(ctx.remaining())
            time.sleep(0.3)

        w = create_workflow("order").step("a", handler, when=when, timeout=0.4, retries=0)
        result = lab.engine(clock=SystemClock()).execute(w)
        assert (result.status, result.error.type if result.error else None) == ("failed", "StepTimeout")
        before, after = left
        assert before is not None
        assert after is not None
        assert after <= before - 0.3

    @pytest.mark.parametrize("commit", [False, True])
    def test_knows_how_long_it_may_take(self, commit: bool, lab: Lab) -> None:
        left: list[float | None] = []
        w = create_workflow("order")
        (w.commit if commit else w.step)("a", lab.note("a"), when=lambda ctx: left.append(ctx.remaining()), timeout=5)
        lab.engine().execute(w)
        assert left == [5]

    def test_is_cut_by_the_steps_time_limit(self, lab: Lab) -> None:
        async def when(ctx: Context) -> bool:
            await asyncio.sleep(20)
            return True

        w = create_workflow("order").step("a", lab.note("a"), when=when, timeout=0.02, retries=0)
        result = lab.engine().execute(w)
        assert (result.status, result.error.type if result.error else None) == ("failed", "StepTimeout")


class TestTheFirstRunEqualsAResume:
    @pytest.mark.parametrize("name", list(RICH))
    def test_in_what_a_later_step_sees_of_outputs_and_data(self, name: str, lab: Lab) -> None:
        seen: list[Any] = []

        def produce(ctx: Context) -> object:
            ctx.data["value"] = RICH[name]
            return RICH[name]

        def look(ctx: Context) -> None:
            seen.append((ctx.results["a"], ctx.data["value"]))

        w = (
            create_workflow("order")
            .step("a", produce)
            .step("b", look)
            .step("c", lambda ctx: wait("go"))
            .step("d", look)
        )
        first = lab.engine().execute(w, None, "o-1")
        resumed = lab.engine().signal(w, "o-1", "go")
        assert resumed.status == "completed"
        assert seen[0] == seen[1] == (RICH[name], RICH[name])
        assert repr(seen[0]) == repr(seen[1]) == repr((RICH[name], RICH[name]))
        assert first.history[0].output == resumed.history[0].output == RICH[name]
        assert first.data == resumed.data == {"value": RICH[name]}

    def test_later_changes_to_a_returned_object_do_not_reach_the_instance(self, lab: Lab) -> None:
        shared: list[int] = [1]

        def produce(ctx: Context) -> object:
            ctx.data["shared"] = shared
            return shared

        def look(ctx: Context) -> object:
            shared.append(2)
            return [ctx.results["a"], ctx.data["shared"]]

        result = lab.engine().execute(create_workflow("order").step("a", produce).step("b", look))
        assert result.history[1].output == [[1], [1]]

    def test_in_the_types_of_input(self, lab: Lab) -> None:
        seen: list[Any] = []
        w = create_workflow("order").step("a", lambda ctx: seen.append(ctx.input)).step("b", lambda ctx: wait("go"))
        w.step("c", lambda ctx: seen.append(ctx.input))
        lab.engine().execute(w, RICH, "o-1")
        lab.engine().signal(w, "o-1", "go")
        assert repr(seen[0]) == repr(seen[1]) == repr(RICH)


class TestTheIdempotencyKey:
    def keys(self, lab: Lab) -> tuple[list[str], Callable[[Context], object]]:
        seen: list[str] = []

        def handler(ctx: Context) -> None:
            seen.append(ctx.idempotency_key)

        return seen, handler

    def test_is_the_same_over_automatic_retries(self, lab: Lab) -> None:
        seen, note = self.keys(lab)

        def handler(ctx: Context) -> None:
            note(ctx)
            raise ValueError

        lab.engine().execute(create_workflow("order").commit("a", handler, retries=2, retry=EXACT), None, "o-1")
        lab.engine().execute(create_workflow("order").commit("a", handler, retries=0), None, "o-2")
        assert len(set(seen[:3])) == 1
        assert seen[3] != seen[0]

    def test_is_the_same_after_a_crash(self, lab: Lab, killed: type[BaseException]) -> None:
        seen, note = self.keys(lab)

        def handler(ctx: Context) -> None:
            note(ctx)
            if len(seen) == 1:
                raise killed

        w = create_workflow("order").commit("a", handler, idempotent=True)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert len(seen) == 2
        assert len(set(seen)) == 1

    def test_is_the_same_when_a_failed_step_is_retried_by_hand(self, lab: Lab) -> None:
        seen, note = self.keys(lab)

        def handler(ctx: Context) -> None:
            note(ctx)
            if len(seen) == 1:
                raise ValueError

        w = create_workflow("order").commit("a", handler, retries=0)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().retry_step(w, "o-1", "a").status == "completed"
        assert seen[0] == seen[1]

    def test_is_new_once_the_success_was_undone(self, lab: Lab) -> None:
        seen, charge = self.keys(lab)
        w = create_workflow("order").commit("charge", charge, compensate=lab.note("refund"))
        w.step("b", failing(lab, 9), retries=0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "b")
        assert len(seen) == 2
        assert seen[0] != seen[1]

    def test_is_new_once_the_success_was_discarded_by_force(self, lab: Lab) -> None:
        seen, charge = self.keys(lab)
        w = create_workflow("order").commit("charge", charge)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "charge", force=True)
        lab.engine().retry_step(w, "o-1", "charge", force=True)
        assert len(set(seen)) == 3

    def test_is_new_once_a_plain_steps_success_was_discarded_by_a_retry(self, lab: Lab) -> None:
        seen, handler = self.keys(lab)
        w = create_workflow("order").step("a", handler).step("b", failing(lab, 9), retries=0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "a")
        assert len(set(seen)) == 2

    def test_differs_by_tenant_workflow_id_and_step(self, lab: Lab) -> None:
        seen, handler = self.keys(lab)
        w = create_workflow("order").step("a", handler).step("b", handler)
        lab.engine().execute(w, None, "o-1")
        lab.engine().execute(w, None, "o-2")
        lab.engine(tenant="acme").execute(w, None, "o-1")
        lab.engine().execute(create_workflow("other").step("a", handler), None, "o-1")
        assert len(set(seen)) == 7

    def test_cannot_be_confused_by_names_that_join_alike(self, lab: Lab) -> None:
        seen, handler = self.keys(lab)
        lab.engine().execute(create_workflow("ab").step("c", handler), None, "d")
        lab.engine().execute(create_workflow("a").step("c", handler), None, "bd")
        lab.engine().execute(create_workflow("a").step("dc", handler), None, "b")
        assert len(set(seen)) == 3
