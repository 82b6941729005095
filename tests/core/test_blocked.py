"""A definition whose steps changed cannot continue an instance: it is blocked, runs nothing, and heals by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import Context, Refused, WorkflowBuilder, create_workflow, sleep, wait

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def earlier(lab: Lab, gate: Any = None) -> WorkflowBuilder:
    w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a"))
    return w.step("gate", lambda ctx: wait("go") if gate is None else gate).step("last", lab.note("last"))


def changed(lab: Lab) -> WorkflowBuilder:
    w = create_workflow("order").step("a", lab.note("new a"), compensate=lab.note("new undo a"))
    return w.step("renamed", lab.note("renamed")).step("last", lab.note("new last"))


@pytest.fixture
def blocked(lab: Lab) -> Any:
    lab.engine().execute(earlier(lab), None, "o-1")
    lab.calls.clear()
    return lab.engine().signal(changed(lab), "o-1", "go", 7)


class TestAChangedDefinition:
    def test_blocks_the_instance_and_says_what_to_do(self, blocked: Any, lab: Lab) -> None:
        assert (blocked.status, blocked.error.type) == ("blocked", "definition_changed")
        assert str(blocked.error) == (
            "the steps of workflow 'order' have changed since the instance started (it has a, gate, last; the "
            "definition now has a, renamed, last), and it cannot go on with them: step 'gate' waits for the signal "
            "'go', but there is no such step any more: keep it, or give the one in its place aliases=['gate']. Once a "
            "definition that fits is deployed (the earlier one does), it goes on by itself"
        )

    def test_runs_nothing(self, blocked: Any, lab: Lab) -> None:
        lab.clock.advance(10_000)
        assert lab.engine(workflows=[changed(lab)]).recover()[0].status == "blocked"
        assert lab.calls == []

    def test_is_listed_as_blocked(self, blocked: Any, lab: Lab) -> None:
        assert [item.id for item in lab.engine().list(status="blocked").items] == ["o-1"]

    def test_keeps_a_due_entry_whose_pauses_grow_to_an_hour(self, blocked: Any, lab: Lab) -> None:
        pauses = []
        engine = lab.engine(workflows=[changed(lab)])
        for _ in range(15):
            due = lab.header("o-1").due
            assert due is not None
            pauses.append((due - lab.clock.now()) // 1000)
            lab.clock.advance((due - lab.clock.now()) / 1000 - 0.001)
            assert engine.recover() == []
            lab.clock.advance(0.001)
            assert engine.recover()[0].status == "blocked"
        assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]

    def test_writes_one_record_a_pause_however_often_it_is_ticked(self, blocked: Any, lab: Lab) -> None:
        before = lab.types("o-1")
        for _ in range(5):
            lab.engine().wake(changed(lab), "o-1")
        assert lab.types("o-1") == before == ["start", "step", "step", "susp", "blocked"]

    def test_heals_with_the_earlier_definition_and_loses_no_signal(self, blocked: Any, lab: Lab) -> None:
        due = lab.header("o-1").due
        assert due is not None
        lab.clock.advance(1)
        (result,) = lab.engine(workflows=[earlier(lab)]).recover()
        assert (result.status, result.error, lab.calls) == ("completed", None, ["last"])
        assert result.history[1].output == 7

    def test_that_healed_and_is_blocked_again_begins_with_a_short_pause(self, lab: Lab) -> None:
        def gate(ctx: Context) -> object:
            return wait("go")

        def two(name: str) -> WorkflowBuilder:
            return create_workflow("order").commit(name, gate).step("b", gate)

        lab.engine().execute(two("a"), None, "o-1")
        for _ in range(5):
            lab.engine().wake(two("x"), "o-1")
            lab.clock.advance(60)
        assert lab.engine().signal(two("a"), "o-1", "go").status == "suspended"
        assert lab.engine().wake(two("x"), "o-1").status == "blocked"
        assert lab.header("o-1").due == lab.clock.now() + 1000

    def test_heals_at_once_when_it_is_woken(self, blocked: Any, lab: Lab) -> None:
        assert lab.engine().wake(earlier(lab), "o-1").status == "completed"

    def test_blocks_what_a_dead_invocation_left(self, lab: Lab, killed: type[BaseException]) -> None:
        w = create_workflow("order").commit("a", lab.die, idempotent=True)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        other = create_workflow("order").step("b", lab.note("b"))
        assert lab.engine().wake(other, "o-1").status == "blocked"
        mended = create_workflow("order").commit("a", lab.note("a"), idempotent=True)
        assert lab.engine().wake(mended, "o-1").status == "completed"
        assert lab.calls == ["a"]

    def test_blocks_an_instance_that_is_being_undone_and_heals(self, lab: Lab, killed: type[BaseException]) -> None:
        w = (
            create_workflow("order", retries=0)
            .step("a", lab.note("a"), compensate=lab.die)
            .step("b", lambda ctx: 1 / 0)
        )
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert lab.engine().wake(create_workflow("order").step("x", lab.note("x")), "o-1").status == "blocked"
        mended = create_workflow("order", retries=0).step("a", lab.note("a"), compensate=lab.note("undo a"))
        mended.step("b", lambda ctx: 1 / 0)
        assert lab.engine().wake(mended, "o-1").status == "rolled_back"
        assert lab.calls == ["a", "undo a"]

    @pytest.mark.parametrize("verb", ["retry_step", "complete_step", "skip_step"])
    @pytest.mark.parametrize("step", ["renamed", "last"])
    def test_cannot_say_what_to_keep_so_these_verbs_are_refused_with_the_reason(
        self, verb: str, step: str, blocked: Any, lab: Lab
    ) -> None:
        before = lab.storage.read(lab.ref("o-1"))
        with pytest.raises(Refused, match=r"workflow 'order', id 'o-1': .* step 'gate' waits .* aliases=\['gate'\]"):
            getattr(lab.engine(), verb)(changed(lab), "o-1", step)
        assert lab.storage.read(lab.ref("o-1")) == before

    def test_a_cancel_by_it_undoes_what_it_still_has(self, blocked: Any, lab: Lab) -> None:
        result = lab.engine().cancel(changed(lab), "o-1", "no longer wanted")
        assert (result.status, str(result.error), lab.calls) == ("cancelled", "no longer wanted", ["new undo a"])

    def test_a_cancel_by_one_that_cannot_undo_is_kept_and_carried_out_by_the_earlier_one(
        self, blocked: Any, lab: Lab
    ) -> None:
        without = create_workflow("order").step("other", lab.note("other"))
        assert lab.engine().cancel(without, "o-1", "no longer wanted").status == "blocked"
        assert lab.calls == []
        result = lab.engine().wake(earlier(lab), "o-1")
        assert (result.status, str(result.error), lab.calls) == ("cancelled", "no longer wanted", ["undo a"])

    def test_a_cancel_by_the_earlier_one_is_carried_out_at_once(self, blocked: Any, lab: Lab) -> None:
        assert lab.engine().cancel(earlier(lab), "o-1").status == "cancelled"
        assert lab.calls == ["undo a"]

    def test_does_not_touch_instances_that_have_ended(self, lab: Lab) -> None:
        lab.engine().execute(earlier(lab, sleep(0)), None, "o-1")
        assert lab.engine().wake(changed(lab), "o-1").status == "completed"

    def test_of_handlers_options_or_version_only_blocks_nothing(self, lab: Lab) -> None:
        lab.engine().execute(earlier(lab), None, "o-1")
        w = create_workflow("order", version="2").step("a", lab.note("other"))
        w.step("gate", lambda ctx: None, retries=0).step("last", lab.note("other last"))
        assert lab.engine().signal(w, "o-1", "go").status == "completed"
        assert lab.calls == ["a", "other last"]

    def test_keeps_the_version_that_it_was_started_with(self, lab: Lab) -> None:
        lab.engine().execute(earlier(lab), None, "o-1")
        w = create_workflow("order", version="2").step("a", lab.note("a")).step("gate", lambda ctx: None)
        assert lab.engine().get(w.step("last", lab.note("last")), "o-1").state.version == "1"
