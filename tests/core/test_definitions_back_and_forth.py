"""Definitions that change twice or more, come back, or meet an instance at an awkward moment."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    Context,
    NonRetryable,
    Refused,
    RetryPolicy,
    Unknown,
    WorkflowBuilder,
    compensation,
    create_workflow,
    wait,
)
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def waits(ctx: Context) -> object:
    return wait("go")


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


def started() -> WorkflowBuilder:
    return create_workflow("order")


class TestAStepThatIsGoneAndComesBack:
    """As with a deployment that is taken back while another process still has the newer one."""

    def first(self, lab: Lab) -> WorkflowBuilder:
        return started().step("a", lab.note("a", 7)).step("gate", waits).step("b", lambda ctx: ctx.results["a"])

    def without(self, lab: Lab) -> WorkflowBuilder:
        return started().step("gate", waits).step("gate2", waits).step("b", lab.note("b"))

    def test_is_still_done_and_has_its_output(self, lab: Lab) -> None:
        lab.engine().execute(self.first(lab), None, "o-1")
        between = started().step("gate", waits).step("b", lab.note("b"))
        lab.engine().retry_step(between, "o-1", "gate")
        assert lab.engine().check(self.first(lab), "o-1").notes == ["step 'a' is back, and done"]
        result = lab.engine(trace=lab.events).signal(self.first(lab), "o-1", "go")
        assert lab.events.of("step:skipped") == []
        assert lab.statuses(result) == {"a": "completed", "gate": "completed", "b": "completed"}
        assert (result.history[2].output, lab.calls) == (7, ["a"])
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)

    def test_behind_what_is_done_is_a_new_step_and_runs(self, lab: Lab) -> None:
        lab.engine().execute(self.first(lab), None, "o-1")
        assert lab.engine().signal(self.without(lab), "o-1", "go").status == "suspended"
        again = started().step("gate", waits).step("gate2", waits).step("a", lab.note("a", 8)).step("b", lab.note("b"))
        result = lab.engine().signal(again, "o-1", "go")
        assert (result.status, lab.calls) == ("completed", ["a", "a", "b"])
        assert result.history[2].output == 8

    def test_that_was_skipped_and_is_now_behind_runs(self, lab: Lab) -> None:
        plain = started().step("a", lab.note("a")).step("gate", waits)
        lab.engine().execute(plain, None, "o-1")
        lab.engine().retry_step(started().step("new", lab.note("new")).step("a", lab.note("a")).step("gate", waits),
                                "o-1", "gate")  # fmt: skip
        lab.engine().retry_step(plain, "o-1", "gate")
        behind = started().step("a", lab.note("a")).step("gate", waits).step("new", lab.note("new"))
        assert lab.engine().signal(behind, "o-1", "go").status == "completed"
        assert lab.calls == ["a", "new"]

    def test_as_the_new_name_of_one_that_waits_does_not_take_its_place(self, lab: Lab) -> None:
        lab.engine().execute(started().step("gate", waits).step("c", lab.note("c")), None, "o-1")
        lab.engine().complete_step(started().step("gate", waits).step("c", lab.note("c")), "o-1", "c", "by hand")
        lab.engine().retry_step(started().step("gate", waits), "o-1", "gate")
        renamed = started().step("c", waits, aliases="gate")
        assert lab.engine().signal(renamed, "o-1", "go", 7).history[0].output == 7
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)


class TestTwoStepsThatBecomeOne:
    def joined(self, lab: Lab) -> WorkflowBuilder:
        return started().step("gate", waits).commit("pay", lab.note("pay"), aliases=["charge", "fee"])

    def apart(self, lab: Lab, *before: str) -> WorkflowBuilder:
        w = started()
        for name in before:
            w.commit(name, lab.note(name))
        w.step("gate", waits)
        for name in ("charge", "fee"):
            if name not in before:
                w.commit(name, lab.note(name))
        return w

    def test_are_one_step_where_neither_has_begun(self, lab: Lab) -> None:
        lab.engine().execute(self.apart(lab), None, "o-1")
        assert lab.engine().signal(self.joined(lab), "o-1", "go").status == "completed"
        assert lab.calls == ["pay"]

    @pytest.mark.parametrize("before", [("charge",), ("charge", "fee")])
    def test_block_an_instance_that_has_begun_one_of_them(self, before: tuple[str, ...], lab: Lab) -> None:
        lab.engine().execute(self.apart(lab, *before), None, "o-1")
        w = started().commit("pay", lab.note("pay"), aliases=["charge", "fee"]).step("gate", waits)
        result = lab.engine().signal(w, "o-1", "go")
        assert (result.status, lab.calls) == ("blocked", list(before))
        assert "step 'pay' has both 'charge' and 'fee' as aliases, and the instance has begun 'charge'" in str(
            result.error
        )


class TestIdempotencyKeys:
    def test_differ_if_a_new_step_takes_the_name_that_another_had(self, lab: Lab) -> None:
        keys: list[str] = []

        def note(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        lab.engine().execute(started().commit("charge", note).step("gate", waits), None, "o-1")
        w = started().commit("pay", note, aliases="charge").step("gate", waits)
        lab.engine().retry_step(w, "o-1", "gate")
        both = started().commit("pay", note, aliases=[]).step("gate", waits).commit("charge", note)
        assert lab.engine().signal(both, "o-1", "go").status == "completed"
        assert len(keys) == len(set(keys)) == 2
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)

    def test_differ_in_one_deployment_too(self, lab: Lab) -> None:
        keys: list[str] = []

        def note(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        lab.engine().execute(started().commit("charge", note).step("gate", waits), None, "o-1")
        lab.engine().retry_step(started().commit("pay", note, aliases="charge").step("gate", waits), "o-1", "gate")
        third = started().commit("paid", note, aliases="pay").step("gate", waits).commit("charge", note)
        assert lab.engine().signal(third, "o-1", "go").status == "completed"
        assert len(set(keys)) == 2

    def test_of_a_refunded_charge_are_not_used_again_under_its_earlier_name(self, lab: Lab) -> None:
        """`charge` was renamed and the renaming taken back, each time after all was undone."""
        keys: list[str] = []

        def note(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        def build(name: str, **options: Any) -> WorkflowBuilder:
            return started().commit(name, note, compensate=lab.note("refund"), **options).step("ship", boom)

        lab.engine().execute(build("charge"), None, "o-1")
        lab.engine().resume(build("pay", aliases="charge"), "o-1")
        lab.engine().resume(build("charge"), "o-1")
        assert len(keys) == len(set(keys)) == 3


class TestDataOfARetry:
    def test_keeps_what_a_step_wrote_that_is_gone_since(self, lab: Lab) -> None:
        first = started().step("a", lambda ctx: ctx.data.update(x=1)).step("b", boom)
        lab.engine().execute(first, None, "o-1")
        w = started().step("b", lambda ctx: ctx.data.x)
        result = lab.engine().resume(w, "o-1")
        assert (result.status, result.history[0].output) == ("completed", 1)

    def test_of_a_step_in_the_place_of_one_that_is_gone_keeps_that(self, lab: Lab) -> None:
        lab.engine().execute(started().step("a", lambda ctx: ctx.data.update(x=1)).step("b", boom), None, "o-1")
        w = started().step("new", lambda ctx: ctx.data.x).step("b", lab.note("b"))
        assert lab.engine().resume(w, "o-1").history[0].output == 1

    def test_has_what_a_step_wrote_that_came_in_before_it(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> object:
            if ctx.attempt == 1:
                raise OSError
            if "new" not in ctx.data or lab.calls.count("b") == 0:
                lab.calls.append("b")
                raise NonRetryable
            return ctx.data["new"]

        later = RetryPolicy(60, maximum=60, jitter=False)
        lab.engine().execute(started().step("a", lab.note("a")).step("b", flaky, retry=later), None, "o-1")
        lab.clock.advance(60)
        w = started().step("a", lab.note("a")).step("new", lambda ctx: ctx.data.update(new=1))
        w.step("b", flaky, retry=RetryPolicy(1, jitter=False))
        assert lab.engine().wake(w, "o-1").status == "failed"
        result = lab.engine().resume(w, "o-1")
        assert (result.status, result.data) == ("completed", {"new": 1})


class TestAfterARollback:
    def test_a_new_step_before_one_that_was_undone_runs(self, lab: Lab) -> None:
        first = started().step("a", lab.note("a"), compensate=lab.note("undo a")).step("b", boom)
        assert lab.engine().execute(first, None, "o-1").status == "rolled_back"
        lab.calls.clear()
        w = started().step("new", lab.note("new")).step("a", lab.note("a")).step("b", lab.note("b"))
        assert lab.engine().resume(w, "o-1").status == "completed"
        assert lab.calls == ["new", "a", "b"]

    def test_a_commit_that_cannot_be_undone_still_stands_and_must_be_there(self, lab: Lab) -> None:
        first = started().step("a", lab.note("a"), compensate=lab.note("undo a")).commit("charge", lab.note("charge"))
        assert lab.engine().execute(first.step("ship", boom), None, "o-1").status == "rolled_back"
        w = started().step("a", lab.note("a")).commit("pay", lab.note("pay")).step("ship", lab.note("ship"))
        with pytest.raises(Refused, match="commit 'charge' has been made, and must not be made again"):
            lab.engine().resume(w, "o-1")
        w = started().step("a", lab.note("a")).commit("pay", lab.note("pay"), aliases="charge")
        assert lab.engine().resume(w.step("ship", lab.note("ship")), "o-1").status == "completed"
        assert lab.calls == ["a", "charge", "undo a", "a", "ship"]

    def test_steps_that_were_undone_may_change_places(self, lab: Lab) -> None:
        first = started().step("a", lab.note("a"), compensate=lab.note("undo a"))
        first.step("b", lab.note("b"), compensate=lab.note("undo b")).step("c", boom)
        lab.engine().execute(first, None, "o-1")
        lab.calls.clear()
        w = started().step("b", lab.note("b")).step("a", lab.note("a")).step("c", lab.note("c"))
        assert lab.engine().resume(w, "o-1").status == "completed"
        assert lab.calls == ["b", "a", "c"]

    def test_with_a_failed_compensation_that_step_must_still_be_there(self, lab: Lab) -> None:
        first = started().step("a", lab.note("a"), compensate=compensation(boom)).step("b", boom)
        assert lab.engine().execute(first, None, "o-1").status == "failed"
        without = started().step("b", lab.note("b"))
        with pytest.raises(Refused, match=r"the compensation of step 'a' has failed.*, but there is no such step any"):
            lab.engine().resume(without, "o-1")
        renamed = started().step("aa", lab.note("aa"), aliases="a").step("b", lab.note("b"))
        lab.engine().skip_step(renamed, "o-1", "aa")
        assert lab.engine().resume(renamed, "o-1").status == "completed"


class TestAnAttemptOfUnknownOutcome:
    def test_has_begun_so_what_is_new_before_it_comes_too_late(self, lab: Lab) -> None:
        def charge(ctx: Context) -> str:
            lab.calls.append("charge")
            if ctx.attempt == 1:
                raise Killed
            return "paid"

        with suppress(Killed):
            lab.engine().execute(started().commit("charge", charge, idempotent=True), None, "o-1")
        lab.past_the_lease()
        w = started().step("new", lab.note("new")).commit("charge", charge, idempotent=True)
        result = lab.engine().wake(w, "o-1")
        assert (lab.statuses(result), lab.calls) == ({"new": "skipped", "charge": "completed"}, ["charge", "charge"])
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)


class TestADurableBackOff:
    def flaky(self, lab: Lab) -> WorkflowBuilder:
        def flaky(ctx: Context) -> None:
            lab.calls.append("flaky")
            if ctx.attempt == 1:
                raise OSError

        return started().step("a", lab.note("a")).step("b", flaky, retry=RetryPolicy(60, maximum=60, jitter=False))

    @pytest.mark.parametrize("after", [("a",), ("a", "new", "b"), ("a", "c")])
    def test_that_a_refused_verb_of_a_new_definition_has_touched_goes_on(
        self, after: tuple[str, ...], lab: Lab
    ) -> None:
        """The step may be gone, so its timer is no reason to rest any more."""
        lab.engine().execute(self.flaky(lab), None, "o-1")
        w = started()
        for name in after:
            w.step(name, lab.note(name))
        with pytest.raises(Refused):
            lab.engine().complete_step(w, "o-1", "a")
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)
        assert [result.status for result in lab.engine(workflows=[w]).recover()] == [
            "suspended" if "b" in after else "completed"
        ]
        lab.clock.advance(60)
        lab.engine(workflows=[w]).recover()
        assert lab.engine().get(w, "o-1").status == "completed"
        assert lab.calls == ["a", "flaky", *after[1:]]

    @pytest.mark.parametrize("paused", [False, True])
    def test_behind_a_new_step_that_waits_does_not_wake_it(self, paused: bool, lab: Lab) -> None:
        lab.engine().execute(self.flaky(lab), None, "o-1")
        lab.clock.advance(60)
        w = started().step("a", lab.note("a")).step("gate", waits).step("b", lab.note("b"))
        assert lab.engine().wake(w, "o-1").status == "suspended"
        if paused:
            lab.engine().pause(w, "o-1")
            lab.engine().unpause(w, "o-1")
        assert lab.header("o-1").due is None
        records = len(lab.types("o-1"))
        lab.clock.advance(3600)
        assert lab.engine(workflows=[w]).recover() == []
        assert len(lab.types("o-1")) == records
        assert lab.engine().signal(w, "o-1", "go").status == "completed"
        check_invariants(lab.storage, lab.ref("o-1"), at_rest=True)


class TestADeathInACompensation:
    def test_that_the_definition_no_longer_has_is_for_a_person_to_decide(self, lab: Lab) -> None:
        def build(**options: Any) -> WorkflowBuilder:
            return started().step("a", lab.note("a"), **options).step("b", boom)

        with suppress(Killed):
            lab.engine().execute(build(compensate=lab.die), None, "o-1")
        lab.past_the_lease()
        assert lab.engine().wake(build(), "o-1").status == "stuck"
        assert lab.engine().complete_step(build(), "o-1", "a").status == "rolled_back"

    def test_leaves_done_what_comes_back_meanwhile(self, lab: Lab) -> None:
        """Compensators read the outputs of steps before theirs."""

        def undo(ctx: Context) -> None:
            if ctx.attempt < 3:
                raise OSError
            lab.calls.append(ctx.results["a"])

        def build(*, a: bool) -> WorkflowBuilder:
            w = started()
            if a:
                w.step("a", lab.note("a", "of a"))
            w.step("b", lab.note("b"), compensate=compensation(undo, retry=RetryPolicy(60, maximum=60)))
            return w.step("c", boom)

        lab.engine().execute(build(a=True), None, "o-1")
        for there in (False, True):
            lab.clock.advance(60)
            lab.engine().wake(build(a=there), "o-1")
        assert lab.calls == ["a", "b", "of a"]
        result = lab.engine().get(build(a=True), "o-1")
        assert lab.statuses(result) == {"a": "completed", "b": "compensated", "c": "failed"}


class TestASignal:
    def test_that_meets_a_refused_verb_of_a_newer_definition_is_not_left_lying(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The verb takes the new definition over first; the signaller's claim finds that in its place."""
        old = started().step("gate", waits).step("b", lab.note("b")).step("c", lab.note("c"))
        new = started().step("gate", waits).step("b", lab.note("b")).step("x", lab.note("x")).step("c", lab.note("c"))
        lab.engine().execute(old, None, "o-1")
        put_mail = lab.storage.put_mail

        def then_the_verb(ref: Any, mail: Any) -> Any:
            answer = put_mail(ref, mail)
            append = lab.storage.append

            def first_the_verb(*args: Any) -> Any:
                monkeypatch.setattr(lab.storage, "append", append)
                with pytest.raises(Refused):
                    lab.engine().retry_step(new, "o-1", "c")
                return append(*args)

            monkeypatch.setattr(lab.storage, "append", first_the_verb)
            return answer

        monkeypatch.setattr(lab.storage, "put_mail", then_the_verb)
        result = lab.engine().signal(old, "o-1", "go")
        assert (result.status, lab.calls) == ("completed", ["b", "c"])

    def test_that_is_refused_is_not_delivered_after_a_forced_retry(self, lab: Lab) -> None:
        """A refused verb of another definition had taken that over, so the end is not the last record."""
        first = started().step("a", lab.note("a")).step("gate", waits)
        lab.engine().execute(first, None, "o-1")
        lab.engine().cancel(first, "o-1")
        second = started().step("a", lab.note("a")).step("x", lab.note("x")).step("gate", waits)
        with pytest.raises(Refused):
            lab.engine().retry_step(second, "o-1", "gate", force=True)
        with pytest.raises(Refused, match="it was cancelled"):
            lab.engine().signal(second, "o-1", "go")
        assert lab.engine().retry_step(second, "o-1", "x", force=True).status == "suspended"


