"""Deleting an instance (PROTOCOL rule 20): one wins, nothing is left, and what is interrupted can be finished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest

from flux_core import FluxEngine, create_workflow
from flux_core.errors import PurgeUnfinished, StorageUnavailable, UnknownInstance
from flux_core.ports import Mail
from flux_core.testing import VirtualClock
from flux_core.testing.store_case import together
from flux_gcp import firestore_purge
from flux_gcp.firestore_indexes import EXPIRES
from flux_gcp.firestore_messages import by_name
from flux_gcp.firestore_purge import BATCH
from tests.gcp.conftest import ORDER, head
from tests.gcp.relay import COMMIT, LOST, Bill, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_gcp import FirestoreStorage
    from flux_gcp.firestore_messages import Message
    from tests.gcp.relay import Relay

LONG = 30
"""Records of an instance that goes in three commits, where one holds no more than `SMALL` deletions."""
SMALL = 12
GONE = Trouble(grpc.StatusCode.PERMISSION_DENIED)
"""The process has lost its rights, which is as good as its death: it writes nothing more."""


def fill(store: FirestoreStorage, records: int, letters: int = 0) -> None:
    for seq in range(records):
        store.append(ORDER, seq, b"%d" % seq, head(seq) if seq == records - 1 else None)
    for number in range(letters):
        store.put_mail(ORDER, Mail("go", str(number), 1, b"1"))


def left(store: FirestoreStorage) -> list[Message]:
    """Every document that is left of the instance."""
    assert store._opened is not None
    wire = store._opened.wire
    instance = wire.names.instance(ORDER)
    found = [document for document in wire.get([instance], wire.end()) if document is not None]
    for collection in (wire.names.log, wire.names.mail, wire.names.snap):
        found += wire.query(instance, by_name(collection), wire.end())
    return found


def dying_at(number: int) -> Callable[[str, int], Trouble | None]:
    """Commit `number` and later ones do not come through."""
    return lambda method, count: GONE if method == COMMIT and count >= number else None


def test_only_a_tombstone_is_left_and_firestore_removes_it_after_a_day(store: FirestoreStorage) -> None:
    fill(store, 5, letters=3)
    store.put_snapshot(ORDER, 4, b"state")
    assert store.purge(ORDER, 4) is True
    (tombstone,) = left(store)
    expires = tombstone.fields[EXPIRES].timestamp_value.seconds
    assert 23 * 3600 < expires - time.time() < 25 * 3600
    assert store.tail(ORDER) is None


def test_no_living_document_has_the_field_by_which_firestore_removes(store: FirestoreStorage) -> None:
    fill(store, 3, letters=1)
    store.put_snapshot(ORDER, 2, b"state")
    assert [document.name for document in left(store) if EXPIRES in document.fields] == []


def test_who_appends_while_it_is_deleted_loses_nothing(
    store: FirestoreStorage, direct: FirestoreStorage, relay: Relay
) -> None:
    """A record that came after the look at the tail is in the tombstone's place."""
    fill(store, 3)
    relay.again(lambda method, number: None)
    relay.meanwhile = lambda method, number: direct.append(ORDER, 3, b"late", head(3)) if method == COMMIT else None
    assert store.purge(ORDER, 2) is False
    assert store.read(ORDER) == [b"0", b"1", b"2", b"late"]
    assert store.header(ORDER) == head(3)


def test_a_late_writer_finds_that_the_instance_was_deleted(store: FirestoreStorage) -> None:
    fill(store, 3)
    store.purge(ORDER, 2)
    with pytest.raises(UnknownInstance, match="'1' of tenant 'acme' was deleted"):
        store.append(ORDER, 3, b"late", head(3, due=5))
    assert store.header(ORDER) is None
    assert store.due(100, 10) == []


def test_a_new_life_grows_over_the_tombstone_of_the_old(store: FirestoreStorage) -> None:
    fill(store, 3)
    store.purge(ORDER, 2)
    for seq in range(6):
        assert store.append(ORDER, seq, b"new %d" % seq, head(seq)) is None
        assert store.tail(ORDER) == (seq, b"new %d" % seq)
        assert store.read(ORDER) == [b"new %d" % place for place in range(seq + 1)]
    assert store.append(ORDER, 3, b"again") == b"new 3"
    assert store.purge(ORDER, 5) is True
    assert len(left(store)) == 1


