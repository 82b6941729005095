"""Each rule about forks and children broken on purpose is caught, by a shape or by a race."""

from __future__ import annotations

import pytest

from flux_core import MemoryStorage
from flux_core.testing import CRASH_AFTER
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.kin_mutants import MUTANTS, RACE_MUTANTS
from tests.simulation.mutants import Mutant, living
from tests.simulation.races import explore
from tests.simulation.shapes import SHAPES
from tests.simulation.test_races import RACES, WIDE
from tests.simulation.world import Violated


def _strike(name: str) -> None:
    """The shape without a fault, then with a death after every call."""
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    disturbed(shape, MemoryStorage(), {})
    for call in undisturbed(shape).calls:
        disturbed(shape, MemoryStorage(), {call.number: CRASH_AFTER})


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    patches, where = MUTANTS[name]
    _strike(where)  # on the engine as it is; what a shape has to come to is known from here on
    with living(Mutant(patches, (), where)), pytest.raises(AssertionError):
        _strike(where)


@pytest.mark.parametrize("name", RACE_MUTANTS)
def test_a_search_to_the_end_catches_a_mutant(name: str) -> None:
    patches, where, rule = RACE_MUTANTS[name]
    with living(Mutant(patches, (rule,), where)), pytest.raises(Violated) as caught:
        explore({**RACES, **WIDE}[where])
    print(str(caught.value).partition("\n")[0])  # noqa: T201 -- shown by pytest -s
    assert f": {rule}" in str(caught.value).partition("\n")[0]
