"""`retry_step` and `resume`: data as it was, succeeded commits kept, and nothing skipped over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    Context,
    InputInvalid,
    NonRetryable,
    Refused,
    WorkflowBuilder,
    compensation,
    create_workflow,
    sleep,
    wait,
)
from flux_core.testing import check_invariants

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab


class Shop:
    """Steps a, b (commit), c, d. Each notes its call and appends to `ctx.data["log"]`; those in `broken` raise."""

    def __init__(self, lab: Lab, *broken: str, undo: bool = False) -> None:
        self.lab = lab
        self.broken = set(broken)
        self.rounds: dict[str, int] = {}
        undos: dict[str, Any] = {"compensate": self.undo} if undo else {}
        self.workflow: WorkflowBuilder = create_workflow("order", retries=0)
        self.workflow.step("a", self.run, **undos).commit("b", self.run, **undos)
        self.workflow.step("c", self.run, **undos).step("d", self.run)

    def run(self, ctx: Context) -> str:
        name = str(ctx.step)
        self.lab.calls.append(name)
        self.rounds[name] = self.rounds.get(name, 0) + 1
        if name in self.broken:
            message = f"{name} is broken"
            raise ValueError(message)
        ctx.data.setdefault("log", []).append(f"{name}{self.rounds[name]}")
        return f"{name}{self.rounds[name]}"

    def undo(self, ctx: Context) -> None:
        self.lab.calls.append(f"undo {ctx.step}")

    def start(self) -> Any:
        result = self.lab.engine().execute(self.workflow, None, "o-1")
        self.lab.calls.clear()
        return result

    def mend(self) -> None:
        self.broken.clear()


class TestRetryStep:
    def test_of_the_failed_step_runs_it_and_the_later_ones(self, lab: Lab) -> None:
        shop = Shop(lab, "c")
        assert shop.start().status == "failed"
        shop.mend()
        result = lab.engine().retry_step(shop.workflow, "o-1", "c")
        assert (result.status, lab.calls, result.error) == ("completed", ["c", "d"], None)
        assert result.data == {"log": ["a1", "b1", "c2", "d1"]}

    def test_restores_the_data_to_what_it_was_before_that_step(self, lab: Lab) -> None:
        shop = Shop(lab)
        shop.workflow.step("last", lambda ctx: 1 / 0)
        shop.start()
        seen: list[Any] = []
        shop.workflow.build().by_path["c"].handler = lambda ctx: seen.append(list(ctx.data["log"]))
        lab.engine().retry_step(shop.workflow, "o-1", "c")
        assert seen == [["a1", "b1"]]

    def test_restores_deleted_and_nested_data_too(self, lab: Lab) -> None:
        seen: list[Any] = []

        def second(ctx: Context) -> None:
            seen.append(repr(ctx.data))
            ctx.data["box"]["items"].append(2)
            del ctx.data["gone"]
            ctx.data["new"] = 1

        w = (
            create_workflow("order")
            .step("a", lambda ctx: ctx.data.update(box={"items": [1]}, gone=1))
            .step("b", second)
        )
        w.step("c", lambda ctx: 1 / 0, retries=0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "b")
        lab.engine().retry_step(w, "o-1", "b")
        assert seen == ["{'box': {'items': [1]}, 'gone': 1}"] * 3

    def test_keeps_commits_that_succeeded_with_their_outputs_and_data(self, lab: Lab) -> None:
        shop = Shop(lab, "d")
        shop.start()
        shop.mend()
        result = lab.engine().retry_step(shop.workflow, "o-1", "a")
        assert lab.calls == ["a", "c", "d"]
        assert [step.output for step in result.history] == ["a2", "b1", "c2", "d2"]
        assert result.data["log"] == ["a1", "b1", "c2", "d2"], "a kept commit re-applies the data it recorded"

    def test_with_force_runs_the_named_commit_again_and_keeps_the_others(self, lab: Lab) -> None:
        ran: list[str] = []

        def note(ctx: Context) -> None:
            ran.append(str(ctx.step))

        w = create_workflow("order").commit("a", note).commit("b", note).commit("c", note)
        lab.engine().execute(w, None, "o-1")
        ran.clear()
        assert lab.engine().retry_step(w, "o-1", "b", force=True).status == "completed"
        assert ran == ["b"]

    def test_without_force_does_not_run_the_named_commit_again(self, lab: Lab) -> None:
        shop = Shop(lab, "d")
        shop.start()
        shop.mend()
        lab.engine().retry_step(shop.workflow, "o-1", "b")
        assert lab.calls == ["c", "d"]

    def test_after_a_rollback_starts_at_the_earliest_compensated_step_since_its_effects_were_undone(
        self, lab: Lab
    ) -> None:
        shop = Shop(lab, "d", undo=True)
        assert shop.start().status == "rolled_back"
        shop.mend()
        result = lab.engine().retry_step(shop.workflow, "o-1", "d")
        assert (result.status, lab.calls) == ("completed", ["a", "b", "c", "d"])
        assert result.data == {"log": ["a2", "b2", "c2", "d2"]}
        assert lab.statuses(result) == dict.fromkeys("abcd", "completed")

    def test_after_a_rollback_does_not_start_later_than_the_target(self, lab: Lab) -> None:
        w = (
            create_workflow("order", retries=0)
            .step("a", lab.note("a"))
            .step("b", lab.note("b"), compensate=lab.note("undo"))
        )
        w.step("c", lambda ctx: 1 / 0)
        lab.engine().execute(w, None, "o-1")
        lab.calls.clear()
        lab.engine().retry_step(w, "o-1", "a")
        assert lab.calls == ["a", "b", "undo"]

    @pytest.mark.parametrize("target", ["c", "d"])
    def test_of_a_step_behind_a_failed_one_is_refused_and_names_it(self, target: str, lab: Lab) -> None:
        shop = Shop(lab, "b")
        shop.start()
        before = lab.storage.read(lab.ref("o-1"))
        with pytest.raises(
            Refused, match=f"retry_step of step '{target}' .* step 'b' before it is failed; retry 'b', or"
        ):
            lab.engine().retry_step(shop.workflow, "o-1", target)
        assert lab.storage.read(lab.ref("o-1")) == before
        assert lab.calls == []

    def test_may_be_repeated_any_number_of_times(self, lab: Lab) -> None:
        shop = Shop(lab, "c")
        shop.start()
        for _ in range(3):
            assert lab.engine().retry_step(shop.workflow, "o-1", "c").status == "failed"
        shop.mend()
        result = lab.engine().retry_step(shop.workflow, "o-1", "c")
        assert (result.status, lab.calls, result.data["log"]) == ("completed", [*"cccc", "d"], ["a1", "b1", "c5", "d1"])

    def test_of_a_suspended_step_asks_its_handler_again(self, lab: Lab) -> None:
        def gate(ctx: Context) -> object:
            lab.calls.append("gate")
            return wait("go", timeout=60)

        w = create_workflow("order").step("a", lab.note("a")).step("gate", gate)
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(30)
        assert lab.engine().retry_step(w, "o-1", "gate").status == "suspended"
        assert lab.calls == ["a", "gate", "gate"]
        assert lab.header("o-1").due == lab.clock.now() + 60_000

    def test_asks_conditions_again(self, lab: Lab) -> None:
        answers = iter([False, True])
        w = create_workflow("order", retries=0).step("a", lab.note("a"), when=lambda ctx: next(answers))
        w.step("b", lambda ctx: 1 / 0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "a")
        assert lab.calls == ["a"]

    def test_that_fails_again_undoes_the_kept_commits_too(self, lab: Lab) -> None:
        shop = Shop(lab)
        shop.workflow = create_workflow("order", retries=0)
        shop.workflow.step("a", shop.run).commit("b", shop.run, compensate=shop.undo).step(
            "gate", lambda ctx: wait("go")
        )
        shop.start()
        shop.broken.add("a")
        result = lab.engine().retry_step(shop.workflow, "o-1", "a")
        assert (result.status, lab.calls) == ("rolled_back", ["a", "undo b"])
        assert lab.statuses(result) == {"a": "failed", "b": "compensated", "gate": "pending"}

    def test_starts_with_a_full_set_of_attempts(self, lab: Lab) -> None:
        attempts: list[int] = []

        def fails(ctx: Context) -> None:
            attempts.append(ctx.attempt)
            raise ValueError

        w = create_workflow("order").step("a", fails, retries=1)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "a")
        assert attempts == [1, 2, 1, 2]

    def test_that_is_cancelled_before_their_turn_undoes_the_kept_commits_too(self, lab: Lab) -> None:
        w = create_workflow("order").step("ask", lambda ctx: wait("go"))
        w.commit("pay", lab.note("pay"), compensate=lab.note("refund"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go")
        lab.engine().retry_step(w, "o-1", "ask", force=True)
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == ["pay", "refund"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_of_a_cancelled_instance_by_force_starts_where_its_effects_were_undone(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("a", lab.note("a"), compensate=lab.note("undo"))
            .step("gate", lambda ctx: wait("go"))
        )
        lab.engine().execute(w, None, "o-1")
        lab.engine().cancel(w, "o-1")
        assert lab.engine().retry_step(w, "o-1", "gate", force=True).status == "suspended"
        assert lab.calls == ["a", "undo", "a"]


class TestRetryWithData:
    def failing(self, lab: Lab) -> Any:
        def fill(ctx: Context) -> None:
            ctx.data.update(address="old", lines=[1])

        def ship(ctx: Context) -> str:
            if ctx.data["address"] == "old":
                raise NonRetryable("no such address")
            return f"to {ctx.data['address']}"

        return create_workflow("order").step("fill", fill).step("ship", ship)

    def test_sets_keys_on_top_of_what_was_restored(self, lab: Lab) -> None:
        w = self.failing(lab)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().retry_step(w, "o-1", "ship", data={"address": "new", "at": (1, 2)})
        assert (result.status, result.history[1].output) == ("completed", "to new")
        assert result.data == {"address": "new", "lines": [1], "at": (1, 2)}
        assert lab.engine().get(w, "o-1").data == result.data

    def test_is_kept_by_the_log_not_by_the_caller(self, lab: Lab) -> None:
        w = self.failing(lab)
        lab.engine().execute(w, None, "o-1")
        mine = {"address": "new", "lines": [2]}
        lab.engine().retry_step(w, "o-1", "ship", data=mine)
        mine["lines"].append(3)  # type: ignore[attr-defined]
        assert lab.engine().get(w, "o-1").data["lines"] == [2]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"x": object()}, r"retry_step of step 'ship', workflow 'order', id 'o-1': data\['x'\]"),
            ({1: "x"}, "data must be a mapping whose keys are strings"),
            ([("x", 1)], "data must be a mapping whose keys are strings"),
        ],
    )
    def test_that_cannot_be_kept_is_refused_naming_the_key_and_changes_nothing(
        self, data: Any, message: str, lab: Lab
    ) -> None:
        w = self.failing(lab)
        lab.engine().execute(w, None, "o-1")
        before = lab.types("o-1")
        with pytest.raises(InputInvalid, match=message):
            lab.engine().retry_step(w, "o-1", "ship", data=data)
        assert lab.types("o-1") == before


class TestResume:
    def test_goes_on_from_the_failed_step(self, lab: Lab) -> None:
        shop = Shop(lab, "c")
        shop.start()
        shop.mend()
        assert lab.engine().resume(shop.workflow, "o-1").status == "completed"
        assert lab.calls == ["c", "d"]

    @pytest.mark.parametrize("target", ["a", 0])
    def test_goes_on_from_a_step_given_by_name_or_place(self, target: str | int, lab: Lab) -> None:
        shop = Shop(lab, "c")
        shop.start()
        shop.mend()
        lab.engine().resume(shop.workflow, "o-1", from_step=target)
        assert lab.calls == ["a", "c", "d"]

    def test_from_a_step_behind_the_failed_one_is_refused(self, lab: Lab) -> None:
        shop = Shop(lab, "b")
        shop.start()
        with pytest.raises(Refused, match="step 'b' before it is failed"):
            lab.engine().resume(shop.workflow, "o-1", from_step=3)

    def test_of_a_timed_out_wait_waits_again(self, lab: Lab) -> None:
        w = create_workflow("order").step("gate", lambda ctx: wait("go", timeout=60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").status == "failed"
        assert lab.engine().resume(w, "o-1").status == "suspended"
        assert lab.engine().signal(w, "o-1", "go", 1).status == "completed"

    def test_ticks_a_suspended_instance_that_is_due(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().resume(w, "o-1").status == "completed"


class TestByHand:
    @pytest.mark.parametrize(("verb", "status"), [("complete_step", "completed"), ("skip_step", "skipped")])
    def test_a_failed_step_may_be_decided_and_the_rest_runs(self, verb: str, status: str, lab: Lab) -> None:
        shop = Shop(lab, "c")
        shop.start()
        result = getattr(lab.engine(), verb)(shop.workflow, "o-1", "c", who="ann", why="by hand")
        assert (result.status, lab.calls, lab.statuses(result)["c"]) == ("completed", ["d"], status)
        assert result.data["log"] == ["a1", "b1", "d1"]

    def test_a_waiting_step_may_be_completed_with_an_output(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("gate", lambda ctx: wait("go", timeout=60))
            .step("b", lambda ctx: ctx.results["gate"])
        )
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().complete_step(w, "o-1", "gate", {"ok": (1, 2)})
        assert (result.status, result.history[1].output) == ("completed", {"ok": (1, 2)})
        lab.clock.advance(60)
        assert lab.engine(workflows=[w]).recover() == []

    @pytest.mark.parametrize("verb", ["complete_step", "skip_step"])
    def test_a_step_that_is_decided_already_is_refused(self, verb: str, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).step("gate", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(Refused, match=f"{verb} is refused .* step 'a' is completed already"):
            getattr(lab.engine(), verb)(w, "o-1", "a")

    @pytest.mark.parametrize("verb", ["complete_step", "skip_step"])
    def test_a_later_step_may_be_decided_in_advance_and_does_not_run_then(self, verb: str, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("gate", lambda ctx: wait("go"))
            .step("b", lab.note("b"))
            .step("c", lab.note("c"))
        )
        lab.engine().execute(w, None, "o-1")
        assert getattr(lab.engine(), verb)(w, "o-1", "b").status == "suspended"
        assert lab.engine().signal(w, "o-1", "go").status == "completed"
        assert lab.calls == ["c"]

    def test_what_is_completed_by_hand_is_undone_like_the_rest(self, lab: Lab) -> None:
        w = create_workflow("order", retries=0).step("gate", lambda ctx: wait("go"), compensate=lab.note("undo gate"))
        w.step("b", lambda ctx: 1 / 0)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().complete_step(w, "o-1", "gate").status == "rolled_back"
        assert lab.calls == ["undo gate"]

    def test_who_and_why_are_in_the_log(self, lab: Lab) -> None:
        shop = Shop(lab, "c")
        shop.start()
        lab.engine().skip_step(shop.workflow, "o-1", "c", who="ann", why="not needed")
        (record,) = (record for record in lab.records("o-1") if record.type == "resolve")
        assert (record.body["p"], record.body["h"], record.body["by"], record.body["why"]) == (
            "c", "skipped", "ann", "not needed",
        )  # fmt: skip


class TestAFailureOnTheWay:
    def test_of_the_retrier_leaves_an_instance_that_the_sweeper_finds(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        handler: list[Callable[[Context], object]] = [lambda ctx: 1 / 0]

        def latest(ctx: Context) -> object:
            return handler[-1](ctx)

        w = create_workflow("order", retries=0).step("a", latest)
        lab.engine().execute(w, None, "o-1")
        handler.append(lab.die)
        with pytest.raises(killed):
            lab.engine().retry_step(w, "o-1", "a")
        handler.append(lab.note("a", 7))
        lab.past_the_lease()
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, result.history[0].output) == ("completed", 7)

    def test_of_a_compensation_in_the_new_generation_counts_anew(self, lab: Lab) -> None:
        tries: list[int] = []

        def undo(ctx: Context) -> None:
            tries.append(ctx.attempt)

        w = create_workflow("order", retries=0).step("a", lab.note("a"), compensate=compensation(undo, retries=2))
        w.step("b", lambda ctx: 1 / 0)
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().resume(w, "o-1").status == "rolled_back"
        assert tries == [1, 1]


def test_a_commit_completed_by_hand_is_kept_with_its_output_when_an_earlier_step_is_retried(lab: Lab) -> None:
    w = create_workflow("order").step("ask", lambda ctx: wait("go")).commit("charge", lambda ctx: "by the engine")
    engine = lab.engine()
    engine.execute(w, None, "o-1")
    engine.complete_step(w, "o-1", "charge", "by hand")
    engine.retry_step(w, "o-1", "ask")
    result = engine.signal(w, "o-1", "go")
    assert (result.status, result.history[1].output) == ("completed", "by hand")


class TestACommitThatWaits:
    """Its effect is made when it begins to wait, so a retry begins only the wait anew."""

    def order(self, lab: Lab, **options: Any) -> WorkflowBuilder:
        def charge(ctx: Context) -> object:
            lab.calls.append("charge")
            ctx.data["charged"] = True
            return wait("paid", timeout=60)

        w = create_workflow("order").step("before", lab.note("before")).commit("charge", charge, **options)
        return w.step("after", lambda ctx: [ctx.results["charge"], dict(ctx.data)])

    @pytest.mark.parametrize("step", ["before", "charge"])
    def test_is_not_made_again_by_a_retry_while_it_waits(self, step: str, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().retry_step(w, "o-1", step)
        assert (result.status, lab.calls.count("charge")) == ("suspended", 1)
        result = lab.engine().signal(w, "o-1", "paid", "yes")
        assert (result.status, result.history[-1].output) == ("completed", ["yes", {"charged": True}])
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_not_made_again_once_its_time_has_passed_and_gets_the_same_time_again(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(61)
        assert lab.engine().wake(w, "o-1").status == "failed"
        lab.clock.advance(1000)
        assert lab.engine().resume(w, "o-1").status == "suspended"
        lab.clock.advance(59)
        assert lab.engine().wake(w, "o-1").status == "suspended"
        lab.clock.advance(2)
        assert lab.engine().wake(w, "o-1").status == "failed"
        assert lab.calls == ["before", "charge"]

    def test_is_undone_if_the_workflow_is_cancelled_before_its_turn_comes_again(self, lab: Lab) -> None:
        def nap(ctx: Context) -> object:
            return sleep(60)

        def charge(ctx: Context) -> object:
            lab.calls.append("charge")
            return wait("paid")

        w = create_workflow("order").step("nap", nap).commit("charge", charge, compensate=lab.note("refund"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(61)
        lab.engine().wake(w, "o-1")
        assert lab.engine().retry_step(w, "o-1", "nap").status == "suspended"
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == ["charge", "refund"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_made_again_only_by_force(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "charge", force=True)
        assert lab.calls == ["before", "charge", "charge"]