class TestAHandle:
    def test_executes_the_definition_that_it_was_made_with(self, lab: Lab) -> None:
        engine = lab.engine()
        run = engine.instance(started().step("a", lab.note("old")), "o-1")
        engine.execute(started().step("a", lab.note("new")), None, "o-2")
        run.execute()
        assert lab.calls == ["new", "old"]


class TestACommitThatWaits:
    """Its effect is made, so nothing may forget that."""

    def test_is_undone_although_an_earlier_step_is_retried_and_fails(self, lab: Lab) -> None:
        def twice(ctx: Context) -> None:
            lab.calls.append("a")
            if lab.calls.count("a") == 2:
                boom(ctx)

        def charge(ctx: Context) -> object:
            lab.calls.append("charge")
            return wait("go")

        w = started().step("a", twice).commit("charge", charge, compensate=lab.note("refund"))
        lab.engine().execute(w, None, "o-1")
        with suppress(Refused):
            lab.engine().retry_step(w, "o-1", "a")
        lab.engine().cancel(w, "o-1")
        assert lab.calls.count("charge") == lab.calls.count("refund")


class TestAStuckInstanceThatWasToBePaused:
    def test_stays_stuck_when_the_pause_is_taken_back(self, lab: Lab) -> None:
        def charge(ctx: Context) -> None:
            lab.calls.append("charge")
            lab.engine().pause(w, "o-1")
            raise Unknown

        w = started().commit("charge", charge)
        assert lab.engine().execute(w, None, "o-1").status == "stuck"
        assert lab.engine().unpause(w, "o-1").status == "stuck"
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("stuck", None)
        assert lab.types("o-1").count("stuck") == 1
        assert lab.engine().complete_step(w, "o-1", "charge").status == "completed"
