"""Every shape ends as if nothing had happened, wherever an invocation dies and wherever the recovery dies again.

All pairs: a crash before or after each storage call, and again before or after each call of the run that follows.
Two deaths that leave the same behind (store, clock, other side, what the driver was about) have the same future, so
it is run once: a crash after a call and one before the next differ only if something happened in between. `make soak`
runs every pair for itself, and the longest shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import MemoryStorage
from flux_core.testing import FaultPlan
from tests.simulation.driving import Drive, Stored, after, undisturbed
from tests.simulation.shapes import PLAIN_SHAPES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from tests.simulation.driving import Death
    from tests.simulation.script import Shape


ABREAST = (
    "a parallel with commits",
    "a failure while other branches are under way",
    "a branch settled by hand",
    "cancel while two branches run",
    "a map with commits",
    "a child waited for",
    "a child that fails",
)
"""Shapes of branches and children whose pairs run at every commit; `make soak` runs those of all."""


LONG = (
    "a loop handed over at the deadline",
    "a loop with snapshots",
    "a saga out of a loop in an if, resumed",
    "snapshots",
)
"""Shapes with so many pairs that only `make soak` runs them."""


class Pairs:
    """Crashes a shape once and twice at every place, and counts."""

    def __init__(self, shape: Shape, *, alike: bool) -> None:
        """`alike`: of deaths that leave the same behind one is run."""
        self.shape = shape
        self.places = 0
        """Pairs of places where the run may die."""
        self.runs = 0
        """Pairs that were run to their end."""
        self._alike = alike
        self._known: set[int] = set()

    def run(self) -> Pairs:
        """All of them. Whatever is left by a first crash has to end well before a second one follows."""
        firsts = [(first, self._recovered(first)) for first in self._new(undisturbed(self.shape).deaths)]
        for first, deaths in firsts:
            self.places += len(deaths)
            for second in self._new(deaths):
                self.runs += 1
                after(self.shape, second, before=f"{first}, then ")
        return self

    def _recovered(self, first: Death) -> list[Death]:
        deaths: list[Death] = []
        after(self.shape, first, deaths)
        return deaths

    def _new(self, deaths: Iterable[Death]) -> Iterator[Death]:
        for death in deaths:
            if not self._alike or death.left not in self._known:
                self._known.add(death.left)
                yield death


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_was_left_alike_goes_on_alike_from_the_beginning_or_from_where_it_stood(shape: Shape) -> None:
    """What the pairs below rely on: the whole run of one death ends, byte for byte, as the rest of another's does."""
    futures: dict[int, tuple[tuple[Stored, ...], Hashable]] = {}
    for death in undisturbed(shape).deaths:
        known = futures.get(death.left)
        if known is None:
            drive = after(shape, death)
        else:
            drive = Drive(shape, MemoryStorage(), FaultPlan({death.call.number: death.fault}), "1")
            drive.run()
        end = drive.stored(), drive.world.known()
        assert futures.setdefault(death.left, end) == end, death
    assert len(futures) < len(undisturbed(shape).deaths)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=pytest.mark.soak if shape.name in LONG else (), id=str(shape))
        for shape in SHAPES
        if shape in PLAIN_SHAPES or shape.name in ABREAST
    ],
)
def test_two_crashes_anywhere_change_nothing(shape: Shape) -> None:
    pairs = Pairs(shape, alike=True).run()
    assert 0 < pairs.runs <= pairs.places


@pytest.mark.soak
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_crashes_anywhere_change_nothing_though_none_is_taken_for_another(shape: Shape) -> None:
    pairs = Pairs(shape, alike=False).run()
    assert pairs.runs == pairs.places
