"""`.child`: another workflow as a step. A child is started once, its end is never lost, and it goes with its parent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    DefinitionError,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    PurgeUnfinished,
    StorageUnavailable,
    create_workflow,
    flow,
)
from flux_core.layer import StorageLayer
from flux_core.load import load
from flux_core.payloads import MemoryPayloads
from flux_core.testing import check_invariants
from flux_core.transfer import export_instance, import_instance, read_exported
from tests.core.conftest import TENANT, Killed

if TYPE_CHECKING:
    from flux_core import Context, FluxResult, Header, WorkflowBuilder
    from flux_core.state import StepExecution, WorkflowState
    from tests.core.conftest import Lab


def label(ctx: Context) -> None:
    ctx.data["label"] = ctx.input


def fail(ctx: Context) -> None:
    message = "no van"
    raise NonRetryable(message)


def step(result: FluxResult, path: str) -> StepExecution:
    return next(step for step in result.history if step.path == path)


def child_of(lab: Lab, result: FluxResult, path: str = "ship") -> WorkflowState:
    workflow, _, id_ = (step(result, path).child or "").partition("/")
    return load(lab.storage, InstanceRef(TENANT, workflow, id_)).state


def check(lab: Lab, *ids: str) -> None:
    """All instances are as they must be when nothing runs."""
    for listed in lab.storage.list(TENANT, limit=2000).items:
        check_invariants(lab.storage, listed.ref, at_rest=True)
    assert lab.storage.due(2**62, 10) == [] or ids


class Stays(MemoryPayloads):
    """A payload store that cannot remove anything."""

    def purge(self, ref: InstanceRef) -> None:
        message = "it may only be read"
        raise StorageUnavailable(message)


class TestAChild:
    def test_is_an_instance_of_its_own_whose_data_is_the_output_of_the_step(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", label)
        w = (
            create_workflow("order")
            .child("ship", ship, lambda ctx: ctx.input["sku"])
            .step("end", lambda ctx: ctx.results["ship"])
        )
        result = lab.engine().execute(w, {"sku": "a"}, "o-1")
        assert (result.status, result.history[-1].output) == ("completed", {"label": "a"})
        child = child_of(lab, result)
        assert (child.name, child.status, child.parent) == ("shipping", "completed", ["order", "o-1", "ship"])
        check(lab)

    def test_may_be_named_if_the_engine_knows_it(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", label)
        w = create_workflow("order").child("ship", "shipping", "b")
        assert lab.engine(workflows=[ship]).execute(w, None, "o-1").history[0].output == {"label": "b"}

    def test_that_nobody_knows_fails_the_step_and_says_what_to_do(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").child("ship", "shipping"), None, "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert "no workflow 'shipping' is registered with this engine" in str(result.error)

    def test_with_input_that_does_not_fit_fails_the_step_and_is_not_started(self, lab: Lab) -> None:
        def positive(value: Any) -> int:
            if value < 0:
                raise ValueError("negative")
            return int(value)

        ship = create_workflow("shipping").input(positive).step("label", label)
        result = lab.engine().execute(create_workflow("order").child("ship", ship, -1), None, "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert "negative" in str(result.error)
        assert lab.storage.list(TENANT, "shipping").items == []

    def test_that_waits_lets_the_parent_wait(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "arrived").step("label", label)
        w = create_workflow("order").child("ship", ship, 1).step("end", lab.note("end"))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, step(result, "ship").status) == ("suspended", "suspended")
        check(lab)
        lab.engine(workflows=[w]).signal("shipping", child_of(lab, result).id, "arrived")
        assert lab.engine().get(w, "o-1").status == "completed"
        check(lab)

    def test_without_waiting_completes_the_step_with_its_id(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "arrived")
        w = create_workflow("order").child("ship", ship, 1, wait=False).step("end", lambda ctx: ctx.results["ship"])
        result = lab.engine().execute(w, None, "o-1")
        assert result.status == "completed"
        child = load(lab.storage, InstanceRef(TENANT, "shipping", str(result.history[-1].output))).state
        assert (child.status, child.parent) == ("suspended", None)
        check(lab)

    def test_may_have_children_itself(self, lab: Lab) -> None:
        leaf = create_workflow("leaf").step("label", label)
        middle = create_workflow("middle").child("down", leaf, lambda ctx: ctx.input + 1)
        middle.step("up", lambda ctx: ctx.data.update(got=ctx.results["down"]["label"]))
        w = create_workflow("order").child("ship", middle, 1)
        assert lab.engine().execute(w, None, "o-1").history[0].output == {"got": 2}
        check(lab)

    def test_in_a_map_is_one_an_item_and_their_outputs_come_in_order(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", label)
        body = flow().child("ship", ship, lambda ctx: ctx.item)
        w = create_workflow("order").map("fan", list(range(1000)), body, max_concurrency=None)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.history[0].output) == ("completed", [{"label": n} for n in range(1000)])
        assert len(lab.storage.list(TENANT, "shipping", limit=2000).items) == 1000
        # The parent was not ticked for each of them: only once all had ended.
        assert lab.types("o-1").count("claim") == 1

    def test_a_few_at_a_time_are_not_a_reading_of_all_that_was_for_each(self, lab: Lab) -> None:
        def records_read(items: int) -> int:
            read.clear()
            body = flow().child("ship", create_workflow("shipping").step("label", label), lambda ctx: ctx.item)
            w = create_workflow("order").map("fan", list(range(items)), body)
            assert lab.engine(storage=Reads()).execute(w, None, "o-1").status == "completed"
            return sum(read)

        class Reads(MemoryStorage):
            def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
                found = super().read(ref, start)
                if ref.workflow == "order":
                    read.append(len(found))
                return found

            def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
                found = super().snapshot(ref)
                if ref.workflow == "order" and found is not None:
                    read.append(found[0])  # as dear as the records it stands for
                return found

        read: list[int] = []
        assert records_read(400) < 2.5 * records_read(200)

    def test_on_threads_is_started_before_anything_else_goes_on_record(self) -> None:
        ship = create_workflow("shipping").step("label", label)
        w = create_workflow("order").map("fan", list(range(50)), flow().child("ship", ship, lambda ctx: ctx.item))
        result = FluxEngine(MemoryStorage()).execute(w)
        assert (result.status, result.history[0].output) == ("completed", [{"label": n} for n in range(50)])

    def test_costs_one_record_to_ask_for_and_one_to_hear_of(self, lab: Lab) -> None:
        w = create_workflow("order").child("ship", create_workflow("shipping").step("label", label), 1)
        lab.engine().execute(w, None, "o-1")
        assert lab.types("o-1") == ["start", "child", "susp", "claim", "recv", "end"]


class TestAFailure:
    def order(self, lab: Lab, **options: Any) -> WorkflowBuilder:
        ship = (
            create_workflow("shipping")
            .step("label", lab.note("label"), compensate=lab.note("unlabel"))
            .step("drive", fail)
        )
        return (
            create_workflow("order")
            .step("pay", lab.note("pay"), compensate=lab.note("refund"))
            .child("ship", ship, 1, **options)
            .step("end", lambda ctx: ctx.results["ship"])
        )

    def test_of_the_child_fails_the_step_and_undoes_the_parent(self, lab: Lab) -> None:
        result = lab.engine().execute(self.order(lab), None, "o-1")
        assert (result.status, lab.calls) == ("rolled_back", ["pay", "label", "unlabel", "refund"])
        assert result.error is not None
        assert (result.error.type, result.error.step) == ("ChildFailed", "ship")
        assert "child 'shipping', id 'c-" in str(result.error)
        assert "is rolled_back: no van" in str(result.error)
        check(lab)

    def test_of_the_child_may_be_an_answer_like_any_other(self, lab: Lab) -> None:
        result = lab.engine().execute(self.order(lab, on_failure="continue"), None, "o-1")
        assert result.status == "completed"
        output = result.history[-1].output
        assert isinstance(output, dict)
        assert (output["status"], output["error"]) == ("rolled_back", "no van")

    def test_is_retried_by_going_on_with_the_same_child(self, lab: Lab) -> None:
        def drive(ctx: Context) -> None:
            lab.calls.append("drive")
            if len(lab.calls) == 2:
                raise NonRetryable("no van")

        ship = create_workflow("shipping").commit("label", lab.note("label")).step("drive", drive)
        w = create_workflow("order").child("ship", ship, 1)
        failed = lab.engine().execute(w, None, "o-1")
        assert failed.status == "failed"
        result = lab.engine().retry_step(w, "o-1", "ship")
        assert (result.status, lab.calls) == ("completed", ["label", "drive", "drive"])
        assert step(result, "ship").child == step(failed, "ship").child
        check(lab)

    def test_of_the_parent_cancels_and_undoes_a_child_that_has_not_ended_first(self, lab: Lab) -> None:
        ship = (
            create_workflow("shipping")
            .step("label", lab.note("label"), compensate=lab.note("unlabel"))
            .wait("van", "go")
        )
        w = create_workflow("order").step("pay", lab.note("pay"), compensate=lab.note("refund"))
        w.parallel("fan", flow("a").child("ship", ship, 1), flow("b").wait("ask", "ok").step("break", fail))
        lab.engine().execute(w, None, "o-1")
        assert lab.calls == ["pay", "label"]
        result = lab.engine().signal(w, "o-1", "ok")
        assert (result.status, lab.calls) == ("rolled_back", ["pay", "label", "unlabel", "refund"])
        assert child_of(lab, result, "fan.a.ship").status == "cancelled"
        check(lab)


class TestCancel:
    def order(self, lab: Lab, **options: Any) -> WorkflowBuilder:
        ship = (
            create_workflow("shipping")
            .step("label", lab.note("label"), compensate=lab.note("unlabel"))
            .wait("van", "go")
        )
        w = create_workflow("order").step("pay", lab.note("pay"), compensate=lab.note("refund"))
        return w.child("ship", ship, 1, **options)

    def test_goes_down_to_the_child_which_is_undone_first(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1", "enough")
        assert (result.status, lab.calls) == ("cancelled", ["pay", "label", "unlabel", "refund"])
        assert child_of(lab, result).status == "cancelled"
        check(lab)

    def test_leaves_a_child_alone_that_is_to_be_abandoned(self, lab: Lab) -> None:
        w = self.order(lab, on_cancel="abandon")
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().cancel(w, "o-1")
        assert (result.status, lab.calls) == ("cancelled", ["pay", "label", "refund"])
        child = child_of(lab, result)
        assert child.status == "suspended"
        assert lab.engine(workflows=[w]).signal("shipping", child.id, "go").status == "completed"
        assert lab.engine().get(w, "o-1").status == "cancelled"
        check(lab)

    def test_waits_for_a_child_whose_undoing_takes_its_time(self, lab: Lab) -> None:
        def unlabel(ctx: Context) -> None:
            lab.calls.append("unlabel")
            if lab.calls.count("unlabel") == 1:
                raise ValueError("busy")

        ship = create_workflow("shipping").step("label", lab.note("label"), compensate=unlabel).wait("van", "go")
        w = create_workflow("order").step("pay", lab.note("pay"), compensate=lab.note("refund")).child("ship", ship, 1)
        engine = lab.engine(inline_backoff=0)
        engine.execute(w, None, "o-1")
        assert engine.cancel(w, "o-1").status == "rolling_back"
        assert "refund" not in lab.calls
        check(lab, "o-1")
        lab.clock.advance(60)
        engine.recover()
        assert engine.get(w, "o-1").status == "cancelled"
        assert lab.calls == ["pay", "label", "unlabel", "unlabel", "refund"]
        check(lab)

    def test_of_a_child_by_hand_fails_the_parent(self, lab: Lab) -> None:
        w = self.order(lab)
        engine = lab.engine()
        result = engine.execute(w, None, "o-1")
        engine.cancel("shipping", child_of(lab, result).id)
        after = engine.get(w, "o-1")
        assert (after.status, lab.calls) == ("rolled_back", ["pay", "label", "unlabel", "refund"])

    def test_of_a_completed_child_is_what_compensate_says(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", lab.note("label"), compensate=lab.note("never"))
        w = create_workflow("order").child("ship", ship, 1, compensate=lab.note("take back")).wait("ask", "go")
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == ["label", "take back"]


class TestCrashes:
    def order(self, lab: Lab) -> WorkflowBuilder:
        ship = create_workflow("shipping").commit("label", lab.note("label"))
        return create_workflow("order").child("ship", ship, 1).step("end", lab.note("end"))

    def test_at_every_write_start_one_child_and_lose_no_end(self, lab: Lab) -> None:
        from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, FaultPlan, FaultyStorage, InvocationDied

        for fault in (CRASH_BEFORE, CRASH_AFTER):
            for at in range(60):
                fresh = type(lab)()
                w = self.order(fresh)
                plan = FaultPlan({at: fault})
                died = False
                try:
                    fresh.engine(storage=FaultyStorage(fresh.storage, plan)).execute(w, None, "o-1")
                except InvocationDied:
                    died = True
                for _ in range(6):
                    fresh.past_the_lease()
                    fresh.engine(workflows=[w]).recover()
                result = fresh.engine().execute(w, None, "o-1")
                assert result.status == "completed", (fault, at)
                assert fresh.calls.count("end") >= 1
                children = fresh.storage.list(TENANT, "shipping").items
                assert len(children) == 1
                check(fresh)
                if not died:
                    return
        raise AssertionError("the plan never ran out")

    def test_between_the_end_and_the_mail_are_found_by_the_sweeper(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "go")
        w = create_workflow("order").child("ship", ship, 1)
        result = lab.engine().execute(w, None, "o-1")
        child = child_of(lab, result)
        put = lab.storage.put_mail

        def dies_on_the_second(ref: Any, mail: Any) -> Any:
            if mail.name.startswith("__c-"):
                raise Killed
            return put(ref, mail)

        lab.storage.put_mail = dies_on_the_second  # type: ignore[method-assign]
        with pytest.raises(Killed):
            lab.engine(workflows=[w]).signal("shipping", child.id, "go")
        lab.storage.put_mail = put  # type: ignore[method-assign]
        assert lab.engine().get(w, "o-1").status == "suspended"
        lab.engine(workflows=[w]).recover()
        assert lab.engine().get(w, "o-1").status == "completed"
        check(lab)

    def test_of_a_parent_that_is_gone_are_told_to_nobody(self, lab: Lab) -> None:
        w = create_workflow("order").child(
            "ship", create_workflow("shipping").wait("van", "go"), 1, on_cancel="abandon"
        )
        result = lab.engine().execute(w, None, "o-1")
        child = child_of(lab, result)
        lab.engine().cancel(w, "o-1")
        lab.clock.advance(3600)
        lab.engine().delete(w, "o-1")
        assert lab.engine(workflows=[w]).signal("shipping", child.id, "go").status == "completed"
        assert lab.storage.mail(lab.ref("o-1")) == []
        assert lab.storage.due(2**62, 10) == []

    def test_of_a_parent_that_is_being_deleted_are_told_to_nobody(self, lab: Lab) -> None:
        w = create_workflow("order").child(
            "ship", create_workflow("shipping").wait("van", "go"), 1, on_cancel="abandon"
        )
        engine = FluxEngine(lab.storage, payloads=Stays(), tenant=TENANT, clock=lab.clock, workflows=[w])
        child = child_of(lab, engine.execute(w, None, "o-1"))
        engine.cancel(w, "o-1")
        lab.clock.advance(3600)
        with pytest.raises(StorageUnavailable):
            engine.delete(w, "o-1")
        assert engine.signal("shipping", child.id, "go").status == "completed"
        assert lab.storage.mail(lab.ref("o-1")) == []
        assert lab.storage.due(2**62, 10) == []


class TestADeletedChild:
    """Its id is used again when the step that started it is retried."""

    def failed(self, lab: Lab, engine: FluxEngine, w: WorkflowBuilder) -> WorkflowState:
        result = engine.execute(w, None, "o-1")
        assert result.status == "failed"
        lab.clock.advance(3600)
        return child_of(lab, result)

    def order(self, *, well: list[int]) -> WorkflowBuilder:
        def call_a_van(ctx: Context) -> None:
            if not well:
                message = "no van"
                raise NonRetryable(message)
            ctx.data["van"] = 1

        return create_workflow("order").child("ship", create_workflow("shipping").step("call", call_a_van), 1)

    def test_is_started_anew_by_a_retry_and_its_end_is_heard(self, lab: Lab) -> None:
        well: list[int] = []
        w = self.order(well=well)
        engine = lab.engine()
        child = self.failed(lab, engine, w)
        engine.delete("shipping", child.id)
        well.append(1)
        result = engine.retry_step(w, "o-1", "ship")
        assert (result.status, step(result, "ship").output) == ("completed", {"van": 1})
        assert child_of(lab, result).id == child.id
        check(lab)

    def test_that_is_not_all_gone_fails_the_step_which_says_what_to_do(self, lab: Lab) -> None:
        well: list[int] = []
        w = self.order(well=well)
        lives = FluxEngine(lab.storage, payloads=Stays(), tenant=TENANT, clock=lab.clock, workflows=[w])
        child = self.failed(lab, lives, w)
        with pytest.raises(StorageUnavailable):
            lives.delete("shipping", child.id)
        well.append(1)
        for _ in range(2):
            result = lives.retry_step(w, "o-1", "ship")
            assert result.status == "failed"
            assert result.error is not None
            assert result.error.type == "ChildFailed"
            assert re.search(
                r"being deleted.*delete it again.*then retry the step 'ship' of order/o-1", str(result.error)
            )
        lab.clock.advance(3600)
        other = FluxEngine(lab.storage, payloads=MemoryPayloads(), tenant=TENANT, clock=lab.clock, workflows=[w])
        other.delete("shipping", child.id)
        result = other.retry_step(w, "o-1", "ship")
        assert (result.status, step(result, "ship").output) == ("completed", {"van": 1})

    def test_that_nobody_waits_for_is_created_later(self, lab: Lab) -> None:
        class BeingDeleted(StorageLayer):
            def append(self, at: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
                if at.workflow == "shipping":
                    message = "it is being deleted"
                    raise PurgeUnfinished(message, 7)
                return super().append(at, seq, record, header)

        w = create_workflow("order").child("ship", create_workflow("shipping").step("label", label), 1, wait=False)
        with pytest.raises(StorageUnavailable, match="order/o-1 cannot start a child yet: it is being deleted"):
            lab.engine(storage=BeingDeleted(lab.storage)).execute(w, None, "o-1")
        lab.past_the_lease()
        engine = lab.engine(workflows=[w])
        engine.recover()
        result = engine.get(w, "o-1")
        assert (result.status, child_of(lab, result).status) == ("completed", "completed")

    def test_that_is_gone_at_the_moment_of_the_retry_is_created(self, lab: Lab) -> None:
        well: list[int] = []
        w = self.order(well=well)
        child = self.failed(lab, lab.engine(), w)
        ref = lab.ref(child.id, "shipping")
        well.append(1)

        class GoneOnceFound(StorageLayer):
            def append(self, at: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
                found = super().append(at, seq, record, header)
                if at == ref and found is not None:
                    assert self.inner.purge(ref, child.seq)
                return found

        result = lab.engine(storage=GoneOnceFound(lab.storage)).retry_step(w, "o-1", "ship")
        assert (result.status, step(result, "ship").output) == ("completed", {"van": 1})


class TestRules:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"workflow": 3}, "a child is a workflow, or the name of one"),
            ({"workflow": "x", "wait": "no"}, "wait must be True or False"),
            ({"workflow": "x", "on_failure": "ignore"}, "on_failure must be"),
            ({"workflow": "x", "on_cancel": "ignore"}, "on_cancel must be"),
            ({"workflow": "x", "idempotent": True}, "there is no option 'idempotent'"),
        ],
    )
    def test_of_a_definition_say_what_to_change(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            create_workflow("order").child("ship", **arguments)

    def test_describe_the_child(self) -> None:
        (told,) = create_workflow("order").child("ship", "shipping", wait=False).describe()["steps"]
        assert (told["kind"], told["workflow"], told["wait"]) == ("child", "shipping", False)

    def test_keep_the_signal_of_an_end_from_users(self, lab: Lab) -> None:
        w = create_workflow("order").child("ship", create_workflow("shipping").wait("van", "go"), 1)
        result = lab.engine().execute(w, None, "o-1")
        with pytest.raises(Exception, match="signal name"):
            lab.engine().signal(w, "o-1", f"__{child_of(lab, result).id}__")

    def test_keep_a_completed_child_when_an_earlier_step_is_retried(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", lab.note("label"))
        w = create_workflow("order").step("a", lab.note("a")).child("ship", ship, 1).wait("ask", "go")
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "a")
        assert lab.calls == ["a", "label", "a"]
        check(lab)

    def test_start_another_child_when_a_completed_one_is_forced_to_run_again(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("label", lab.note("label"))
        w = create_workflow("order").child("ship", ship, 1).wait("ask", "go")
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "ship", force=True)
        assert lab.calls == ["label", "label"]
        assert len(lab.storage.list(TENANT, "shipping").items) == 2

    def test_refuse_to_go_on_with_a_child_that_was_cancelled(self, lab: Lab) -> None:
        w = create_workflow("order").child("ship", create_workflow("shipping").wait("van", "go"), 1)
        engine = lab.engine()
        child = child_of(lab, engine.execute(w, None, "o-1"))
        engine.cancel("shipping", child.id)
        assert engine.get(w, "o-1").status == "failed"
        result = engine.retry_step(w, "o-1", "ship")
        assert result.status == "failed"
        assert "is cancelled" in str(result.error)


class TestOpenPlaces:
    """A child that has not ended, in a branch or item where nothing goes on."""

    def test_of_a_failed_branch_does_not_keep_the_other_branches_busy(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "van")
        branch = flow("left").parallel(
            "in", flow("c").child("ship", ship), flow("x").wait("gate", "gate").step("a", fail)
        )
        w = create_workflow("order").parallel("fan", branch, flow("right").wait("go", "go"), on_error="wait_all")
        engine = lab.engine(workflows=[w, ship])
        engine.execute(w, None, "o-1")
        result = engine.signal(w, "o-1", "gate")
        assert (result.status, step(result, "fan.left.in.x.a").status) == ("suspended", "failed")
        # Its child ends meanwhile: that is heard when the parent turns back, and wakes nobody before.
        child = child_of(lab, result, "fan.left.in.c.ship")
        engine.signal(ship, child.id, "van")
        assert engine.get(w, "o-1").status == "suspended"
        result = engine.signal(w, "o-1", "go")
        assert (result.status, str(result.error)) == ("failed", "no van")
        check(lab)

    def test_of_a_failed_branch_is_cancelled_when_the_parent_turns_back(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "van")
        branch = flow("left").parallel(
            "in", flow("c").child("ship", ship), flow("x").wait("gate", "gate").step("a", fail)
        )
        w = create_workflow("order").parallel("fan", branch, flow("right").wait("go", "go"), on_error="wait_all")
        engine = lab.engine(workflows=[w, ship])
        engine.execute(w, None, "o-1")
        engine.signal(w, "o-1", "gate")
        result = engine.signal(w, "o-1", "go")
        assert (result.status, child_of(lab, result, "fan.left.in.c.ship").status) == ("failed", "cancelled")
        check(lab)

    def test_of_a_fork_that_was_skipped_by_hand_is_left_alone(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "van")
        w = create_workflow("order").parallel("fan", flow("c").child("ship", ship)).wait("end", "end")
        engine = lab.engine(workflows=[w, ship])
        engine.execute(w, None, "o-1")
        result = engine.skip_step(w, "o-1", "fan")
        assert result.status == "suspended"
        assert engine.cancel(w, "o-1").status == "cancelled"
        assert child_of(lab, result, "fan.c.ship").status == "suspended"
        check(lab)

    def test_that_is_not_in_this_store_does_not_keep_its_parent_from_being_undone(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "van")
        w = create_workflow("order").step("a", label, compensate=lambda ctx: None).child("ship", ship)
        lab.engine(workflows=[w, ship]).execute(w, None, "o-1")
        alone = read_exported(export_instance(lab.storage, lab.ref("o-1")))
        lab.storage = MemoryStorage()
        import_instance(lab.storage, alone)
        result = lab.engine(workflows=[w, ship]).cancel(w, "o-1")
        assert (result.status, result.history[0].status) == ("cancelled", "compensated")
        check(lab)

    def test_that_cannot_go_on_fails_the_step_again(self, lab: Lab) -> None:
        ship = create_workflow("shipping").step("book", label, compensate=fail).step("load", fail)
        w = create_workflow("order").child("ship", ship)
        engine = lab.engine(workflows=[w, ship])
        result = engine.execute(w, None, "o-1")
        child = child_of(lab, result)
        assert child.steps["book"].status == "compensation_failed"
        for _ in range(2):
            result = engine.resume(w, "o-1")
            assert (result.status, result.history[0].status) == ("failed", "failed")
        assert child_of(lab, result).seq == child.seq
        engine.skip_step(ship, child.id, "book")
        assert engine.resume(w, "o-1").status == "failed"
        assert child_of(lab, result).seq > child.seq
        check(lab)

    def test_of_many_of_which_some_have_ended_is_waited_for(self, lab: Lab) -> None:
        ship = create_workflow("shipping").wait("van", "van")
        body = flow().child("ship", ship)
        w = create_workflow("order").map("fan", [1, 2], body, max_concurrency=None)
        engine = lab.engine(workflows=[w, ship])
        result = engine.execute(w, None, "o-1")
        for n in (0, 1):
            check(lab)
            engine.signal(ship, child_of(lab, result, f"fan[{n}].ship").id, "van")
        assert engine.get(w, "o-1").status == "completed"
        check(lab)
