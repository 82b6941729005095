"""The list and the due index on DynamoDB: shards, groups, and what moves while somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core.ports import Header, InstanceRef
from tests.aws.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws import DynamoDBStorage
    from tests.aws.wire import Sent

NOW = 1_700_000_000_000


def ref(number: object) -> InstanceRef:
    return InstanceRef("acme", "order", str(number))


def header(seq: int = 0, status: str = "running", due: int | None = None, created: int = NOW) -> Header:
    return Header(status, created, NOW, 1, seq, due)


class TestWhatAQueryIs:
    def test_tables_are_read_consistently_indexes_cannot_be_and_nothing_is_scanned(
        self, store: DynamoDBStorage
    ) -> None:
        wire = Wire(store)
        store.append(ref(1), 0, b"start", header())
        for look in (store.read, store.tail, store.header, store.mail, store.snapshot):
            look(ref(1))
        store.due(NOW, 10)
        store.list("acme")
        reads = [sent for sent in wire.sent if sent.operation in {"Query", "GetItem", "Scan"}]
        assert "Scan" not in {sent.operation for sent in reads}
        for sent in reads:
            assert sent.body["ConsistentRead"] is ("IndexName" not in sent.body)

    def test_every_write_has_a_condition(self, store: DynamoDBStorage) -> None:
        wire = Wire(store)
        store.append(ref(1), 0, b"start", header(due=NOW))
        store.append(ref(1), 1, b"step")
        store.put_snapshot(ref(1), 1, b"state")
        store.nudge(ref(1), 1, NOW - 1)
        store.settle(ref(1), 0, NOW - 1, None)
        store.purge(ref(1), 1)
        for sent in wire.sent:
            if "TransactItems" in sent.body:
                parts = [part for whole in sent.body["TransactItems"] for part in whole.values()]
                assert "ConditionExpression" in parts[0], "the first part's condition is that of all of them"
            elif sent.operation not in {"Query", "GetItem"}:
                assert "ConditionExpression" in sent.body


class TestTheDueIndex:
    def test_is_spread_over_its_shards(self, store: DynamoDBStorage) -> None:
        for number in range(24):
            store.append(ref(number), 0, b"start", header(due=NOW + number))
        found = store.client.scan(TableName=store.table, IndexName="GSI2")["Items"]
        assert {item["DP"]["S"] for item in found} == {"D#0", "D#1", "D#2", "D#3"}
        assert [entry.due for entry in store.due(NOW + 100, 100)] == [NOW + number for number in range(24)]

    def test_tells_the_earliest_of_all_shards_first(self, store: DynamoDBStorage) -> None:
        for number in range(24):
            store.append(ref(number), 0, b"start", header(due=NOW + number))
        assert [entry.due for entry in store.due(NOW + 100, 5)] == [NOW + number for number in range(5)]

    def test_holds_only_what_has_something_due(self, store: DynamoDBStorage) -> None:
        store.append(ref(1), 0, b"start", header(due=NOW))
        store.append(ref(2), 0, b"start", header(due=None))
        store.append(ref(1), 1, b"end", header(1, "completed"))
        assert store.client.scan(TableName=store.table, IndexName="GSI2")["Count"] == 0

    def test_finds_everything_after_shards_were_added(
        self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        for number in range(8):
            store.append(ref(number), 0, b"start", header(due=NOW + number))
        more = open_store(store.table, shards=9)
        for number in range(8, 16):
            more.append(ref(number), 0, b"start", header(due=NOW + number))
        for number in range(4):
            assert more.nudge(ref(number), 1, NOW - 10 + number) is True
        assert len(more.due(NOW + 100, 100)) == 16
        assert len(more.list("acme").items) == 16
        for number in range(16):
            assert more.append(ref(number), 1, b"end", header(1, "completed")) is None
        assert more.due(NOW + 100, 100) == []
        assert {listed.header.status for listed in more.list("acme").items} == {"completed"}


class TestTheList:
    @pytest.mark.parametrize("status", ["completed", "failed", "rolled_back", "cancelled", "stuck", "blocked"])
    def test_meets_an_instance_once_that_moves_to_another_group_meanwhile(
        self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage], status: str
    ) -> None:
        for number in range(4):
            store.append(ref(number), 0, b"start", header(created=NOW + number))
        looking = open_store(store.table)
        wire = Wire(looking)
        moved: list[InstanceRef] = []

        def move(sent: Sent) -> None:
            if not moved and len(wire.sent) > looking.shards:  # one group was read
                for number in range(4):
                    moved.append(ref(number))
                    store.append(ref(number), 1, b"end", header(1, status, created=NOW + number))

        wire.before = move
        told = looking.list("acme").items
        assert [listed.ref for listed in told] == [ref(number) for number in (3, 2, 1, 0)]
        assert {listed.header.status for listed in told} == {status}, "told as it is now"
        assert moved

    @pytest.mark.parametrize("status", ["completed", "failed", "stuck"])
    def test_meets_an_instance_that_a_retry_brings_back_meanwhile(
        self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage], status: str
    ) -> None:
        store.append(ref(1), 0, b"start", header())
        store.append(ref(1), 1, b"end", header(1, status))
        looking = open_store(store.table)
        wire = Wire(looking)

        def come_back(sent: Sent) -> None:
            if len(wire.sent) == looking.shards + 1:  # the group of those that run was read
                store.append(ref(1), 2, b"retry", header(2, "running"))

        wire.before = come_back
        assert [(listed.ref, listed.header.status) for listed in looking.list("acme").items] == [(ref(1), "running")]

    def test_pages_through_groups_in_the_order_of_time(self, store: DynamoDBStorage) -> None:
        statuses = ("running", "completed", "failed", "stuck", "cancelled", "suspended")
        for number in range(18):
            store.append(ref(number), 0, b"start", header(status=statuses[number % 6], created=NOW + number))
        told: list[str] = []
        cursor: str | None = None
        while True:
            page = store.list("acme", limit=5, cursor=cursor)
            told += [listed.ref.id for listed in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert told == [str(number) for number in reversed(range(18))]

    def test_finds_the_few_that_a_filter_keeps_among_many(self, store: DynamoDBStorage) -> None:
        for number in range(30):
            workflow = "refund" if number in {3, 27} else "order"
            store.append(ref(number)._replace(workflow=workflow), 0, b"start", header(created=NOW + number))
        assert [listed.ref.id for listed in store.list("acme", "refund", limit=5).items] == ["27", "3"]
        page = store.list("acme", "refund", limit=1)
        assert [listed.ref.id for listed in store.list("acme", "refund", limit=1, cursor=page.cursor).items] == ["3"]
