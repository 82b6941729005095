"""An invocation ends: it hands over in time, and starts no effect that it could not wait for (PROTOCOL rule 15)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import CallerError, Context, WorkflowBuilder, compensation, create_workflow
from flux_core.machine import may_start

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def taking(lab: Lab, seconds: float) -> Any:
    """A handler that takes some seconds of the virtual clock."""

    def handler(ctx: Context) -> str:
        lab.calls.append(str(ctx.step))
        lab.clock.advance(seconds)
        return str(ctx.step)

    return handler


def chain(lab: Lab, seconds: float, *names: str, commit: bool = False, **options: Any) -> WorkflowBuilder:
    w = create_workflow("order")
    for name in names:
        (w.commit if commit else w.step)(name, taking(lab, seconds), **options)
    return w


class TestHandOver:
    def test_happens_when_time_is_short_and_another_invocation_goes_on(self, lab: Lab) -> None:
        w = chain(lab, 10, *"abcdef")
        result = lab.engine().execute(w, None, "o-1", deadline=35)
        assert lab.calls == ["a", "b", "c", "d"]
        assert (result.status, lab.types("o-1")) == ("running", ["start", *["step"] * 4, "yield"])
        assert lab.header("o-1").due == lab.clock.now()
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, lab.calls) == ("completed", list("abcdef"))

    @pytest.mark.parametrize("deadline", [15, 15.0, timedelta(seconds=15)])
    def test_goes_by_seconds_or_a_timedelta(self, deadline: Any, lab: Lab) -> None:
        lab.engine().execute(chain(lab, 20, "a", "b"), None, "o-1", deadline=deadline)
        assert lab.types("o-1") == ["start", "step", "yield"]

    @pytest.mark.parametrize("deadline", [-5, timedelta(seconds=-5), 0])
    def test_happens_at_once_if_the_deadline_has_passed(self, deadline: Any, lab: Lab) -> None:
        lab.engine().execute(chain(lab, 10, "a"), None, "o-1", deadline=deadline)
        assert lab.types("o-1") == ["start", "yield"]

    @pytest.mark.parametrize("deadline", ["10", True, [10]])
    def test_is_told_what_a_deadline_is(self, deadline: Any, lab: Lab) -> None:
        with pytest.raises(CallerError, match="deadline must be seconds, a timedelta, or a function"):
            lab.engine().execute(chain(lab, 10, "a"), None, "o-1", deadline=deadline)
        assert lab.storage.tail(lab.ref("o-1")) is None

    def test_may_happen_any_number_of_times(self, lab: Lab) -> None:
        w = chain(lab, 20, *"abcdef")
        engine = lab.engine(workflows=[w])
        statuses = [engine.execute(w, None, "o-1", deadline=30).status]
        while statuses[-1] != "completed":
            (result,) = engine.recover(deadline=30)
            statuses.append(result.status)
        assert statuses == ["running"] * 2 + ["completed"]
        assert lab.calls == list("abcdef")

    def test_leaves_nothing_owned_so_that_the_next_need_not_wait_for_a_lease(self, lab: Lab) -> None:
        w = chain(lab, 40, "a", "b")
        lab.engine().execute(w, None, "o-1", deadline=35)
        assert not lab.engine().get(w, "o-1").state.owned
        assert lab.engine().wake(w, "o-1").status == "completed"

    def test_is_not_a_death_however_often(self, lab: Lab) -> None:
        w = chain(lab, 40, *"abcdefghij")
        engine = lab.engine(workflows=[w])
        result = engine.execute(w, None, "o-1", deadline=35)
        while result.status != "completed":
            assert result.state.deaths == 0
            (result,) = engine.recover(deadline=35)
        assert lab.calls == list("abcdefghij")

    def test_does_not_happen_without_a_deadline(self, lab: Lab) -> None:
        assert lab.engine().execute(chain(lab, 1000, *"abc")).status == "completed"

    def test_reads_the_time_left_from_a_function_if_it_is_given_one(self, lab: Lab) -> None:
        end = lab.clock.monotonic() + 35
        w = chain(lab, 10, *"abcdef")
        lab.engine().execute(w, None, "o-1", deadline=lambda: end - lab.clock.monotonic())
        assert lab.calls == ["a", "b", "c", "d"]

    def test_of_a_saga_that_is_being_undone_continues_undoing(self, lab: Lab) -> None:
        w = create_workflow("order", retries=0)
        for name in "abc":
            w.step(name, taking(lab, 0), compensate=compensation(taking(lab, 20), timeout=20))
        w.step("last", lambda ctx: 1 / 0)
        engine = lab.engine(workflows=[w])
        result = engine.execute(w, None, "o-1", deadline=50)
        assert (result.status, lab.calls) == ("rolling_back", [*"abc", "c", "b"])
        (result,) = engine.recover(deadline=50)
        assert (result.status, lab.calls[3:]) == ("rolled_back", ["c", "b", "a"])


class TestTheFirstStep:
    @pytest.mark.parametrize("commit", [False, True])
    def test_always_starts_even_if_the_invocation_is_shorter_than_its_time_limit(self, commit: bool, lab: Lab) -> None:
        w = chain(lab, 5, "a", "b", commit=commit, timeout=60)
        result = lab.engine().execute(w, None, "o-1", deadline=20)
        assert (result.history[0].status, lab.calls[0]) == ("completed", "a")

    def test_does_not_start_within_the_margin(self, lab: Lab) -> None:
        w = chain(lab, 5, "a")
        left = iter([30.0, 3.0, 3.0, 3.0])
        result = lab.engine().execute(w, None, "o-1", deadline=lambda: next(left, 3.0))
        assert (result.status, lab.calls) == ("running", [])
        assert lab.engine().wake(w, "o-1").status == "completed"


class TestACommit:
    def test_starts_only_if_its_whole_time_limit_is_left(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", taking(lab, 10)).commit("b", taking(lab, 1), timeout=30)
        assert lab.engine().execute(w, None, "o-1", deadline=42.9).status == "running"
        assert lab.calls == ["a"]
        assert lab.engine().execute(w, None, "o-2", deadline=43).status == "completed"

    def test_without_a_time_limit_starts_as_the_first_of_an_invocation_only(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", taking(lab, 1)).commit("b", taking(lab, 1))
        assert lab.engine().execute(w, None, "o-1", deadline=900).status == "running"
        assert lab.engine(workflows=[w]).recover(deadline=900)[0].status == "completed"

    def test_handed_over_has_no_intent_on_record(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", taking(lab, 10)).commit("b", taking(lab, 1), timeout=30)
        lab.engine().execute(w, None, "o-1", deadline=20)
        assert lab.types("o-1") == ["start", "step", "yield"]

    def test_that_failed_in_the_ordinary_way_before_a_hand_over_is_not_in_doubt(self, lab: Lab) -> None:
        def charge(ctx: Context) -> str:
            lab.clock.advance(3)
            if ctx.attempt == 1:
                raise ValueError
            return "paid"

        w = create_workflow("order").commit("charge", charge, timeout=10)
        result = lab.engine().execute(w, None, "o-1", deadline=15)
        while result.status in {"running", "suspended"}:
            lab.clock.advance(20)
            result = lab.engine().wake(w, "o-1", deadline=15)
        assert (result.status, result.history[0].output, result.history[0].retries) == ("completed", "paid", 1)

    def test_cut_by_the_deadline_has_an_unknown_outcome(self, lab: Lab) -> None:
        def slow(ctx: Context) -> None:
            import time

            until = time.monotonic() + 20
            while time.monotonic() < until:
                time.sleep(0.005)

        w = create_workflow("order").commit("charge", slow, timeout=3600)
        result = lab.engine().execute(w, None, "o-1", deadline=0.05)
        assert (result.status, result.error.type if result.error else None) == ("stuck", "unknown_outcome")


class TestTheEffectiveTimeLimit:
    def test_is_what_is_left_of_the_invocation_without_the_margin(self, lab: Lab) -> None:
        seen: list[float | None] = []
        w = create_workflow("order").step("a", lambda ctx: seen.append(ctx.remaining()), timeout=600)
        w.step("b", lambda ctx: seen.append(ctx.remaining()), timeout=5)
        lab.engine().execute(w, None, "o-1", deadline=100)
        assert seen == [pytest.approx(97), 5]

    def test_has_a_smaller_margin_in_short_invocations(self, lab: Lab) -> None:
        seen: list[float | None] = []
        w = create_workflow("order").step("a", lambda ctx: seen.append(ctx.remaining()))
        lab.engine().execute(w, None, "o-1", deadline=10)
        assert seen == [pytest.approx(9)]

    def test_that_cuts_a_plain_step_counts_as_a_death_and_not_as_an_attempt(self, lab: Lab) -> None:
        attempts: list[int] = []

        def slow(ctx: Context) -> str:
            import time

            attempts.append(ctx.attempt)
            until = time.monotonic() + 20
            while len(attempts) == 1 and time.monotonic() < until:
                time.sleep(0.005)
            return "done"

        w = create_workflow("order").step("a", slow, timeout=3600, retries=0)
        result = lab.engine().execute(w, None, "o-1", deadline=0.05)
        assert (result.status, result.state.deaths) == ("running", 1)
        lab.clock.advance(10)
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert attempts == [1, 1]


class TestTheRule:
    @pytest.mark.parametrize(
        ("timeout", "observed", "remaining", "first", "commit", "starts"),
        [
            (30, 0, 3.1, True, False, True),
            (30, 0, 3.0, True, False, False),
            (30, 0, 3.1, False, False, True),
            (30, 10, 13, False, False, True),
            (30, 10, 12.9, False, False, False),
            (5, 10, 8, False, False, True),
            (5, 10, 7.9, False, False, False),
            (None, 10, 13, False, False, True),
            (None, 10, 12.9, False, False, False),
            (30, 0, 33, False, True, True),
            (30, 0, 32.9, False, True, False),
            (None, 0, 900, False, True, False),
            (None, 0, 900, True, True, True),
        ],
    )
    def test_holds_for_a_margin_of_three_seconds(
        self, timeout: float | None, observed: float, remaining: float, first: bool, commit: bool, starts: bool
    ) -> None:
        assert may_start(timeout, observed, remaining, 3.0, commit=commit, first=first) is starts


class TestTheLease:
    def test_ends_soon_after_the_invocation_that_the_platform_ends(self, lab: Lab, killed: type[BaseException]) -> None:
        w = create_workflow("order").step("a", lab.die)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1", deadline=20)
        assert lab.header("o-1").due == lab.clock.now() + 25_000

    def test_of_an_endless_invocation_is_the_engines_plus_a_reserve(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        w = create_workflow("order").step("a", lab.die)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        assert lab.header("o-1").due == lab.clock.now() + 125_000
