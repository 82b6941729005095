"""The crash matrix on Firestore: shapes that use every method of a store, with a fault at every call they make.

The whole matrix runs on memory and SQLite (`tests/simulation`); here it is the store's part in it that is tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, LOST_RESPONSE
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_gcp import FirestoreStorage
    from tests.simulation.script import Shape

CHOSEN = [
    shape for shape in SHAPES if shape.name in {"cancel with compensations", "early signals", "a refund, then a retry"}
]


def test_the_chosen_shapes_are_there() -> None:
    assert len(CHOSEN) == 3


FAULTS = [CRASH_BEFORE, CRASH_AFTER, LOST_RESPONSE]
SHORT = {("cancel with compensations", fault) for fault in FAULTS} | {("early signals", CRASH_AFTER)}
"""What is not left to `make soak`."""


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        pytest.param(shape, fault, marks=() if (shape.name, fault) in SHORT else pytest.mark.soak)
        for shape in CHOSEN
        for fault in FAULTS
    ],
    ids=str,
)
def test_a_fault_at_any_call_changes_nothing(
    shape: Shape, fault: str, open_store: Callable[..., FirestoreStorage], firestore_emulator: str
) -> None:
    store = open_store(firestore_emulator)
    for call in undisturbed(shape).calls:
        if call.writes:
            disturbed(shape, store, {call.number: fault})
