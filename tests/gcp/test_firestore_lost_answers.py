"""A write whose answer is lost may have happened: who sends it again must find that out, and change nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from flux_core import FluxEngine, StorageUnavailable, create_workflow, wait
from flux_core.ports import Mail
from flux_core.testing import check_invariants
from tests.gcp.conftest import ORDER, head
from tests.gcp.relay import COMMIT, DOWN, LOST, QUERY, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_gcp import FirestoreStorage
    from tests.gcp.relay import Relay

LOST_ANSWERS = [
    LOST,
    Trouble(grpc.StatusCode.DEADLINE_EXCEEDED, after=True),
    Trouble(grpc.StatusCode.INTERNAL, after=True),
    Trouble(grpc.StatusCode.ABORTED, after=True),
]


def first_commit(trouble: Trouble) -> Callable[[str, int], Trouble | None]:
    return lambda method, number: trouble if (method, number) == (COMMIT, 1) else None


@pytest.mark.parametrize("trouble", LOST_ANSWERS, ids=lambda trouble: trouble.code.name)
class TestALostAnswer:
    def test_of_an_append_gives_back_our_own_bytes(
        self, store: FirestoreStorage, relay: Relay, trouble: Trouble
    ) -> None:
        relay.trouble = first_commit(trouble)
        assert store.append(ORDER, 0, b"mine") == b"mine"
        assert store.read(ORDER) == [b"mine"]

    def test_of_a_boundary_leaves_record_and_header(
        self, store: FirestoreStorage, relay: Relay, trouble: Trouble
    ) -> None:
        relay.trouble = first_commit(trouble)
        assert store.append(ORDER, 0, b"mine", head(0, due=9)) == b"mine"
        assert store.header(ORDER) == head(0, due=9)
        assert [entry.due for entry in store.due(100, 10)] == [9]

    def test_of_mail_gives_back_our_own_mail(self, store: FirestoreStorage, relay: Relay, trouble: Trouble) -> None:
        relay.trouble = first_commit(trouble)
        mail = Mail("go", "m", 1, b"1")
        assert store.put_mail(ORDER, mail) == mail
        assert store.mail(ORDER) == [mail]

    def test_of_a_snapshot_is_no_matter(self, store: FirestoreStorage, relay: Relay, trouble: Trouble) -> None:
        relay.trouble = first_commit(trouble)
        store.put_snapshot(ORDER, 3, b"state")
        assert store.snapshot(ORDER) == (3, b"state")

    def test_of_a_nudge_is_a_success(self, store: FirestoreStorage, relay: Relay, trouble: Trouble) -> None:
        store.append(ORDER, 0, b"start", head(0, due=50))
        relay.again(first_commit(trouble))
        assert store.nudge(ORDER, 1, 40) is True
        assert store.header(ORDER) == head(0, due=40)

    @pytest.mark.parametrize("then", [None, 70])
    def test_of_a_settle_is_a_success(
        self, store: FirestoreStorage, relay: Relay, trouble: Trouble, then: int | None
    ) -> None:
        store.append(ORDER, 0, b"start", head(0, due=50))
        relay.again(first_commit(trouble))
        assert store.settle(ORDER, 0, 50, then) is True
        assert store.header(ORDER) == head(0, due=then)

    def test_of_a_purge_is_a_success(self, store: FirestoreStorage, relay: Relay, trouble: Trouble) -> None:
        store.append(ORDER, 0, b"start", head(0))
        relay.again(first_commit(trouble))
        assert store.purge(ORDER, 0) is True
        assert store.read(ORDER) == []


def test_a_settle_that_lost_its_race_after_a_lost_answer_does_not_claim_the_others_work(
    store: FirestoreStorage, direct: FirestoreStorage, relay: Relay
) -> None:
    store.append(ORDER, 0, b"start", head(0, due=50))
    relay.again(first_commit(DOWN))  # nothing was done, and before the second try somebody else is quicker
    relay.meanwhile = lambda method, number: (
        direct.settle(ORDER, 0, 50, 60) if (method, number) == (COMMIT, 2) else None
    )
    assert store.settle(ORDER, 0, 50, 70) is False
    assert store.header(ORDER) == head(0, due=60)


def test_of_two_settles_to_the_same_time_only_one_claims_it(
    store: FirestoreStorage, direct: FirestoreStorage, relay: Relay
) -> None:
    store.append(ORDER, 0, b"start", head(0, due=50))
    relay.again(lambda method, number: None)
    relay.meanwhile = lambda method, number: method == COMMIT and direct.settle(ORDER, 0, 50, 70)
    assert store.settle(ORDER, 0, 50, 70) is False
    assert store.header(ORDER) == head(0, due=70)


def test_an_append_that_lost_its_race_after_a_lost_answer_gives_the_others_bytes(
    store: FirestoreStorage, direct: FirestoreStorage, relay: Relay
) -> None:
    relay.trouble = first_commit(DOWN)
    relay.meanwhile = lambda method, number: (
        direct.append(ORDER, 0, b"theirs", head(0, due=1)) if (method, number) == (COMMIT, 2) else None
    )
    assert store.append(ORDER, 0, b"mine", head(0, due=2)) == b"theirs"
    assert store.header(ORDER) == head(0, due=1)


def test_a_query_that_breaks_off_is_asked_again_and_repeats_nothing(store: FirestoreStorage, relay: Relay) -> None:
    for seq in range(5):
        store.append(ORDER, seq, b"%d" % seq)
    relay.again(lambda method, number: LOST if method == QUERY and number < 3 else None)
    assert store.read(ORDER) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_workflow_runs_to_its_end_though_every_other_answer_is_lost(store: FirestoreStorage, relay: Relay) -> None:
    charged: list[str] = []
    workflow = (
        create_workflow("order")
        .commit("charge", lambda ctx: charged.append(ctx.idempotency_key))
        .step("ask", lambda ctx: wait("go"))
        .commit("ship", lambda ctx: charged.append(ctx.idempotency_key))
    )
    engine = FluxEngine(store)
    relay.trouble = lambda method, number: LOST if number % 2 else None
    assert engine.execute(workflow, {}, "1").status == "suspended"
    assert engine.signal(workflow, "1", "go").status == "completed"
    assert len(charged) == 2
    relay.again(lambda method, number: None)
    check_invariants(store, ORDER._replace(tenant="default"), workflow=workflow.build(), at_rest=True)


def test_what_no_answer_comes_for_is_reported_and_left_as_it_was(
    relay: Relay, open_store: Callable[..., FirestoreStorage]
) -> None:
    store = open_store(relay.address, timeout=0.3)
    relay.trouble = lambda method, number: DOWN
    with pytest.raises(StorageUnavailable, match=r"did not answer and was given up after 0\.3 s"):
        store.append(ORDER, 0, b"mine")
    relay.again(lambda method, number: None)
    assert store.tail(ORDER) is None
