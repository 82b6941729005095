"""`.wait`, `.wait_any`, `.sleep` and `.sleep_until` on the builder: steps that only wait, without a handler."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import DefinitionError, create_workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, WorkflowBuilder
    from tests.core.conftest import Lab


class TestANodeThatWaits:
    def test_ends_with_the_payload_of_its_signal(self, lab: Lab) -> None:
        w = create_workflow("order").wait("ask", "go").step("end", lambda ctx: ctx.results["ask"])
        assert lab.engine().execute(w, None, "o-1").status == "suspended"
        assert lab.engine().signal(w, "o-1", "go", {"by": "ann"}).history[1].output == {"by": "ann"}

    def test_ends_with_its_default_or_fails_when_its_time_is_over(self, lab: Lab) -> None:
        w = create_workflow("order").wait("a", "go", timeout=60, on_timeout="none").wait("b", "go", timedelta(hours=1))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").history[0].output == "none"
        lab.clock.advance(3600)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, result.error and result.error.type) == ("failed", "WaitTimeout")

    def test_takes_whichever_of_several_signals_comes_first(self, lab: Lab) -> None:
        w = create_workflow("order").wait_any("end", ["paid", "given-up"])
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "given-up", 1).status == "completed"

    def test_may_have_a_condition(self, lab: Lab) -> None:
        w = create_workflow("order").wait("ask", "go", when=lambda ctx: ctx.input["ask"])
        assert lab.engine().execute(w, {"ask": False}, "o-1").history[0].status == "skipped"
        assert lab.engine().execute(w, {"ask": True}, "o-2").status == "suspended"


class TestANodeThatSleeps:
    def asynchronous() -> Callable[[Context], Any]:  # type: ignore[misc]
        async def ask(ctx: Context) -> float:
            return 60

        return ask

    @pytest.mark.parametrize("duration", [60, timedelta(minutes=1), lambda ctx: ctx.input, asynchronous()])
    def test_lets_time_pass(self, duration: Any, lab: Lab) -> None:
        w = create_workflow("order").sleep("nap", duration).step("end", lab.note("end"))
        begun = lab.clock.now()
        assert lab.engine().execute(w, 60, "o-1").status == "suspended"
        assert lab.header("o-1").due == begun + 60_000
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").status == "completed"

    @pytest.mark.parametrize("told", [False, True])
    def test_may_last_until_a_moment(self, told: bool, lab: Lab) -> None:
        until = datetime.fromtimestamp(lab.clock.now() / 1000 + 90, UTC)
        w = create_workflow("order").sleep_until("nap", (lambda ctx: until) if told else until)
        lab.engine().execute(w, None, "o-1")
        assert lab.header("o-1").due == lab.clock.now() + 90_000

    def test_whose_function_tells_no_duration_fails_at_once(self, lab: Lab) -> None:
        w = create_workflow("order").sleep("nap", lambda ctx: "soon")  # type: ignore[arg-type, return-value]
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert "sleep(...) must be a duration" in str(result.error)


class TestTheDeclaration:
    def test_tells_the_kinds(self) -> None:
        w = create_workflow("order").wait("a", "go").sleep("b", 1).step("c", lambda ctx: None)
        assert [step["kind"] for step in w.describe()["steps"]] == ["wait", "sleep", "step"]
        assert w.build().kinds == "wzs"

    @pytest.mark.parametrize(
        ("declare", "message"),
        [
            (lambda w: w.wait("a", "g o"), "workflow 'order', wait 'a': the signal name 'g o' is not allowed"),
            (lambda w: w.wait_any("a", "go"), r"wait 'a': wait_any\(\) takes several signal names"),
            (lambda w: w.sleep("a", -1), r"workflow 'order', sleep 'a': sleep\(...\) must be a duration"),
            (lambda w: w.sleep_until("a", datetime(2026, 1, 1)), "needs a datetime with a time zone"),  # noqa: DTZ001
            (lambda w: w.sleep("a", lambda: 1), "sleep 'a': the time must take the context"),
            (lambda w: w.sleep("a", 1, retries=2), "there is no option 'retries'; the options are when, aliases"),
            (lambda w: w.wait("a.b", "go"), "the step name 'a.b' is not allowed"),
        ],
    )
    def test_that_is_wrong_says_what_to_change(
        self, declare: Callable[[WorkflowBuilder], object], message: str
    ) -> None:
        with pytest.raises(DefinitionError, match=message):
            declare(create_workflow("order"))

    def test_a_handler_that_waits_may_become_a_node_while_instances_wait(self, lab: Lab) -> None:
        from flux_core import wait

        lab.engine().execute(create_workflow("order").step("ask", lambda ctx: wait("go")), None, "o-1")
        assert lab.engine().signal(create_workflow("order").wait("ask", "go"), "o-1", "go").status == "completed"
