"""Entries of the indexes are hints: what a crash leaves is not told, and goes when its time comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from flux_blob import BlobPayloads, BlobStorage, layout
from flux_blob.layout import DueEntry
from flux_core.errors import PayloadMissing, PurgeUnfinished
from flux_core.keys import sha256
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.testing import InvocationDied
from tests.blob.watched import DIES_AFTER, DIES_BEFORE, Watched, twin, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORDER = InstanceRef("acme", "order", "1")
DAY = 24 * 3600


def header(seq: int = 0, status: str = "running", due: int | None = None) -> Header:
    return Header(status, 1, 1, 1, seq, due)


@pytest.fixture
def store() -> BlobStorage:
    return BlobStorage("memory://")


@pytest.fixture
def objects(store: BlobStorage) -> Watched:
    return watch(store)


def keys(objects: Watched, folder: str) -> list[str]:
    return [entry.key for page in objects.inner.keys(folder, "") for entry in page]


def put_due(store: BlobStorage, due: int, seq: int, n: int = 0) -> None:
    """What another process has put."""
    assert store._connection.objects().put(store._layout.due(DueEntry(due, ORDER, seq, n, "other")), b"")


class TestDueEntries:
    def test_one_whose_slot_was_taken_by_another_is_not_told_and_goes(
        self, store: BlobStorage, objects: Watched
    ) -> None:
        store.append(ORDER, 0, b"x", header(due=50))
        put_due(store, 5, seq=0)
        assert [entry.due for entry in store.due(100, 10)] == [50]
        assert len(keys(objects, "_due")) == 1

    def test_one_of_an_older_header_is_not_told_and_goes(self, store: BlobStorage, objects: Watched) -> None:
        store.append(ORDER, 0, b"x", header(due=50))
        store.append(ORDER, 1, b"x", header(1))
        put_due(store, 50, seq=0)
        assert store.due(100, 10) == []
        assert keys(objects, "_due") == []

    def test_one_whose_record_may_still_come_is_kept_untold_for_a_day(
        self, store: BlobStorage, objects: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.append(ORDER, 0, b"x", header(due=50))
        put_due(store, 5, seq=1)
        put_due(store, 6, seq=0, n=1)
        assert [entry.due for entry in store.due(100, 10)] == [50]
        assert len(keys(objects, "_due")) == 3
        later = time.time() + DAY + 60
        monkeypatch.setattr("flux_blob.indexes.time.time", lambda: later)
        assert [entry.due for entry in store.due(100, 10)] == [50]
        assert len(keys(objects, "_due")) == 1

    def test_one_of_an_instance_that_never_began_goes_after_a_day(
        self, store: BlobStorage, objects: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects.faults = {3: DIES_BEFORE}  # the due entry and the mark are there, the record is not
        with pytest.raises(InvocationDied):
            store.append(ORDER, 0, b"x", header(due=5))
        assert (store.due(100, 10), list(store.list("acme").items)) == ([], [])
        assert len(keys(objects, "_due") + keys(objects, "_list")) == 2
        later = time.time() + DAY + 60
        monkeypatch.setattr("flux_blob.indexes.time.time", lambda: later)
        assert (store.due(100, 10), list(store.list("acme").items)) == ([], [])
        assert keys(objects, "") == []

    def test_an_instance_met_by_an_old_entry_is_told_with_its_present_time(self, store: BlobStorage) -> None:
        store.append(ORDER, 0, b"x", header(due=50))
        put_due(store, 5, seq=0)
        assert [entry.due for entry in store.due(50, 1)] == [50]

    def test_an_object_that_is_no_entry_is_passed_over(self, store: BlobStorage, objects: Watched) -> None:
        objects.put("_due/0/notes.txt", b"")
        objects.put("_list/acme/notes.txt", b"")
        store.append(ORDER, 0, b"x", header(due=50))
        assert [entry.due for entry in store.due(100, 10)] == [50]
        assert len(store.list("acme").items) == 1

    def test_a_time_that_thirteen_digits_do_not_hold_is_kept_all_the_same(self, store: BlobStorage) -> None:
        far = 10**15
        store.append(ORDER, 0, b"x", header(due=far))
        assert [entry.due for entry in store.due(far, 10)] == [far]
        assert store.due(far - 1, 10) == []
        assert store.settle(ORDER, 0, far, -5)
        assert [entry.due for entry in store.due(0, 10)] == [-5]


class TestListEntries:
    def test_a_move_between_groups_whose_process_dies_is_told_once_and_rightly(
        self, store: BlobStorage, objects: Watched
    ) -> None:
        store.append(ORDER, 0, b"x", header())
        objects.faults = {objects.writes + 3: DIES_BEFORE}  # new mark, record; the old mark stays
        with pytest.raises(InvocationDied):
            store.append(ORDER, 1, b"end", header(1, "completed"))
        fresh = twin(store)
        assert len(keys(objects, "_list")) == 2
        assert [entry.header.status for entry in fresh.list("acme").items] == ["completed"]
        assert list(fresh.list("acme", statuses=["running"]).items) == []
        assert len(keys(objects, "_list")) == 1

    def test_an_instance_that_comes_back_while_it_is_listed_is_not_missed(
        self, store: BlobStorage, objects: Watched
    ) -> None:
        """The active ones are read first; it comes back from the failed ones just before those are read."""
        store.append(ORDER, 0, b"x", header(status="failed"))
        moved: list[Callable[[], object]] = [lambda: store.append(ORDER, 1, b"retry", header(1, "running"))]
        inner = objects.inner.keys

        def meanwhile(folder: str, after: str) -> object:
            if folder.endswith("/failed") and moved:
                moved.pop()()
            return inner(folder, after)

        objects.inner.keys = meanwhile  # type: ignore[method-assign, assignment]
        assert [entry.header.status for entry in twin(store).list("acme").items] == ["running"]
        assert not moved

    def test_a_header_made_by_another_process_is_listed_at_once(self, store: BlobStorage) -> None:
        store.append(ORDER, 0, b"x", header())
        assert twin(store).append(ORDER, 1, b"end", header(1, "completed")) is None
        assert [entry.header.status for entry in store.list("acme").items] == ["completed"]
        assert len(store.list("acme", statuses=["completed"]).items) == 1


class TestRemoval:
    def test_an_interrupted_purge_is_told_and_the_same_store_completes_it(self) -> None:
        for fault in (DIES_BEFORE, DIES_AFTER):
            number = 0
            while True:
                store = BlobStorage("memory://")
                objects = watch(store)
                for seq in range(4):
                    store.append(ORDER, seq, b"x", header(seq, due=5) if seq != 2 else None)
                store.put_mail(ORDER, Mail("go", "1", 1, b"x"))
                store.put_snapshot(ORDER, 3, b"state")
                number += 1
                objects.faults = {objects.writes + number: fault}
                try:
                    assert store.purge(ORDER, 3)
                    break
                except InvocationDied:
                    self._is_told_or_whole(store)
                objects.faults = {}
                store.purge(ORDER, 3)
                assert [key for key in keys(objects, "") if not key.startswith("_")] == []
                assert (store.due(10, 10), list(store.list("acme").items)) == ([], [])
                assert store.append(ORDER, 0, b"new life", header()) is None
            assert number > 10

    def _is_told_or_whole(self, store: BlobStorage) -> None:
        fresh = twin(store)
        told: list[PurgeUnfinished] = []
        log: list[bytes] = []
        try:
            log = fresh.read(ORDER)
        except PurgeUnfinished as begun:
            told.append(begun)
        if not told:
            assert log in ([b"x"] * 4, [])
            return
        assert told[0].seq == 3
        for look in (fresh.tail, fresh.header, lambda ref: fresh.append(ref, 4, b"late")):
            with pytest.raises(PurgeUnfinished):
                look(ORDER)
        assert (fresh.due(10, 10), list(fresh.list("acme").items)) == ([], [])

    def test_another_store_completes_it_only_after_15_minutes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = BlobStorage("memory://")
        objects = watch(store)
        store.append(ORDER, 0, b"x", header())
        objects.faults = {objects.writes + 1: DIES_AFTER}
        with pytest.raises(InvocationDied):
            store.purge(ORDER, 0)
        other = twin(store)
        assert other.purge(ORDER, 0) is False
        later = time.time() + 16 * 60
        monkeypatch.setattr("flux_blob.removal.time.time", lambda: later)
        assert other.purge(ORDER, 0) is True
        assert other.tail(ORDER) is None

    def test_a_tombstone_left_by_a_crash_means_nothing_to_a_new_life(self) -> None:
        store = BlobStorage("memory://")
        objects = watch(store)
        for seq in range(3):
            store.append(ORDER, seq, b"old", header(seq))
        last = layout.record(store._layout.instance(ORDER), 3)
        kept: list[bytes] = []
        objects.after_write = lambda: kept.append(objects.inner.get(last) or b"")
        assert store.purge(ORDER, 2)
        objects.after_write = None
        assert objects.inner.put(last, next(filter(None, kept)))  # as if its last request had not been made

        fresh = twin(store)
        assert (fresh.read(ORDER), fresh.tail(ORDER), fresh.header(ORDER)) == ([], None, None)
        for seq in range(5):
            assert fresh.append(ORDER, seq, b"new", header(seq)) is None
            assert twin(store).read(ORDER) == [b"new"] * (seq + 1)
            assert twin(store).tail(ORDER) == (seq, b"new")
            assert twin(store).header(ORDER) == header(seq)

    def test_what_is_known_of_a_past_life_does_no_harm(self) -> None:
        store = BlobStorage("memory://")
        for seq in range(6):
            store.append(ORDER, seq, b"old", header(seq, due=9) if seq % 2 == 0 else None)
        other = twin(store)
        assert other.purge(ORDER, 5)
        assert other.append(ORDER, 0, b"new", header(due=7)) is None
        for seq in range(1, 6):
            assert other.append(ORDER, seq, b"new") is None
        assert store.header(ORDER) == header(due=7)
        assert store.append(ORDER, 6, b"new") is None
        assert twin(store).header(ORDER) == header(due=7)
        assert [entry.due for entry in twin(store).due(100, 10)] == [7]

    def test_payloads_beside_an_instance_go_with_it(self, tmp_path: Path) -> None:
        store, payloads = BlobStorage(str(tmp_path)), BlobPayloads(str(tmp_path))
        store.append(ORDER, 0, b"x", header())
        digest = sha256(b"large")
        payloads.put(ORDER, digest, b"large")
        assert store.purge(ORDER, 0)
        with pytest.raises(PayloadMissing, match=f"no object .*{digest}"):
            payloads.get(ORDER, digest)


class TestDueTimesThatChange:
    def test_many_changes_of_one_header_are_found_wherever_it_stands(self, store: BlobStorage) -> None:
        store.append(ORDER, 0, b"x", header(due=1_000))
        for due in range(999, 900, -1):
            assert store.nudge(ORDER, 1, due)
        for seq in range(1, 1_200):
            store.append(ORDER, seq, b"x")
        fresh = twin(store)
        assert fresh.header(ORDER) == header(due=901)
        assert fresh.settle(ORDER, 0, 901, None)
        assert twin(store).header(ORDER) == header()
        assert store.header(ORDER) == header()
        assert store.due(10_000, 10) == []

    def test_a_claim_removes_the_timer_that_another_process_had_settled(
        self, store: BlobStorage, objects: Watched
    ) -> None:
        store.append(ORDER, 0, b"x", header(due=10))
        assert store.settle(ORDER, 0, 10, 5_000)
        other = twin(store)
        assert other.tail(ORDER) == (0, b"x")
        other.append(ORDER, 1, b"claim", header(1, due=60))
        assert [key.split("/")[2] for key in keys(objects, "_due")] == [f"{60:013d}"]
