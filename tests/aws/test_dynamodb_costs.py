"""What runs cost on DynamoDB, exactly: requests and units as AWS bills them (PROTOCOL, Layouts)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import FluxEngine, create_workflow, flow, wait
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.testing import SeededEntropy, VirtualClock
from tests.aws.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws import DynamoDBStorage
    from flux_core import Context, WorkflowBuilder

ORDER = InstanceRef("acme", "order", "1")
NOW = 1_700_000_000_000


def header(seq: int, status: str = "running", due: int | None = NOW) -> Header:
    return Header(status, NOW, NOW + seq, 1, seq, due)


def steps(count: int) -> WorkflowBuilder:
    workflow = create_workflow("order")
    for number in range(count):
        workflow.step(f"s{number}", pay)
    return workflow


def pay(ctx: Context) -> object:
    ctx.data["paid"] = ctx.current_step
    return {"ok": True, "charge": "ch_00017", "amount": 4250}


@pytest.fixture
def meter(store: DynamoDBStorage, open_store: Callable[..., DynamoDBStorage]) -> Meter:
    return Meter(store, open_store(store.table))


def engine(store: DynamoDBStorage) -> FluxEngine:
    return FluxEngine(store, clock=VirtualClock(), entropy=SeededEntropy())


class TestARunInOneEpisode:
    """N steps are N + 13 units and N + 2 requests, as long as every record is within a kilobyte."""

    @pytest.mark.parametrize(("count", "units", "requests"), [(10, 23, 12), (100, 113, 102)])
    def test_costs_a_unit_and_a_request_for_each_step_and_thirteen_and_two_for_the_whole(
        self, store: DynamoDBStorage, meter: Meter, count: int, units: int, requests: int
    ) -> None:
        assert engine(store).execute(steps(count), {"order": 1}, "1").status == "completed"
        assert (meter.write_units, len(meter.requests)) == (units, requests)
        assert meter.read_units == 0
        assert max(meter.sizes) <= 1_024

    def test_a_thousand_steps_are_1013_units_and_1002_requests(self, store: DynamoDBStorage, meter: Meter) -> None:
        record = bytes(900)
        store.append(ORDER, 0, record, header(0))
        for seq in range(1, 1_001):
            store.append(ORDER, seq, record)
        store.append(ORDER, 1_001, record, header(1_001, "completed", due=None))
        assert (meter.write_units, len(meter.requests), meter.read_units) == (1_013, 1_002, 0)
        assert max(meter.sizes) <= 1_024

    def test_a_loop_costs_its_decision_too(self, store: DynamoDBStorage, meter: Meter) -> None:
        workflow = create_workflow("order").loop("each", 200, flow().step("pay", pay))
        assert engine(store).execute(workflow, {"order": 1}, "1").status == "completed"
        assert (meter.write_units, len(meter.requests), meter.read_units) == (214, 203, 0)
        assert max(meter.sizes) <= 1_024

    def test_the_names_of_many_steps_make_the_first_record_longer(self, store: DynamoDBStorage, meter: Meter) -> None:
        assert engine(store).execute(steps(300), {"order": 1}, "1").status == "completed"
        start = -(-meter.sizes[0] // 1_024)
        assert start == 3
        assert meter.write_units == 300 + 13 + 2 * (start - 1)

    def test_is_a_transaction_a_put_for_each_step_and_a_transaction(self, store: DynamoDBStorage, meter: Meter) -> None:
        engine(store).execute(steps(3), {"order": 1}, "1")
        assert [(request.operation, request.write_units) for request in meter.requests] == [
            ("TransactWriteItems", 6),  # record and header, twice each; an entry in the list, one in the due index
            ("PutItem", 1),
            ("PutItem", 1),
            ("PutItem", 1),
            ("TransactWriteItems", 7),  # twice two; the list entry moves to another group, the due entry goes
        ]

    def test_a_record_costs_as_many_units_as_kilobytes(self, store: DynamoDBStorage, meter: Meter) -> None:
        store.append(ORDER, 0, bytes(10_000))
        assert meter.write_units == 10


class TestWaitsAndVerbs:
    def test_a_wait_a_signal_and_the_resume(self, store: DynamoDBStorage, meter: Meter) -> None:
        workflow = create_workflow("order").step("ask", lambda ctx: wait("go")).step("ship", pay)
        flux = engine(store)
        flux.execute(workflow, {}, "1")
        assert [(request.operation, request.write_units, request.read_units) for request in meter.take()] == [
            ("TransactWriteItems", 6, 0),  # start
            ("PutItem", 1, 0),  # step ask, which waits
            ("Query", 0, 1),  # an early signal?
            ("TransactWriteItems", 5, 0),  # susp; the list entry is shown anew, the lease's due entry stands
            ("Query", 0, 1),  # the second look
            ("UpdateItem", 3, 0),  # the due entry goes; the list entry shows it
        ]
        flux.signal(workflow, "1", "go", 1, "m1")
        assert [(request.operation, request.write_units, request.read_units) for request in meter.take()] == [
            ("Query", 0, 1),  # tail
            ("PutItem", 1, 0),  # mail
            ("Query", 0, 1),  # snapshot
            ("Query", 0, 1),  # the log
            ("Query", 0, 1),  # mail
            ("TransactWriteItems", 6, 0),  # claim: a due entry, the list entry shown anew
            ("Query", 0, 1),  # mail
            ("PutItem", 1, 0),  # recv
            ("PutItem", 1, 0),  # step ship
            ("TransactWriteItems", 7, 0),  # end
        ]

    def test_looking_at_an_instance_is_two_requests(self, store: DynamoDBStorage, meter: Meter) -> None:
        flux = engine(store)
        flux.execute(steps(10), {"order": 1}, "1")
        meter.take()
        flux.get(steps(10), "1")
        assert [(request.operation, request.read_units) for request in meter.requests] == [("Query", 1), ("Query", 1)]


class TestEachCall:
    def test_a_taken_slot_is_one_request_and_no_second_look(self, store: DynamoDBStorage, meter: Meter) -> None:
        store.append(ORDER, 0, b"first", header(0))
        meter.take()
        assert store.append(ORDER, 0, b"second") == b"first"
        assert store.append(ORDER, 0, b"second", header(0)) == b"first"
        assert [request.operation for request in meter.requests] == ["PutItem", "TransactWriteItems"]

    def test_mail_that_is_there_already_is_one_request(self, store: DynamoDBStorage, meter: Meter) -> None:
        mail = Mail("go", "m1", NOW, b"1")
        store.put_mail(ORDER, mail)
        assert store.put_mail(ORDER, mail) == mail
        assert [request.operation for request in meter.requests] == ["PutItem", "PutItem"]

    def test_nudge_and_settle_are_one_request_each_whatever_they_find(
        self, store: DynamoDBStorage, meter: Meter
    ) -> None:
        store.append(ORDER, 0, b"start", header(0))
        meter.take()
        assert store.nudge(ORDER, 1, NOW - 1) is True
        assert store.nudge(ORDER, 1, NOW) is True
        assert store.nudge(ORDER, 9, NOW) is False
        assert store.nudge(ORDER._replace(id="nobody"), 1, NOW) is False
        assert store.settle(ORDER, 0, NOW, None) is False
        assert store.settle(ORDER, 0, NOW - 1, None) is True
        assert [request.operation for request in meter.requests] == ["UpdateItem"] * 6

    def test_header_tail_snapshot_and_a_short_log_are_one_request_each(
        self, store: DynamoDBStorage, meter: Meter
    ) -> None:
        store.append(ORDER, 0, b"start", header(0))
        meter.take()
        store.header(ORDER)
        store.tail(ORDER)
        store.snapshot(ORDER)
        store.read(ORDER)
        store.mail(ORDER)
        assert [(request.operation, request.read_units) for request in meter.requests] == [
            ("GetItem", 1), *[("Query", 1)] * 4,
        ]  # fmt: skip

    def test_a_look_at_what_is_due_is_a_query_for_each_shard(self, open_store: Callable[..., DynamoDBStorage]) -> None:
        store = open_store(shards=3)
        meter = Meter(store, open_store(store.table))
        store.due(NOW, 100)
        assert [(request.operation, request.read_units) for request in meter.requests] == [("Query", 0.5)] * 3

    def test_a_page_of_one_status_asks_that_statuses_group_only(
        self, open_store: Callable[..., DynamoDBStorage]
    ) -> None:
        store = open_store(shards=3)
        meter = Meter(store, open_store(store.table))
        store.list("acme", statuses=["failed"])
        assert len(meter.take()) == 3
        store.list("acme")
        assert len(meter.take()) == 3 * 6, "every group, and the first one again"
