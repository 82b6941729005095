"""What an episode costs at the store, call by call (PROTOCOL rules 2, 5, 12 and 14).

`append(3)+running` is an append to slot 3 with a header, `append(3)` one without; nothing else is called than what
the lists say.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    Done,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    RetryPolicy,
    StorageUnavailable,
    Unknown,
    compensation,
    create_workflow,
    flow,
    sleep,
    verify,
    wait,
)
from flux_core.codec import decode_record
from flux_core.testing import (
    LOST_RESPONSE,
    UNAVAILABLE,
    FaultPlan,
    FaultyStorage,
    RecordingStorage,
    SeededEntropy,
    VirtualClock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import WorkflowBuilder
    from flux_core.context import Context

AT_ONCE = RetryPolicy(initial=0.5, jitter=False)


class Bench:
    """An engine over a recording store and a virtual clock."""

    def __init__(self, *workflows: WorkflowBuilder, **options: Any) -> None:
        self.store = RecordingStorage(MemoryStorage())
        self.clock = VirtualClock()
        self.engine = FluxEngine(
            self.store, workflows=workflows, clock=self.clock, entropy=SeededEntropy(), **options
        )  # fmt: skip

    def types(self, workflow: WorkflowBuilder, id: str = "1") -> list[str]:
        ref = InstanceRef("default", workflow.build().name, id)
        return [decode_record(raw, ref, seq).type for seq, raw in enumerate(self.store.inner.read(ref))]


def nothing(ctx: Context) -> None:
    return None


def raises(error: Exception, times: int = 10**9) -> Callable[[Context], object]:
    def handler(ctx: Context) -> object:
        if ctx.attempt <= times:
            raise error
        return "done"

    return handler


def _steps(count: int) -> WorkflowBuilder:
    builder = create_workflow("steps")
    for number in range(count):
        builder.step(f"s{number}", nothing)
    return builder


async def _asynchronous(ctx: Context) -> int:
    await asyncio.sleep(0)
    return 1


W = create_workflow
EPISODES: dict[str, tuple[Callable[[], WorkflowBuilder], int, int, str]] = {
    # name: workflow, steps that have an outcome (skips included), intents, end
    "one step": (lambda: _steps(1), 1, 0, "completed"),
    "ten steps": (lambda: _steps(10), 10, 0, "completed"),
    "a hundred steps": (lambda: _steps(100), 100, 0, "completed"),
    "an async step": (lambda: W("w").step("a", _asynchronous), 1, 0, "completed"),
    "data and outputs": (
        lambda: W("w").step("a", lambda ctx: ctx.data.update(x=1)).step("b", lambda ctx: {"y": ctx.data.x}), 2, 0,
        "completed",
    ),
    "a commit": (lambda: W("w").commit("c", nothing), 1, 1, "completed"),
    "steps and commits": (
        lambda: W("w").step("a", nothing).commit("b", nothing).step("c", nothing).commit("d", nothing), 4, 2,
        "completed",
    ),
    "a skipped step": (lambda: W("w").step("a", nothing, when=lambda ctx: False).step("b", nothing), 2, 0, "completed"),
    "a skipped commit has no intent": (lambda: W("w").commit("a", nothing, when=lambda ctx: False), 1, 0, "completed"),
    "a commit whose condition holds": (lambda: W("w").commit("a", nothing, when=lambda ctx: True), 1, 1, "completed"),
    "inline retries of a step cost nothing": (
        lambda: W("w").step("a", raises(ValueError("x"), 3), retry=AT_ONCE), 1, 0, "completed",
    ),
    "each attempt of a commit has its intent": (
        lambda: W("w").commit("a", raises(ValueError("x"), 2), retry=AT_ONCE), 1, 3, "completed",
    ),
    "an idempotent commit of unknown outcome": (
        lambda: W("w").commit("a", raises(Unknown("x"), 2), idempotent=True, retry=AT_ONCE), 1, 3, "completed",
    ),
    "a probe that finds it done": (
        lambda: W("w").commit("a", raises(Unknown("x")), on_unknown=verify(lambda ctx: Done(1))), 1, 1, "completed",
    ),
    "a probe that finds it not done": (
        lambda: W("w").commit("a", raises(Unknown("x"), 1), on_unknown=verify(lambda ctx: NOT_DONE), retry=AT_ONCE),
        1, 2, "completed",
    ),
    "a step that fails": (lambda: W("w").step("a", raises(NonRetryable("x"))), 1, 0, "failed"),
    "a step that fails after its retries": (
        lambda: W("w").step("a", raises(ValueError("x")), retry=AT_ONCE), 1, 0, "failed",
    ),
    "a saga: each compensation is an outcome and an intent": (
        lambda: W("w").step("a", nothing, compensate=nothing).commit("b", nothing, compensate=nothing)
        .step("c", raises(NonRetryable("x"))), 3 + 2, 1 + 2, "rolled_back",
    ),
    "a compensation that is tried again": (
        lambda: W("w").step("a", nothing, compensate=compensation(raises(ValueError("x"), 1), retry=AT_ONCE))
        .step("c", raises(NonRetryable("x"))), 2 + 1, 2, "rolled_back",
    ),
    "a branch: its decision, and its steps": (
        lambda: W("w").if_("a", lambda ctx: True, flow().step("b", nothing).commit("c", nothing)), 3, 1, "completed",
    ),
    "a branch with nothing to run": (lambda: W("w").if_("a", lambda ctx: False, nothing), 1, 0, "completed"),
    "a loop: one decision, and its steps": (
        lambda: W("w").loop("a", 10, flow().step("b", nothing).commit("c", nothing)), 1 + 20, 10, "completed",
    ),
    "a while: a decision for each iteration and one for the end": (
        lambda: W("w").while_("a", lambda ctx: ctx.iteration < 5, nothing), 6 + 5, 0, "completed",
    ),
    "a decision that is tried again inline costs nothing": (
        lambda: W("w").if_("a", raises(ValueError("x"), 2), nothing, retry=AT_ONCE), 2, 0, "completed",
    ),
    "a quarantined commit: its intent, and the record that says so": (
        lambda: W("w").step("a", nothing).commit("b", raises(Unknown("x"))), 1, 1, "stuck",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EPISODES)
def test_one_episode_writes_its_steps_its_intents_and_two(case: str) -> None:
    make, steps, intents, status = EPISODES[case]
    workflow = make()
    bench = Bench(workflow)
    result = bench.engine.execute(workflow, {"x": 1}, "1")
    assert result.status == status
    assert len(bench.store.calls) == steps + intents + 2


@pytest.mark.parametrize("case", EPISODES)
def test_a_fresh_execute_reads_nothing_and_appends_each_slot_once(case: str) -> None:
    make, steps, intents, _ = EPISODES[case]
    workflow = make()
    bench = Bench(workflow)
    bench.engine.execute(workflow, {"x": 1}, "1")
    slots = [(call.method, call.seq) for call in bench.store.calls]
    assert slots == [("append", seq) for seq in range(steps + intents + 2)]


@pytest.mark.parametrize("case", EPISODES)
def test_only_the_first_and_the_last_record_carry_a_header(case: str) -> None:
    make, _, _, status = EPISODES[case]
    workflow = make()
    bench = Bench(workflow)
    bench.engine.execute(workflow, {"x": 1}, "1")
    headers = [call.header.status for call in bench.store.calls if call.header is not None]
    assert headers == ["running", status]
    assert bench.store.calls[0].header is not None
    assert bench.store.calls[-1].header is not None


def test_watching_costs_no_storage_call() -> None:
    workflow = _steps(5)
    events: list[str] = []
    hooks: dict[str, Callable[..., object]] = {"step_complete": lambda name, ctx, result: events.append(name)}
    bench = Bench(workflow, on=hooks, trace=_Sink())
    bench.engine.execute(workflow, {}, "1")
    assert len(events) == 5
    assert len(bench.store.calls) == 7


class _Sink:
    def emit(self, event: object) -> None:
        return None


def test_a_step_writes_its_own_bytes_and_not_the_history() -> None:
    """Flat cost: the last of a hundred steps is as small as the second."""
    workflow = create_workflow("flat")
    for number in range(100):
        workflow.step(f"s{number:02}", lambda ctx: ctx.data.update({ctx.step: "x" * 100}))
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    sizes = [call.size for call in bench.store.calls[1:-1]]
    assert max(sizes) - min(sizes) <= 3  # the counter in the nonce grows by two digits


def test_a_wait_a_signal_and_the_resume_cost_exactly_these_calls() -> None:
    workflow = create_workflow("w").step("a", nothing).step("ask", lambda ctx: wait("go")).step("b", nothing)
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    assert bench.store.take() == [
        "append(0)+running",
        "append(1)",  # step a
        "append(2)",  # step ask, which waits
        "mail",  # an early signal?
        "append(3)+suspended",  # susp; the lease's due entry still stands
        "mail",  # the second look (rule 5)
        "settle(3)",  # now the entry of the lease goes
    ]
    bench.engine.signal(workflow, "1", "go", 1, "m1")
    assert bench.store.take() == [
        "tail",  # is there an instance, and does it take signals?
        "put_mail",
        "snapshot",  # the state, from the newest snapshot and ...
        "read(0)",  # ... the records after it: the second look at the tail
        "mail",  # which mail does the wait find?
        "append(4)+running",  # claim
        "mail",
        "append(5)",  # recv
        "append(6)",  # step b
        "append(7)+completed",
    ]
    assert bench.types(workflow) == ["start", "step", "step", "susp", "claim", "recv", "step", "end"]


def test_a_signal_that_is_there_before_its_wait_suspends_nothing() -> None:
    workflow = (
        create_workflow("w").step("first", lambda ctx: wait("one")).step("second", lambda ctx: wait("two"))
    )  # fmt: skip
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    bench.engine.signal(workflow, "1", "two", 2, "m2")
    bench.store.take()
    bench.engine.signal(workflow, "1", "one", 1, "m1")
    assert bench.store.take() == [
        "tail",
        "put_mail",
        "snapshot",
        "read(0)",
        "mail",
        "append(3)+running",
        "mail",
        "append(4)",  # recv of the first
        "append(5)",  # the second step, which waits
        "mail",
        "append(6)",  # recv of the second
        "append(7)+completed",
    ]


def test_a_signal_nobody_waits_for_costs_two_writes_at_most_and_no_claim() -> None:
    workflow = create_workflow("w").step("ask", lambda ctx: wait("go"))
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    bench.store.take()
    bench.engine.signal(workflow, "1", "other", 1, "m1")
    calls = bench.store.take()
    assert calls[:5] == ["tail", "put_mail", "snapshot", "read(0)", "mail"]
    assert not [call for call in calls if call.startswith("append")]


def test_a_sleep_costs_its_step_a_susp_and_later_a_claim_and_a_timeout() -> None:
    workflow = create_workflow("w").step("nap", lambda ctx: sleep(60))
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    assert bench.store.take() == ["append(0)+running", "append(1)", "append(2)+suspended"]
    bench.clock.advance(60)
    bench.engine.recover()
    assert bench.store.take() == [
        "due",
        "snapshot",
        "read(0)",
        "append(3)+running",
        "append(4)",  # timeout: the nap is over
        "append(5)+completed",
    ]
    assert bench.types(workflow) == ["start", "step", "susp", "claim", "timeout", "end"]


def test_a_durable_retry_costs_a_record_a_susp_and_later_a_claim() -> None:
    later = RetryPolicy(initial=60, maximum=60, jitter=False)
    workflow = create_workflow("w").step("a", raises(ValueError("x"), 1), retry=later)
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    assert bench.store.take() == ["append(0)+running", "append(1)", "append(2)+suspended"]
    bench.clock.advance(60)
    bench.engine.recover()
    assert bench.store.take() == ["due", "snapshot", "read(0)", "append(3)+running", "append(4)", "append(5)+completed"]
    assert bench.types(workflow) == ["start", "retry_wait", "susp", "claim", "step", "end"]


def test_a_hand_over_costs_a_yield_and_a_claim() -> None:
    bench = Bench()

    def work(ctx: Context) -> None:
        bench.clock.advance(7)

    workflow = create_workflow("w").step("a", work).step("b", work).step("c", work)
    bench.engine.execute(workflow, {}, "1", deadline=15)
    assert bench.types(workflow) == ["start", "step", "step", "yield"]
    assert bench.store.take() == ["append(0)+running", "append(1)", "append(2)", "append(3)+running"]
    bench.engine.recover(deadline=15)
    assert bench.store.take() == [
        "due", "snapshot", "read(0)", "append(4)+running", "append(5)", "append(6)+completed",
    ]  # fmt: skip


def test_executing_again_reads_and_writes_nothing_of_a_completed_instance() -> None:
    workflow = _steps(2)
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    bench.store.take()
    bench.engine.execute(workflow, {}, "1")
    calls = bench.store.take()
    assert calls[0] == "append(0)+running"  # put-if-absent: the slot is taken
    assert set(calls[1:]) <= {"read(0)", "snapshot"}


def test_ticking_what_has_nothing_to_do_writes_nothing() -> None:
    workflow = create_workflow("w").step("ask", lambda ctx: wait("go"))
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    bench.store.take()
    bench.engine.wake(workflow, "1")
    assert not [call for call in bench.store.calls if call.writes]


def test_looking_costs_a_snapshot_and_a_read() -> None:
    workflow = _steps(2)
    bench = Bench(workflow)
    bench.engine.execute(workflow, {}, "1")
    bench.store.take()
    bench.engine.get(workflow, "1")
    assert bench.store.take() == ["snapshot", "read(0)"]


def test_an_answer_that_got_lost_costs_one_more_append_and_no_read() -> None:
    """The slot's own content comes back from the second try, and the nonce in it says whose it is (rule 3)."""
    workflow = _steps(3)
    for call in range(1, 6):
        for fault in (LOST_RESPONSE, UNAVAILABLE):
            plan = FaultPlan({call: fault})
            engine = FluxEngine(FaultyStorage(MemoryStorage(), plan), workflows=[workflow], clock=VirtualClock())
            assert engine.execute(workflow, {}, "1").status == "completed"
            assert [told.method for told in plan.calls] == ["append"] * 6


