"""Virtual time: what is due happens on the way, in order, at its own time, and nothing really waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flux_core import DefinitionError, RetryPolicy, create_workflow, sleep, sleep_until, wait
from flux_core.testing import FluxTest, InvocationDied
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Sleeper:
    """A workflow that sleeps for some hours each time, and tells when it woke up."""

    def __init__(self, name: str, *hours: float) -> None:
        self.told: list[tuple[str, float]] = []
        self.flux = FluxTest()
        self.flow = create_workflow(name)
        for number, duration in enumerate(hours):
            self.flow.step(f"sleep-{number}", self._sleeping(duration))
            self.flow.step(f"say-{number}", self._say)

    def _sleeping(self, hours: float) -> Callable[[Context], object]:
        return lambda ctx: sleep(timedelta(hours=hours))

    def _say(self, ctx: Context) -> None:
        self.told.append((ctx.workflow, (self.flux.now - NEW_YEAR) / timedelta(hours=1)))


class TestAdvance:
    def test_does_what_is_due_on_the_way_in_order_each_at_its_own_time(self) -> None:
        first, second = Sleeper("a", 1, 4), Sleeper("b", 2, 2)
        second.told = first.told
        first.flux = second.flux = flux = FluxTest(first.flow, second.flow, start=NEW_YEAR)
        runs = [flux.execute(one.flow) for one in (first, second)]
        flux.advance(days=1)
        assert first.told == [("a", 1), ("b", 2), ("b", 4), ("a", 5)]
        assert flux.now == NEW_YEAR + timedelta(days=1)
        for run in runs:
            run.assert_completed()

    def test_takes_any_units_and_their_sum(self) -> None:
        flux = FluxTest(start=NEW_YEAR)
        flux.advance(timedelta(hours=1), weeks=1, days=1, minutes=1, seconds=1.5)
        flux.advance(0.5)
        assert flux.now == NEW_YEAR + timedelta(days=8, hours=1, minutes=1, seconds=2)

    def test_leaves_what_is_due_a_moment_later(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        run = flux.execute(order, INPUT)
        flux.advance(timedelta(days=3) - timedelta(milliseconds=1))
        run.assert_waiting("approval")
        flux.advance(timedelta(milliseconds=1))
        run.assert_rolled_back("in time")

    def test_back_is_refused(self) -> None:
        with pytest.raises(ValueError, match="cannot be advanced by -3600 seconds"):
            FluxTest().advance(hours=-1)

    def test_does_not_do_what_a_signal_has_made_superfluous(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        run = flux.execute(order, INPUT)
        run.signal("approval", {"by": "Ada"})
        flux.advance(weeks=1)
        run.assert_completed()

    def test_finds_what_a_dead_invocation_left_when_its_lease_has_ended(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: "alive")
        flux = FluxTest(flow, lease=60)
        flux.stub("a", raises=InvocationDied)
        with pytest.raises(InvocationDied):
            flux.execute(flow, id="1")
        flux.unstub("a")
        run = flux.instance(flow, "1")
        flux.advance(seconds=60)
        run.assert_status("running")
        flux.advance(seconds=10)
        assert run.assert_completed().output("a") == "alive"

    def test_fires_long_back_offs_and_sleeps_short_ones_in_the_invocation(self) -> None:
        policy = RetryPolicy(initial=1, factor=100, maximum=1000, jitter=False)
        flow = create_workflow("flow").step("a", lambda ctx: None, retry=policy)
        flux = FluxTest(flow, start=NEW_YEAR)
        flux.stub("a", sequence=[OSError(), OSError(), "third"])
        run = flux.execute(flow)
        assert flux.now == NEW_YEAR + timedelta(seconds=1)
        run.assert_status("suspended").assert_step("a", attempts=2)
        flux.advance(seconds=100)
        assert run.assert_completed().output("a") == "third"

    def test_ends_a_workflow_that_takes_too_long(self) -> None:
        flow = create_workflow("flow", timeout=timedelta(days=2)).step("a", lambda ctx: wait("never"))
        flux = FluxTest(flow)
        run = flux.execute(flow)
        flux.advance(days=2)
        run.assert_failed("within 172800 s")

    def test_says_what_is_due_but_cannot_be_run(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.execute(order, INPUT, id="o-1")
        (ref,) = flux.storage.refs
        later = b'{"v":1,"t":"of-a-later-version","ep":1,"n":["x",1],"at":5}'
        assert flux.storage.inner.append(ref, len(flux.storage.inner.read(ref)), later) is None
        with pytest.raises(AssertionError, match=r"order/o-1 is due, but cannot be run: .*of-a-later-version"):
            flux.advance(days=3)


class TestTheNextThing:
    def test_is_gone_to_and_done(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: sleep(60)).step("b", lambda ctx: sleep(60))
        flux = FluxTest(flow, start=NEW_YEAR)
        run = flux.execute(flow)
        assert flux.advance_to_next() == NEW_YEAR + timedelta(minutes=1)
        run.assert_step("a", status="completed").assert_step("b", status="suspended")
        assert flux.advance_to_next() == NEW_YEAR + timedelta(minutes=2)
        run.assert_completed()

    def test_is_none_when_only_a_signal_can_move_anything(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: wait("go"))
        flux = FluxTest(flow, start=NEW_YEAR)
        flux.execute(flow)
        assert flux.advance_to_next() is None
        assert flux.now == NEW_YEAR


class TestUntilIdle:
    def test_all_timers_fire_at_their_time(self) -> None:
        order = order_workflow()
        flux = FluxTest(order, start=NEW_YEAR)
        run = flux.execute(order, INPUT)
        flux.run_until_idle()
        run.assert_rolled_back()
        assert flux.now == NEW_YEAR + timedelta(days=3)

    def test_an_instance_that_never_comes_to_rest_is_told(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: sleep(60)).step("b", lambda ctx: sleep(60))
        flux = FluxTest(flow)
        flux.execute(flow, id="1")
        with pytest.raises(AssertionError, match=r"flow/1 is not idle after 1 wake-ups(.|\n)*Step 'b' sleeps"):
            flux.run_until_idle(most=1)

    def test_nothing_under_way_is_idle(self) -> None:
        FluxTest().run_until_idle(most=0)


class TestTheStart:
    def test_is_where_sleep_until_counts_from(self) -> None:
        flow = create_workflow("flow").step("until", lambda ctx: sleep_until(datetime(2026, 1, 2, tzinfo=UTC)))
        flux = FluxTest(flow, start=NEW_YEAR)
        run = flux.execute(flow)
        flux.advance(hours=23)
        run.assert_status("suspended")
        flux.advance(hours=1)
        run.assert_completed()

    def test_needs_a_time_zone(self) -> None:
        with pytest.raises(DefinitionError, match="start= needs a datetime with a time zone"):
            FluxTest(start=datetime(2026, 1, 1))  # noqa: DTZ001 -- that is the mistake


def test_the_clock_may_be_moved_by_a_handler() -> None:
    made: list[FluxTest] = []

    def work(ctx: Context) -> float | None:
        made[0].clock.advance(10)
        return ctx.remaining()

    flow = create_workflow("flow").step("work", work, timeout=25)
    made.append(FluxTest(flow))
    assert made[0].execute(flow).output("work") == pytest.approx(15)
