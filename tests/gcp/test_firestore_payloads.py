"""Values of any size: with a payload store beside it, no limit of Firestore's reaches a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core import FluxEngine, create_workflow, wait
from flux_core.payloads import MemoryPayloads
from flux_core.testing import VirtualClock
from flux_gcp.firestore_layout import LARGEST
from tests.gcp.relay import COMMIT

if TYPE_CHECKING:
    from flux_core import Context
    from flux_gcp import FirestoreStorage
    from tests.gcp.relay import Relay


def test_outputs_data_and_signals_above_the_limit_just_work(store: FirestoreStorage, relay: Relay) -> None:
    big = "x" * (2 * LARGEST)

    def work(ctx: Context) -> str:
        ctx.data["big"] = big
        return big

    workflow = create_workflow("order").step("work", work).step("ask", lambda ctx: wait("go"))
    clock, payloads = VirtualClock(), MemoryPayloads()
    engine = FluxEngine(store, payloads=payloads, clock=clock)
    assert engine.execute(workflow, {"big": big}, "1").status == "suspended"
    result = engine.signal(workflow, "1", "go", big)
    assert result.status == "completed"
    assert engine.get(workflow, "1").data == {"big": big}
    assert engine.get(workflow, "1").history[1].output == big
    sizes = [write.update.ByteSize() for method, message in relay.seen if method == COMMIT for write in message.writes]
    assert max(sizes) < 32 * 1024


def test_deleting_removes_payloads_and_documents(store: FirestoreStorage) -> None:
    workflow = create_workflow("order").step("work", lambda ctx: "x" * (2 * LARGEST))
    clock, payloads = VirtualClock(), MemoryPayloads()
    engine = FluxEngine(store, payloads=payloads, clock=clock)
    engine.execute(workflow, {}, "1")
    clock.advance(1_000)
    engine.delete(workflow, "1")
    assert engine.list().items == []
    assert engine.execute(workflow, {}, "1").created is True
