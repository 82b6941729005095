"""What an instance costs on Firestore, counted on the wire. A change that makes one dearer fails here.

Firestore bills documents written, deleted and read; a query that finds nothing is one read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import FluxEngine, WorkflowBuilder, create_workflow, wait
from flux_core.ports import Mail
from flux_core.testing import VirtualClock
from tests.gcp.conftest import ORDER, head
from tests.gcp.relay import Bill

if TYPE_CHECKING:
    from flux_core import Context
    from flux_gcp import FirestoreStorage
    from tests.gcp.relay import Relay


def steps(number: int) -> WorkflowBuilder:
    def work(ctx: Context) -> object:
        ctx.data["step"] = ctx.current_step
        return {"ok": True}

    workflow = create_workflow("order")
    for place in range(number):
        workflow.step(f"s{place}", work)
    return workflow


def test_opening_a_store_costs_nothing(store: FirestoreStorage, relay: Relay) -> None:
    store.ensure()
    assert relay.take() == Bill()


class TestARunOfOneEpisode:
    @pytest.mark.parametrize("number", [1, 10, 100, 1000])
    def test_costs_a_commit_a_step_and_two_more_and_reads_nothing(
        self, store: FirestoreStorage, relay: Relay, number: int
    ) -> None:
        """The first and the last record bring the header along: N steps are N + 4 documents in N + 2 commits."""
        workflow = steps(number)
        result = FluxEngine(store, clock=VirtualClock()).execute(workflow, {}, "1")
        assert result.status == "completed"
        assert relay.take() == Bill(commits=number + 2, writes=number + 4)

    def test_a_commit_step_costs_one_more_for_its_intent(self, store: FirestoreStorage, relay: Relay) -> None:
        workflow = create_workflow("order").commit("charge", lambda ctx: "ch_1")
        FluxEngine(store, clock=VirtualClock()).execute(workflow, {}, "1")
        assert relay.take() == Bill(commits=4, writes=6)

    def test_an_append_of_a_record_is_one_document_whatever_is_in_the_log(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        for seq in range(50):
            store.append(ORDER, seq, b"x" * 1000)
        relay.take()
        store.append(ORDER, 50, b"x" * 1000)
        assert relay.take() == Bill(commits=1, writes=1)


class TestAWait:
    def test_to_suspend_costs_two_looks_into_the_mailbox_and_one_at_the_header(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        """Four commits: start, wait and suspend, and the due entry that goes after the second look (rule 5)."""
        workflow = create_workflow("order").step("ask", lambda ctx: wait("go"))
        FluxEngine(store, clock=VirtualClock()).execute(workflow, {}, "1")
        assert relay.take() == Bill(commits=4, writes=6, gets=1, queries=2, reads=3)

    def test_a_signal_costs_as_many_reads_as_there_are_records_and_mails(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        workflow = create_workflow("order").step("ask", lambda ctx: wait("go"))
        engine = FluxEngine(store, clock=VirtualClock())
        engine.execute(workflow, {}, "1")
        relay.take()
        assert engine.signal(workflow, "1", "go").status == "completed"
        # Written: the mail, claim and end with the header, what was received. Read: the tail, the snapshot that is not
        # there, three records, one mail twice (is there anything to claim it for, and what is it).
        assert relay.take() == Bill(commits=4, writes=6, queries=5, reads=7)

    def test_many_small_records_are_read_once_and_then_a_snapshot_stands_for_them(
        self, store: FirestoreStorage, relay: Relay
    ) -> None:
        """PROTOCOL rule 12: a snapshot after twenty records, since each is billed when it is read."""
        workflow = steps(30).step("ask", lambda ctx: wait("go"))
        engine = FluxEngine(store, clock=VirtualClock())
        engine.execute(workflow, {}, "1")
        assert store.snapshot(ORDER._replace(tenant="default")) is not None
        relay.take()
        engine.get(workflow, "1")
        assert relay.take() == Bill(queries=2, reads=2)


class TestOneCall:
    def test_a_slot_that_is_taken_costs_nothing_but_reading_it(self, store: FirestoreStorage, relay: Relay) -> None:
        store.append(ORDER, 0, b"theirs", head(0))
        relay.take()
        assert store.append(ORDER, 0, b"mine", head(0)) == b"theirs"
        assert relay.take() == Bill(commits=1, gets=1, reads=1)

    def test_the_tail_is_one_document_of_however_many(self, store: FirestoreStorage, relay: Relay) -> None:
        for seq in range(40):
            store.append(ORDER, seq, b"x")
        relay.take()
        store.tail(ORDER)
        assert relay.take() == Bill(queries=1, reads=1)

    def test_reading_is_a_document_a_record(self, store: FirestoreStorage, relay: Relay) -> None:
        for seq in range(40):
            store.append(ORDER, seq, b"x")
        relay.take()
        store.read(ORDER, 30)
        assert relay.take() == Bill(queries=1, reads=10)

    def test_mail_is_one_document_and_sending_it_again_reads_it(self, store: FirestoreStorage, relay: Relay) -> None:
        store.put_mail(ORDER, Mail("go", "m", 1, b"1"))
        assert relay.take() == Bill(commits=1, writes=1)
        store.put_mail(ORDER, Mail("go", "m", 1, b"1"))
        assert relay.take() == Bill(commits=1, gets=1, reads=1)

    def test_a_nudge_and_a_settle_are_a_read_and_a_write_each(self, store: FirestoreStorage, relay: Relay) -> None:
        store.append(ORDER, 0, b"start", head(0, due=50))
        relay.take()
        assert store.nudge(ORDER, 1, 40)
        assert relay.take() == Bill(commits=1, writes=1, gets=1, reads=1)
        assert store.nudge(ORDER, 1, 45)
        assert relay.take() == Bill(gets=1, reads=1)
        assert store.settle(ORDER, 0, 40, None)
        assert relay.take() == Bill(commits=1, writes=1, gets=1, reads=1)

    def test_a_sweep_reads_what_is_due_and_nothing_else(self, store: FirestoreStorage, relay: Relay) -> None:
        for number in range(30):
            store.append(ORDER._replace(id=str(number)), 0, b"x", head(0, due=number if number % 3 else None))
        relay.take()
        assert len(store.due(10, 100)) == 7
        assert relay.take() == Bill(queries=1, reads=7)
        assert store.due(0, 100) == []
        assert relay.take() == Bill(queries=1, reads=1)

    def test_a_page_reads_one_document_more_than_it_shows(self, store: FirestoreStorage, relay: Relay) -> None:
        for number in range(12):
            store.append(ORDER._replace(id=str(number)), 0, b"x", head(0))
        relay.take()
        assert len(store.list("acme", limit=5).items) == 5
        assert relay.take() == Bill(queries=1, reads=6)

    def test_a_purge_reads_and_deletes_each_document_once(self, store: FirestoreStorage, relay: Relay) -> None:
        for seq in range(20):
            store.append(ORDER, seq, b"x", head(seq) if seq == 19 else None)
        store.put_mail(ORDER, Mail("go", "m", 1, b"1"))
        store.put_snapshot(ORDER, 19, b"state")
        relay.take()
        assert store.purge(ORDER, 19)
        # Tail, then the names of mail, snapshots and records. Deleted: those and the header; written: the tombstone.
        assert relay.take() == Bill(commits=1, writes=1, deletes=23, queries=4, reads=23)
