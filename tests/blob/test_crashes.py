"""A process may die between any two requests of one call, and any answer may be lost: nothing is, and nothing lies.

The rest of the crash matrix takes a call of the store as one step; here every request to the object store is one.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_blob import BlobStorage
from flux_core.testing import FaultPlan
from tests.blob.places import spots
from tests.blob.watched import DIES_AFTER, DIES_BEFORE, LOST, REFUSED, Watched, twin, watch
from tests.simulation.driving import Drive, undisturbed
from tests.simulation.matrix import ONE_BLOW, once, strike, strike_once, whole
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.simulation.script import Shape

END_OF_TIME = 9_000_000_000_000
BY_NAME = {shape.name: shape for shape in SHAPES}
REQUEST_BY_REQUEST = [
    "plain steps",
    "a commit",
    "a signal",
    "a wait with a default",
    "cancel with compensations",
]
LONGER = ["a durable retry", "a pause while suspended", "hand-overs at the deadline", "snapshots"]
"""The same, by `make soak`."""
ONCE = {"folder": once(3, 0), "s3": once(12, 4), "az": once(9, 2), "gs": once(9, 7)}
DIES = "the invocation dies after the call"
CALL_BY_CALL: dict[str, dict[str, Collection[str]]] = {
    "folder": dict.fromkeys(["a commit", "a signal", "cancel with compensations"], ONE_BLOW),
    "s3": {"a commit": [DIES]},
    "az": {"a commit": [DIES]},
    "gs": {"a commit": [DIES]},
}
"""All shapes are, by `make soak`."""
_ids = count(1)


class Bench:
    """A shape that runs on objects in memory, its index looked at after every single write."""

    def __init__(self, shape: Shape, faults: dict[int, str]) -> None:
        self.shape = shape
        self.store = BlobStorage("memory://")
        self.objects: Watched = watch(self.store)
        self.objects.faults = faults
        self.objects.after_write = self.indexes_hold
        self.objects.on_death = self.store._known._ends.clear  # the next process knows nothing
        self.drive = Drive(shape, self.store, FaultPlan(), str(next(_ids)))

    def run(self) -> None:
        end = self.drive.run()
        assert end == undisturbed(self.shape).end
        self.objects.after_write = None
        self.index_is_clean()

    def indexes_hold(self) -> None:
        """PROTOCOL rule 7: what the header says is due has its entry, and whoever has a header is in the list."""
        other = twin(self.store)
        position = other._log.position(other._connection.call(), self.drive.ref)
        if position is None:
            return
        header = position.standing.header._replace(due=position.entry.due)
        due = [entry.due for entry in other.due(END_OF_TIME, 10)]
        assert due == ([] if header.due is None else [header.due])
        assert [entry.header for entry in other.list("default", statuses=[header.status]).items] == [header]

    def index_is_clean(self) -> None:
        """Whoever looks removes what the dead have left: no entry is there that is not the header's own."""
        other = twin(self.store)
        other.due(END_OF_TIME, 10)
        assert len(other.list("default").items) == 1
        header = other.header(self.drive.ref)
        assert header is not None
        keys = [entry.key for page in self.objects.inner.keys("", "") for entry in page]
        assert len([key for key in keys if key.startswith("_list/")]) == 1
        assert len([key for key in keys if key.startswith("_due/")]) == (header.due is not None)


@pytest.mark.parametrize(
    "name", [*REQUEST_BY_REQUEST, *(pytest.param(name, marks=pytest.mark.soak) for name in LONGER)]
)
def test_a_process_may_die_at_any_request(name: str) -> None:
    undisturbed_run = Bench(BY_NAME[name], {})
    undisturbed_run.run()
    for number in range(1, undisturbed_run.objects.writes + 1):
        for fault in (DIES_BEFORE, DIES_AFTER):
            Bench(BY_NAME[name], {number: fault}).run()


@pytest.mark.parametrize("name", ["a signal", "cancel with compensations"])
@pytest.mark.parametrize("fault", [LOST, REFUSED])
def test_an_answer_that_is_lost_or_a_busy_service_changes_nothing(
    name: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux_blob.patience._FIRST_PAUSE", 0.0001)
    undisturbed_run = Bench(BY_NAME[name], {})
    undisturbed_run.run()
    for number in range(1, undisturbed_run.objects.writes + 1):
        bench = Bench(BY_NAME[name], {number: fault})
        bench.run()
        assert not bench.drive.failures, "the store tries again by itself"


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[BlobStorage]:
    opened = spots(request.param, request)().store(time_limit=60)
    opened.ensure()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("store", "shape"),
    [
        pytest.param(service, *one.values, marks=one.marks, id=f"{service}-{one.id}")
        for service, shapes in ONCE.items()
        for one in shapes
    ],
    indirect=["store"],
)
def test_a_shape_that_is_struck_once_ends_as_if_nothing_had_happened(store: BlobStorage, shape: Shape) -> None:
    strike_once(shape, store)


@pytest.mark.parametrize(
    ("store", "shape", "blow"),
    [
        pytest.param(service, *one.values, marks=one.marks, id=f"{service}-{one.id}")
        for service, quick in CALL_BY_CALL.items()
        for one in whole(quick)
    ],
    indirect=["store"],
)
def test_a_fault_at_any_call_changes_nothing(store: BlobStorage, shape: Shape, blow: str) -> None:
    strike(shape, store, blow)
