"""Each rule about forks and children broken on purpose is caught, by a shape or by a race."""

from __future__ import annotations

import pytest

from flux_core import MemoryStorage
from flux_core.testing import CRASH_AFTER
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.kin_mutants import MUTANTS
from tests.simulation.mutants import Mutant, living
from tests.simulation.races import sample
from tests.simulation.shapes import SHAPES
from tests.simulation.test_races import FAMILIES


def _strike(name: str) -> None:
    """The shape without a fault, then with a death after every call."""
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    disturbed(shape, MemoryStorage(), {})
    for call in undisturbed(shape).calls:
        disturbed(shape, MemoryStorage(), {call.number: CRASH_AFTER})


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    patches, where = MUTANTS[name]
    if where not in FAMILIES:
        _strike(where)  # on the engine as it is; what a shape has to come to is known from here on
    with living(Mutant(patches, (), where)), pytest.raises(AssertionError):
        sample(FAMILIES[where], 300) if where in FAMILIES else _strike(where)
