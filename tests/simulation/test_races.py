"""Invocations that meet in a fork, in every interleaving and with every death; and at a parent and its children, at
random: these races are too big to be explored to the end.

Run with `-s` to see how many schedules and states that were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from flux_core import NonRetryable, create_workflow, flow, verify
from flux_core.directives import NOT_DONE, Done
from tests.simulation.races import Play, Race, explore, sample

if TYPE_CHECKING:
    from flux_core import FlowBuilder, WorkflowBuilder
    from flux_core.context import Context

EXECUTE: Final = ("execute",)
RECOVER: Final = ("recover",)
CANCEL: Final = ("cancel",)
PAUSE: Final = ("pause",)


def _branch(play: Play, name: str) -> FlowBuilder:
    """A commit with a compensation, whose other side can be asked."""

    def commit(ctx: Context) -> str:
        ctx.data[name] = play.effect(ctx)
        return name

    def probe(ctx: Context) -> object:
        if not any(one.key == ctx.idempotency_key for journal in play.journals.values() for one in journal):
            return NOT_DONE
        ctx.data[name] = ctx.path
        return Done(name)

    return flow(name).commit("do", commit, compensate=play.undo, on_unknown=verify(probe))


def _fork(play: Play) -> WorkflowBuilder:
    return create_workflow("w").parallel("fan", *(_branch(play, name) for name in ("a", "b", "c")))


def _pair(play: Play) -> WorkflowBuilder:
    return create_workflow("w").parallel("fan", *(_branch(play, name) for name in ("a", "b")))


def _failing(play: Play) -> WorkflowBuilder:
    def fail(ctx: Context) -> None:
        play.effect(ctx)
        raise NonRetryable("no")

    return create_workflow("w").parallel("fan", _branch(play, "a"), flow("b").step("fail", fail), _branch(play, "c"))


def _waiting(play: Play) -> WorkflowBuilder:
    left, right = (flow(name).wait("ask", "go") for name in ("left", "right"))
    return create_workflow("w").parallel("fan", left, right)


def _child(play: Play) -> WorkflowBuilder:
    child = create_workflow("child").step("work", play.effect, compensate=play.undo)
    return create_workflow("w").child("start", child)


def _child_waits(play: Play) -> WorkflowBuilder:
    child = create_workflow("child").wait("ask", "go", compensate=play.undo)
    return create_workflow("w").child("start", child)


def _children(play: Play) -> WorkflowBuilder:
    child = create_workflow("child").wait("ask", "go")
    return create_workflow("w").map("each", [0, 1], flow().child("start", child))


_OPEN = frozenset({"completed", "suspended"})
FORKS: Final[dict[str, Race]] = {
    "outcomes in any order": Race(
        _fork, (EXECUTE,), frozenset({"completed"}), data={name: f"fan.{name}.do" for name in ("a", "b", "c")}
    ),
    "a failure among outcomes in any order": Race(_failing, (EXECUTE,), frozenset({"rolled_back", "failed"})),
    "pause in a fork": Race(_pair, (EXECUTE, PAUSE), frozenset({"completed"}), kill=0),
    "cancel in a fork": Race(_pair, (EXECUTE, CANCEL), frozenset({"completed", "cancelled"})),
    "two waits and a signal": Race(_waiting, (EXECUTE, ("signal", "go", "m1")), frozenset({"suspended"}), kill=0),
    "two waits and two signals": Race(
        _waiting, (("signal", "go", "m1"), ("signal", "go", "m2")), frozenset({"completed"}), before=(EXECUTE,)
    ),
}
FAMILIES: Final[dict[str, Race]] = {
    "a child's end and its parent's suspend": Race(_child, (EXECUTE, RECOVER), frozenset({"completed"})),
    "a child's end and a sweeper": Race(
        _child_waits, (("signal-child", "go", "m1", "0"), RECOVER), _OPEN, before=(EXECUTE,)
    ),
    "the ends of two children of a map": Race(
        _children, (("signal-child", "go", "m1", "0"), ("signal-child", "go", "m1", "1")), _OPEN, before=(EXECUTE,)
    ),
    "cancel and a child's end": Race(
        _child_waits, (CANCEL, ("signal-child", "go", "m1", "0")), frozenset({"completed", "suspended", "cancelled"}),
        before=(EXECUTE,),
    ),
    "cancel and a child's beginning": Race(_child_waits, (EXECUTE, CANCEL), frozenset({"suspended", "cancelled"})),
}  # fmt: skip


@pytest.mark.parametrize("name", FORKS)
def test_no_schedule_breaks_a_rule(name: str) -> None:
    search = explore(FORKS[name])
    print(f"{name}: {search.schedules} schedules, {search.states} states")  # noqa: T201 -- shown by pytest -s
    assert search.complete, f"cut off after {search.schedules} schedules"
    assert search.states > 5, "a race in which next to nothing can happen proves nothing"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_schedule_of_many_breaks_a_rule(name: str) -> None:
    sample(FAMILIES[name], 300)


@pytest.mark.soak
@pytest.mark.parametrize("name", FAMILIES)
def test_no_schedule_of_very_many_breaks_a_rule(name: str) -> None:
    sample(FAMILIES[name], 20_000)
