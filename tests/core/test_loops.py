"""`.loop` and `.while_`: every step of every iteration is a checkpoint of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import NonRetryable, UnknownStep, create_workflow, flow
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder
    from tests.core.conftest import Lab


class TestALoop:
    def test_runs_its_body_so_many_times_and_ends_with_the_last_output(self, lab: Lab) -> None:
        body = flow().step("a", lambda ctx: ctx.iteration * 10).step("b", lambda ctx: ctx.results["a"] + 1)
        w = create_workflow("order").loop("each", 3, body).step("end", lambda ctx: ctx.results["each[1].b"])
        result = lab.engine().execute(w, None, "o-1")
        assert [(step.path, step.output) for step in result.history] == [
            ("each", 21), ("each[0].a", 0), ("each[0].b", 1), ("each[1].a", 10), ("each[1].b", 11), ("each[2].a", 20),
            ("each[2].b", 21), ("end", 11),
        ]  # fmt: skip
        assert result.history[0].decision == 3

    def test_may_ask_how_often_once(self, lab: Lab) -> None:
        def times(ctx: Context) -> int:
            lab.calls.append("asked")
            return len(ctx.input)

        w = create_workflow("order").loop("each", times, lab.note("a"))
        assert lab.engine().execute(w, [1, 2], "o-1").status == "completed"
        assert lab.calls == ["asked", "a", "a"]

    def test_of_no_iteration_is_completed_without_an_output(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").loop("each", 0, lab.note("a")), None, "o-1")
        assert [(step.path, step.status, step.output) for step in result.history] == [("each", "completed", None)]

    @pytest.mark.parametrize("answer", [-1, 1.5, "3", None, True])
    def test_whose_number_is_none_fails_at_once(self, answer: object, lab: Lab) -> None:
        w = create_workflow("order").loop("each", lambda ctx: ctx.input, lab.note("a"))
        result = lab.engine().execute(w, answer, "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert "the times of loop 'each' must be a whole number from 0 on" in str(result.error)

    def test_in_a_loop_has_the_iteration_of_the_inner(self, lab: Lab) -> None:
        inner = flow().loop("inner", 2, lambda ctx: lab.calls.append(f"{ctx.path} {ctx.iteration}"))
        w = create_workflow("order").loop("outer", 2, inner.step("i", lambda ctx: ctx.iteration))
        assert lab.engine().execute(w, None, "o-1").history[0].output == 1
        assert lab.calls == [
            "outer[0].inner[0].run 0", "outer[0].inner[1].run 1", "outer[1].inner[0].run 0", "outer[1].inner[1].run 1",
        ]  # fmt: skip

    def test_goes_on_after_a_crash_in_the_iteration_that_it_was_in(self, lab: Lab) -> None:
        def work(ctx: Context) -> None:
            lab.calls.append(str(ctx.path))
            if len(lab.calls) == 1802:
                raise Killed

        w = create_workflow("order").loop("each", 1000, flow().step("before", lab.note("before")).step("work", work))
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        lab.calls.clear()
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert lab.calls[:3] == ["each[900].work", "before", "each[901].work"]
        assert len(lab.calls) == 1 + 99 * 2

    def test_costs_one_record_a_step_and_one_for_the_number(self, lab: Lab) -> None:
        w = create_workflow("order").loop("each", 5, flow().step("a", lab.note("a")).commit("b", lab.note("b")))
        lab.engine().execute(w, None, "o-1")
        assert lab.types("o-1") == ["start", "decide", *["step", "intent", "step"] * 5, "end"]

    def test_writes_records_that_do_not_grow_with_the_iterations(self, lab: Lab) -> None:
        lab.engine().execute(create_workflow("order").loop("each", 100, lab.note("a")), None, "o-1")
        sizes = [len(raw) for raw in lab.storage.read(lab.ref("o-1"))[2:-1]]
        assert max(sizes) - min(sizes) <= 4  # the digits of iteration and counter

    def test_has_a_key_of_its_own_for_each_iteration(self, lab: Lab) -> None:
        def charge(ctx: Context) -> None:
            lab.calls.append(ctx.idempotency_key)

        lab.engine().execute(create_workflow("order").loop("each", 3, flow().commit("charge", charge)), None, "o-1")
        assert len(set(lab.calls)) == 3

    def test_tells_its_start_and_its_end_once(self, lab: Lab) -> None:
        w = create_workflow("order").loop("each", 2, flow().step("a", lab.note("a")))
        lab.engine(trace=lab.events).execute(w, None, "o-1")
        assert lab.events.types[1:-1] == [
            "step:start each", "step:start a", "step:complete a", "step:start a", "step:complete a",
            "step:complete each",
        ]  # fmt: skip


class TestAWhile:
    def test_runs_as_long_as_its_condition_holds_and_may_look_at_the_last_iteration(self, lab: Lab) -> None:
        w = create_workflow("order").while_(
            "poll", lambda ctx: ctx.results.get("fetch", 0) < 20, flow().step("fetch", lambda ctx: ctx.iteration * 10)
        )
        result = lab.engine().execute(w, None, "o-1")
        assert [(step.path, step.output) for step in result.history] == [
            ("poll", 20), ("poll[0].fetch", 0), ("poll[1].fetch", 10), ("poll[2].fetch", 20),
        ]  # fmt: skip
        assert result.history[0].decision is False

    def test_that_never_holds_is_completed_without_an_output(self, lab: Lab) -> None:
        result = lab.engine().execute(
            create_workflow("order").while_("poll", lambda ctx: 0, lab.note("a")), None, "o-1"
        )
        assert [(step.path, step.status, step.output) for step in result.history] == [("poll", "completed", None)]

    def test_costs_one_record_a_decision(self, lab: Lab) -> None:
        w = create_workflow("order").while_("poll", lambda ctx: ctx.iteration < 2, lab.note("a"))
        lab.engine().execute(w, None, "o-1")
        assert lab.types("o-1") == ["start", "decide", "step", "decide", "step", "decide", "end"]

    def test_fails_when_its_condition_holds_after_the_most_iterations(self, lab: Lab) -> None:
        w = create_workflow("order").while_("poll", lambda ctx: True, lab.note("a"), 3)
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("failed", ["a"] * 3)
        assert result.error is not None
        assert (result.error.type, result.error.step) == ("LoopLimit", "poll")
        assert "still holds after 3 iterations" in str(result.error)

    def test_may_take_exactly_the_most_iterations(self, lab: Lab) -> None:
        w = create_workflow("order").while_("poll", lambda ctx: ctx.iteration < 3, lab.note("a"), max_iterations=3)
        assert lab.engine().execute(w, None, "o-1").status == "completed"

    def test_goes_on_where_its_condition_failed_with_resume(self, lab: Lab) -> None:
        def condition(ctx: Context) -> bool:
            lab.calls.append(f"asked {ctx.iteration}")
            if ctx.iteration == 1 and lab.calls.count("asked 1") == 1:
                raise NonRetryable("no")
            return ctx.iteration < 2

        w = create_workflow("order").while_("poll", condition, lab.note("a"))
        assert lab.engine().execute(w, None, "o-1").status == "failed"
        assert lab.engine().resume(w, "o-1").status == "completed"
        assert lab.calls == ["asked 0", "a", "asked 1", "asked 1", "a", "asked 2"]

    def test_polls_durably(self, lab: Lab) -> None:
        body = flow().step("fetch", lambda ctx: ctx.iteration).sleep("pause", 60)
        w = create_workflow("order").while_("poll", lambda ctx: ctx.results.get("fetch") != 2, body)
        lab.engine().execute(w, None, "o-1")
        for _ in range(3):
            assert lab.engine().get(w, "o-1").status == "suspended"
            lab.clock.advance(60)
            lab.engine(workflows=[w]).recover()
        assert lab.engine().get(w, "o-1").status == "completed"


class TestRetryStep:
    def order(self, lab: Lab) -> WorkflowBuilder:
        def work(ctx: Context) -> None:
            ctx.data.seen = [*ctx.data.get("seen", []), ctx.iteration]
            lab.calls.append(f"work {ctx.iteration}")

        def check(ctx: Context) -> None:
            if ctx.iteration == 2 and "mended" not in lab.calls:
                raise NonRetryable("no")

        body = flow().step("work", work).commit("pay", lambda ctx: lab.calls.append(f"pay {ctx.iteration}"))
        return create_workflow("order").loop("each", lab.note("times", 3), body.step("check", check))

    def retried(self, lab: Lab, path: str, **options: Any) -> list[str]:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.calls[:] = ["mended"]
        result = lab.engine().retry_step(w, "o-1", path, **options)
        assert (result.status, result.data) == ("completed", {"seen": [0, 1, 2]})
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)
        return lab.calls[1:]

    def test_goes_back_to_an_iteration_with_the_data_it_had(self, lab: Lab) -> None:
        assert self.retried(lab, "each[1].work") == ["work 1", "work 2"]

    def test_keeps_commits_unless_it_is_forced(self, lab: Lab) -> None:
        assert self.retried(lab, "each[1].pay", force=True) == ["pay 1", "work 2"]

    def test_of_the_failed_step_runs_nothing_else(self, lab: Lab) -> None:
        assert self.retried(lab, "each[2].check") == []

    def test_of_the_loop_asks_for_the_number_again(self, lab: Lab) -> None:
        assert self.retried(lab, "each") == ["times", "work 0", "work 1", "work 2"]

    def test_may_be_done_twice(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "each[0].check")
        lab.calls[:] = ["mended"]
        result = lab.engine().retry_step(w, "o-1", "each[1].pay")
        assert (result.status, result.data, lab.calls) == ("completed", {"seen": [0, 1, 2]}, ["mended", "work 2"])

    def test_of_the_loop_after_one_inside_has_the_data_from_before_the_loop(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.calls.append("mended")
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "each[1].work", force=True)
        result = lab.engine().retry_step(w, "o-1", "each", force=True)
        assert (result.status, result.data) == ("completed", {"seen": [0, 1, 2]})

    def test_of_a_while_makes_its_last_decision_again(self, lab: Lab) -> None:
        def condition(ctx: Context) -> bool:
            lab.calls.append("asked")
            return bool(ctx.iteration < ctx.input)

        w = create_workflow("order").while_("poll", condition, lab.note("a"))
        lab.engine().execute(w, 2, "o-1")
        lab.calls.clear()
        assert lab.engine().retry_step(w, "o-1", "poll", force=True).status == "completed"
        assert lab.calls == ["asked"]
        assert lab.engine().retry_step(w, "o-1", "poll[1].handler", force=True).status == "completed"
        assert lab.calls == ["asked", "a", "asked"]

    def test_needs_the_iteration(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        for path in ("each.work", "each[01].work", "each[-1].work", "each[x].work", "each[1]", "each[9999999999].work"):
            with pytest.raises(UnknownStep, match="has no step"):
                lab.engine().retry_step(w, "o-1", path)
        with pytest.raises(UnknownStep, match=r"named with its number, counted from 0, as in poll\[0\].fetch"):
            lab.engine().retry_step(w, "o-1", "each.work")
