"""What calls cost, request by request: docs/stores-blob.md says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_blob import BlobStorage
from flux_core import FluxEngine, InstanceRef, create_workflow, wait
from flux_core.ports import Header, Mail
from flux_core.testing import SeededEntropy, VirtualClock
from tests.blob.places import Spot, spots
from tests.blob.watched import Watched, twin, watch
from tests.services.proxy import Proxy

if TYPE_CHECKING:
    from flux_core import WorkflowBuilder

ORDER = InstanceRef("default", "steps", "1")


def steps(count: int) -> WorkflowBuilder:
    builder = create_workflow("steps")
    for number in range(count):
        builder.step(f"s{number}", lambda ctx: None)
    return builder


def engine(store: BlobStorage, clock: VirtualClock | None = None) -> FluxEngine:
    return FluxEngine(store, clock=clock or VirtualClock(), entropy=SeededEntropy())


@pytest.fixture
def store() -> BlobStorage:
    return BlobStorage("memory://")


@pytest.fixture
def objects(store: BlobStorage) -> Watched:
    return watch(store)


class TestEpisodes:
    @pytest.mark.parametrize("count", [1, 10, 100, 1_000])
    def test_n_steps_are_n_plus_2_puts_of_records_and_nothing_is_read(
        self, store: BlobStorage, objects: Watched, count: int
    ) -> None:
        assert engine(store).execute(steps(count), id="1").status == "completed"
        assert objects.take() == {
            "put records": count + 2,
            "put due": 1,
            "put list": 2,
            "delete due": 1,
            "delete list": 1,
        }

    def test_a_wait_costs_a_look_into_the_mailbox_and_a_changed_due_time(
        self, store: BlobStorage, objects: Watched
    ) -> None:
        approval = create_workflow("steps").step("approval", lambda ctx: wait("approval"))
        assert engine(store).execute(approval, id="1").status == "suspended"
        assert objects.take() == {
            "put records": 3,  # start, the step, susp
            "put due": 2,  # start, susp
            "put list": 1,
            "delete due": 2,
            "list mail": 2,  # before susp and after it
            "put changes": 1,  # nothing is due any more
            "list records": 1,
            "get records": 1,
        }

    def test_a_signal_in_another_process(self, store: BlobStorage) -> None:
        clock = VirtualClock()
        approval = create_workflow("steps").step("approval", lambda ctx: wait("approval"))
        engine(store, clock).execute(approval, id="1")
        other = twin(store)
        objects = watch(other)
        assert engine(other, clock).signal(approval, "1", "approval").status == "completed"
        assert objects.take() == {
            "list records": 2,  # the tail, the log
            "get records": 4,  # the tail, and the log's three
            "put mail": 1,
            "list snapshots": 1,
            "put due": 1,  # the claim's
            "put records": 3,  # claim, the signal, the end
            "get changes": 1,  # what was due before the claim
            "list mail": 2,
            "get mail": 2,
            "put list": 1,
            "delete list": 1,
            "delete due": 1,
        }


class TestCalls:
    def test_the_tail_of_a_long_log_is_found_from_its_newest_snapshot(self, store: BlobStorage) -> None:
        for seq in range(2_600):
            store.append(ORDER, seq, b"%d" % seq)
        store.put_snapshot(ORDER, 2_500, b"state")
        other = twin(store)
        objects = watch(other)
        assert other.tail(ORDER) == (2_599, b"2599")
        assert objects.take() == {"list records": 2, "list snapshots": 1, "get records": 1}
        store.append(ORDER, 2_600, b"next")
        assert other.tail(ORDER) == (2_600, b"next")
        assert objects.take() == {"list records": 1, "get records": 1}

    def test_reading_on_reads_only_what_is_new(self, store: BlobStorage, objects: Watched) -> None:
        for seq in range(50):
            store.append(ORDER, seq, b"x")
        objects.take()
        assert len(store.read(ORDER, 47)) == 3
        assert objects.take() == {"list records": 1, "get records": 3}

    def test_a_lost_race_costs_one_get(self, store: BlobStorage, objects: Watched) -> None:
        store.append(ORDER, 0, b"mine")
        other = twin(store)
        theirs = watch(other)
        assert other.append(ORDER, 0, b"theirs") == b"mine"
        assert theirs.take() == {"put records": 1, "get records": 1}

    def test_a_record_by_a_process_that_has_not_seen_the_one_before_costs_one_get_more(
        self, store: BlobStorage
    ) -> None:
        store.append(ORDER, 0, b"start", Header("running", 1, 1, 1, 0, 5))
        other = twin(store)
        objects = watch(other)
        assert other.append(ORDER, 1, b"step") is None
        assert objects.take() == {"get records": 1, "put records": 1}
        assert other.header(ORDER) == Header("running", 1, 1, 1, 0, 5)

    def test_a_header_is_one_list_and_one_get(self, store: BlobStorage) -> None:
        store.append(ORDER, 0, b"start", Header("running", 1, 1, 1, 0, 5))
        objects = watch(other := twin(store))
        other.header(ORDER)
        assert objects.take() == {"list records": 1, "get records": 1}

    def test_a_list_costs_one_list_and_one_get_for_each_instance_that_it_shows(self, store: BlobStorage) -> None:
        for number in range(10):
            store.append(ORDER._replace(id=str(number)), 0, b"x", Header("running", number, 1, 1, 0, None))
        objects = watch(other := twin(store))
        assert len(other.list("default", "steps", ["running"]).items) == 10
        assert objects.take() == {"list list": 1, "list records": 10, "get records": 10}
        assert len(other.list("default").items) == 10
        counts = objects.take()
        assert counts["list list"] == 1 + 5 + 1, "the workflows, the groups, and the active ones once more"

    def test_a_sweep_costs_one_list_for_each_shard_and_two_requests_for_each_instance_due(
        self, store: BlobStorage
    ) -> None:
        for number in range(10):
            store.append(ORDER._replace(id=str(number)), 0, b"x", Header("running", 1, 1, 1, 0, number))
        objects = watch(other := twin(store))
        assert len(other.due(100, 50)) == 10
        assert objects.take() == {"list due": 4, "list records": 10, "get records": 10}
        assert other.due(-1, 50) == []
        assert objects.take() == {"list due": 4}

    def test_mail_and_snapshots(self, store: BlobStorage, objects: Watched) -> None:
        store.put_mail(ORDER, Mail("go", "1", 5, b"x"))
        store.mail(ORDER)
        store.put_snapshot(ORDER, 3, b"x")
        store.snapshot(ORDER)
        assert objects.take() == {
            "put mail": 1,
            "list mail": 1,
            "get mail": 1,
            "put snapshots": 1,
            "list snapshots": 1,
            "get snapshots": 1,
        }


@pytest.mark.parametrize("kind", ["s3", "az", "gs"])
def test_what_is_counted_above_is_what_goes_over_the_wire(kind: str, request: pytest.FixtureRequest) -> None:
    """One put, get or list is one HTTP request, and no client sends more than it is told to."""
    spot = spots(kind, request)()
    spot.store().ensure()
    proxy = Proxy(spot.options["endpoint"])
    store = Spot(spot.address, {**spot.options, "endpoint": proxy.address}).store()
    objects = watch(store)
    assert engine(store).execute(steps(10), id="1").status == "completed"
    assert store.header(ORDER) is not None
    assert len(store.read(ORDER)) == 12
    counts: dict[str, Any] = objects.take()
    own = [seen for seen in proxy.seen if "/o" not in seen.path] if kind == "gs" else []
    assert len(own) <= 1, "google-cloud-storage asks once for the bucket's metadata"
    assert len(proxy.seen) - len(own) == sum(counts.values())
    assert sum(seen.method == "DELETE" for seen in proxy.seen) + sum("batch" in seen.path for seen in proxy.seen) <= 2
    proxy.close()
