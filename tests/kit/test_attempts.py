"""The history of attempts: every call of a handler or compensator, also those of which the log knows nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import ErrorInfo, NonRetryable, RetryPolicy, Unknown, create_workflow, sleep, wait
from flux_core.testing import FluxTest, InvocationDied
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from flux_core import Context
    from flux_core.testing import Run

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def told(run: Run, step: str) -> list[tuple[int, str, str | None]]:
    """Number, outcome and type of error of each attempt."""
    return [(one.number, one.outcome, None if one.error is None else one.error.type) for one in run.attempts(step)]


def test_an_attempt_has_number_times_outcome_error_and_output() -> None:
    flow = create_workflow("flow", retry=RetryPolicy(initial=1, jitter=False)).step("a", lambda ctx: None)
    flux = FluxTest(flow, start=NEW_YEAR)
    flux.stub("a", sequence=[TimeoutError("gateway"), {"id": 1}], takes=3)
    first, second = flux.execute(flow).attempts("a")
    assert (first.number, first.what, first.outcome) == (1, "run", "failed")
    assert first.error == ErrorInfo("TimeoutError", "gateway", "a")
    assert (first.started_at, first.ended_at) == (NEW_YEAR, NEW_YEAR + timedelta(seconds=3))
    assert first.output is None
    assert (second.number, second.outcome, second.error, second.output) == (2, "completed", None, {"id": 1})
    assert (second.started_at, second.ended_at) == (NEW_YEAR + timedelta(seconds=4), NEW_YEAR + timedelta(seconds=7))
    assert repr(first) == "<attempt 1 of 'a': failed, TimeoutError: gateway>"


def test_a_wait_or_a_sleep_is_an_outcome() -> None:
    flow = create_workflow("flow").step("a", lambda ctx: sleep(1)).step("b", lambda ctx: wait("go"))
    flux = FluxTest(flow)
    run = flux.execute(flow)
    flux.advance(seconds=1)
    assert [(one.step, one.outcome) for one in run.attempts()] == [("a", "waiting"), ("b", "waiting")]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("no"), "failed"), (ConnectionResetError("cut"), "unknown"), (Unknown("504"), "unknown")],
)
def test_of_a_commit_an_outcome_may_be_unknown(error: Exception, outcome: str) -> None:
    flow = create_workflow("flow").commit("a", lambda ctx: None, retries=0)
    flux = FluxTest(flow)
    flux.stub("a", raises=error)
    assert told(flux.execute(flow), "a") == [(1, outcome, type(error).__name__)]


def test_an_output_that_cannot_be_kept_is_a_failure() -> None:
    flow = create_workflow("flow").step("a", lambda ctx: object())
    assert told(FluxTest(flow).execute(flow), "a") == [(1, "failed", "Unserialisable")]


def test_an_output_of_a_commit_that_cannot_be_kept_is_an_unknown_outcome() -> None:
    flow = create_workflow("flow").commit("a", lambda ctx: object())
    assert told(FluxTest(flow).execute(flow), "a") == [(1, "unknown", "unknown_outcome")]


def test_a_condition_that_raises_is_a_failed_attempt_and_one_that_does_not_hold_is_none() -> None:
    flow = create_workflow("flow").step("a", lambda ctx: None, when=lambda ctx: None)
    flux = FluxTest(flow)
    flux.stub("a", part="when", sequence=[OSError("flags"), False])
    assert told(flux.execute(flow).assert_completed(), "a") == [(1, "failed", "OSError")]


def test_an_async_condition_and_an_async_handler_that_raise_are_failed_attempts() -> None:
    async def fail(ctx: Context) -> Any:
        raise NonRetryable("no")

    flow = create_workflow("flow").step("a", fail)
    assert told(FluxTest(flow).execute(flow), "a") == [(1, "failed", "NonRetryable")]
    flow = create_workflow("flow").step("a", lambda ctx: None, when=fail)
    assert told(FluxTest(flow).execute(flow), "a") == [(1, "failed", "NonRetryable")]


def test_an_attempt_in_which_the_invocation_died_is_told() -> None:
    flow = create_workflow("flow").commit("a", lambda ctx: "done", idempotent=True)
    flux = FluxTest(flow)
    flux.stub("a", sequence=[InvocationDied("power cut"), "done"])
    with pytest.raises(InvocationDied):
        flux.execute(flow, id="1")
    flux.run_until_idle()
    run = flux.instance(flow, "1").assert_completed()
    assert told(run, "a") == [(1, "died", "InvocationDied"), (2, "completed", None)]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_attempt_that_was_really_cut_has_timed_out(kind: str) -> None:
    async def never(ctx: Context) -> None:
        import asyncio

        await asyncio.sleep(60)

    def slow(ctx: Context) -> None:
        time.sleep(60)

    flow = create_workflow("flow").step("a", slow if kind == "def" else never, timeout=0.02, retries=0)
    (attempt,) = FluxTest(flow).execute(flow).assert_failed("outlasted").attempts("a")
    assert attempt.outcome == "failed"
    assert attempt.error is not None
    assert (attempt.error.type, attempt.error.message) == (
        "StepTimeout", "the attempt outlasted its time limit of 0.02 s"
    )  # fmt: skip


def test_an_attempt_that_was_disowned_on_another_thread_has_timed_out_whatever_it_still_does() -> None:
    from threading import Event

    go_on, runs = Event(), []

    def late(ctx: Context) -> str:
        go_on.wait(30)
        return "too late"

    flow = create_workflow("flow").step("a", late, timeout=0.02, retries=0)
    flux = FluxTest(flow)
    thread = Thread(target=lambda: runs.append(flux.execute(flow)))
    thread.start()
    thread.join()
    (run,) = runs
    assert told(run, "a") == [(1, "failed", "StepTimeout")]
    go_on.set()
    assert told(run, "a") == [(1, "failed", "StepTimeout")]


def test_all_steps_are_told_in_the_order_their_attempts_began() -> None:
    order = order_workflow()
    flux = FluxTest(order)
    run = flux.execute(order, INPUT)
    run.cancel()
    assert [(one.step, one.what) for one in run.attempts()] == [
        ("charge", "run"), ("approval", "run"), ("charge", "undo"),
    ]  # fmt: skip


def test_a_step_that_does_not_exist_is_an_error_naming_the_steps() -> None:
    order = order_workflow()
    run = FluxTest(order).execute(order, INPUT)
    with pytest.raises(AssertionError, match="has no step 'chrage'; its steps are charge, approval, nap, ship"):
        run.attempts("chrage")
