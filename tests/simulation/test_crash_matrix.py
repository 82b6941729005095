"""Every shape, with every fault at every storage call it makes, ends as if nothing had happened.

`driving` plays the platform. Two crashes in one run are in `test_double_crashes`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from flux_core import MemoryStorage
from flux_core.testing import CRASH_AFTER, CRASH_BEFORE, LOST_RESPONSE, UNAVAILABLE
from flux_local import SQLiteStorage
from tests.simulation.child_shapes import CHILD_SHAPES
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.fork_shapes import FORK_SHAPES
from tests.simulation.shapes import PLAIN_SHAPES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flux_core import WorkflowStorage
    from tests.simulation.script import Shape

ONE_BLOW = {
    "the invocation dies before the call": {0: CRASH_BEFORE},
    "the invocation dies after the call": {0: CRASH_AFTER},
    "the response is lost": {0: LOST_RESPONSE},
    "the store does not answer": {0: UNAVAILABLE},
    "the response is lost, and the store does not answer the second try": {0: LOST_RESPONSE, 1: UNAVAILABLE},
    "the store is down for two calls": {0: UNAVAILABLE, 1: UNAVAILABLE},
}
"""What can go wrong from call n on: offset -> fault."""
FOR_READS = frozenset({"the invocation dies before the call", "the store does not answer"})
"""The faults that differ for a call that changes nothing."""


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowStorage]:
    if request.param == "memory":
        yield MemoryStorage()
        return
    folder: Path = tmp_path_factory.mktemp("matrix")
    opened = SQLiteStorage(folder / "flux.db", synchronous="OFF")
    yield opened
    opened.close()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_a_fault_a_shape_ends_as_it_says(shape: Shape) -> None:
    run = undisturbed(shape)
    assert (run.end.status, run.stops) == (shape.ends, shape.stops)


def test_without_a_fault_data_and_outputs_are_exactly_what_the_steps_wrote() -> None:
    """All other runs are held against these, so they must not be wrong in the same way."""
    ends = {shape.name: undisturbed(shape).end for shape in SHAPES}
    assert ends["data writes"].data == {
        "lines": [
            {"sku": "a", "taxes": [{"rate": Decimal("0.20")}]},
            {"$dec": "a dictionary that looks like a tag", "raw": b"\x00\xff"},
        ],
        "total": Decimal("1.32"),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    }
    assert ends["a step retried inline"].data == {"before": 1, "after": 2}
    assert [output for _, _, output in ends["outputs"].steps] == [
        {"n": 2, "at": datetime(2026, 1, 1, tzinfo=UTC)},
        None,
        2 + 7 + 2,
    ]
    assert [output for _, _, output in ends["early signals"].steps] == [3, 1, 2]
    assert ends["a retry that keeps commits"].data == {"runs": 1, "charged": True}
    assert ends["a retry that keeps commits"].effects == {"charge": 1, "maybe": 1}
    assert ends["a refund, then a retry"].effects == {"charge": 2, "charge~undo": 1}
    assert ends["a commit forced to run again"].effects == {"charge": 2}
    assert ends["a parallel whose branches wait for one signal and a timer"].data == {
        "fan-left-after": 1, "fan-right-after": 2, "fan-nap-after": "slept",
    }  # fmt: skip
    assert ends["branches that write the same, merged"].data == {
        "total": sum(len(f"fan.{name}.{step}") for name in ("a", "bb", "ccc") for step in (name, "again")),
        "lines": ["a", "again", "bb", "again", "ccc", "again"],
    }
    assert ends["a saga across a map"].data["refunded"] == ["c", "b", "a"]
    assert ends["cancel with compensations"].effects == {"a": 1, "charge": 1, "charge~undo": 1, "a~undo": 1}


@pytest.mark.parametrize("blow", ONE_BLOW)
@pytest.mark.parametrize("shape", PLAIN_SHAPES, ids=str)
def test_a_fault_at_any_call_changes_nothing(shape: Shape, store: WorkflowStorage, blow: str) -> None:
    _strike(shape, store, blow)


@pytest.mark.parametrize("blow", [blow for blow, faults in ONE_BLOW.items() if len(faults) == 1])
@pytest.mark.parametrize("shape", [*FORK_SHAPES, *CHILD_SHAPES], ids=str)
def test_a_fault_at_any_call_changes_nothing_of_branches_and_children(shape: Shape, blow: str) -> None:
    _strike(shape, MemoryStorage(), blow)


@pytest.mark.parametrize(
    "name", ["a map with commits", "a failure while other branches are under way", "a map of children"]
)
def test_nor_does_it_in_a_file(name: str, tmp_path: Path) -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    store = SQLiteStorage(tmp_path / "flux.db", synchronous="OFF")
    _strike(shape, store, "the invocation dies after the call")
    store.close()


def _strike(shape: Shape, store: WorkflowStorage, blow: str) -> None:
    for call in undisturbed(shape).calls:
        if call.writes or blow in FOR_READS:
            faults = {call.number + offset: fault for offset, fault in ONE_BLOW[blow].items()}
            disturbed(shape, store, faults)


def test_every_write_of_a_durable_store_may_be_the_last(tmp_path: Path) -> None:
    """One shape with the level of durability that production uses."""
    (shape,) = (shape for shape in SHAPES if shape.name == "cancel with compensations")
    store = SQLiteStorage(tmp_path / "flux.db")
    for call in undisturbed(shape).calls:
        disturbed(shape, store, {call.number: CRASH_AFTER})
    store.close()