def test_a_store_that_does_not_answer_twice_ends_the_invocation_and_loses_nothing() -> None:
    workflow = _steps(3)
    inner, clock = MemoryStorage(), VirtualClock()
    plan = FaultPlan({3: UNAVAILABLE, 4: UNAVAILABLE})
    engine = FluxEngine(FaultyStorage(inner, plan), workflows=[workflow], clock=clock)
    with pytest.raises(StorageUnavailable):
        engine.execute(workflow, {}, "1")
    clock.advance(1000)
    (result,) = engine.recover()
    assert result.status == "completed"


# --- leases -----------------------------------------------------------------------------------------------


def test_a_lease_is_not_renewed_while_steps_are_short() -> None:
    bench = Bench(lease=20)

    def work(ctx: Context) -> None:
        bench.clock.advance(9)

    workflow = create_workflow("w")
    for number in range(10):
        workflow.step(f"s{number}", work)
    bench.engine.execute(workflow, {}, "1")
    assert "renew" not in bench.types(workflow)
    assert len(bench.store.calls) == 12


def test_a_lease_that_failed_attempts_have_used_up_is_renewed_before_the_next_step() -> None:
    """An attempt that fails leaves no record, so nothing has extended the lease since the last one."""
    bench = Bench(lease=20, default_timeout=9.0)

    def work(ctx: Context) -> None:
        bench.clock.advance(9)
        if ctx.attempt <= 3:
            raise ValueError("not yet")

    workflow = create_workflow("w").step("a", work, retry=AT_ONCE)
    result = bench.engine.execute(workflow, {}, "1")
    assert result.status == "completed"
    ref = InstanceRef("default", "w", "1")
    log = [decode_record(raw, ref, seq) for seq, raw in enumerate(bench.store.inner.read(ref))]
    lease = log[0].body["l"]
    gaps = [(after.at - before.at) for before, after in pairwise(log)]
    assert max(gaps) <= lease, "a record came after the lease had ended: somebody else could have taken the instance"
    assert "renew" in [record.type for record in log]


