"""Deletion on DynamoDB: the tombstone, what it keeps away, and what becomes of a deletion that died (rule 20)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import FluxEngine, create_workflow, wait
from flux_core.claim_check import ClaimCheckStorage
from flux_core.errors import LeaseLost, PurgeUnfinished, StorageUnavailable
from flux_core.payloads import MemoryPayloads
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.testing import SeededEntropy, VirtualClock
from tests.aws.wire import Wire, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws import DynamoDBStorage
    from tests.aws.wire import Sent

ORDER = InstanceRef("acme", "order", "1")
NOW = 1_700_000_000_000
DENIED = refusal("AccessDeniedException")


def header(seq: int, status: str = "completed", due: int | None = None) -> Header:
    return Header(status, NOW, NOW, 1, seq, due)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(open_store: Callable[..., DynamoDBStorage], clock: VirtualClock) -> DynamoDBStorage:
    return open_store(clock=clock)


@pytest.fixture
def wire(store: DynamoDBStorage) -> Wire:
    return Wire(store)


def fill(store: DynamoDBStorage, records: int = 4, life: bytes = b"old") -> None:
    store.append(ORDER, 0, life, header(0, "running", NOW))
    for seq in range(1, records):
        store.append(ORDER, seq, b"%s %d" % (life, seq))
    store.put_mail(ORDER, Mail("go", "m1", NOW, b"1"))
    store.put_snapshot(ORDER, 2, b"state")


def items(store: DynamoDBStorage) -> dict[str, dict[str, Any]]:
    """All that the table holds; only a test may scan it."""
    found = store.client.scan(TableName=store.table, ConsistentRead=True)["Items"]
    return {item["SK"]["S"]: item for item in found}


class TestATombstone:
    def test_is_all_that_is_left_and_goes_a_day_later(self, store: DynamoDBStorage, clock: VirtualClock) -> None:
        fill(store)
        assert store.purge(ORDER, 3) is True
        ((key, tombstone),) = items(store).items()
        assert key == "L#0000000004"
        assert int(tombstone["expires_at"]["N"]) == clock.now() // 1000 + 86_400

    def test_is_the_only_item_that_ever_expires(self, store: DynamoDBStorage) -> None:
        fill(store)
        assert not [key for key, item in items(store).items() if "expires_at" in item]

    def test_keeps_away_who_believes_to_own_the_instance(self, store: DynamoDBStorage) -> None:
        fill(store)
        store.purge(ORDER, 3)
        with pytest.raises(LeaseLost, match=r"'order', id '1'.*was deleted meanwhile; record 4 was not written"):
            store.append(ORDER, 4, b"zombie")
        with pytest.raises(LeaseLost):
            store.append(ORDER, 4, b"zombie", header(4))
        assert list(items(store)) == ["L#0000000004"]

    def test_keeps_it_away_from_a_new_instance_of_the_same_id_too(self, store: DynamoDBStorage) -> None:
        fill(store)
        store.purge(ORDER, 3)
        store.append(ORDER, 0, b"new", header(0))
        with pytest.raises(LeaseLost):
            store.append(ORDER, 4, b"zombie")
        assert store.read(ORDER) == [b"new"]

    def test_does_not_count_as_a_record(self, store: DynamoDBStorage) -> None:
        fill(store)
        store.purge(ORDER, 3)
        assert (store.read(ORDER), store.tail(ORDER)) == ([], None)
        store.append(ORDER, 0, b"new", header(0))
        assert (store.read(ORDER), store.tail(ORDER)) == ([b"new"], (0, b"new"))

    @pytest.mark.parametrize("head", [None, header(4, "failed")], ids=["a step", "a boundary"])
    def test_gives_way_to_a_new_instance_that_grows_as_long(
        self, store: DynamoDBStorage, wire: Wire, head: Header | None
    ) -> None:
        fill(store)
        store.purge(ORDER, 3)
        fill(store, life=b"new")
        wire.take()
        assert store.append(ORDER, 4, b"new 4", head) is None
        assert store.append(ORDER, 4, b"other", head) == b"new 4"
        assert store.append(ORDER, 5, b"new 5") is None
        assert store.read(ORDER) == [b"new", b"new 1", b"new 2", b"new 3", b"new 4", b"new 5"]
        assert store.header(ORDER) == (head or header(0, "running", NOW))
        first = "PutItem" if head is None else "TransactWriteItems"
        assert wire.take()[:2] == [first, "TransactWriteItems"], "once in the life of an id that is used again"

    def test_gives_way_to_one_writer_only(self, store: DynamoDBStorage, wire: Wire) -> None:
        fill(store)
        store.purge(ORDER, 3)
        fill(store, life=b"new")
        wire.before = once(lambda: store.append(ORDER, 4, b"the other"), at="TransactWriteItems")
        assert store.append(ORDER, 4, b"mine") == b"the other"

    def test_of_several_lives_lie_above_each_other(self, store: DynamoDBStorage) -> None:
        for records in (6, 3, 5, 5, 1, 4):
            fill(store, records, b"%d" % records)
            assert len(store.read(ORDER)) == records
            assert store.tail(ORDER) == (records - 1, store.read(ORDER)[-1])
            assert store.purge(ORDER, records - 1) is True
        assert all("expires_at" in item for item in items(store).values())


class TestADeletionThatDied:
    def test_is_completed_by_another_one_wherever_it_died(self, store: DynamoDBStorage, wire: Wire) -> None:
        for request in range(4):
            fill(store)
            wire.trouble = [*[None] * request, DENIED]
            with pytest.raises(StorageUnavailable):
                store.purge(ORDER, 3)
            if request == 0:
                assert store.read(ORDER)[-1] == b"old 3", "nothing has begun"
            else:
                with pytest.raises(PurgeUnfinished, match=r"is being deleted.*delete it again") as begun:
                    store.read(ORDER)
                assert begun.value.seq == 3
            assert store.purge(ORDER, 3) is True
            assert list(items(store)) == ["L#0000000004"]

    def test_is_still_listed_so_that_somebody_finds_it(self, store: DynamoDBStorage, wire: Wire) -> None:
        fill(store)
        wire.trouble = [None, None, None, DENIED]
        with pytest.raises(StorageUnavailable):
            store.purge(ORDER, 3)
        assert [listed.ref for listed in store.list("acme").items] == [ORDER]

    def test_leaves_a_log_that_nobody_takes_for_whole_or_goes_on_with(self, store: DynamoDBStorage, wire: Wire) -> None:
        fill(store)
        wire.trouble = [None, None, None, DENIED]
        with pytest.raises(StorageUnavailable):
            store.purge(ORDER, 3)
        assert store.append(ORDER, 0, b"new") == b"old"
        for look in (
            lambda: store.read(ORDER),
            lambda: store.read(ORDER, 3),
            lambda: store.tail(ORDER),
            lambda: store.append(ORDER, 4, b"retry"),
            lambda: store.append(ORDER, 4, b"retry", header(4)),
        ):
            with pytest.raises(PurgeUnfinished):
                look()

    def test_of_another_number_is_not_completed(self, store: DynamoDBStorage, wire: Wire) -> None:
        fill(store)
        wire.trouble = [None, DENIED]
        with pytest.raises(StorageUnavailable):
            store.purge(ORDER, 3)
        before = items(store)
        assert [store.purge(ORDER, seq) for seq in (-1, 0, 2, 4, 5)] == [False] * 5
        assert items(store) == before

    def test_is_completed_by_the_verb(self, store: DynamoDBStorage, wire: Wire, clock: VirtualClock) -> None:
        workflow = create_workflow("order").step("ship", lambda ctx: None)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, longest_invocation=0)
        engine.execute(workflow, {}, "1")
        ref = InstanceRef("default", "order", "1")
        wire.trouble = [None, None, None, DENIED]
        with pytest.raises(StorageUnavailable):
            store.purge(ref, 2)
        with pytest.raises(PurgeUnfinished) as begun:
            engine.get(workflow, "1")
        assert store.purge(ref, begun.value.seq) is True
        assert engine.execute(workflow, {"again": True}, "1").created

    @pytest.mark.parametrize("request_", [1, 2, 3])
    def test_is_completed_through_a_claim_check(self, store: DynamoDBStorage, wire: Wire, request_: int) -> None:
        """The mark is on record and the payloads are gone; then the store's own removing died."""

        class Payloads(MemoryPayloads):
            def purge(self, ref: InstanceRef) -> None:
                super().purge(ref)
                wire.trouble = [*[None] * request_, DENIED]

        payloads = Payloads()
        checked = ClaimCheckStorage(store, payloads, 10)
        checked.append(ORDER, 0, b"longer than ten", header(0, "running", NOW))
        checked.append(ORDER, 1, b"short")
        with pytest.raises(StorageUnavailable):
            checked.purge(ORDER, 1)
        with pytest.raises(PurgeUnfinished) as begun:
            ClaimCheckStorage(store, payloads, 10).read(ORDER)
        assert ClaimCheckStorage(store, payloads, 10).purge(ORDER, begun.value.seq) is True
        assert list(items(store)) == ["L#0000000003"]
        assert checked.append(ORDER, 0, b"the id is free again", header(0, "running", NOW)) is None


