"""What somebody gets wrong in the first ten minutes is told at once, and in words that say what to do."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CallerError,
    DefinitionError,
    FluxConsoleLogger,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    Unknown,
    create_workflow,
    flow,
    verify,
    wait,
)
from flux_core.load import load_log
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flux_core import Context, Header
    from tests.core.conftest import Lab


class TestAHandler:
    @pytest.mark.parametrize(
        "handler",
        [lambda: 1, lambda ctx, more: 1, lambda *, named: 1, lambda ctx, *, named: 1],
        ids=["none", "two", "named only", "one too many"],
    )
    def test_that_cannot_take_the_context_is_refused_when_it_is_declared(self, handler: Any) -> None:
        for declare in (
            lambda: create_workflow("w").step("a", handler),
            lambda: create_workflow("w").commit("a", lambda ctx: 1, when=handler),
            lambda: create_workflow("w").commit("a", lambda ctx: 1, compensate=handler),
            lambda: verify(handler),
        ):
            with pytest.raises(DefinitionError, match=r"must take the context and nothing else: def <lambda>\(ctx\)"):
                declare()

    def test_may_be_anything_that_can_be_called_with_the_context(self) -> None:
        class Shop:
            def method(self, ctx: Context) -> int:
                return 1

            def __call__(self, ctx: Context) -> int:
                return 2

            @staticmethod
            def static(ctx: Context, retries: int = 3) -> int:
                return retries

        def two(first: int, ctx: Context) -> int:
            return first

        w = create_workflow("w").step("method", Shop().method).step("call", Shop()).step("static", Shop.static)
        w.step("partial", functools.partial(two, 4)).step("any", lambda *args: 5)
        assert [step.output for step in FluxEngine().execute(w).history] == [1, 2, 3, 4, 5]

    def test_that_is_a_generator_is_refused(self) -> None:
        def pieces(ctx: Context) -> Iterator[int]:
            yield 1

        async def async_pieces(ctx: Context) -> AsyncIterator[int]:
            yield 1

        for handler in (pieces, async_pieces):
            with pytest.raises(DefinitionError, match="must not be a generator: return the value, do not yield it"):
                create_workflow("w").step("a", handler)

    def test_that_awaits_a_signal_of_an_impossible_name_fails_at_once(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("w").step("a", lambda ctx: wait("x y")))
        assert (result.status, result.history[0].retries) == ("failed", 0)

    def test_that_looks_for_a_missing_output_is_told_which_there_are(self, lab: Lab) -> None:
        w = create_workflow("w").step("charge", lambda ctx: 1).step("b", lambda ctx: ctx.results["chrage"], retries=0)
        assert "those that have: charge" in str(lab.engine().execute(w).error)

    def test_may_call_ctx_log_warning(self, lab: Lab) -> None:
        assert lab.engine().execute(create_workflow("w").commit("a", lambda ctx: ctx.log.warning("low"))).error is None


class TestAnEngine:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"storage": "orders.db"}, "storage must be a store, such as SQLiteStorage"),
            ({"storage": SQLiteStorage}, "storage must be a store, such as SQLiteStorage"),
            ({"logger": print}, "logger must have debug, info, warn and error"),
            ({"workflows": create_workflow("w")}, "workflows must be a list of workflows"),
        ],
    )
    def test_with_an_argument_of_another_kind_says_which_it_wants(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            FluxEngine(**arguments)

    def test_asked_with_a_deadline_that_is_no_time_says_so(self, lab: Lab) -> None:
        deadline: Any = "5"
        with pytest.raises(CallerError, match="deadline must be"):
            lab.engine().execute(create_workflow("w").step("a", lambda ctx: 1), deadline=deadline)

    def test_with_nothing_but_a_logger_says_aloud_that_an_instance_is_stuck(
        self, lab: Lab, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def unknown(ctx: Context) -> None:
            raise Unknown

        lab.engine(logger=FluxConsoleLogger("warn")).execute(create_workflow("w").commit("charge", unknown))
        assert "[flux] error stuck: an operator is needed" in capsys.readouterr().err

    def test_with_nothing_but_a_logger_says_aloud_that_a_compensation_failed(
        self, lab: Lab, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def no(ctx: Context) -> None:
            raise NonRetryable("no")

        w = create_workflow("w").step("a", lambda ctx: 1, compensate=no).step("b", no)
        lab.engine(logger=FluxConsoleLogger("warn")).execute(w)
        assert "[flux] error a compensation failed" in capsys.readouterr().err


class TestAProbe:
    def test_whose_answer_is_none_of_the_three_is_told_of_in_the_reason(self, lab: Lab) -> None:
        def unknown(ctx: Context) -> None:
            raise Unknown

        w = create_workflow("w").commit("charge", unknown, on_unknown=verify(lambda ctx: True))
        result = lab.engine().execute(w)
        assert result.status == "stuck"
        assert "the probe returned True, which is not Done(value), NOT_DONE or UNKNOWN" in str(result.error)


class TestAnInterruptedInvocation:
    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_lets_go_of_its_instance_so_that_the_next_goes_on_at_once(
        self, interrupt: type[BaseException], lab: Lab
    ) -> None:
        def once(ctx: Context) -> str:
            lab.calls.append("once")
            if len(lab.calls) == 1:
                raise interrupt
            return "done"

        w = create_workflow("w").step("a", once)
        with pytest.raises(interrupt):
            lab.engine().execute(w, None, "o-1")
        assert lab.engine().execute(w, None, "o-1").status == "completed"

    def test_leaves_the_outcome_of_its_commit_in_doubt(self, lab: Lab) -> None:
        def interrupted(ctx: Context) -> None:
            raise KeyboardInterrupt

        w = create_workflow("w").commit("charge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab.engine().execute(w, None, "o-1")
        assert lab.engine().wake(w, "o-1").status == "stuck"

    def test_counts_as_a_death(self, lab: Lab) -> None:
        def leave(ctx: Context) -> None:
            raise SystemExit

        w = create_workflow("w").step("a", leave)
        for _ in range(5):
            with pytest.raises(SystemExit):
                lab.engine().execute(w, None, "o-1")
        assert lab.engine().wake(w, "o-1").status == "stuck"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_branch_is_named_and_the_lease_released_whenever_it_is_noticed(
    interrupt: type[BaseException],
) -> None:
    left = threading.Event()

    class Waits(MemoryStorage):
        """The first branch has ended before the second one's intent is on record."""

        def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
            if b'"fan.b.charge"' in record:
                left.wait(10)
            return super().append(ref, seq, record, header)

    def leaves(ctx: Context) -> None:
        left.set()
        raise interrupt

    storage = Waits()
    w = create_workflow("order").parallel(
        "fan", flow("a").step("leave", leaves), flow("b").commit("charge", lambda ctx: None)
    )
    with pytest.raises(interrupt):
        FluxEngine(storage).execute(w, None, "o-1")
    last = load_log(storage, InstanceRef("default", "order", "o-1"))[-1]
    assert (last.type, last.body) == ("yield", {"cut": "fan.a.leave"})
