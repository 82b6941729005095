"""Shapes of workflows on PostgreSQL, with a death before and after every write: they end as if nothing had happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, LOST_RESPONSE
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from flux_local import PostgresStorage

SELECTED = (
    "data writes",
    "a commit",
    "an idempotent commit retried later",
    "a signal sent twice",
    "a saga with a durable retry",
    "a retry that keeps commits",
    "cancel with compensations",
    "a definition that changes meanwhile",
)


@pytest.mark.parametrize("name", SELECTED)
def test_a_fault_at_any_write_changes_nothing(store: PostgresStorage, name: str) -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    for call in undisturbed(shape).calls:
        if call.writes:
            for fault in (CRASH_BEFORE, CRASH_AFTER, LOST_RESPONSE):
                disturbed(shape, store, {call.number: fault})
