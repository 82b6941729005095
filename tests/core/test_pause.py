"""`pause` and `unpause`: nothing more begins, nothing is lost meanwhile, and no effect is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import Context, Refused, RetryPolicy, WorkflowBuilder, create_workflow, sleep, wait
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def waiting(lab: Lab) -> WorkflowBuilder:
    """`gate` waits for `go`, at most an hour; then `last`."""
    w = create_workflow("order").step("gate", lambda ctx: wait("go", timeout=3600, on_timeout="late"))
    return w.step("last", lab.note("last"))


class TestAnInstanceThatWaits:
    def test_is_paused_at_once_and_has_no_due_entry(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().pause(w, "o-1", who="ann", why="look at it").status == "paused"
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("paused", None)
        assert [item.id for item in lab.engine().list(status="paused").items] == ["o-1"]

    def test_keeps_signals_and_takes_them_after_the_pause(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().pause(w, "o-1")
        assert lab.engine().signal(w, "o-1", "go", 7).status == "paused"
        result = lab.engine().unpause(w, "o-1")
        assert (result.status, result.history[0].output, lab.calls) == ("completed", 7, ["last"])

    def test_lets_timers_go_on_counting_and_fires_them_after_the_pause(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().pause(w, "o-1")
        lab.clock.advance(7200)
        assert lab.engine(workflows=[w]).recover() == []
        assert lab.engine().wake(w, "o-1").status == "paused"
        result = lab.engine().unpause(w, "o-1")
        assert (result.status, result.history[0].output) == ("completed", "late")

    def test_waits_on_after_a_pause_in_which_nothing_came(self, lab: Lab) -> None:
        w = waiting(lab)
        begun = lab.clock.now()
        lab.engine().execute(w, None, "o-1")
        lab.engine().pause(w, "o-1")
        lab.clock.advance(60)
        assert lab.engine().unpause(w, "o-1").status == "suspended"
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("suspended", begun + 3_600_000)
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)

    def test_sleeps_on_after_a_pause(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(60)).step("last", lab.note("last"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().pause(w, "o-1")
        lab.engine().unpause(w, "o-1")
        assert lab.calls == []
        lab.clock.advance(60)
        assert [result.status for result in lab.engine(workflows=[w]).recover()] == ["completed"]


class TestARunningInstance:
    def pausing(self, lab: Lab, *, commit: bool = False) -> tuple[WorkflowBuilder, list[str]]:
        seen: list[str] = []

        def busy(ctx: Context) -> str:
            seen.append(lab.engine().pause(w, "o-1", who="ann").status)
            lab.calls.append("busy")
            return "done"

        w = create_workflow("order")
        (w.commit if commit else w.step)("busy", busy)
        return w.step("last", lab.note("last")), seen

    @pytest.mark.parametrize("commit", [False, True])
    def test_is_paused_after_the_step_that_is_running(self, lab: Lab, commit: bool) -> None:
        w, seen = self.pausing(lab, commit=commit)
        result = lab.engine().execute(w, None, "o-1")
        assert (seen, result.status) == (["running"], "paused")
        assert lab.statuses(result) == {"busy": "completed", "last": "pending"}
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("paused", None)
        assert lab.engine().unpause(w, "o-1").status == "completed"
        assert lab.calls == ["busy", "last"]

    def test_completes_if_the_running_step_is_the_last(self, lab: Lab) -> None:
        def only(ctx: Context) -> None:
            lab.engine().pause(w, "o-1")

        w = create_workflow("order").step("only", only)
        assert lab.engine().execute(w, None, "o-1").status == "completed"

    def test_is_not_paused_if_that_is_taken_back_in_time(self, lab: Lab) -> None:
        def busy(ctx: Context) -> None:
            lab.engine().pause(w, "o-1")
            lab.engine().pause(w, "o-1")  # again changes nothing
            assert lab.engine().unpause(w, "o-1").status == "running"

        w = create_workflow("order").step("busy", busy).step("last", lab.note("last"))
        assert lab.engine().execute(w, None, "o-1").status == "completed"
        assert lab.types("o-1").count("pause") == 1

    def test_is_undone_if_the_running_step_fails(self, lab: Lab) -> None:
        def busy(ctx: Context) -> None:
            lab.engine().pause(w, "o-1")
            raise ValueError

        w = create_workflow("order", retries=0).step("a", lab.note("a"), compensate=lab.note("undo a")).step("b", busy)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls, result.state.paused) == ("rolled_back", ["a", "undo a"], False)

    def test_does_not_begin_the_next_attempt_of_a_commit_after_a_back_off(self, lab: Lab) -> None:
        def busy(ctx: Context) -> str:
            lab.calls.append(f"attempt {ctx.attempt}")
            if ctx.attempt == 1:
                lab.engine().pause(w, "o-1")
                raise OSError
            return "done"

        w = create_workflow("order").commit("busy", busy, retry=RetryPolicy(1, jitter=False))
        assert lab.engine().execute(w, None, "o-1").status == "paused"
        assert lab.calls == ["attempt 1"]
        assert lab.engine().unpause(w, "o-1").status == "completed"
        assert lab.calls == ["attempt 1", "attempt 2"]

    def test_does_not_begin_a_commit_whose_condition_was_just_asked(self, lab: Lab) -> None:
        def condition(ctx: Context) -> bool:
            lab.engine().pause(w, "o-1")
            return True

        w = create_workflow("order").commit("charge", lab.note("charge"), when=condition)
        assert lab.engine().execute(w, None, "o-1").status == "paused"
        assert lab.calls == []
        assert "intent" not in lab.types("o-1")


class TestAPauseAndADeath:
    def test_a_pause_asked_of_a_dead_owner_holds_once_the_lease_is_over(self, lab: Lab) -> None:
        def dies(ctx: Context) -> object:
            lab.engine().pause(w, "o-1")
            raise Killed

        w = create_workflow("order").commit("charge", dies, idempotent=True)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert [result.status for result in lab.engine(workflows=[w]).recover()] == ["paused"]
        assert list(lab.engine().get(w, "o-1").state.intents) == ["charge"], "its outcome is settled after the pause"
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)

    def test_the_unknown_outcome_is_settled_after_the_pause(self, lab: Lab) -> None:
        def dies(ctx: Context) -> object:
            lab.engine().pause(w, "o-1")
            raise Killed

        w = create_workflow("order").commit("charge", dies)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        lab.engine(workflows=[w]).recover()
        assert lab.engine().unpause(w, "o-1").status == "stuck"


class TestOtherVerbsOfAPausedInstance:
    @pytest.fixture
    def paused(self, lab: Lab) -> WorkflowBuilder:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a"))
        w.step("gate", lambda ctx: wait("go")).step("last", lab.note("last"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().pause(w, "o-1")
        lab.calls.clear()
        return w

    def test_cancel_undoes_it_at_once(self, paused: WorkflowBuilder, lab: Lab) -> None:
        assert lab.engine().cancel(paused, "o-1").status == "cancelled"
        assert lab.calls == ["undo a"]

    def test_completing_and_skipping_steps_leaves_it_paused(self, paused: WorkflowBuilder, lab: Lab) -> None:
        assert lab.engine().complete_step(paused, "o-1", "gate", 7).status == "paused"
        assert lab.engine().skip_step(paused, "o-1", "last").status == "paused"
        assert lab.header("o-1").due is None
        result = lab.engine().unpause(paused, "o-1")
        assert (result.status, result.history[1].output, lab.calls) == ("completed", 7, [])

    @pytest.mark.parametrize("verb", ["retry_step", "resume", "delete"])
    def test_these_are_refused_and_say_to_unpause(self, verb: str, paused: WorkflowBuilder, lab: Lab) -> None:
        arguments = ("gate",) if verb == "retry_step" else ()
        with pytest.raises(Refused, match=f"{verb} is refused .* it is paused; unpause it first, or cancel it"):
            getattr(lab.engine(), verb)(paused, "o-1", *arguments)

    def test_pause_and_unpause_tell_the_sinks(self, lab: Lab) -> None:
        w = waiting(lab)
        engine = lab.engine(trace=lab.events)
        engine.execute(w, None, "o-1")
        engine.pause(w, "o-1", who="ann", why="look at it")
        (event,) = lab.events.of("workflow:pause")
        assert (event["status"], event["meta"]) == ("paused", {"why": "look at it", "by": "ann"})