# --- headers ----------------------------------------------------------------------------------------------


def test_headers_change_only_at_boundaries_through_a_whole_life() -> None:
    """Create, claim, suspend, hand-over, end, and what verbs ask of an instance that nobody owns (rule 2)."""
    bench = Bench()

    def broken(ctx: Context) -> None:
        if not fixed:
            raise NonRetryable("x")

    fixed: list[bool] = []
    workflow = (
        create_workflow("w")
        .step("a", nothing)
        .step("ask", lambda ctx: wait("go"))
        .commit("c", nothing, compensate=nothing)
        .step("broken", broken)
        .step("nap", lambda ctx: sleep(100))
    )
    ref = InstanceRef("default", "w", "1")
    bench.engine.execute(workflow, {}, "1")
    bench.engine.signal(workflow, "1", "go", 1, "m1")
    fixed.append(True)
    bench.engine.retry_step(workflow, "1", "broken")
    bench.engine.cancel(workflow, "1")
    log = [decode_record(raw, ref, seq) for seq, raw in enumerate(bench.store.inner.read(ref))]
    with_header = {call.seq for call in bench.store.calls if call.header is not None}
    boundaries = {"start", "claim", "susp", "end", "retry", "cancelreq"}
    assert with_header == {seq for seq, record in enumerate(log) if record.type in boundaries}
    assert {record.type for record in log} >= {*boundaries, "step", "recv", "intent", "comp"}
