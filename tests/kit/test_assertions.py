"""What the assertions of a run hold it to, and what they say when it does not hold."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, assert_type

import pytest

from flux_core import NonRetryable, create_workflow, wait
from flux_core.testing import FluxTest
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.testing import Run


def ordered() -> Run:
    order = order_workflow()
    return FluxTest(order).execute(order, INPUT, id="o-1")


def failed(error: Exception | None = None) -> Run:
    flow = create_workflow("flow").step("a", lambda ctx: None)
    flux = FluxTest(flow)
    flux.stub("a", raises=error or NonRetryable("no such customer"))
    return flux.execute(flow, id="1")


def completed(output: Any = None) -> Run:
    flow = create_workflow("flow").step("a", lambda ctx: None)
    flux = FluxTest(flow)
    flux.stub("a", returns=output)
    return flux.execute(flow, id="1")


def said(assertion: Callable[[], object]) -> str:
    """The first line of what a failing assertion says; a story must follow."""
    with pytest.raises(AssertionError) as told:
        assertion()
    head, empty, *story = str(told.value).splitlines()
    assert empty == ""
    assert ", started 2023-11-14 22:13:20 UTC" in story[0]
    assert any(" now: " in line for line in story)
    return head


class TestWhatHolds:
    def test_is_passed_over_and_can_be_chained(self) -> None:
        run = ordered()
        assert run.assert_waiting().assert_waiting("approval").assert_status("suspended") is run
        assert run.assert_step("charge", status="completed", output={"id": "ch_real"}, attempts=1) is run
        assert completed().assert_completed().status == "completed"
        for error in (None, NonRetryable, "no such", "no such customer"):
            failed().assert_failed(error, step="a")
        undone = ordered()
        undone._bench.advance(days=3)  # type: ignore[attr-defined]
        assert undone.assert_rolled_back().assert_rolled_back("in time", step="approval") is undone


class TestAStatus:
    def test_that_is_missed_while_it_waits_tells_for_what_and_until_when(self) -> None:
        assert said(ordered().assert_completed) == (
            "order/o-1: it is suspended, not completed. Step 'approval' waits for signal 'approval' for another 3 d "
            "(until 2023-11-17 22:13:20 UTC)."
        )

    def test_that_is_missed_after_a_failure_tells_the_error(self) -> None:
        assert said(failed().assert_completed) == (
            "flow/1: it is failed, not completed: step 'a': NonRetryable: no such customer"
        )

    def test_that_is_missed_after_a_cancel_tells_the_reason(self) -> None:
        run = ordered()
        run.cancel("ordered twice")
        assert said(run.assert_completed) == "order/o-1: it is cancelled, not completed: Cancelled: ordered twice"

    def test_that_is_missed_by_a_completed_run(self) -> None:
        assert said(completed().assert_failed) == "flow/1: it is completed, not failed"
        assert said(completed().assert_rolled_back) == "flow/1: it is completed, not rolled_back"
        assert said(completed().assert_waiting) == "flow/1: it is completed, not suspended"

    def test_that_is_missed_by_a_stuck_run_tells_where(self) -> None:
        flow = create_workflow("flow").commit("pay", lambda ctx: None)
        flux = FluxTest(flow)
        flux.stub("pay", raises=TimeoutError("gateway"))
        line = said(flux.execute(flow, id="1").assert_completed)
        assert line.startswith(
            "flow/1: it is stuck, not completed. It is stuck at step 'pay' (unknown_outcome): nobody"
        )

    def test_that_does_not_exist_is_a_mistake_of_the_test(self) -> None:
        with pytest.raises(ValueError, match="there is no status 'complete'; the statuses are pending, running"):
            ordered().assert_status("complete")


class TestAnError:
    def test_of_another_class(self) -> None:
        assert said(lambda: failed().assert_failed(KeyError)) == (
            "flow/1: its error is NonRetryable: no such customer; not a KeyError"
        )

    def test_with_another_message(self) -> None:
        assert said(lambda: failed().assert_failed("no stock")) == (
            "flow/1: its error is NonRetryable: no such customer; 'no stock' is no part of that"
        )

    def test_of_another_step(self) -> None:
        assert said(lambda: failed().assert_failed(step="b")) == "flow/1: it failed at step 'a', not 'b'"


class TestAWait:
    def test_for_another_signal(self) -> None:
        assert said(lambda: ordered().assert_waiting("payment")) == (
            "order/o-1: it does not wait for signal 'payment'. Step 'approval' waits for signal 'approval' for another "
            "3 d (until 2023-11-17 22:13:20 UTC)."
        )

    def test_for_a_signal_that_is_a_sleep(self) -> None:
        run = ordered()
        run.signal("approval", {"by": "Ada"})
        assert said(run.assert_waiting) == (
            "order/o-1: it does not wait for a signal. Step 'nap' sleeps for another 1 h. To go on: "
            "flux.advance(hours=1)."
        )


class TestAStep:
    def test_with_another_status(self) -> None:
        assert said(lambda: ordered().assert_step("nap", status="completed")) == (
            "order/o-1: step 'nap' is pending, not completed"
        )
        assert said(lambda: failed().assert_step("a", status="completed")) == (
            "flow/1: step 'a' is failed, not completed: no such customer"
        )

    def test_with_another_output(self) -> None:
        assert said(lambda: completed(1).assert_step("a", output=2)) == "flow/1: the output of step 'a' is 1, not 2"
        assert said(lambda: completed(1).assert_step("a", output=True)) == (
            "flow/1: the output of step 'a' is 1, not True"
        )

    def test_with_another_number_of_attempts_lists_them(self) -> None:
        run = failed(OSError("busy"))
        run._bench.run_until_idle()  # type: ignore[attr-defined]
        assert said(lambda: run.assert_step("a", attempts=1)) == (
            "flow/1: step 'a' had 4 attempts, not 1 (1: failed (busy); 2: failed (busy); 3: failed (busy); "
            "4: failed (busy))"
        )
        assert said(lambda: ordered().assert_step("nap", attempts=1)) == ("order/o-1: step 'nap' had 0 attempts, not 1")

    def test_that_does_not_exist(self) -> None:
        with pytest.raises(AssertionError, match="workflow 'flow' has no step 'b'; its steps are a"):
            completed().assert_step("b")


class Receipt(TypedDict):
    id: str
    lines: NotRequired[list[int]]


class TestATypedOutput:
    @pytest.mark.parametrize(
        ("value", "hint"),
        [
            (None, object),
            (None, None),
            (7, int),
            (7, int | str),
            (True, bool),
            ("a", Literal["a", "b"]),
            ({"id": "ch_1"}, dict),
            ({"id": "ch_1"}, dict[str, str]),
            ([1, 2], list[int]),
            ((1, "a"), tuple[int, str]),
            ((1, 2, 3), tuple[int, ...]),
            ({1, 2}, set[int]),
            ([{"n": [None]}], list[dict[str, list[None]]]),
            ({"id": "ch_1"}, Receipt),
            ({"id": "ch_1", "lines": [1]}, Receipt),
            ({"id": "ch_1"}, Any),
        ],
    )
    def test_that_fits_is_given(self, value: Any, hint: Any) -> None:
        assert completed(value).output("a", hint) == value

    @pytest.mark.parametrize(
        ("value", "hint", "problem"),
        [
            (7, str, "output is 7, which is of type int, not str"),
            (True, int, "output is True, which is of type bool, not int"),
            (7, str | None, "output is 7, which is of type int, not str | None"),
            ("c", Literal["a", "b"], "output is 'c', which is of type str, not"),
            ({"id": 1}, dict[str, str], "output['id'] is 1, which is of type int, not str"),
            ({1: "a"}, dict[str, str], "the key 1 of output is 1, which is of type int, not str"),
            ([1, "a"], list[int], "output[1] is 'a', which is of type str, not int"),
            ((1,), tuple[int, str], "output has 1 items, not 2"),
            ((1, 2), tuple[int, str], "output[1] is 2, which is of type int, not str"),
            ({}, Receipt, "output has no 'id', which Receipt requires"),
            ({"id": "a", "more": 1}, Receipt, "output has 'more', which Receipt does not know"),
            ({"id": "a", "lines": ["b"]}, Receipt, "output['lines'][0] is 'b', which is of type str, not int"),
            ([], Receipt, "output is [], which is of type list, not Receipt"),
            ({}, OrderedDict, "output is {}, which is of type dict, not OrderedDict"),
            (7, None, "output is 7, which is of type int, not None"),
        ],
    )
    def test_that_does_not_fit_tells_where(self, value: Any, hint: Any, problem: str) -> None:
        assert said(lambda: completed(value).output("a", hint)).startswith(f"flow/1: step 'a': {problem}")

    def test_is_of_that_type_for_type_checkers_too(self) -> None:
        assert_type(completed({"id": "ch_1"}).output("a", dict[str, str]), dict[str, str])
        assert_type(completed({"id": "ch_1"}).output("a", Receipt), Receipt)
        assert_type(completed(7).output("a"), Any)

    def test_of_a_step_that_has_none_is_an_error(self) -> None:
        assert said(lambda: ordered().output("ship")) == "order/o-1: step 'ship' is pending and has no output"

    def test_that_was_undone_is_still_there(self) -> None:
        run = ordered()
        run.cancel()
        assert run.output("charge", dict[str, str]) == {"id": "ch_real"}


def test_the_payload_of_a_signal_is_the_output_of_its_step() -> None:
    flow = create_workflow("flow").step("a", lambda ctx: wait("go"))
    run = FluxTest(flow).execute(flow)
    run.signal("go", {"by": "Ada"})
    assert run.output("a", dict[str, str])["by"] == "Ada"