def test_of_two_writers_at_the_tombstones_place_one_wins(store: FirestoreStorage) -> None:
    fill(store, 3)
    store.purge(ORDER, 2)
    for seq in range(3):
        store.append(ORDER, seq, b"new", head(seq))
    answers = together(8, lambda number: store.append(ORDER, 3, b"%d" % number))
    assert answers.count(None) == 1
    assert store.read(ORDER, 3) == [b"%d" % answers.index(None)]


def test_one_of_more_documents_than_a_commit_should_hold_goes_in_two(store: FirestoreStorage, relay: Relay) -> None:
    fill(store, BATCH + 3)
    relay.take()
    assert store.purge(ORDER, BATCH + 2) is True
    assert relay.take()._replace(reads=0, queries=0, gets=0) == Bill(commits=2, writes=2, deletes=BATCH + 4)
    assert len(left(store)) == 1


class TestALongOne:
    @pytest.fixture(autouse=True)
    def _small_commits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(firestore_purge, "BATCH", SMALL)

    def test_goes_in_several_commits_and_wholly(self, store: FirestoreStorage, relay: Relay) -> None:
        fill(store, LONG, letters=3)
        relay.take()
        assert store.purge(ORDER, LONG - 1) is True
        bill = relay.take()
        assert (bill.commits, bill.deletes) == (3, LONG + 3 + 1)
        assert len(left(store)) == 1

    def test_is_deleted_by_one_of_several(self, store: FirestoreStorage) -> None:
        fill(store, LONG)
        won = together(4, lambda _: store.purge(ORDER, LONG - 1))
        assert won.count(True) == 1
        assert len(left(store)) == 1

    @pytest.mark.parametrize("dies_at", [2, 3])
    def test_that_was_interrupted_says_so_and_can_be_finished(
        self, store: FirestoreStorage, relay: Relay, dies_at: int
    ) -> None:
        fill(store, LONG)
        relay.again(dying_at(dies_at))
        with pytest.raises(StorageUnavailable):
            store.purge(ORDER, LONG - 1)
        relay.again(lambda method, number: None)
        for look in (
            lambda: store.read(ORDER),
            lambda: store.tail(ORDER),
            lambda: store.append(ORDER, LONG, b"late"),
        ):
            with pytest.raises(PurgeUnfinished, match="delete it again") as told:
                look()
            assert told.value.seq == LONG - 1
        assert store.header(ORDER) is None
        assert store.append(ORDER, 0, b"new life", head(0)) == b"0"  # not before the old one is gone
        assert store.purge(ORDER, 5) is False
        assert store.purge(ORDER, LONG - 1) is True
        assert len(left(store)) == 1
        assert store.append(ORDER, 0, b"new life", head(0)) is None

    @pytest.mark.parametrize("which", [1, 2, 3])
    def test_survives_a_lost_answer(self, store: FirestoreStorage, relay: Relay, which: int) -> None:
        fill(store, LONG)
        relay.again(lambda method, number: LOST if (method, number) == (COMMIT, which) else None)
        assert store.purge(ORDER, LONG - 1) is True
        assert len(left(store)) == 1

    def test_that_somebody_else_finished_and_began_anew_is_left_alone(
        self, store: FirestoreStorage, direct: FirestoreStorage, relay: Relay
    ) -> None:
        """The slow one's second commit comes when the id lives again: refused, as the tombstone has changed."""
        fill(store, LONG)

        def others(method: str, number: int) -> None:
            if (method, number) == (COMMIT, 2):
                assert direct.purge(ORDER, LONG - 1) is True
                assert direct.append(ORDER, 0, b"new life", head(0)) is None

        relay.again(lambda method, number: None)
        relay.meanwhile = others
        assert store.purge(ORDER, LONG - 1) is False
        assert store.read(ORDER) == [b"new life"]
        assert store.header(ORDER) == head(0)


def test_the_engine_finishes_what_was_interrupted(
    store: FirestoreStorage, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firestore_purge, "BATCH", SMALL)
    workflow = create_workflow("order")
    for number in range(LONG):
        workflow.step(f"s{number}", lambda ctx: None)
    clock = VirtualClock()
    engine = FluxEngine(store, tenant="acme", clock=clock)
    engine.execute(workflow, {}, "1")
    clock.advance(1_000)
    relay.again(dying_at(2))
    with pytest.raises(StorageUnavailable):
        engine.delete(workflow, "1")
    relay.again(lambda method, number: None)
    with pytest.raises(UnknownInstance):
        engine.get(workflow, "1")
    engine.delete(workflow, "1")
    assert len(left(store)) == 1
    assert engine.execute(workflow, {}, "1").created is True
