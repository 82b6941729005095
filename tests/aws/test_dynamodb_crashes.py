"""A few shapes of the crash matrix on DynamoDB: each with faults at the calls that it makes, on a moto server.

All shapes with all faults run on memory and SQLite (`test_crash_matrix`). What is tried here is that this store plays
its part in them: boundaries, mail, the due index, snapshots, control records.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_aws import DynamoDBStorage
from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, LOST_RESPONSE, UNAVAILABLE
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto

BLOWS: dict[str, list[dict[int, str]]] = {
    "a commit": [
        {0: CRASH_BEFORE},
        {0: CRASH_AFTER},
        {0: LOST_RESPONSE},
        {0: UNAVAILABLE},
        {0: LOST_RESPONSE, 1: UNAVAILABLE},
    ],
    "a signal": [{0: CRASH_AFTER}],
    "snapshots": [{0: CRASH_AFTER}],
}
"""Shape -> what goes wrong from each of its writes on: offset -> fault."""
LONGER: dict[str, list[dict[int, str]]] = {
    "a commit": [{0: UNAVAILABLE, 1: UNAVAILABLE}],
    "a signal": [{0: CRASH_BEFORE}, {0: LOST_RESPONSE}],
    "cancel with compensations": [{0: CRASH_AFTER}, {0: LOST_RESPONSE}],
    "hand-overs at the deadline": [{0: CRASH_AFTER}],
    "a pause while suspended": [{0: CRASH_AFTER}],
}
"""The same, by `make soak`."""
ONLY = {"snapshots": "put_snapshot"}
"""Shapes whose other writes are left out: each of their runs writes much."""
_numbers = count(1)


@pytest.fixture
def store(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDBStorage]:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    opened = DynamoDBStorage(f"matrix-{next(_numbers)}", endpoint=moto.endpoint, shards=1, call_timeout=60)
    opened.ensure()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("name", "blow"),
    [(name, blow) for name, blows in BLOWS.items() for blow in blows]
    + [pytest.param(name, blow, marks=pytest.mark.soak) for name, blows in LONGER.items() for blow in blows],
    ids=str,
)
def test_a_fault_at_any_write_changes_nothing(store: DynamoDBStorage, name: str, blow: dict[int, str]) -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    for call in undisturbed(shape).calls:
        if call.writes and call.method == ONLY.get(name, call.method):
            disturbed(shape, store, {call.number + offset: fault for offset, fault in blow.items()})
