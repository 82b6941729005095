"""What a verb returns: the instance as it left it, as values that reach back into nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    Context,
    ErrorInfo,
    FluxError,
    NonRetryable,
    Unknown,
    WorkflowFailed,
    compensation,
    create_workflow,
    sleep,
    wait,
)

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


def unknown(ctx: Context) -> None:
    raise Unknown


class TestRaiseForStatus:
    def test_returns_the_result_of_what_went_well_or_goes_on(self, lab: Lab) -> None:
        for step in (lab.note("a"), lambda ctx: wait("go"), lambda ctx: sleep(5)):
            result = lab.engine().execute(create_workflow("order").step("a", step))
            assert result.raise_for_status() is result

    def test_raises_for_a_failure_naming_workflow_id_status_step_and_error(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").step("a", boom), None, "o-1")
        with pytest.raises(WorkflowFailed, match="workflow 'order', id 'o-1' is failed at step 'a': boom"):
            result.raise_for_status()
        assert issubclass(WorkflowFailed, FluxError)

    def test_raises_for_rolled_back_cancelled_stuck_and_blocked(self, lab: Lab) -> None:
        engine = lab.engine()
        undone = create_workflow("one").step("a", lab.note("a"), compensate=lab.note("u")).step("b", boom)
        with pytest.raises(WorkflowFailed, match="is rolled_back at step 'b': boom"):
            engine.execute(undone, None, "o-1").raise_for_status()
        waits = create_workflow("two").step("a", lambda ctx: wait("go"))
        engine.execute(waits, None, "o-1")
        with pytest.raises(WorkflowFailed, match="is blocked: the steps of workflow 'two' have changed"):
            engine.wake(create_workflow("two").step("b", boom), "o-1").raise_for_status()
        with pytest.raises(WorkflowFailed, match="is cancelled: enough"):
            engine.cancel(waits, "o-1", "enough").raise_for_status()
        with pytest.raises(WorkflowFailed, match="is stuck at step 'a': nobody knows"):
            engine.execute(create_workflow("three").commit("a", unknown)).raise_for_status()

    def test_does_not_raise_while_it_is_being_undone(self, lab: Lab) -> None:
        from flux_core import RetryPolicy

        def undo(ctx: Context) -> None:
            raise OSError

        later = compensation(undo, retry=RetryPolicy(60, maximum=60, jitter=False))
        w = create_workflow("order").step("a", lab.note("a"), compensate=later).step("b", boom)
        result = lab.engine().execute(w)
        assert (result.status, str(result.error)) == ("rolling_back", "boom")
        assert result.raise_for_status() is result


class TestTheHistory:
    def test_has_one_entry_a_step_in_definition_order_with_those_that_never_ran(self, lab: Lab) -> None:
        w = create_workflow("order").step("z", lab.note("z", 1)).step("y", lab.note("y"), when=lambda ctx: False)
        w.step("x", boom).step("a", lab.note("a"))
        result = lab.engine().execute(w)
        assert [
            (step.name, step.path, step.status, step.output, step.error, step.retries) for step in result.history
        ] == [
            ("z", "z", "completed", 1, None, 0),
            ("y", "y", "skipped", None, None, 0),
            ("x", "x", "failed", None, "boom", 0),
            ("a", "a", "pending", None, None, 0),
        ]

    def test_has_times_in_utc_and_durations_in_seconds(self, lab: Lab) -> None:
        begun = lab.clock.now()
        w = (
            create_workflow("order")
            .step("a", lambda ctx: lab.clock.advance(1.5))
            .step("b", boom)
            .step("c", lab.note("c"))
        )
        a, b, c = lab.engine().execute(w).history
        assert a.started_at == datetime.fromtimestamp(begun / 1000, UTC)
        assert a.completed_at == datetime.fromtimestamp(begun / 1000 + 1.5, UTC)
        assert a.duration == pytest.approx(1.5)
        assert b.completed_at == a.completed_at
        assert (c.started_at, c.completed_at, c.duration, c.compensated_at) == (None, None, None, None)

    def test_tells_when_a_step_was_undone(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("a", lab.note("a"), compensate=lambda ctx: lab.clock.advance(2))
            .step("b", boom)
        )
        (a, _) = lab.engine().execute(w).history
        assert a.completed_at is not None
        assert a.compensated_at is not None
        assert (a.compensated_at - a.completed_at).total_seconds() == 2

    def test_counts_retries_of_the_last_round(self, lab: Lab) -> None:
        def third(ctx: Context) -> None:
            if ctx.attempt < 3:
                raise OSError

        assert lab.engine().execute(create_workflow("order").step("a", third)).history[0].retries == 2


class TestAResult:
    def test_is_equal_when_it_is_read_again(self, lab: Lab) -> None:
        def a(ctx: Context) -> list[int]:
            ctx.data["x"] = {"y": (1, 2)}
            return [1]

        w = (
            create_workflow("order")
            .step("a", a, compensate=lab.note("u"))
            .commit("b", lab.note("b", 2))
            .step("c", boom)
        )

        def shown(result: Any) -> object:
            steps = [
                (
                    s.name,
                    s.status,
                    s.retries,
                    s.output,
                    s.error,
                    s.started_at,
                    s.completed_at,
                    s.compensated_at,
                    s.duration,
                )
                for s in result.history
            ]
            return result.id, result.status, result.data, result.error, steps

        assert shown(lab.engine().execute(w, None, "o-1")) == shown(lab.engine().get(w, "o-1"))

    def test_has_an_id_a_duration_and_tells_whether_it_was_created(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.clock.advance(2.5))
        result = lab.engine().execute(w)
        assert (len(result.id), result.created) == (32, True)
        assert result.duration == pytest.approx(2.5)
        assert lab.engine().get(w, result.id).created is False
        assert repr(result) == f"<FluxResult order/{result.id} completed>"

    def test_has_no_error_when_nothing_went_wrong(self, lab: Lab) -> None:
        assert lab.engine().execute(create_workflow("order").step("a", lab.note("a"))).error is None

    def test_can_be_changed_without_changing_the_instance(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1)).step("g", lambda ctx: wait("go"))
        result = lab.engine().execute(w, None, "o-1")
        result.data["x"] = 2
        result.history.clear()
        assert lab.engine().signal(w, "o-1", "go").data == {"x": 1}


class TestAnErrorInfo:
    def test_shows_its_message_and_compares_by_value(self) -> None:
        one = ErrorInfo("ValueError", "broken", "a")
        assert str(one) == "broken"
        assert one == ErrorInfo("ValueError", "broken", "a")
        assert one != ErrorInfo("ValueError", "broken", "b")
        assert one != "broken"
        assert len({one, ErrorInfo("ValueError", "broken", "a")}) == 1
