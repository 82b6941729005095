"""A queue brings ticks: what the engine asks it for, and that nothing depends on it but how soon (rules 7, 8, 11)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from flux_core import (
    CallerError,
    Conflict,
    FluxEngine,
    Refused,
    SchedulerUnavailable,
    create_workflow,
    flow,
    sleep,
    wait,
)
from flux_core.testing import (
    CRASH_AFTER,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    RecordingStorage,
    check_invariants,
)
from tests.core.conftest import TENANT

if TYPE_CHECKING:
    from flux_core import Context, InstanceRef, WorkflowBuilder
    from tests.core.conftest import Lab


class Queue:
    """A scheduler that keeps what it is asked for, and delivers when a test says so."""

    def __init__(self, horizon: float = 900.0, fails: BaseException | None = None) -> None:
        self.horizon = horizon
        self.fails = fails
        self.asked: list[tuple[InstanceRef, float]] = []

    def wake(self, ref: InstanceRef, delay: float) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append((ref, delay))

    def ids(self) -> list[tuple[str, float]]:
        return [(ref.id, delay) for ref, delay in self.asked]

    def deliver(self, engine: FluxEngine, order: random.Random | None = None) -> None:
        """Everything, and what comes of it, each twice and in any order if `order` says so."""
        while self.asked:
            at = 0 if order is None else order.randrange(len(self.asked))
            ref, _ = self.asked.pop(at)
            for _ in range(1 if order is None else 2):
                engine.wake(ref.workflow, ref.id, tenant=ref.tenant)


def waits(lab: Lab, seconds: float | None = 60.0) -> WorkflowBuilder:
    return create_workflow("order").step("ask", lambda ctx: wait("go", timeout=seconds)).step("last", lab.note("last"))


class TestAHandOver:
    def test_is_asked_for_at_once(self, lab: Lab) -> None:
        queue = Queue()
        order = create_workflow("order").step("a", lab.note("a")).step("b", lab.note("b"))
        result = lab.engine(scheduler=queue).execute(order, id="1", deadline=0)
        assert (result.status, queue.ids()) == ("running", [("1", 0.0)])

    def test_goes_on_in_the_invocation_that_the_message_starts(self, lab: Lab) -> None:
        queue = Queue()
        order = create_workflow("order").step("a", lab.note("a")).step("b", lab.note("b"))
        engine = lab.engine(scheduler=queue)
        engine.execute(order, id="1", deadline=0)
        queue.deliver(engine)
        assert engine.get(order, "1").status == "completed"
        assert lab.calls == ["a", "b"]

    def test_is_asked_for_only_when_the_index_has_it(self, lab: Lab) -> None:
        seen: list[int | None] = []

        class Looks(Queue):
            def wake(self, ref: InstanceRef, delay: float) -> None:
                seen.append(lab.header(ref.id).due)

        order = create_workflow("order").step("a", lab.note("a"))
        lab.engine(scheduler=Looks()).execute(order, id="1", deadline=0)
        assert seen == [lab.clock.now()]


class TestATimer:
    def test_is_asked_for_with_its_delay(self, lab: Lab) -> None:
        queue = Queue()
        lab.engine(scheduler=queue).execute(waits(lab, 60.0), id="1")
        assert queue.ids() == [("1", 60.0)]

    def test_beyond_the_horizon_is_the_sweepers(self, lab: Lab) -> None:
        queue = Queue(horizon=900.0)
        engine = lab.engine(scheduler=queue)
        engine.execute(waits(lab, 901.0), id="1")
        assert queue.ids() == []
        lab.clock.advance(800)
        assert engine.sweep(ahead=120) == 1
        assert queue.ids() == [("1", 101.0)]

    def test_that_never_comes_is_not_asked_for(self, lab: Lab) -> None:
        queue = Queue()
        lab.engine(scheduler=queue).execute(waits(lab, None), id="1")
        assert queue.ids() == []

    def test_of_a_sleep_and_of_a_durable_back_off_is_one_too(self, lab: Lab) -> None:
        queue = Queue()
        lab.engine(scheduler=queue).execute(create_workflow("nap").step("z", lambda ctx: sleep(30)), id="1")
        failing = create_workflow("order").step("a", lambda ctx: 1 / 0, retries=1)
        lab.engine(scheduler=queue, inline_backoff=0).execute(failing, id="2")
        assert [id_ for id_, _ in queue.ids()] == ["1", "2"]
        assert all(delay > 0 for _, delay in queue.ids())

    def test_that_fires_early_changes_nothing_and_asks_for_nothing(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        order = waits(lab)
        engine.execute(order, id="1")
        queue.asked.clear()
        assert engine.wake(order, "1").status == "suspended"
        assert queue.ids() == []


class TestAQueueThatFails:
    @pytest.mark.parametrize("error", [SchedulerUnavailable("throttled"), ValueError("a fault of the adapter's")])
    def test_costs_time_and_nothing_else(self, lab: Lab, error: Exception) -> None:
        engine = lab.engine(scheduler=Queue(fails=error))
        order = create_workflow("order").step("a", lab.note("a"))
        assert engine.execute(order, id="1", deadline=0).status == "running"
        assert [level for level, message, _ in lab.log.lines if "the sweeper will find it" in message] == ["warn"]
        assert [result.status for result in engine.recover()] == ["completed"]

    def test_fails_the_sweep_so_that_the_platform_repeats_it(self, lab: Lab) -> None:
        engine = lab.engine(scheduler=Queue(fails=SchedulerUnavailable("down")))
        engine.execute(create_workflow("order").step("a", lab.note("a")), id="1", deadline=0)
        with pytest.raises(SchedulerUnavailable, match="down"):
            engine.sweep()


class TestTheSweep:
    def test_asks_for_what_is_due_and_for_what_will_be_soon(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        engine.execute(create_workflow("order").step("a", lab.note("a")), id="over", deadline=0)
        engine.execute(create_workflow("nap").step("z", lambda ctx: sleep(100)), id="soon")
        engine.execute(create_workflow("late").step("z", lambda ctx: sleep(500)), id="later")
        queue.asked.clear()
        lab.clock.advance(10)
        assert engine.sweep() == 2
        assert queue.ids() == [("over", 0.0), ("soon", 90.0)]

    def test_decides_nothing(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        engine.execute(create_workflow("order").step("a", lab.note("a")), id="1", deadline=0)
        before = lab.types("1")
        engine.sweep()
        assert (lab.types("1"), lab.calls) == (before, [])

    def test_ticks_itself_where_there_is_no_queue(self, lab: Lab) -> None:
        engine = lab.engine()
        order = create_workflow("order").step("a", lab.note("a"))
        engine.execute(order, id="1", deadline=0)
        assert engine.sweep() == 1
        assert engine.get(order, "1").status == "completed"

    def test_passes_over_workflows_that_it_does_not_know_and_finds_the_others(self, lab: Lab) -> None:
        strange = create_workflow("strange").step("a", lab.note("a"))
        for number in range(5):
            lab.engine().execute(strange, id=f"s-{number}", deadline=0)
        lab.clock.advance(1)
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        engine.execute(create_workflow("order").step("a", lab.note("a")), id="mine", deadline=0)
        queue.asked.clear()
        assert engine.sweep(limit=2) == 1
        assert queue.ids() == [("mine", 0.0)]

    def test_stops_at_its_limit_and_at_its_deadline(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        order = create_workflow("order").step("a", lab.note("a"))
        for number in range(4):
            engine.execute(order, id=f"{number}", deadline=0)
        assert engine.sweep(limit=3) == 3
        assert engine.sweep(deadline=0) == 0

    def test_wakes_instances_of_every_tenant(self, lab: Lab) -> None:
        order = create_workflow("order").step("a", lab.note("a"))
        lab.engine(tenant="acme").execute(order, id="1", deadline=0)
        queue = Queue()
        engine = lab.engine(scheduler=queue, workflows=[order])
        assert engine.sweep() == 1
        queue.deliver(engine)
        assert lab.engine(tenant="acme").get(order, "1").status == "completed"

    def test_refuses_a_look_ahead_that_is_no_duration(self, lab: Lab) -> None:
        with pytest.raises(Exception, match=r"sweep\(ahead=\.\.\.\)"):
            lab.engine(scheduler=Queue()).sweep(ahead=-1)


class TestChildren:
    def family(self, lab: Lab, number: int) -> WorkflowBuilder:
        def double(ctx: Context) -> None:
            ctx.data["double"] = ctx.input * 2

        child = create_workflow("child").step("work", double)
        each = flow().child("one", child, lambda ctx: ctx.item)
        return create_workflow("parent").map("each", list(range(number)), each, max_concurrency=None)

    def test_but_one_are_brought_to_other_invocations(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        assert engine.execute(self.family(lab, 5), id="1").status == "suspended"
        assert len(queue.asked) == 4
        assert {ref.workflow for ref, _ in queue.asked} == {"child"}

    def test_run_in_the_parents_invocation_where_there_is_no_queue(self, lab: Lab) -> None:
        assert lab.engine().execute(self.family(lab, 5), id="1").status == "completed"

    @pytest.mark.parametrize("seed", range(20))
    def test_bring_their_parent_to_its_end_however_messages_come(self, lab: Lab, seed: int) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        parent = self.family(lab, 6)
        engine.execute(parent, id="1", deadline=random.Random(seed).choice([None, 0, 100]))
        queue.deliver(engine, random.Random(seed))
        result = engine.get(parent, "1")
        assert result.status == "completed"
        assert [result.output(f"each[{number}].one")["double"] for number in range(6)] == [0, 2, 4, 6, 8, 10]
        for listed in lab.storage.list(TENANT, limit=100).items:
            check_invariants(lab.storage, listed.ref, at_rest=True)

    def test_are_asked_for_when_the_time_is_over(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        parent = self.family(lab, 3)
        left = [100.0]

        def gone(ctx: Context) -> int:
            left[0] = 0.0
            return 1

        slow = create_workflow("slow").step("eat", gone).child("one", create_workflow("kid").step("k", lab.note("k")))
        engine.execute(parent, id="1", deadline=lambda: 1000.0)
        queue.asked.clear()
        engine.execute(slow, id="2", deadline=lambda: left[0])
        assert [ref.id for ref, _ in queue.asked] == ["2"]
        left[0] = 100.0
        queue.deliver(engine)
        assert engine.get(slow, "2").status == "completed"


class TestRecordingWithoutAdvancing:
    def test_starts_an_instance_that_the_queue_runs(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        order = create_workflow("order").step("a", lab.note("a"))
        result = engine.execute(order, {"n": 1}, "1", advance=False)
        assert (result.status, result.created, lab.types("1"), lab.calls) == ("pending", True, ["start"], [])
        assert queue.ids() == [("1", 0.0)]
        queue.deliver(engine)
        assert engine.get(order, "1").status == "completed"

    def test_leaves_it_to_the_sweeper_where_there_is_no_queue(self, lab: Lab) -> None:
        engine = lab.engine()
        order = create_workflow("order").step("a", lab.note("a"))
        engine.execute(order, id="1", advance=False)
        assert [result.status for result in engine.recover()] == ["completed"]

    def test_agrees_with_a_second_start_and_refuses_other_input(self, lab: Lab) -> None:
        engine = lab.engine(scheduler=Queue())
        order = create_workflow("order").step("a", lab.note("a"))
        engine.execute(order, {"n": 1}, "1", advance=False)
        assert not engine.execute(order, {"n": 1}, "1", advance=False).created
        with pytest.raises(Conflict):
            engine.execute(order, {"n": 2}, "1", advance=False)

    def test_keeps_a_signal_and_asks_for_a_tick(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        order = waits(lab, None)
        engine.execute(order, id="1")
        assert engine.signal(order, "1", "go", advance=False).status == "suspended"
        assert queue.ids() == [("1", 0.0)]
        queue.deliver(engine)
        assert engine.get(order, "1").status == "completed"

    def test_keeps_a_signal_for_the_sweeper_where_there_is_no_queue(self, lab: Lab) -> None:
        engine = lab.engine()
        order = waits(lab, None)
        engine.execute(order, id="1")
        engine.signal(order, "1", "go", advance=False)
        assert [result.status for result in engine.recover()] == ["completed"]

    def test_keeps_a_signal_for_the_sweeper_that_came_while_the_owner_let_go(self, lab: Lab) -> None:
        """The first look finds an owner, who suspends and looks into the mailbox before the mail is in it."""
        seen: list[tuple[int, bytes] | None] = []
        order = create_workflow("order").step("a", lambda ctx: seen.append(lab.storage.tail(lab.ref("1"))))
        order.step("ask", lambda ctx: wait("go"))
        engine = lab.engine(workflows=[order])
        engine.execute(order, id="1")

        class LookedBefore(RecordingStorage):
            def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
                return seen.pop() if seen else super().tail(ref)

        sender = lab.engine(storage=LookedBefore(lab.storage), workflows=[order])
        assert sender.signal(order, "1", "go", advance=False).status == "suspended"
        assert [result.status for result in engine.recover()] == ["completed"]

    @pytest.mark.parametrize("verb", ["cancel", "retry_step", "skip_step", "complete_step", "resume"])
    def test_of_every_verb_is_carried_out_by_the_tick(self, lab: Lab, verb: str) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        healed: list[bool] = []

        def work(ctx: Context) -> int:
            if not healed:
                raise ValueError
            return 1

        order = create_workflow("order").step("a", work, retries=0)
        engine.execute(order, id="1")
        healed.append(True)
        if verb == "cancel":
            order = waits(lab, None)
            engine.execute(order, id="2")
        id_ = "2" if verb == "cancel" else "1"
        step = ("a",) if verb.endswith("_step") else ()
        recorded = getattr(engine, verb)(order, id_, *step, advance=False)
        assert recorded.status not in {"completed", "cancelled"}
        assert queue.ids() == [(id_, 0.0)]
        queue.deliver(engine)
        assert engine.get(order, id_).status == ("cancelled" if verb == "cancel" else "completed")

    def test_of_a_pause_ends_with_the_unpause(self, lab: Lab) -> None:
        queue = Queue()
        engine = lab.engine(scheduler=queue)
        order = waits(lab, 60)
        engine.execute(order, id="1")
        engine.pause(order, "1", advance=False)
        queue.deliver(engine)
        assert engine.get(order, "1").status == "paused"
        engine.unpause(order, "1", advance=False)
        lab.clock.advance(61)
        queue.deliver(engine)
        assert engine.get(order, "1").status == "failed"

    def test_refuses_what_the_verb_refuses(self, lab: Lab) -> None:
        engine = lab.engine(scheduler=Queue())
        order = create_workflow("order").step("a", lab.note("a"))
        engine.execute(order, id="1")
        with pytest.raises(Refused):
            engine.cancel(order, "1", advance=False)


class TestATransportThatDoesNotRedeliver:
    """HTTP: a signal whose sender dies half-way, and that nobody sends again, is found by the sweeper (rule 11)."""

    def half_sent(self, lab: Lab, *, nudge: bool) -> WorkflowBuilder:
        order = waits(lab, None)
        lab.engine().execute(order, id="1")
        plan = FaultPlan({self.mailing(lab, order, nudge=nudge): CRASH_AFTER})
        dying = lab.engine(storage=FaultyStorage(lab.storage, plan))
        with pytest.raises(InvocationDied):
            dying.signal(order, "1", "go", nudge=nudge)
        assert [mail.name for mail in lab.storage.mail(lab.ref("1"))] == ["go"]
        return order

    def mailing(self, lab: Lab, order: WorkflowBuilder, *, nudge: bool) -> int:
        """The number of the call that puts the mail: after the look at the tail, and after the nudge."""
        return 3 if nudge else 2

    def test_finds_it(self, lab: Lab) -> None:
        order = self.half_sent(lab, nudge=True)
        lab.clock.advance(10)
        assert [result.status for result in lab.engine(workflows=[order]).recover()] == ["completed"]

    def test_would_lose_it_without_the_entry(self, lab: Lab) -> None:
        order = self.half_sent(lab, nudge=False)
        lab.clock.advance(3600)
        assert lab.engine(workflows=[order]).recover() == []

    def test_leaves_no_entry_behind_once_it_is_taken(self, lab: Lab) -> None:
        engine = lab.engine()
        order = waits(lab, None)
        engine.execute(order, id="1")
        assert engine.signal(order, "1", "go", nudge=True).status == "completed"
        assert lab.storage.due(2**60, 10) == []

    def test_writes_no_entry_for_an_instance_that_somebody_owns(self, lab: Lab) -> None:
        """Its owner looks into the mailbox himself, and after his death the next one does."""
        order = create_workflow("order").step("a", lab.die).step("ask", lambda ctx: wait("go"))
        with pytest.raises(BaseException):  # noqa: B017, PT011 -- the process is killed
            lab.engine().execute(order, id="1")
        due = lab.header("1").due
        lab.engine().signal(order, "1", "go", nudge=True)
        assert lab.header("1").due == due


def test_a_tick_names_the_tenant_as_strictly_as_an_engine(lab: Lab) -> None:
    order = create_workflow("order").step("a", lab.note("a"))
    with pytest.raises(CallerError, match="tenant"):
        lab.engine(workflows=[order]).wake(order, "1", tenant="a/b")
