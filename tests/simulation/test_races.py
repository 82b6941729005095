"""Invocations that meet in a fork, or at a parent and its children: every interleaving, death and stolen lease.

Run with `-s` to see how many schedules and states that were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from flux_core import NonRetryable, create_workflow, flow, verify
from flux_core.directives import NOT_DONE, Done
from tests.simulation.races import Play, Race, Search, explore, sample

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


def _narrow(play: Play) -> WorkflowBuilder:
    """Three branches of plain steps, of which two may be in progress at a time: nothing but outcomes goes on record."""

    def work(ctx: Context) -> None:
        ctx.data[ctx.path] = play.effect(ctx)

    lanes = [flow(name).step("do", work) for name in ("a", "b", "c")]
    return create_workflow("w").parallel("fan", *lanes, max_concurrency=2)


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


def _two_children(play: Play) -> WorkflowBuilder:
    child = create_workflow("child").step("work", play.effect)
    return create_workflow("w").map("each", [0, 1], flow().child("start", child))


def _child_in_each_branch(play: Play) -> WorkflowBuilder:
    child = create_workflow("child").wait("ask", "go")
    return create_workflow("w").parallel("fan", *(flow(name).child("start", child) for name in ("a", "b")))


def _plain_child_waits(play: Play) -> WorkflowBuilder:
    return create_workflow("w").child("start", create_workflow("child").wait("ask", "go"))


_DONE = frozenset({"completed"})
_OPEN = frozenset({"completed", "suspended"})
_CANCELLED = frozenset({"completed", "suspended", "cancelled"})
_GO: Final = ("signal-child", "go", "m1", "0")
RACES: Final[dict[str, Race]] = {
    # --- forks
    "outcomes in any order": Race(_fork, (EXECUTE,), _DONE, data={name: f"fan.{name}.do" for name in ("a", "b", "c")}),
    "a failure among outcomes in any order": Race(_failing, (EXECUTE,), frozenset({"rolled_back", "failed"})),
    "pause in a fork": Race(_pair, (EXECUTE, PAUSE), _DONE, kill=0),
    "cancel in a fork": Race(_pair, (EXECUTE, CANCEL), frozenset({"completed", "cancelled"})),
    "two waits and a signal": Race(_waiting, (EXECUTE, ("signal", "go", "m1")), frozenset({"suspended"}), kill=0),
    "two waits and two signals": Race(
        _waiting, (("signal", "go", "m1"), ("signal", "go", "m2")), _DONE, before=(EXECUTE,), kill=0
    ),
    "a lease is stolen while two of three branches run": Race(
        _narrow, (EXECUTE, RECOVER), _DONE, kill=0, time=1, order=False
    ),
    # --- families
    "a child's end, its parent's suspend and a death": Race(_child, (EXECUTE, RECOVER), _DONE),
    "a child's end, a sweeper and a death": Race(_child_waits, (_GO, RECOVER), _OPEN, before=(EXECUTE,)),
    "the ends of two children of a map": Race(
        _children, (_GO, ("signal-child", "go", "m1", "1")), _OPEN, before=(EXECUTE,), kill=0
    ),
    "the end of the last of two children while the parent suspends": Race(
        _child_in_each_branch, (_GO, ("signal-child", "go", "m1", "1")), _OPEN, before=(EXECUTE,), kill=0
    ),
}
"""Explored at every commit."""
WIDE: Final[dict[str, Race]] = {
    "two waits and two signals, and a death": RACES["two waits and two signals"]._replace(kill=1),
    "a lease is stolen while two of three branches run, which end in any order": Race(
        _narrow, (EXECUTE, RECOVER), _DONE, kill=0, time=1
    ),
    "a lease is stolen while two commits run": Race(_pair, (EXECUTE, RECOVER), _DONE, kill=0, time=1),
    "the ends of two children of a map, and a death": RACES["the ends of two children of a map"]._replace(kill=1),
    "cancel and a child's end": Race(_plain_child_waits, (CANCEL, _GO), _CANCELLED, before=(EXECUTE,), kill=0),
    "cancel and the end of a child that is undone": Race(
        _child_waits, (CANCEL, _GO), _CANCELLED, before=(EXECUTE,), kill=0
    ),
    "cancel and a child's beginning": Race(
        _child_waits, (EXECUTE, CANCEL), frozenset({"suspended", "cancelled"}), kill=0
    ),
}
"""Played at random at every commit, and explored in the soak."""
SAMPLED: Final[dict[str, Race]] = {
    "the ends of two children of one step and their parent's suspend": Race(_two_children, (EXECUTE, RECOVER), _DONE),
    "a child's end, its parent's suspend and two deaths": Race(_child, (EXECUTE, RECOVER), _DONE, kill=2),
    "cancel, a child's end and a death": Race(_plain_child_waits, (CANCEL, _GO), _CANCELLED, before=(EXECUTE,)),
    "cancel, a child's beginning and a death": Race(
        _child_waits, (EXECUTE, CANCEL), frozenset({"suspended", "cancelled"})
    ),
}
"""Only played at random: nobody has seen the end of a search yet."""


def _explore(race: Race, most: int) -> None:
    search = explore(race, most)
    print(f"{search.schedules} schedules, {search.states} states")  # noqa: T201 -- shown by pytest -s
    assert search.complete, f"cut off after {search.schedules} schedules"
    assert search.states > 5, "a race in which next to nothing can happen proves nothing"


@pytest.mark.parametrize("name", RACES)
def test_no_schedule_breaks_a_rule(name: str) -> None:
    _explore(RACES[name], 20_000)


def test_what_an_invocation_was_told_and_has_not_in_mind_makes_no_difference() -> None:
    race = Race(_plain_child_waits, (_GO, RECOVER), _OPEN, before=(EXECUTE,), kill=0)
    by_mind, by_hearing = Search(), Search(by_hearing=True)
    few, many = explore(race, 20_000, by_mind), explore(race, 20_000, by_hearing)
    assert few.complete
    assert many.complete
    assert few.states < many.states
    assert by_mind.looked == by_hearing.looked, "the store gets into other states"


@pytest.mark.parametrize("name", [*WIDE, *SAMPLED])
def test_no_schedule_of_many_breaks_a_rule(name: str) -> None:
    sample({**WIDE, **SAMPLED}[name], 60)


@pytest.mark.soak
@pytest.mark.parametrize("name", WIDE)
def test_no_schedule_of_a_wide_race_breaks_a_rule(name: str) -> None:
    _explore(WIDE[name], 500_000)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*RACES, *WIDE, *SAMPLED])
def test_no_schedule_of_very_many_breaks_a_rule(name: str) -> None:
    sample({**RACES, **WIDE, **SAMPLED}[name], 20_000)