class TestAPurgerThatFellAsleep:
    @pytest.mark.parametrize("operation", [2, 3, 4])
    def test_touches_nothing_of_a_new_instance(
        self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage], operation: int
    ) -> None:
        """It is overtaken by another one just before its nth request."""
        slow = open_store(store.table)
        wire = Wire(slow)

        def meanwhile() -> None:
            assert store.purge(ORDER, 3) is True
            fill(store, life=b"new")

        fill(store)
        wire.before = once(meanwhile, at=operation)
        assert slow.purge(ORDER, 3) is False
        assert store.read(ORDER) == [b"new", b"new 1", b"new 2", b"new 3"]
        assert store.header(ORDER) == header(0, "running", NOW)
        assert len(store.mail(ORDER)) == 1
        assert store.snapshot(ORDER) == (2, b"state")


class TestWhoReadsMeanwhile:
    def test_never_takes_the_first_page_of_a_purged_log_for_the_whole(
        self, store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        store.append(ORDER, 0, b"start", header(0))
        for seq in range(1, 8):
            store.append(ORDER, seq, bytes(300_000))
        reader = open_store(store.table)
        wire = Wire(reader)
        wire.before = once(lambda: store.purge(ORDER, 7), at=2)
        assert reader.read(ORDER) == []


class TestTheRoleThatRunsWorkflows:
    def test_never_deletes(self, store: DynamoDBStorage, wire: Wire, clock: VirtualClock) -> None:
        def refuse(ctx: object) -> None:
            raise ValueError("no")

        workflow = (
            create_workflow("order")
            .step("reserve", lambda ctx: None, compensate=lambda ctx: None)
            .step("ask", lambda ctx: wait("go", timeout=60))
            .step("ship", refuse)
        )
        engine = FluxEngine(store, workflows=[workflow], clock=clock, entropy=SeededEntropy())
        engine.execute(workflow, {"large": "x" * 40_000}, "1")
        engine.signal(workflow, "1", "go", 1, "m1")
        engine.execute(workflow, {}, "2")
        clock.advance(100)
        engine.recover()
        engine.cancel(workflow, "2")
        engine.list()
        asked = {sent.operation for sent in wire.sent}
        assert asked - {"UpdateItem", "GetItem"} == {"PutItem", "TransactWriteItems", "Query"}
        for sent in wire.sent:
            for part in sent.body.get("TransactItems", ()):
                assert set(part) == {"Put"}

    def test_only_the_module_of_purge_has_a_delete(self) -> None:
        folder = Path(__file__).resolve().parents[2] / "adapters" / "flux_aws"
        deleting = {path.name for path in folder.glob("*.py") if '"Delete"' in path.read_text(encoding="utf-8")}
        assert deleting == {"dynamodb_purge.py"}
        assert not [path for path in folder.glob("*.py") if "delete_item" in path.read_text(encoding="utf-8")]


def once(act: Callable[[], object], at: int | str) -> Callable[[Sent], object]:
    """Do `act` before the request of that number (from 1) or operation, and never again."""
    seen: list[str] = []
    done: list[bool] = []

    def before(sent: Sent) -> None:
        seen.append(sent.operation)
        if not done and at in {len(seen), sent.operation}:
            done.append(True)
            act()

    return before
