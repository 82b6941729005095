"""Hooks are told what happened, with the seeds' arguments; nothing that a hook does changes an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import Context, DefinitionError, NonRetryable, create_workflow, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

NAMES = ("step_start", "step_complete", "step_error", "workflow_complete", "workflow_error")


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


class Told:
    """Hooks that keep their arguments, contexts as what they show."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def hooks(self) -> dict[str, Callable[..., object]]:
        def hook(name: str) -> Callable[..., object]:
            def told(*arguments: Any) -> None:
                shown = [
                    (argument.id, argument.step, argument.attempt, dict(argument.data))
                    if isinstance(argument, Context)
                    else argument
                    for argument in arguments
                ]
                self.all.append((name, *shown))

            return told

        return {name: hook(name) for name in NAMES}


class TestTheArguments:
    def test_of_a_run_that_completes_are_name_context_and_result(self, lab: Lab) -> None:
        told = Told()

        def a(ctx: Context) -> str:
            ctx.data["x"] = 1
            return "A"

        lab.engine(on=told.hooks()).execute(create_workflow("order").step("a", a), None, "o-1")
        assert told.all == [
            ("step_start", "a", ("o-1", "a", 1, {})),
            ("step_complete", "a", ("o-1", "a", 1, {"x": 1}), "A"),
            ("workflow_complete", ("o-1", None, 0, {"x": 1})),
        ]

    def test_of_a_run_that_fails_are_name_context_and_error(self, lab: Lab) -> None:
        told = Told()

        def bad(ctx: Context) -> None:
            ctx.data["half"] = 1
            boom(ctx)

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1)).step("b", bad)
        lab.engine(on=told.hooks()).execute(w, None, "o-1")
        name, step, ctx, error = told.all[3]
        assert (name, step, ctx) == ("step_error", "b", ("o-1", "b", 1, {"x": 1})), "with the data as recorded"
        assert (str(error), error.type, error.step) == ("boom", "NonRetryable", "b")
        name, ctx, error = told.all[4]
        assert (name, ctx, str(error)) == ("workflow_error", ("o-1", None, 0, {"x": 1}), "boom")
        assert len(told.all) == 5

    def test_of_retries_tell_the_start_once_and_no_error(self, lab: Lab) -> None:
        told = Told()

        def once(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise OSError

        lab.engine(on=told.hooks()).execute(create_workflow("order").step("a", once))
        assert [entry[0] for entry in told.all] == ["step_start", "step_complete", "workflow_complete"]

    def test_of_a_run_that_is_undone_tell_its_error(self, lab: Lab) -> None:
        told = Told()
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo")).step("b", boom)
        lab.engine(on=told.hooks()).execute(w)
        assert [entry[0] for entry in told.all][-2:] == ["step_error", "workflow_error"]

    def test_of_a_run_that_suspends_tell_no_end(self, lab: Lab) -> None:
        told = Told()
        lab.engine(on=told.hooks()).execute(create_workflow("order").step("a", lambda ctx: wait("go")))
        assert [entry[0] for entry in told.all] == ["step_start"]


class TestAHookThatFails:
    @pytest.mark.parametrize("name", NAMES)
    def test_changes_nothing_and_is_counted_and_logged(self, name: str, lab: Lab) -> None:
        def hook(*arguments: object) -> None:
            message = "hook down"
            raise RuntimeError(message)

        good = create_workflow("good").step("a", lab.note("a", 1))
        bad = create_workflow("bad").step("a", lab.note("a"), compensate=lab.note("undo a")).step("b", boom)
        engine = lab.engine(on={name: hook})
        assert engine.execute(good, None, "o-1").status == "completed"
        assert engine.execute(bad, None, "o-1").status == "rolled_back"
        assert lab.calls == ["a", "a", "undo a"]
        assert engine.telemetry.errors >= 1
        expected = ("error", f"a hook {name} raised; the workflow goes on", {"error": "RuntimeError('hook down')"})
        assert expected in lab.log.lines

    def test_leaves_the_log_as_it_would_be_without_hooks(self, lab: Lab) -> None:
        def hook(*arguments: object) -> None:
            raise RuntimeError

        w = create_workflow("order").step("a", lab.note("a", 1), compensate=lab.note("u")).commit("b", boom)
        lab.engine(on=dict.fromkeys(NAMES, hook)).execute(w, None, "with")
        lab.engine().execute(w, None, "without")
        assert lab.types("with") == lab.types("without")


class TestAHookThatMeddles:
    @pytest.mark.parametrize("name", NAMES)
    def test_with_the_data_changes_nothing_that_is_kept(self, name: str, lab: Lab) -> None:
        def hook(*arguments: object) -> None:
            for argument in arguments:
                if isinstance(argument, Context):
                    argument.data["meddled"] = True
                    argument.data["box"].append("meddled")

        def look(ctx: Context) -> object:
            return dict(ctx.data)

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(box=[1])).step("b", look).step("c", look)
        engine = lab.engine(on={name: hook})
        result = engine.execute(w, None, "o-1")
        assert result.history[2].output == {"box": [1]}
        assert result.data == engine.get(w, "o-1").data == {"box": [1]}

    def test_with_a_result_changes_nothing_that_is_kept(self, lab: Lab) -> None:
        def hook(name: str, ctx: Context, result: Any) -> None:
            if name == "a":
                result.append("meddled")

        w = create_workflow("order").step("a", lab.note("a", [1])).step("b", lambda ctx: ctx.results["a"])
        result = lab.engine(on={"step_complete": hook}).execute(w)
        assert [step.output for step in result.history] == [[1], [1]]


class TestAWrongHook:
    @pytest.mark.parametrize("hooks", [{"step_started": print}, {"step_start": "print"}, {"": print}])
    def test_is_refused_and_told_which_there_are(self, hooks: Any) -> None:
        from flux_core import FluxEngine

        with pytest.raises(
            DefinitionError, match="is no hook, or not a function; the hooks are step_start, step_complete"
        ):
            FluxEngine(on=hooks)
