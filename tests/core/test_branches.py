"""`.if_` and `.switch`: a decision is made once and is on record; what it enters is made of steps like any other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import DefinitionError, NonRetryable, Refused, RetryPolicy, UnknownStep, create_workflow, flow, wait
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, WorkflowBuilder
    from tests.core.conftest import Lab

DURABLE = RetryPolicy(60, maximum=60, jitter=False)


def fail(ctx: Context) -> None:
    raise NonRetryable("no")


def shown(result: Any) -> list[tuple[str, str, object]]:
    return [(step.path, step.status, step.output) for step in result.history]


class TestAnIf:
    def order(self, lab: Lab, condition: Callable[[Context], object]) -> WorkflowBuilder:
        then = flow().step("notify", lab.note("notify", "told")).commit("pay", lab.note("pay", "paid"))
        return (
            create_workflow("order").if_("check", condition, then, lab.note("refuse", "no")).step("end", lab.note("e"))
        )

    def test_runs_the_branch_that_its_condition_tells_and_ends_with_its_last_output(self, lab: Lab) -> None:
        result = lab.engine().execute(self.order(lab, lambda ctx: ctx.input), 1, "o-1")
        assert shown(result) == [
            ("check", "completed", "paid"),
            ("check.then.notify", "completed", "told"),
            ("check.then.pay", "completed", "paid"),
            ("end", "completed", None),
        ]
        result = lab.engine().execute(self.order(lab, lambda ctx: ctx.input), 0, "o-2")
        assert shown(result)[:2] == [("check", "completed", "no"), ("check.else.handler", "completed", "no")]
        assert (result.history[0].decision, result.history[1].name) == ("else", "handler")

    def test_without_an_else_is_completed_without_an_output(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", lambda ctx: False, fail)
        assert shown(lab.engine().execute(w, None, "o-1")) == [("check", "completed", None)]

    def test_ends_without_an_output_if_its_last_step_is_skipped(self, lab: Lab) -> None:
        body = flow().step("a", lab.note("a", 1)).step("b", lab.note("b"), when=lambda ctx: False)
        w = create_workflow("order").if_("check", lambda ctx: True, body)
        assert shown(lab.engine().execute(w, None, "o-1"))[0] == ("check", "completed", None)

    def test_asks_once_whatever_happens_afterwards(self, lab: Lab) -> None:
        def condition(ctx: Context) -> bool:
            lab.calls.append("asked")
            return lab.calls.count("asked") == 1

        w = create_workflow("order").if_("check", condition, lab.die, lab.note("else"))
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        again = create_workflow("order").if_("check", condition, flow().step("die", lab.note("then")), lab.note("else"))
        assert lab.engine().wake(again, "o-1").status == "completed"
        assert lab.calls == ["asked", "then"]

    def test_may_have_a_condition_that_is_async_and_leaves_no_data(self, lab: Lab) -> None:
        async def condition(ctx: Context) -> bool:
            ctx.data.seen = True
            return True

        w = create_workflow("order").if_("check", condition, lab.note("then"))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.data) == ("completed", {})

    def test_tries_its_condition_again_as_it_would_a_step(self, lab: Lab) -> None:
        def condition(ctx: Context) -> bool:
            if ctx.attempt == 1:
                raise OSError
            return True

        w = create_workflow("order").if_("check", condition, lab.note("then"), retry=DURABLE)
        assert lab.engine().execute(w, None, "o-1").status == "suspended"
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, result.history[0].retries) == ("completed", 1)

    def test_fails_with_its_condition(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", fail, lab.note("then"))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.error and result.error.step) == ("failed", "check")

    def test_cannot_wait_in_its_condition(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", lambda ctx: wait("go"), lab.note("then"))
        result = lab.engine().execute(w, None, "o-1")
        assert "cannot wait or sleep: put a .wait or .sleep before it" in str(result.error)

    def test_fails_with_a_step_in_it(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", lambda ctx: True, flow().step("a", lab.note("a")).step("b", fail))
        result = lab.engine().execute(w, None, "o-1")
        assert lab.statuses(result) == {"check": "failed", "a": "completed", "b": "failed"}
        assert result.error is not None
        assert (result.error.step, result.history[0].error) == ("check.then.b", "no")


class TestASwitch:
    def kinds(self, lab: Lab, **options: Any) -> WorkflowBuilder:
        cases = {"gold": flow().step("gift", lab.note("gift", 1)), "plain": lab.note("plain", 2)}
        return create_workflow("order").switch("kind", lambda ctx: ctx.input, cases, **options)

    def test_runs_the_case_that_its_selector_names(self, lab: Lab) -> None:
        result = lab.engine().execute(self.kinds(lab), "gold", "o-1")
        assert shown(result) == [("kind", "completed", 1), ("kind.gold.gift", "completed", 1)]
        assert result.history[0].decision == "gold"

    @pytest.mark.parametrize("answer", ["silver", None, 3, ["gold"], "default"])
    def test_runs_the_default_if_no_case_has_the_name(self, answer: object, lab: Lab) -> None:
        result = lab.engine().execute(self.kinds(lab, default=flow().step("none", lab.note("none", 3))), answer, "o-1")
        assert shown(result) == [("kind", "completed", 3), ("kind.default.none", "completed", 3)]

    def test_fails_at_once_if_there_is_no_such_case_and_says_which_there_are(self, lab: Lab) -> None:
        result = lab.engine().execute(self.kinds(lab), "silver", "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert str(result.error) == (
            "the selector of switch 'kind' returned 'silver', and there is no such case; the cases are gold, plain; "
            "add it, or a default="
        )


class TestWhatANestedStepSees:
    def test_is_the_nearest_output_of_a_name(self, lab: Lab) -> None:
        def look(ctx: Context) -> object:
            return ctx.results["a"], ctx.results["b"], ctx.results["check.then.a"], "c" in ctx.results

        inner = flow().if_("deep", lambda ctx: ctx.results["a"] == "inner", flow().step("look", look))
        body = flow().step("a", lambda ctx: "inner")
        w = create_workflow("order").step("a", lambda ctx: "outer").step("b", lambda ctx: "b")
        w.if_("check", lambda ctx: ctx.results["a"] == "outer", body.if_("more", lambda ctx: True, inner))
        w.step("end", lambda ctx: ctx.results["a"])
        result = lab.engine().execute(w, None, "o-1")
        assert result.history[-2].output == ("inner", "b", "inner", False)
        assert result.history[-1].output == "outer"

    def test_names_no_more_than_fifty_steps_where_there_is_no_such_output(self, lab: Lab) -> None:
        w = create_workflow("order").loop("each", 60, lab.note("a")).step("end", lambda ctx: ctx.results["b"])
        error = str(lab.engine().execute(w, None, "o-1").error)
        assert "those that have: each, each[0].handler, " in error
        assert "each[48].handler and 11 more)" in error

    def test_is_its_path_and_the_place_of_the_top_level(self, lab: Lab) -> None:
        def look(ctx: Context) -> object:
            own = [step for step in ctx.history if step.path == ctx.path]
            return ctx.step, ctx.path, ctx.current_step, [step.status for step in own]

        w = create_workflow("order").step("a", lab.note("a")).if_("check", lambda ctx: True, flow().step("look", look))
        result = lab.engine().execute(w, None, "o-1")
        assert result.history[1].output == ("look", "check.then.look", 1, ["running"])

    def test_is_no_iteration_outside_of_a_loop(self, lab: Lab) -> None:
        w = create_workflow("order").if_(
            "check", lambda ctx: True, flow().step("a", lambda ctx: ctx.iteration, retries=0)
        )
        assert "'check.then.a' is in no loop" in str(lab.engine().execute(w, None, "o-1").error)


class TestTheSaga:
    def test_undoes_what_is_nested_in_reverse_order_of_completion(self, lab: Lab) -> None:
        def undo(ctx: Context) -> None:
            lab.calls.append(f"undo {ctx.path}")

        body = (
            flow()
            .step("b", lab.note("b"), compensate=undo)
            .loop("each", 2, flow().commit("c", lab.note("c"), compensate=undo))
        )
        w = create_workflow("order").step("a", lab.note("a"), compensate=undo)
        w.if_("check", lambda ctx: True, body).step("end", fail)
        result = lab.engine().execute(w, None, "o-1")
        assert result.status == "rolled_back"
        assert lab.calls[4:] == [
            "undo check.then.each[1].c",
            "undo check.then.each[0].c",
            "undo check.then.b",
            "undo a",
        ]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)


class TestRetryStep:
    def order(self, lab: Lab) -> WorkflowBuilder:
        def count(ctx: Context) -> None:
            ctx.data.runs = ctx.data.get("runs", 0) + 1

        def last(ctx: Context) -> object:
            if "mended" not in lab.calls:
                raise NonRetryable("no")
            return ctx.data.runs

        body = flow().step("count", count).commit("pay", lab.note("pay")).step("last", last)
        return create_workflow("order").if_("check", lab.note("asked", 1), body).step("end", lab.note("end"))

    def test_goes_back_to_a_step_in_a_branch_and_keeps_the_decision(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.calls.append("mended")
        result = lab.engine().retry_step(w, "o-1", "check.then.count")
        assert (result.status, result.data) == ("completed", {"runs": 1})
        assert lab.calls == ["asked", "pay", "mended", "end"]

    def test_of_a_branch_decides_again(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.calls.append("mended")
        assert lab.engine().retry_step(w, "o-1", "check").status == "completed"
        assert lab.calls == ["asked", "pay", "mended", "asked", "end"]

    def test_goes_on_at_the_failed_step_with_resume(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        lab.calls.append("mended")
        result = lab.engine().resume(w, "o-1")
        assert (result.status, result.history[0].status) == ("completed", "completed")
        assert lab.calls == ["asked", "pay", "mended", "end"]

    def test_of_a_later_step_begins_with_what_was_undone_in_a_branch_that_had_ended(self, lab: Lab) -> None:
        def last(ctx: Context) -> None:
            if "mended" not in lab.calls:
                raise NonRetryable("no")

        body = (
            flow()
            .step("a", lab.note("a"))
            .step("b", lab.note("b"), compensate=lab.note("undo"))
            .step("c", lab.note("c"))
        )
        w = create_workflow("order").if_("check", lab.note("asked", 1), body).step("last", last)
        assert lab.engine().execute(w, None, "o-1").status == "rolled_back"
        lab.calls.append("mended")
        assert lab.engine().retry_step(w, "o-1", "last").status == "completed"
        assert lab.calls == ["asked", "a", "b", "c", "undo", "mended", "b", "c"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_keeps_a_commit_of_a_branch_that_is_not_taken_for_the_time_it_is(self, lab: Lab) -> None:
        other = flow().step("other", lab.note("other"))
        w = create_workflow("order").if_(
            "check", lambda ctx: ctx.data.get("pays", True), flow().commit("pay", lab.note("pay")), other
        )
        lab.engine().execute(w, None, "o-1")
        lab.engine().retry_step(w, "o-1", "check", data={"pays": False}, force=True)
        lab.engine().retry_step(w, "o-1", "check.else.other", force=True)
        assert lab.engine().retry_step(w, "o-1", "check", data={"pays": True}, force=True).status == "completed"
        assert lab.calls == ["pay", "other", "other"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_refused_for_a_branch_that_was_not_taken(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", lambda ctx: True, fail, flow().step("other", lab.note("other")))
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(Refused, match="the workflow has not come to that step; retry 'check', or a step"):
            lab.engine().retry_step(w, "o-1", "check.else.other")

    def test_is_refused_for_a_path_that_there_is_not(self, lab: Lab) -> None:
        w = self.order(lab)
        lab.engine().execute(w, None, "o-1")
        for path in ("check.then", "check.else.count", "check[0].count", "check.then.count.x", "check.then.", ".check"):
            with pytest.raises(
                UnknownStep, match=r"its steps are check, check.then.count, check.then.pay, check.then.last"
            ):
                lab.engine().retry_step(w, "o-1", path)


class TestCompleteAndSkip:
    def waiting(self, lab: Lab) -> WorkflowBuilder:
        body = flow().step("a", lab.note("a")).wait("ask", "go").step("b", lambda ctx: ctx.results.get("ask", "none"))
        w = create_workflow("order").if_("check", lambda ctx: True, body, flow().step("other", lab.note("other")))
        lab.engine().execute(w.step("end", lambda ctx: ctx.results.get("check", "none")), None, "o-1")
        return w

    def test_settle_a_step_in_an_open_branch(self, lab: Lab) -> None:
        result = lab.engine().complete_step(self.waiting(lab), "o-1", "check.then.ask", "by hand")
        assert (result.status, result.history[-1].output) == ("completed", "by hand")

    @pytest.mark.parametrize(("verb", "status", "output"), [("complete", "completed", 7), ("skip", "skipped", "none")])
    def test_close_a_whole_branch(self, verb: str, status: str, output: object, lab: Lab) -> None:
        w, engine = self.waiting(lab), lab.engine()
        result = engine.skip_step(w, "o-1", "check") if verb == "skip" else engine.complete_step(w, "o-1", "check", 7)
        assert (result.status, result.history[-1].output) == ("completed", output)
        statuses = {"check": status, "a": "completed", "ask": "skipped", "end": "completed"}
        assert lab.statuses(result) == statuses
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_are_refused_in_a_branch_that_is_not_open(self, lab: Lab) -> None:
        w = self.waiting(lab)
        with pytest.raises(
            Refused, match=r"'check\.else' is not open: it has ended, or the workflow has not come to it"
        ):
            lab.engine().complete_step(w, "o-1", "check.else.other")

    def test_of_a_branch_are_refused_while_a_commit_in_it_is_in_doubt(self, lab: Lab) -> None:
        def unknown(ctx: Context) -> None:
            raise TimeoutError

        w = create_workflow("order").if_("check", lambda ctx: True, flow().commit("pay", unknown))
        assert lab.engine().execute(w, None, "o-1").status == "stuck"
        with pytest.raises(Refused, match=r"step 'check\.then\.pay' in it has an attempt of unknown outcome"):
            lab.engine().skip_step(w, "o-1", "check")
        assert lab.engine().complete_step(w, "o-1", "check.then.pay", "paid").history[0].output == "paid"

    def test_open_a_failed_instance_in_the_branch(self, lab: Lab) -> None:
        body = flow().step("a", fail).step("b", lambda ctx: ctx.results["a"])
        w = create_workflow("order").if_("check", lambda ctx: True, body)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().complete_step(w, "o-1", "check.then.a", 5)
        assert (result.status, result.history[0].output) == ("completed", 5)

    def test_of_a_branch_is_no_success_that_a_later_retry_would_keep(self, lab: Lab) -> None:
        w = self.waiting(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().complete_step(w, "o-1", "check")
        assert "check" not in lab.engine().get(w, "o-1").state.completed
        lab.engine().retry_step(w, "o-1", "check.then.ask", force=True)
        lab.engine().complete_step(w, "o-1", "check")
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)


class TestTheTrace:
    def test_tells_of_a_branch_when_it_decides_and_when_it_ends(self, lab: Lab) -> None:
        hooks: list[tuple[str, str, object]] = []
        on = {
            "step_start": lambda name, ctx: hooks.append(("start", name, None)),
            "step_complete": lambda name, ctx, result: hooks.append(("complete", name, result)),
        }
        w = create_workflow("order").if_("check", lambda ctx: True, flow().step("a", lab.note("a", 1)))
        lab.engine(trace=lab.events, on=on).execute(w, None, "o-1")
        assert lab.events.types == [
            "workflow:start", "step:start check", "step:start a", "step:complete a", "step:complete check",
            "workflow:complete",
        ]  # fmt: skip
        (ended,) = [event for event in lab.events.of("step:complete") if event["step_name"] == "check"]
        assert ended["meta"] == {"decision": "then"}
        assert [event.get("step_path") for event in lab.events.of("step:start")] == [None, "check.then.a"]
        assert hooks == [("start", "check", None), ("start", "a", None), ("complete", "a", 1), ("complete", "check", 1)]


class TestTheDeclaration:
    def test_nests_to_any_depth_and_is_told_by_describe(self) -> None:
        inner = flow().loop("each", 2, flow().commit("c", fail))
        w = create_workflow("order").if_("check", fail, flow().switch("kind", fail, {"a": inner}, retries=1))
        (told,) = w.describe()["steps"]
        assert (told["kind"], list(told["bodies"])) == ("if", ["then"])
        (kind,) = told["bodies"]["then"]
        assert (kind["kind"], kind["retries"], kind["bodies"]["a"][0]["bodies"]["body"][0]["name"]) == (
            "switch",
            1,
            "c",
        )
        assert list(w.build().by_path) == [
            "check",
            "check.then.kind",
            "check.then.kind.a.each",
            "check.then.kind.a.each.c",
        ]
        assert w.build().step("check.then.kind.a.each[12].c").path == "check.then.kind.a.each[12].c"

    def test_gives_nested_steps_the_defaults_of_the_workflow(self) -> None:
        body = flow().step("a", fail).step("b", fail, retries=0)
        w = create_workflow("order", retries=7, step_timeout=5).if_("check", fail, body).build()
        assert [(w.by_path[f"check.then.{name}"].retries, w.by_path["check"].timeout) for name in "ab"] == [
            (7, 5),
            (0, 5),
        ]

    def test_has_a_fingerprint_of_the_whole_tree(self) -> None:
        def prints(then: Any, else_: Any = None) -> str:
            return create_workflow("order").if_("check", fail, then, else_).build().fingerprint

        bodies = [
            prints(flow().step("a", fail)), prints(flow().commit("a", fail)), prints(flow().step("b", fail)),
            prints(flow().step("a", fail), flow().step("a", fail)),
        ]  # fmt: skip
        assert len(set(bodies)) == len(bodies)
        assert prints(flow().step("a", fail)) == prints(flow().step("a", lambda ctx: 1, retries=2))

    def test_may_use_a_flow_in_several_places(self, lab: Lab) -> None:
        body = flow().step("a", lab.note("a"))
        w = create_workflow("order").if_("one", lambda ctx: True, body).if_("two", lambda ctx: False, body, body)
        assert lab.engine().execute(w, None, "o-1").status == "completed"
        assert lab.calls == ["a", "a"]

    @pytest.mark.parametrize(
        ("declare", "message"),
        [
            (lambda w: w.if_("a", 1, fail), "workflow 'order', if 'a': the condition must be a function"),
            (
                lambda w: w.if_("a", fail, None),
                r"if 'a': 'then' must be a flow\(\) or a function that takes the context",
            ),
            (lambda w: w.if_("a", fail, create_workflow("b").step("c", fail)), r"'then' must be a flow\(\)"),
            (lambda w: w.if_("a", fail, flow()), r"a flow\(\) has no steps"),
            (lambda w: w.if_("a", fail, flow().step("b", fail).step("b", fail)), r"names are unique in a flow\(\)"),
            (
                lambda w: w.if_("a", fail, fail, when=fail),
                "no option 'when'; the options are retries, timeout, retry, al",
            ),
            (lambda w: w.if_("a.b", fail, fail), "workflow 'order': the step name 'a.b' is not allowed"),
            (lambda w: w.switch("a", fail, {}), "switch 'a': cases must be a dict of at least one name"),
            (lambda w: w.switch("a", fail, {"b.c": fail}), "switch 'a', as a case: the step name 'b.c' is not allowed"),
            (lambda w: w.switch("a", fail, {"default": fail}), "a case cannot be named 'default': give it as default="),
            (
                lambda w: w.loop("a", -1, fail),
                "loop 'a': times must be a whole number from 0 on, or a function; got -1",
            ),
            (
                lambda w: w.loop("a", 1, 2),
                r"loop 'a': the body must be a flow\(\) or a function that takes the context",
            ),
            (
                lambda w: w.while_("a", fail, fail, 0),
                "while 'a': max_iterations must be a whole number from 1 on; got 0",
            ),
        ],
    )
    def test_that_is_wrong_says_what_to_change(self, declare: Callable[[Any], object], message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            declare(create_workflow("order"))

    def test_of_a_flow_takes_decorators_until_it_is_used(self) -> None:
        body = flow()

        @body.step
        def a(ctx: Context) -> None: ...

        create_workflow("order").if_("check", fail, body)
        with pytest.raises(DefinitionError, match=r"a flow\(\) is frozen since its first use; declare step 'b' before"):
            body.step("b", fail)
        open_ = flow().step("a", fail)
        open_.step("b")
        with pytest.raises(DefinitionError, match=r"a flow\(\): step 'b' has no handler"):
            create_workflow("order").if_("check", fail, open_)


class TestAChangedDefinition:
    def test_takes_a_nested_step_by_its_alias_and_skips_what_is_new_before(self, lab: Lab) -> None:
        body = flow().commit("pay", lab.note("pay")).wait("ask", "go").step("end", lab.note("end"))
        w = create_workflow("order").if_("check", lambda ctx: True, body)
        lab.engine().execute(w, None, "o-1")
        new = flow().step("new", lab.note("new")).commit("charge", lab.note("charge"), aliases="pay").wait("ask", "go")
        changed = create_workflow("order").if_(
            "verify", lambda ctx: True, new.step("more", lab.note("more")), aliases="check"
        )
        found = lab.engine().check(changed, "o-1")
        assert found.renamed == {"check": "verify", "check.then.pay": "verify.then.charge"}
        assert found.passed == ["verify.then.new"]
        result = lab.engine().signal(changed, "o-1", "go")
        assert lab.calls == ["pay", "more"]
        assert lab.statuses(result) == {
            "verify": "completed", "charge": "completed", "ask": "completed", "new": "skipped", "more": "completed",
        }  # fmt: skip
        check_invariants(lab.storage, lab.ref("o-1"), workflow=changed.build(), at_rest=True)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda lab, body: create_workflow("order").step("check", lab.note("x")), "the instance is inside 'check'"),
            (
                lambda lab, body: create_workflow("order").loop("check", 1, body),
                "'check.then.pay' has been made, and must not be made again, but there is no such step any more",
            ),
            (
                lambda lab, body: create_workflow("order").if_("check", fail, flow().wait("ask", "go")),
                r"'check.then.pay' has been made, .*: keep it, or give the one in its place aliases=\['pay'\]",
            ),
            (
                lambda lab, body: create_workflow("order").if_("check", fail, flow().commit("pay", fail)),
                "'check.then.ask' waits for the signal 'go', but there is no such step any more",
            ),
            (
                lambda lab, body: create_workflow("order").if_(
                    "check", fail, flow().wait("ask", "go").commit("pay", fail)
                ),
                "'check.then.ask' is still to come, but the definition has it before 'check.then.pay', which is done",
            ),
        ],
    )
    def test_that_contradicts_what_is_nested_blocks(self, change: Any, problem: str, lab: Lab) -> None:
        def body() -> Any:
            return flow().commit("pay", lab.note("pay")).wait("ask", "go")

        lab.engine().execute(create_workflow("order").if_("check", lambda ctx: True, body()), None, "o-1")
        changed = change(lab, body())
        problems = lab.engine().check(changed, "o-1").problems
        assert any(re.search(problem, found) for found in problems), problems
        lab.engine().signal(changed, "o-1", "go")
        assert lab.engine().get(changed, "o-1").status == "blocked"

    def test_skips_what_is_new_before_a_branch_that_it_is_inside(self, lab: Lab) -> None:
        w = create_workflow("order").loop("each", 1, flow().if_("check", lambda ctx: True, flow().wait("ask", "go")))
        lab.engine().execute(w, None, "o-1")
        inner = flow().step("new", lab.note("new")).if_("check", fail, flow().wait("ask", "go"))
        changed = create_workflow("order").step("first", lab.note("first")).loop("each", 1, inner)
        found = lab.engine().check(changed, "o-1")
        assert found.passed == ["first", "each[0].new"]
        assert lab.engine().signal(changed, "o-1", "go").status == "completed"
        assert lab.calls == []
        check_invariants(lab.storage, lab.ref("o-1"), workflow=changed.build(), at_rest=True)

    def test_cannot_have_what_is_still_to_come_before_a_branch_that_it_is_inside(self, lab: Lab) -> None:
        w = create_workflow("order").loop("each", 1, flow().wait("ask", "go")).step("end", lab.note("end"))
        lab.engine().execute(w, None, "o-1")
        moved = create_workflow("order").step("end", lab.note("end")).loop("each", 1, flow().wait("ask", "go"))
        (problem,) = lab.engine().check(moved, "o-1").problems
        assert "'end' is still to come, but the definition has it before 'each', which has begun" in problem

    def test_must_keep_a_commit_of_a_branch_that_has_ended(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .if_("check", lambda ctx: True, flow().commit("pay", lab.note("pay")))
            .wait("ask", "go")
        )
        lab.engine().execute(w, None, "o-1")
        gone = (
            create_workflow("order").if_("check", lambda ctx: True, flow().step("b", lab.note("b"))).wait("ask", "go")
        )
        assert "commit 'check.then.pay' has been made" in lab.engine().check(gone, "o-1").problems[0]
        fine = create_workflow("order").if_("check", fail, flow().commit("b", fail, aliases="pay")).wait("ask", "go")
        assert lab.engine().signal(fine, "o-1", "go").history[1].path == "check.then.b"

    def test_may_drop_a_plain_step_of_a_branch_that_has_ended(self, lab: Lab) -> None:
        body = flow().step("a", lab.note("a", 1)).step("b", lab.note("b"))
        w = create_workflow("order").if_("check", lambda ctx: True, body).wait("ask", "go").step("end", lab.note("end"))
        lab.engine().execute(w, None, "o-1")
        changed = create_workflow("order").if_("check", fail, flow().step("b", fail)).wait("ask", "go")
        changed.step("end", lambda ctx: ctx.results["check.then.a"]).step("stop", fail)
        result = lab.engine().signal(changed, "o-1", "go")
        assert (result.status, result.history[-2].output) == ("failed", 1)
        assert lab.engine().get(changed, "o-1").status == "failed"


class TestAFailedInstanceWhoseDefinitionChanges:
    """Resumed in a branch that had ended, because something in it was undone."""

    def test_runs_what_has_come_in_before_the_undone_step(self, lab: Lab) -> None:
        def workflow(*, since: bool, last: Any) -> WorkflowBuilder:
            body = flow().step("new", lab.note("new")) if since else flow()
            body.step("a", lambda ctx: ctx.data.update(a=len(lab.calls)), compensate=lab.note("undo"))
            return create_workflow("order").if_("check", lambda ctx: True, body).step("last", last)

        assert lab.engine().execute(workflow(since=False, last=fail), None, "o-1").status == "rolled_back"
        mended = workflow(since=True, last=lab.note("last"))
        result = lab.engine().resume(mended, "o-1")
        assert (result.status, lab.calls) == ("completed", ["undo", "new", "last"])
        check_invariants(lab.storage, lab.ref("o-1"), workflow=mended.build(), at_rest=True)

    def test_skips_what_has_come_in_before_a_branch_that_has_begun(self, lab: Lab) -> None:
        w = create_workflow("order").if_("check", lambda ctx: True, flow().wait("ask", "go"))
        lab.engine().execute(w, None, "o-1")
        changed = create_workflow("order").step("new", lab.note("new")).if_("check", fail, flow().wait("ask", "go"))
        result = lab.engine().signal(changed, "o-1", "go")
        assert lab.statuses(result) == {"new": "skipped", "check": "completed", "ask": "completed"}

    def test_is_blocked_if_a_step_to_come_is_put_before_a_branch_that_has_begun(self, lab: Lab) -> None:
        body = flow().wait("ask", "go")
        w = create_workflow("order").if_("check", lambda ctx: True, body).step("end", lab.note("end"))
        lab.engine().execute(w, None, "o-1")
        changed = create_workflow("order").step("end", lab.note("end")).if_("check", fail, body)
        (problem,) = lab.engine().check(changed, "o-1").problems
        assert "'end' is still to come, but the definition has it before 'check', which has begun" in problem
