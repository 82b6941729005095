"""Parallel groups of a case (`{"parallel": [steps]}`), and what of ours corresponds to their members.

A group becomes a parallel whose branches are its members, a flow of one step each: the original's step `p1` is our
`group-1.p1.p1`. The entry of the parallel itself is ours alone and left out. Members run at the same time, so the order
among them means nothing: what belongs to members of one group is put into the order of the case, on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    Json = dict[str, Any]


class Place(NamedTuple):
    """A step of a case: its name and number among all steps, its path on our side, and the group that it is in."""

    name: str
    number: int
    path: str
    group: str | None


def flat(steps: Iterable[Json]) -> list[Json]:
    """All steps in order, members in the place of their groups, as the original counts them."""
    return [inner for step in steps for inner in step.get("parallel", [step])]


def places(steps: Iterable[Json]) -> list[Place]:
    """Where each of the `flat` steps is."""
    found: list[Place] = []
    for number, step in enumerate(steps):
        if "parallel" in step:
            group = group_name(number)
            for name in (inner.get("name", "") for inner in step["parallel"]):
                found.append(Place(name, len(found), f"{group}.{name}.{name}", group))
        else:
            name = step.get("name", "")
            found.append(Place(name, len(found), name, None))
    return found


def group_name(number: int) -> str:
    """What the parallel at a place of the definition is called; no case names its steps so."""
    return f"__group-{number}"


def is_group(name: object) -> bool:
    """Whether a step is the parallel of a group."""
    return isinstance(name, str) and name.startswith("__group-") and "." not in name


def siblings(steps: Iterable[Json]) -> dict[str, tuple[int, int]]:
    """By name of a member, the number of its group and its own in that."""
    return {
        inner.get("name", ""): (number, nth)
        for number, step in enumerate(steps)
        for nth, inner in enumerate(step.get("parallel", ()))
    }


def in_order(entries: list[str], members: dict[str, tuple[int, int]]) -> list[str]:
    """`entries` (`run:p1#1`) with those that follow each other and are of one group sorted by member."""
    found: list[str] = []
    run: list[tuple[int, str]] = []
    of: int | None = None
    for entry in entries:
        group, nth = members.get(entry.partition("#")[0].rpartition(":")[2], (None, 0))
        if group != of:
            found += [text for _, text in sorted(run, key=lambda one: one[0])]
            run, of = [], group
        if group is None:
            found.append(entry)
        else:
            run.append((nth, entry))
    return found + [text for _, text in sorted(run, key=lambda one: one[0])]
