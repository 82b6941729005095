"""Stubs: a value, an exception, a sequence, a function or a duration in the place of a handler or another part."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    DefinitionError,
    Done,
    UnknownStep,
    create_workflow,
    flow,
    sleep,
    verify,
    wait,
)
from flux_core.testing import FluxTest
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder


def flow_of(*names: str, **options: Any) -> WorkflowBuilder:
    w = create_workflow("flow")
    for name in names:
        w.step(name, lambda ctx: f"real {ctx.step}", **options)
    return w


class TestInBranchesAndLoops:
    def workflow(self) -> WorkflowBuilder:
        body = flow().step("fetch", lambda ctx: f"real {ctx.iteration}").wait("answer", "go")
        return (
            create_workflow("nested")
            .if_("check", lambda ctx: False, lambda ctx: "yes", flow().step("no", lambda ctx: "no"))
            .loop("poll", 2, body)
        )

    def test_a_step_of_a_loop_is_played_in_every_iteration(self) -> None:
        w = self.workflow()
        flux = FluxTest(w)
        flux.stub("poll.fetch", sequence=["a", "b"])
        run = flux.execute(w)
        assert run.waiting_for == ("go",)
        run.signal("go")
        run.signal("go")
        run.assert_completed()
        assert [run.output(f"poll[{number}].fetch") for number in range(2)] == ["a", "b"]
        assert [attempt.step for attempt in run.attempts("poll.fetch")] == ["poll[0].fetch", "poll[1].fetch"]
        assert [attempt.output for attempt in run.attempts("poll[1].fetch")] == ["b"]
        assert "poll: 2 times" in run.story()

    def test_a_decision_is_played_like_a_step(self) -> None:
        w = self.workflow()
        flux = FluxTest(w)
        flux.stub("check", returns=True)
        run = flux.execute(w)
        assert (run.output("check"), run.output("check.then.run")) == ("yes", "yes")
        assert "check: then" in run.story()
        with pytest.raises(
            UnknownStep, match=r"its steps are check, check\.then\.run, check\.else\.no, poll, poll\.fetch"
        ):
            flux.stub("poll.fecth", returns=1, workflow=w)


class TestWhatAStubDoes:
    def test_returns_a_value_every_time(self) -> None:
        flow = flow_of("a", "b")
        flux = FluxTest(flow)
        flux.stub("a", returns={"id": 1})
        for _ in range(2):
            run = flux.execute(flow)
            assert (run.output("a"), run.output("b")) == ({"id": 1}, "real b")

    def test_returns_none_if_told_so(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", returns=None)
        assert flux.execute(flow).assert_completed().output("a") is None

    @pytest.mark.parametrize("error", [TimeoutError("gateway"), TimeoutError])
    def test_raises_an_exception_every_time(self, error: Any) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow, default_retries=2, inline_backoff=60)
        flux.stub("a", raises=error)
        flux.execute(flow).assert_failed(TimeoutError).assert_step("a", attempts=3)

    def test_plays_a_sequence_one_entry_an_attempt(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", sequence=[TimeoutError("gateway"), OSError, wait("go", timeout=60, on_timeout="late")])
        run = flux.execute(flow)
        run.assert_waiting("go").assert_step("a", attempts=3)
        flux.advance(minutes=1)
        assert run.output("a") == "late"

    def test_a_sequence_is_each_instance_s_own(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", sequence=[OSError(), "second"])
        assert [flux.execute(flow).output("a") for _ in range(3)] == ["second"] * 3

    def test_a_sequence_that_is_used_up_fails_the_test_and_not_just_the_step(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", sequence=[OSError(), OSError()])
        with pytest.raises(AssertionError) as told:
            flux.execute(flow, id="o-1")
        assert str(told.value) == (
            "the stub of step 'a': its sequence has 2 entries, and instance 'o-1' asks for number 3 (attempt 3); give "
            "it one entry for each attempt, or use returns= or raises="
        )

    def test_a_sequence_that_is_used_up_during_an_advance_fails_the_test(self) -> None:
        flow = create_workflow("flow").step("rest", lambda ctx: sleep(60)).step("a", lambda ctx: None)
        flux = FluxTest(flow)
        flux.stub("a", sequence=[])
        flux.execute(flow)
        with pytest.raises(AssertionError, match="its sequence has 0 entries"):
            flux.advance(minutes=1)

    def test_calls_another_function(self) -> None:
        def other(ctx: Context) -> str:
            ctx.data.seen = ctx.attempt
            return f"{ctx.step} of {ctx.id}"

        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", calls=other)
        run = flux.execute(flow, id="1")
        assert (run.output("a"), run.data) == ("a of 1", {"seen": 1})

    def test_a_later_stub_takes_the_place_of_an_earlier_one_also_of_a_run_under_way(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.stub("ship", returns="by sea")
        run = flux.execute(order, INPUT)
        flux.stub("ship", returns="by air")
        run.signal("approval", {"by": "Ada"})
        flux.run_until_idle()
        assert run.output("ship") == "by air"

    def test_an_async_handler_may_be_stubbed_too(self) -> None:
        async def real(ctx: Context) -> str:
            return "real"

        flow = create_workflow("flow").step("a", real).step("b", real)
        flux = FluxTest(flow)
        flux.stub("a", returns="stubbed")
        run = flux.execute(flow)
        assert (run.output("a"), run.output("b")) == ("stubbed", "real")


class TestHowLongAStubTakes:
    def test_passes_on_the_virtual_clock(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", returns="slowly", takes=20)
        before = flux.now
        assert flux.execute(flow).output("a") == "slowly"
        assert flux.now - before == timedelta(seconds=20)

    def test_is_cut_by_the_time_limit_of_the_step(self) -> None:
        flow = flow_of("a", timeout=5, retries=0)
        flux = FluxTest(flow)
        flux.stub("a", returns="too late", takes=timedelta(seconds=20))
        before = flux.now
        flux.execute(flow).assert_failed("time limit of 5 s")
        assert flux.now - before == timedelta(seconds=5)

    def test_makes_the_outcome_of_a_commit_unknown(self) -> None:
        flow = create_workflow("flow").commit("pay", lambda ctx: None)
        flux = FluxTest(flow)
        flux.stub("pay", takes=31)
        run = flux.execute(flow).assert_status("stuck")
        assert [attempt.outcome for attempt in run.attempts("pay")] == ["unknown"]

    def test_alone_is_followed_by_the_real_handler(self) -> None:
        flow = flow_of("a")
        flux = FluxTest(flow)
        flux.stub("a", takes=20)
        assert flux.execute(flow).output("a") == "real a"


class TestOtherParts:
    def test_a_compensation(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.stub("charge", part="compensate", sequence=[OSError("busy"), None])
        run = flux.execute(order, INPUT)
        run.cancel()
        run.assert_status("cancelled").assert_step("charge", status="compensated")
        assert "refunded" not in run.data
        assert [(one.what, one.outcome) for one in run.attempts("charge")] == [
            ("run", "completed"), ("undo", "failed"), ("undo", "completed"),
        ]  # fmt: skip

    def test_a_condition(self) -> None:
        flow = flow_of("a", when=lambda ctx: True)
        flux = FluxTest(flow)
        flux.stub("a", part="when", returns=False)
        flux.execute(flow).assert_completed().assert_step("a", status="skipped", attempts=0)

    def test_a_probe(self) -> None:
        flow = create_workflow("flow").commit("pay", lambda ctx: "paid", on_unknown=verify(lambda ctx: NOT_DONE))
        flux = FluxTest(flow)
        flux.stub("pay", raises=TimeoutError("silence"))
        flux.stub("pay", part="verify", returns=Done("found"))
        assert flux.execute(flow).output("pay") == "found"

    def test_that_the_step_does_not_have_is_an_error(self) -> None:
        with pytest.raises(DefinitionError, match=r"step 'a' of workflow 'flow' has no 'compensate'.* it has handler$"):
            FluxTest(flow_of("a")).stub("a", part="compensate", returns=None)


class TestMistakes:
    def test_a_step_that_does_not_exist(self) -> None:
        flux = FluxTest(order_workflow())
        with pytest.raises(UnknownStep, match="no step 'chrage'; its steps are charge, approval, nap, ship"):
            flux.stub("chrage", returns=1)
        with pytest.raises(UnknownStep, match="its steps are"):
            flux.unstub("chrage")

    def test_a_step_that_none_of_several_workflows_has(self) -> None:
        flux = FluxTest(flow_of("a"), order_workflow())
        with pytest.raises(DefinitionError, match=r"no workflow under test has a step 'x' \(flow: a; order: charge, "):
            flux.stub("x", returns=1)
        with pytest.raises(DefinitionError, match="give FluxTest the workflow, or execute it"):
            FluxTest().stub("x", returns=1)

    def test_a_step_that_several_workflows_have(self) -> None:
        flow, order = create_workflow("other").step("ship", lambda ctx: "real"), order_workflow()
        flux = FluxTest(flow, order)
        with pytest.raises(DefinitionError, match=r"several workflows have a step 'ship' \(other, order\).* workflow="):
            flux.stub("ship", returns=1)
        flux.stub("ship", returns=1, workflow=flow)
        assert flux.execute(flow).output("ship") == 1
        flux.stub("ship", returns=2, workflow="other")
        assert flux.execute(flow).output("ship") == 2
        with pytest.raises(DefinitionError, match="no workflow 'nope' is under test; there are other, order"):
            flux.stub("ship", returns=1, workflow="nope")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "got none of them"),
            ({"returns": 1, "raises": OSError}, "got returns= and raises="),
            ({"sequence": [], "calls": print}, "got sequence= and calls="),
            ({"raises": "oh"}, "raises= takes an exception or its class"),
            ({"sequence": "oh"}, "sequence= takes a list"),
            ({"calls": lambda: None}, "must take the context and nothing else"),
            ({"takes": -1}, "takes= must be a duration"),
        ],
    )
    def test_in_the_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            FluxTest(flow_of("a")).stub("a", **arguments)
