"""A failed or cancelled workflow undoes what it did, in reverse, durably, and says what became of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    UNKNOWN,
    Context,
    Done,
    NonRetryable,
    Refused,
    RetryPolicy,
    Unknown,
    WorkflowBuilder,
    compensation,
    create_workflow,
    sleep,
    verify,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

DURABLE = RetryPolicy(60, maximum=60, jitter=False)


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


def saga(lab: Lab, last: Callable[[Context], object] = boom, **undos: Any) -> WorkflowBuilder:
    """Steps a, b (a commit), c that can be undone, and a last one that fails. `undos` replaces compensators."""
    w = create_workflow("order")
    w.step("a", lab.note("a", "A"), compensate=undos.get("a", lab.note("undo a")))
    w.commit("b", lab.note("b", "B"), compensate=undos.get("b", lab.note("undo b")))
    w.step("c", lab.note("c", "C"), compensate=undos.get("c", lab.note("undo c")))
    return w.step("last", last)


NOT_NOW = ValueError("not now")


def undo_that_fails(lab: Lab, times: int = 99, error: Any = NOT_NOW) -> Callable[[Context], object]:
    def undo(ctx: Context) -> None:
        lab.calls.append(f"undo {ctx.step} {ctx.attempt}")
        if ctx.attempt <= times:
            raise error

    return undo


class TestAfterAFailure:
    def test_completed_steps_are_undone_in_reverse_commits_too(self, lab: Lab) -> None:
        result = lab.engine().execute(saga(lab), None, "o-1")
        assert lab.calls == ["a", "b", "c", "undo c", "undo b", "undo a"]
        assert (result.status, str(result.error)) == ("rolled_back", "boom")
        assert lab.statuses(result) == {"a": "compensated", "b": "compensated", "c": "compensated", "last": "failed"}
        assert lab.header("o-1").status == "rolled_back"
        assert lab.header("o-1").due is None

    def test_without_compensators_it_is_failed(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).step("last", boom)
        result = lab.engine().execute(w)
        assert (result.status, lab.statuses(result)) == ("failed", {"a": "completed", "last": "failed"})

    def test_a_compensator_of_a_step_that_did_not_complete_is_not_run(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", boom, compensate=lab.note("undo a"))
        w.step("later", lab.note("later"), compensate=lab.note("undo later"))
        result = lab.engine().execute(w)
        assert (result.status, lab.calls) == ("failed", [])

    def test_a_compensator_of_a_skipped_step_is_not_run(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), when=lambda ctx: False, compensate=lab.note("undo a"))
        assert lab.engine().execute(w.step("last", boom)).status == "failed"
        assert lab.calls == []

    def test_steps_without_a_compensator_are_passed_over(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a")).step("b", lab.note("b"))
        result = lab.engine().execute(w.step("last", boom))
        assert lab.statuses(result) == {"a": "compensated", "b": "completed", "last": "failed"}
        assert result.status == "rolled_back"

    def test_the_final_status_and_error_are_kept(self, lab: Lab) -> None:
        w = saga(lab)
        lab.engine().execute(w, None, "o-1")
        kept = lab.engine().get(w, "o-1")
        assert (kept.status, str(kept.error), kept.error.step if kept.error else None) == (
            "rolled_back",
            "boom",
            "last",
        )

    def test_each_compensation_is_a_durable_record_with_an_intent(self, lab: Lab) -> None:
        lab.engine().execute(saga(lab), None, "o-1")
        assert lab.types("o-1")[-8:] == ["step", "intent", "comp", "intent", "comp", "intent", "comp", "end"]

    def test_a_compensator_sees_the_output_of_the_step_it_undoes_and_of_earlier_ones(self, lab: Lab) -> None:
        seen: list[Any] = []
        w = saga(lab, b=lambda ctx: seen.append((ctx.results["a"], ctx.results["b"], ctx.step, ctx.status)))
        lab.engine().execute(w)
        assert seen == [("A", "B", "b", "rolling_back")]

    def test_what_a_compensator_writes_is_kept(self, lab: Lab) -> None:
        w = saga(lab, c=lambda ctx: ctx.data.update(by="c"), b=lambda ctx: ctx.data.update(saw=ctx.data["by"]))
        assert lab.engine().execute(w).data == {"by": "c", "saw": "c"}

    def test_a_step_that_waited_is_undone_too(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: wait("go"), compensate=lab.note("undo a")).step("b", boom)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "go").status == "rolled_back"
        assert lab.calls == ["undo a"]


class TestACompensation:
    def test_is_retried_within_the_invocation(self, lab: Lab) -> None:
        w = saga(lab, c=compensation(undo_that_fails(lab, 2), retries=2, retry=RetryPolicy(1, jitter=False)))
        result = lab.engine().execute(w)
        assert lab.calls[3:] == ["undo c 1", "undo c 2", "undo c 3", "undo b", "undo a"]
        assert (result.status, lab.clock.slept) == ("rolled_back", [1, 2])

    def test_is_retried_durably_and_meanwhile_is_compensating(self, lab: Lab) -> None:
        w = saga(lab, c=compensation(undo_that_fails(lab, 1), retry=DURABLE))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls[3:]) == ("rolling_back", ["undo c 1"])
        assert lab.statuses(result)["c"] == "compensating"
        assert lab.header("o-1").due == lab.clock.now() + 60_000
        lab.clock.advance(60)
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, lab.calls[3:]) == ("rolled_back", ["undo c 1", "undo c 2", "undo b", "undo a"])

    def test_has_the_engines_retries_unless_it_says_otherwise(self, lab: Lab) -> None:
        w = saga(lab, c=undo_that_fails(lab))
        lab.engine(default_retries=1).execute(w)
        assert lab.calls[3:] == ["undo c 1", "undo c 2", "undo b", "undo a"]

    def test_that_fails_does_not_stop_the_others_and_ends_in_failed(self, lab: Lab) -> None:
        w = saga(lab, b=compensation(undo_that_fails(lab), retries=0))
        result = lab.engine().execute(w)
        assert lab.calls[3:] == ["undo c", "undo b 1", "undo a"]
        assert (result.status, str(result.error)) == ("failed", "boom")
        assert lab.statuses(result) == {
            "a": "compensated",
            "b": "compensation_failed",
            "c": "compensated",
            "last": "failed",
        }
        assert result.history[1].error == "not now"

    def test_that_raises_non_retryable_fails_at_once(self, lab: Lab) -> None:
        w = saga(lab, b=undo_that_fails(lab, error=NonRetryable("never")))
        lab.engine().execute(w)
        assert lab.calls[3:] == ["undo c", "undo b 1", "undo a"]

    def test_leaves_no_writes_of_a_failed_attempt(self, lab: Lab) -> None:
        def undo(ctx: Context) -> None:
            ctx.data["half"] = 1
            raise ValueError

        assert lab.engine().execute(saga(lab, c=compensation(undo, retries=1))).data == {}

    def test_cannot_suspend_the_workflow(self, lab: Lab) -> None:
        result = lab.engine().execute(saga(lab, c=lambda ctx: sleep(5)))
        assert lab.statuses(result)["c"] == "compensation_failed"
        assert "only a step can be suspended" in str(result.history[2].error)

    def test_is_continued_after_a_crash_in_it(self, lab: Lab, killed: type[BaseException]) -> None:
        def undo(ctx: Context) -> None:
            lab.calls.append("undo b")
            if lab.calls.count("undo b") == 1:
                raise killed

        w = saga(lab, b=undo)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        assert lab.engine().get(w, "o-1").status == "rolling_back"
        lab.past_the_lease()
        result = lab.engine().wake(w, "o-1")
        assert (result.status, lab.calls[3:]) == ("rolled_back", ["undo c", "undo b", "undo b", "undo a"])

    def test_of_unknown_outcome_runs_again_with_the_same_key(self, lab: Lab) -> None:
        keys: list[str] = []

        def undo(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)
            if len(keys) == 1:
                raise TimeoutError

        assert lab.engine().execute(saga(lab, b=undo)).status == "rolled_back"
        assert len(keys) == 2
        assert len(set(keys)) == 1

    def test_of_unknown_outcome_to_the_last_attempt_is_stuck_never_failed(self, lab: Lab) -> None:
        w = saga(lab, b=compensation(undo_that_fails(lab, error=Unknown("lost")), retries=1))
        result = lab.engine().execute(w, None, "o-1")
        assert result.status == "stuck"
        assert "nobody knows whether the compensation of step 'b' took effect" in str(result.error)
        assert lab.calls[3:] == ["undo c", "undo b 1", "undo b 2"]

    @pytest.mark.parametrize(("verb", "status"), [("complete_step", "compensated"), ("skip_step", "completed")])
    def test_that_is_stuck_goes_on_by_hand(self, verb: str, status: str, lab: Lab) -> None:
        w = saga(lab, b=compensation(undo_that_fails(lab, error=Unknown()), on_unknown="quarantine"))
        assert lab.engine().execute(w, None, "o-1").status == "stuck"
        result = getattr(lab.engine(), verb)(w, "o-1", "b", who="ann", why="looked")
        assert (result.status, lab.statuses(result)["b"]) == ("rolled_back", status)
        assert lab.calls[-1] == "undo a"

    @pytest.mark.parametrize(
        ("answer", "status", "attempts"),
        [(Done(), "rolled_back", 1), (NOT_DONE, "rolled_back", 2), (UNKNOWN, "stuck", 1)],
    )
    def test_may_be_verified(self, answer: Any, status: str, attempts: int, lab: Lab) -> None:
        undo = compensation(undo_that_fails(lab, 1, Unknown()), on_unknown=verify(lambda ctx: answer))
        result = lab.engine().execute(saga(lab, b=undo), None, "o-1")
        assert result.status == status
        assert len([call for call in lab.calls if call.startswith("undo b")]) == attempts

    def test_has_a_time_limit_of_its_own(self, lab: Lab) -> None:
        seen: list[Any] = []
        w = create_workflow("order", step_timeout=30).step(
            "a",
            lambda ctx: seen.append(ctx.remaining()),
            compensate=compensation(lambda ctx: seen.append(ctx.remaining()), timeout=7),
        )
        lab.engine().execute(w.step("last", boom))
        assert seen == [30, 7]


class TestItsKey:
    def test_differs_from_the_steps_and_from_the_other_compensations(self, lab: Lab) -> None:
        keys: list[str] = []

        def note(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        w = (
            create_workflow("order")
            .commit("a", note, compensate=note)
            .commit("b", note, compensate=note)
            .step("last", boom)
        )
        lab.engine().execute(w)
        assert len(keys) == 4
        assert len(set(keys)) == 4

    def test_is_the_same_over_retries_and_crashes_and_new_for_the_next_charge(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        keys: list[str] = []
        script: list[Any] = [ValueError(), killed(), None, None]

        def undo(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)
            trouble = script[len(keys) - 1]
            if trouble is not None:
                raise trouble

        w = create_workflow("order").commit("a", lab.note("a"), compensate=undo).step("last", boom)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        lab.engine().wake(w, "o-1")
        lab.engine().retry_step(w, "o-1", "last")
        assert keys[0] == keys[1] == keys[2] != keys[3]
        assert lab.calls == ["a", "a"]


class TestAFailedCompensation:
    def failed(self, lab: Lab, *names: str) -> WorkflowBuilder:
        undos: dict[str, Any] = {name: compensation(undo_that_fails(lab), retries=0) for name in names}
        w = saga(lab, **undos)
        assert lab.engine().execute(w, None, "o-1").status == "failed"
        lab.calls.clear()
        return w

    @pytest.mark.parametrize("verb", ["retry_step", "resume"])
    def test_blocks_every_retry_until_it_is_settled(self, verb: str, lab: Lab) -> None:
        w = self.failed(lab, "b")
        arguments = ("last",) if verb == "retry_step" else ()
        with pytest.raises(Refused, match="the compensation of step 'b' has failed; complete or skip that step first"):
            getattr(lab.engine(), verb)(w, "o-1", *arguments)
        assert lab.calls == []

    def test_is_settled_by_complete_step_as_compensated(self, lab: Lab) -> None:
        w = self.failed(lab, "b")
        result = lab.engine().complete_step(w, "o-1", "b", who="ann", why="refunded by hand")
        assert (result.status, lab.statuses(result)["b"]) == ("rolled_back", "compensated")
        assert lab.header("o-1").status == "rolled_back"
        lab.engine().retry_step(w, "o-1", "last")
        assert lab.calls[:3] == ["a", "b", "c"], "what was undone by hand is done again"

    def test_is_settled_by_skip_step_as_a_success_that_stands(self, lab: Lab) -> None:
        w = self.failed(lab, "b")
        result = lab.engine().skip_step(w, "o-1", "b", who="ann", why="let them keep it")
        assert (result.status, lab.statuses(result)["b"]) == ("failed", "completed")
        lab.engine().retry_step(w, "o-1", "last")
        assert lab.calls[:2] == ["a", "c"], "the commit stands, so it is kept and not run again"

    def test_of_which_one_is_settled_still_blocks_by_the_other(self, lab: Lab) -> None:
        w = self.failed(lab, "a", "c")
        result = lab.engine().complete_step(w, "o-1", "a")
        assert result.status == "failed"
        with pytest.raises(Refused, match="the compensation of step 'c' has failed"):
            lab.engine().retry_step(w, "o-1", "last")
        assert lab.engine().complete_step(w, "o-1", "c").status == "rolled_back"

    def test_once_skipped_is_undone_again_when_the_retry_fails_too(self, lab: Lab) -> None:
        w = self.failed(lab, "b")
        lab.engine().skip_step(w, "o-1", "b")
        lab.engine().retry_step(w, "o-1", "last")
        assert lab.calls.count("undo b 1") == 1


class TestCancel:
    def test_of_a_waiting_instance_undoes_it_at_once(self, lab: Lab) -> None:
        w = saga(lab, lambda ctx: wait("go", timeout=60))
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1", "no longer wanted", who="ann")
        assert (result.status, str(result.error)) == ("cancelled", "no longer wanted")
        assert lab.calls[3:] == ["undo c", "undo b", "undo a"]
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("cancelled", None)
        (record,) = (record for record in lab.records("o-1") if record.type == "cancelreq")
        assert (record.body["why"], record.body["by"]) == ("no longer wanted", "ann")

    def test_without_a_reason_says_that_it_was_cancelled(self, lab: Lab) -> None:
        w = saga(lab, lambda ctx: sleep(60))
        lab.engine().execute(w, None, "o-1")
        assert str(lab.engine().cancel(w, "o-1").error) == "the workflow was cancelled"

    def test_of_an_instance_without_compensators_is_cancelled_too(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).step("w", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"

    @pytest.mark.parametrize("step", ["a", "b", "c"])
    def test_during_a_step_lets_it_finish_records_it_and_undoes_it(self, step: str, lab: Lab) -> None:
        w = create_workflow("order")

        def run(ctx: Context) -> str:
            lab.calls.append(str(ctx.step))
            if ctx.step == step:
                lab.engine().cancel(w, "o-1", "stop")
            return "done"

        w.step("a", run, compensate=lab.note("undo a"))
        w.commit("b", run, compensate=lab.note("undo b"))
        w.step("c", run, compensate=lab.note("undo c"))
        result = lab.engine().execute(w, None, "o-1")
        ran = "abc"[: "abc".index(step) + 1]
        assert lab.calls == [*ran, *(f"undo {name}" for name in reversed(ran))]
        assert result.status == "cancelled"
        assert [entry.status for entry in result.history] == ["compensated"] * len(ran) + ["pending"] * (3 - len(ran))
        assert result.history["abc".index(step)].output == "done"

    @pytest.mark.parametrize("next_checkpoint", ["the intent of a commit", "a durable back-off"])
    def test_during_an_attempt_that_fails_takes_effect_before_the_next_attempt(
        self, next_checkpoint: str, lab: Lab
    ) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a"))

        def fail(ctx: Context) -> None:
            lab.calls.append("b")
            lab.engine().cancel(w, "o-1")
            raise ValueError

        if next_checkpoint == "a durable back-off":
            w.step("b", fail, retry=DURABLE)
        else:
            w.commit("b", fail)
        assert lab.engine().execute(w, None, "o-1").status == "cancelled"
        assert lab.calls == ["a", "b", "undo a"]

    def test_during_a_durable_back_off_ends_it(self, lab: Lab) -> None:
        def fail(ctx: Context) -> None:
            lab.calls.append("b")
            raise ValueError

        w = (
            create_workflow("order")
            .step("a", lab.note("a"), compensate=lab.note("undo a"))
            .step("b", fail, retry=DURABLE)
        )
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        lab.clock.advance(100)
        assert lab.engine(workflows=[w]).recover() == []
        assert lab.calls == ["a", "b", "undo a"]

    def test_beats_a_commit_whose_intent_is_not_written(self, lab: Lab) -> None:
        w = create_workflow("order")

        def when(ctx: Context) -> bool:
            lab.engine().cancel(w, "o-1")
            return True

        w.step("a", lab.note("a"), compensate=lab.note("undo a")).commit("b", lab.note("b"), when=when)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("cancelled", ["a", "undo a"])

    def test_during_a_commit_of_unknown_outcome_resolves_it_first(self, lab: Lab) -> None:
        w = create_workflow("order")

        def charge(ctx: Context) -> None:
            lab.engine().cancel(w, "o-1")
            raise Unknown

        w.commit("b", charge, compensate=lab.note("refund"), on_unknown=verify(lambda ctx: Done(7)))
        assert lab.engine().execute(w, None, "o-1").status == "cancelled"
        assert lab.calls == ["refund"]

    def test_while_it_is_being_undone_changes_nothing(self, lab: Lab) -> None:
        w = create_workflow("order")

        def undo(ctx: Context) -> None:
            lab.engine().cancel(w, "o-1", "too late")

        w.step("a", lab.note("a"), compensate=undo).step("last", boom)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, str(result.error)) == ("rolled_back", "boom")

    def test_in_the_last_step_still_cancels(self, lab: Lab) -> None:
        w = create_workflow("order")

        def last(ctx: Context) -> None:
            lab.engine().cancel(w, "o-1")

        w.step("a", last, compensate=lab.note("undo a"))
        assert lab.engine().execute(w, None, "o-1").status == "cancelled"
        assert lab.calls == ["undo a"]

    def test_with_a_compensation_that_fails_is_cancelled_and_says_so_at_the_step(self, lab: Lab) -> None:
        w = saga(lab, lambda ctx: wait("go"), b=compensation(undo_that_fails(lab), retries=0))
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1")
        assert (result.status, lab.statuses(result)["b"]) == ("cancelled", "compensation_failed")
        assert lab.calls[-1] == "undo a"

    def test_of_a_dead_invocation_takes_effect_when_its_lease_has_ended(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        w = saga(lab, lab.die)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "rolling_back"
        lab.past_the_lease()
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, lab.calls[3:]) == ("cancelled", ["undo c", "undo b", "undo a"])
        assert lab.statuses(result)["last"] != "completed"

    def test_twice_keeps_the_first_reason(self, lab: Lab, killed: type[BaseException]) -> None:
        w = saga(lab, lab.die)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.engine().cancel(w, "o-1", "first")
        lab.engine().cancel(w, "o-1", "second")
        assert lab.types("o-1").count("cancelreq") == 1
        lab.past_the_lease()
        assert str(lab.engine().wake(w, "o-1").error) == "first"


class TestACommitThatWaits:
    """Its handler has returned, so its effect is made, although the step goes on waiting."""

    def test_is_undone_by_a_cancel_meanwhile(self, lab: Lab) -> None:
        w = create_workflow("order").commit("charge", lambda ctx: wait("go"), compensate=lab.note("refund"))
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1")
        assert (result.status, lab.statuses(result), lab.calls) == ("cancelled", {"charge": "compensated"}, ["refund"])

    def test_is_undone_when_its_wait_times_out(self, lab: Lab) -> None:
        w = create_workflow("order").commit("charge", lambda ctx: wait("go", timeout=5), compensate=lab.note("refund"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(5)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, lab.calls) == ("rolled_back", ["refund"])
        assert result.error is not None
        assert result.error.type == "WaitTimeout"

    def test_is_not_undone_if_it_is_a_plain_step(self, lab: Lab) -> None:
        w = create_workflow("order").step("ask", lambda ctx: wait("go"), compensate=lab.note("take back"))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == []


def test_a_failed_compensation_of_a_cancelled_instance_can_be_settled_and_then_retried(lab: Lab) -> None:
    def no(ctx: Context) -> None:
        message = "the provider says no"
        raise NonRetryable(message)

    w = create_workflow("order").step("a", lambda ctx: 1, compensate=no).step("gate", lambda ctx: wait("go"))
    engine = lab.engine()
    engine.execute(w, None, "o-1")
    assert lab.statuses(engine.cancel(w, "o-1"))["a"] == "compensation_failed"
    with pytest.raises(Refused, match="complete or skip that step first"):
        engine.retry_step(w, "o-1", "a", force=True)
    settled = engine.complete_step(w, "o-1", "a", who="ann")
    assert (settled.status, lab.statuses(settled)["a"]) == ("cancelled", "compensated")
    with pytest.raises(Refused, match="it was cancelled"):
        engine.complete_step(w, "o-1", "gate")
    assert engine.retry_step(w, "o-1", "a", force=True).status == "suspended"
