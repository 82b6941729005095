"""What is stored goes through a codec: nothing of it stands in the clear, and nothing of it can be moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CorruptRecord,
    DefinitionError,
    FluxEngine,
    InstanceRef,
    Mail,
    MemoryStorage,
    StorageUnavailable,
    create_workflow,
    wait,
)
from flux_core.claim_check import ClaimCheckStorage
from flux_core.encoding import EncodedPayloads, EncodedStorage
from flux_core.payloads import MemoryPayloads
from flux_core.testing import (
    LOST_RESPONSE,
    FaultPlan,
    FaultyStorage,
    FluxTest,
    RecordingStorage,
    check_invariants,
    crash_at_every_write,
)
from flux_core.transfer import IMPORTED, export_instance, import_instance, read_exported
from tests.contract.codecs import Scrambled

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Codec, WorkflowBuilder, WorkflowStorage

REF = InstanceRef("default", "order", "o-1")
SECRET = "4242-4242"  # noqa: S105 -- of nobody


def order() -> WorkflowBuilder:
    return (
        create_workflow("order")
        .step("charge", lambda ctx: SECRET * 5000)
        .step("ask", lambda ctx: wait("approved"))
        .step("end", lambda ctx: SECRET)
    )


def run(storage: WorkflowStorage | None, **options: Any) -> FluxEngine:
    """An engine with an instance that has taken a step, a snapshot, a signal, and its end."""
    engine = FluxEngine(storage, workflows=[order()], **options)
    engine.execute("order", {"card": SECRET}, "o-1")
    assert engine.signal("order", "o-1", "approved", SECRET, "m1").status == "completed"
    return engine


def everything(store: MemoryStorage, payloads: MemoryPayloads) -> bytes:
    kept = store.snapshot(REF)
    assert kept is not None
    outside = [payloads.get(REF, digest) for digest in payloads.digests(REF)]
    return b"".join([*store.read(REF), *(mail.body for mail in store.mail(REF)), kept[1], *outside])


def encoded_first(store: MemoryStorage, payloads: MemoryPayloads, codec: Codec) -> WorkflowStorage:
    return EncodedStorage(ClaimCheckStorage(store, payloads), codec)


def kept_outside_first(store: MemoryStorage, payloads: MemoryPayloads, codec: Codec) -> WorkflowStorage:
    return ClaimCheckStorage(EncodedStorage(store, codec), EncodedPayloads(payloads, codec))


class TestWhatIsStored:
    @pytest.mark.parametrize("order_of_layers", [encoded_first, kept_outside_first])
    def test_nothing_stands_in_the_clear_in_either_order_of_the_layers(
        self, order_of_layers: Callable[[MemoryStorage, MemoryPayloads, Codec], WorkflowStorage]
    ) -> None:
        store, payloads = MemoryStorage(), MemoryPayloads()
        layers = order_of_layers(store, payloads, Scrambled())
        engine = run(layers)
        assert engine.get("order", "o-1").history[0].output == SECRET * 5000
        assert payloads.digests(REF)
        assert SECRET.encode() not in everything(store, payloads)
        check_invariants(layers, REF, workflow=order().build(), at_rest=True)

    def test_an_engine_encodes_before_it_keeps_outside(self) -> None:
        store, payloads = MemoryStorage(), MemoryPayloads()
        engine = run(store, payloads=payloads, codec=Scrambled())
        assert isinstance(engine.storage, EncodedStorage)
        assert isinstance(engine.storage.inner, ClaimCheckStorage)
        assert SECRET.encode() not in everything(store, payloads)

    def test_the_check_would_see_what_stands_in_the_clear(self) -> None:
        store, payloads = MemoryStorage(), MemoryPayloads()
        run(store, payloads=payloads)
        assert SECRET.encode() in everything(store, payloads)

    def test_a_codec_is_told_the_place_of_what_it_is_given(self) -> None:
        places: list[tuple[str, str]] = []

        class Notes(Scrambled):
            def encode(self, data: bytes, context: bytes) -> bytes:
                places.append(("encode", context.decode()))
                return data

            def decode(self, data: bytes, context: bytes) -> bytes:
                places.append(("decode", context.decode()))
                return data

        notes = Notes()
        store = ClaimCheckStorage(EncodedStorage(MemoryStorage(), notes), EncodedPayloads(MemoryPayloads(), notes), 20)
        store.append(REF, 0, b"small")
        store.put_mail(REF, Mail("approved", "m/1", 1, b"yes"))
        store.put_snapshot(REF, 7, b"state")
        store.put_snapshot(REF, -1, b"mark")
        written, digest = [place for _, place in places], "0" * 64
        store.payloads.put(REF, digest, b"large")
        assert [*written, places[-1][1]] == [
            "default/order/o-1/L/0",
            "default/order/o-1/M/approved/m/1",
            "default/order/o-1/S/7",
            "default/order/o-1/S/-1",
            f"default/order/o-1/P/{digest}",
        ]
        places.clear()
        store.read(REF), store.tail(REF), store.mail(REF), store.snapshot(REF), store.payloads.get(REF, digest)
        assert [place for how, place in places if how == "decode"] == [
            "default/order/o-1/L/0",
            "default/order/o-1/L/0",
            "default/order/o-1/M/approved/m/1",
            "default/order/o-1/S/7",
            f"default/order/o-1/P/{digest}",
        ]


class TestWhatCannotBeDecoded:
    @pytest.fixture
    def store(self) -> MemoryStorage:
        store = MemoryStorage()
        run(store, codec=Scrambled())
        return store

    def test_another_codec_is_told_with_the_record(self, store: MemoryStorage) -> None:
        class Other(Scrambled):
            def decode(self, data: bytes, context: bytes) -> bytes:
                return super().decode(data, context + b"another key")

        engine = FluxEngine(store, codec=Other(), workflows=[order()])
        with pytest.raises(
            CorruptRecord,
            match=r"default/order/o-1/S/\d cannot be decoded \(ValueError\('the sum does not fit'\)\): .*give the",
        ):
            engine.get("order", "o-1")

    def test_bytes_that_were_moved_are_refused(self, store: MemoryStorage) -> None:
        log = store.read(REF)
        other = REF._replace(id="o-2")
        store.append(other, 0, log[0])
        layers = EncodedStorage(store, Scrambled())
        with pytest.raises(CorruptRecord, match=r"default/order/o-2/L/0 cannot be decoded"):
            layers.read(other)
        store._logs[REF][1], store._logs[REF][2] = log[2], log[1]
        with pytest.raises(CorruptRecord, match=r"default/order/o-1/L/1 cannot be decoded"):
            layers.read(REF)

    def test_mail_is_told_with_its_name(self, store: MemoryStorage) -> None:
        (mail,) = store.mail(REF)
        store.put_mail(REF, mail._replace(id="other"))
        with pytest.raises(CorruptRecord, match=r"default/order/o-1/M/approved/other cannot be decoded"):
            EncodedStorage(store, Scrambled()).mail(REF)

    def test_what_is_not_encoded_is_refused(self) -> None:
        store = MemoryStorage()
        run(store)
        with pytest.raises(CorruptRecord, match="was written with another codec= or key, or it is damaged"):
            FluxEngine(store, codec=Scrambled(), workflows=[order()]).get("order", "o-1")

    def test_a_key_service_that_does_not_answer_is_no_damage(self, store: MemoryStorage) -> None:
        class Silent(Scrambled):
            def decode(self, data: bytes, context: bytes) -> bytes:
                message = "the key service did not answer"
                raise StorageUnavailable(message)

        with pytest.raises(StorageUnavailable, match="key service"):
            FluxEngine(store, codec=Silent(), workflows=[order()]).get("order", "o-1")

    def test_what_cannot_be_encoded_is_not_written(self) -> None:
        class Broken(Scrambled):
            def encode(self, data: bytes, context: bytes) -> bytes:
                raise KeyError("no key of that name")

        storage = RecordingStorage(MemoryStorage())
        with pytest.raises(KeyError, match="no key of that name"):
            FluxEngine(storage, codec=Broken(), workflows=[order()]).execute("order", {}, "o-1")
        assert storage.take() == []


class TestLostAnswers:
    def test_an_append_that_is_not_answered_is_known_by_its_nonce(self) -> None:
        """The bytes of the second try are others than those of the first, which got through."""
        store = MemoryStorage()
        engine = FluxEngine(FaultyStorage(store, FaultPlan({2: LOST_RESPONSE})), codec=Scrambled(), workflows=[order()])
        assert engine.execute("order", {}, "o-1").status == "suspended"
        assert len(store.read(REF)) == 4
        check_invariants(EncodedStorage(store, Scrambled()), REF, workflow=order().build(), at_rest=True)

    def test_a_signal_sent_again_is_the_same_although_its_bytes_are_not(self) -> None:
        engine = FluxEngine(codec=Scrambled(), workflows=[order()])
        engine.execute("order", {}, "o-1")
        engine.signal("order", "o-1", "approved", {"by": "Ada"}, "m1")
        assert engine.signal("order", "o-1", "approved", {"by": "Ada"}, "m1").status == "completed"

    def test_a_crash_at_every_write_changes_nothing(self) -> None:
        found = crash_at_every_write(
            order(), {}, signals=["approved"], codec=Scrambled(), payloads=MemoryPayloads(), inline_bytes=300
        )
        assert found.end.status == "completed"


class TestAround:
    def test_an_export_is_decoded_and_an_import_encodes(self) -> None:
        first, second = MemoryStorage(), MemoryStorage()
        run(first, codec=Scrambled())
        tree = export_instance(EncodedStorage(first, Scrambled()), REF)
        assert SECRET in str(tree)
        there = EncodedStorage(second, Scrambled())
        assert import_instance(there, read_exported(tree)) == IMPORTED
        assert there.read(REF) == EncodedStorage(first, Scrambled()).read(REF)
        assert SECRET.encode() not in b"".join(second.read(REF))

    def test_a_workflow_under_test_may_have_a_codec(self) -> None:
        flux = FluxTest(order(), codec=Scrambled())
        run = flux.execute("order", {}, "o-1")
        run.signal("approved")
        run.assert_completed()
        assert "charge" in flux.story(run)

    def test_a_store_is_closed_through_its_layers(self) -> None:
        store, payloads = MemoryStorage(), MemoryPayloads()
        engine = FluxEngine(store, payloads=payloads, codec=Scrambled(), workflows=[order()])
        engine.storage.ensure()
        engine.storage.close()
        with pytest.raises(StorageUnavailable):
            store.read(REF)
        with pytest.raises(StorageUnavailable):
            payloads.digests(REF)

    @pytest.mark.parametrize("codec", [Scrambled, "aes", MemoryStorage()])
    def test_what_is_no_codec_is_refused(self, codec: Any) -> None:
        with pytest.raises(DefinitionError, match=r"codec must have encode\(data, context\)"):
            FluxEngine(codec=codec)
