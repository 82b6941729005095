"""`MemoryStorage` keeps the store contract, and what it promises beyond."""

from __future__ import annotations

import pytest

from flux_core.errors import CallerError, StorageUnavailable
from flux_core.memory import MemoryStorage
from flux_core.ports import Header, InstanceRef
from flux_core.testing import StoreContract

ORDER = InstanceRef("acme", "order", "1")


class TestMemoryStorage(StoreContract):
    def make_store(self) -> MemoryStorage:
        return MemoryStorage()


def test_a_memory_store_says_that_it_is_lost_with_the_process() -> None:
    assert MemoryStorage().ephemeral is True


def test_an_append_beyond_the_end_is_refused_naming_both_numbers() -> None:
    store = MemoryStorage()
    store.append(ORDER, 0, b"start")
    with pytest.raises(ValueError, match=r"order/1 .*at 5, but its log has 1 records: the next one is 1"):
        store.append(ORDER, 5, b"beyond")
    with pytest.raises(ValueError, match=r"at 1, but its log has 0 records: the next one is 0"):
        store.append(ORDER._replace(id="new"), 1, b"beyond")
    assert store.read(ORDER) == [b"start"]
    assert store.tail(ORDER._replace(id="new")) is None


def test_a_negative_number_is_not_taken_for_a_place_from_the_end() -> None:
    store = MemoryStorage()
    store.append(ORDER, 0, b"start")
    with pytest.raises(ValueError, match="at -1"):
        store.append(ORDER, -1, b"before")


def test_a_closed_memory_store_refuses_every_call() -> None:
    store = MemoryStorage()
    store.append(ORDER, 0, b"start")
    store.close()
    with pytest.raises(StorageUnavailable, match="was closed"):
        store.append(ORDER, 1, b"step")
    with pytest.raises(StorageUnavailable, match="was closed"):
        store.read(ORDER)


def test_a_page_needs_room_for_one_entry() -> None:
    with pytest.raises(CallerError, match="at least 1, not 0"):
        MemoryStorage().list("acme", limit=0)


def test_superseded_due_entries_do_not_pile_up() -> None:
    store = MemoryStorage()
    for number in range(2_000):
        ref = ORDER._replace(id=str(number))
        store.append(ref, 0, b"start", Header("running", 1, 1, 1, 0, 10**13))
        store.append(ref, 1, b"end", Header("completed", 1, 1, 1, 1, None))
    assert len(store._due_heap) < 200
    assert store.due(10**14, 10) == []


def test_a_recover_loop_over_ten_thousand_instances_meets_each_once() -> None:
    store = MemoryStorage()
    for number in range(10_000):
        store.append(ORDER._replace(id=str(number)), 0, b"start", Header("running", 1, 1, 1, 0, number))
    met = 0
    while portion := store.due(10_000, 100):
        for entry in portion:
            assert store.settle(entry.ref, 0, entry.due, None)
            met += 1
    assert met == 10_000
