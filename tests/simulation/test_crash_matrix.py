"""Every shape, with every fault at every storage call it makes, ends as if nothing had happened.

On memory and SQLite. The other stores are struck in the same way, once for some or all shapes, and wholly by `make
soak`.
`driving` plays the platform. Two crashes in one run are in `test_double_crashes`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from flux_core import MemoryStorage
from flux_core.testing import CRASH_AFTER
from flux_local import SQLiteStorage
from tests.simulation.child_shapes import CHILD_SHAPES
from tests.simulation.driving import disturbed, undisturbed
from tests.simulation.fork_shapes import FORK_SHAPES
from tests.simulation.matrix import ONE_BLOW, SINGLE, strike, turns
from tests.simulation.shapes import PLAIN_SHAPES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flux_core import WorkflowStorage
    from tests.simulation.script import Shape


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
    strike(shape, store, blow)


@pytest.mark.parametrize("blow", SINGLE)
@pytest.mark.parametrize("shape", [*FORK_SHAPES, *CHILD_SHAPES], ids=str)
def test_a_fault_at_any_call_changes_nothing_of_branches_and_children(shape: Shape, blow: str) -> None:
    strike(shape, MemoryStorage(), blow)


@pytest.mark.parametrize(
    "name", ["a map with commits", "a failure while other branches are under way", "a map of children"]
)
def test_nor_does_it_in_a_file(name: str, tmp_path: Path) -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    store = SQLiteStorage(tmp_path / "flux.db", synchronous="OFF")
    strike(shape, store, "the invocation dies after the call")
    store.close()


def test_every_write_of_a_durable_store_may_be_the_last(tmp_path: Path) -> None:
    """One shape with the level of durability that production uses."""
    (shape,) = (shape for shape in SHAPES if shape.name == "cancel with compensations")
    store = SQLiteStorage(tmp_path / "flux.db")
    for call in undisturbed(shape).calls:
        disturbed(shape, store, {call.number: CRASH_AFTER})
    store.close()


def test_what_strikes_each_shape_once_strikes_every_kind_of_write_in_every_way() -> None:
    """What the stores behind a network are tried with on every run."""
    struck: dict[str, set[str]] = {}
    for call, blow in turns().values():
        struck.setdefault(call.method, set()).add(blow)
    assert set(struck) == {call.method for shape in SHAPES for call in undisturbed(shape).calls if call.writes}
    for method in ("append", "put_mail", "settle"):
        assert struck[method] == set(ONE_BLOW), method
