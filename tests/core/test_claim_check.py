"""Large values are kept outside of the store: put before they are named, once each, checked when read, removed last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CorruptRecord,
    DefinitionError,
    FluxEngine,
    InstanceRef,
    Mail,
    MemoryStorage,
    PayloadMissing,
    PurgeUnfinished,
    StorageUnavailable,
    UnknownInstance,
    create_workflow,
    wait,
)
from flux_core.claim_check import INLINE, ClaimCheckStorage
from flux_core.codec import decode_record
from flux_core.keys import sha256
from flux_core.payloads import MemoryPayloads
from flux_core.reference import RESERVED, PurgeMark, Reference
from flux_core.testing import (
    CRASH_AFTER,
    FAULTS,
    UNAVAILABLE,
    FaultPlan,
    FaultyStorage,
    FluxTest,
    InvocationDied,
    RecordingPayloads,
    RecordingStorage,
    SeededEntropy,
    VirtualClock,
    check_invariants,
    crash_at_every_write,
)
from flux_core.transfer import IMPORTED, SAME, export_instance, import_instance, read_exported
from flux_local import FolderPayloads, SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flux_core import Context, WorkflowBuilder

REF = InstanceRef("default", "report", "r-1")
BIG = "x" * 100_000


def report() -> WorkflowBuilder:
    """A workflow whose input, outputs, data, signal and state are all large."""

    def render(ctx: Context) -> str:
        ctx.data["pages"] = BIG + "pages"
        return BIG

    return (
        create_workflow("report")
        .step("render", render)
        .step("again", lambda ctx: BIG)
        .step("approval", lambda ctx: wait("approved"))
        .step("send", lambda ctx: ctx.data["pages"][-5:])
    )


class Desk:
    """A store, a payload store, and what the two were asked."""

    def __init__(self, inline: int = INLINE) -> None:
        self.inner = MemoryStorage()
        self.payloads = MemoryPayloads()
        self.clock = VirtualClock()
        self.calls = RecordingStorage(self.inner)
        self.inline = inline
        self.engine = self.another_engine()

    def another_engine(self, plan: FaultPlan | None = None, seed: int = 1) -> FluxEngine:
        """As in another process; with a `plan`, one that may die."""
        storage = self.calls if plan is None else FaultyStorage(self.inner, plan)
        return FluxEngine(
            storage,
            payloads=RecordingPayloads(self.payloads, storage),
            inline_bytes=self.inline,
            workflows=[report()],
            clock=self.clock,
            entropy=SeededEntropy(seed),
        )

    @property
    def store(self) -> ClaimCheckStorage:
        return ClaimCheckStorage(self.inner, self.payloads, self.inline, clock=self.clock)

    def completed(self) -> None:
        """An instance that has ended, long enough ago to be deleted."""
        self.engine.execute("report", {"text": BIG + "in"}, "r-1")
        assert self.engine.signal("report", "r-1", "approved", BIG + "mail", "m1").status == "completed"
        self.clock.advance(1000)


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestLargeValues:
    def test_input_outputs_data_signals_and_snapshots_of_any_size_come_back(self, desk: Desk) -> None:
        desk.completed()
        result = desk.another_engine().get("report", "r-1")
        assert result.state.input == {"text": BIG + "in"}
        assert result.data == {"pages": BIG + "pages"}
        assert [step.output for step in result.history] == [BIG, BIG, BIG + "mail", "pages"]
        check_invariants(desk.store, REF, workflow=report().build(), at_rest=True)

    def test_what_the_store_itself_holds_is_small(self, desk: Desk) -> None:
        desk.completed()
        assert max(map(len, desk.inner.read(REF))) < 400
        assert max(len(mail.body) for mail in desk.inner.mail(REF)) < 200
        kept = desk.inner.snapshot(REF)
        assert kept is not None
        assert len(kept[1]) < 200

    def test_what_is_as_long_as_the_limit_stays_in_the_store(self) -> None:
        store = ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 100)
        store.append(REF, 0, b"x" * 100)
        store.append(REF, 1, b"x" * 101)
        assert [len(raw) == 100 for raw in store.inner.read(REF)] == [True, False]
        assert store.read(REF) == [b"x" * 100, b"x" * 101]

    def test_equal_content_is_kept_once(self, desk: Desk) -> None:
        store = desk.store
        store.append(REF, 0, b"y" * 50_000)
        store.append(REF, 1, b"y" * 50_000)
        store.put_mail(REF, Mail("m", "1", 1, b"y" * 50_000))
        store.put_snapshot(REF, 1, b"y" * 50_000)
        assert desk.payloads.digests(REF) == [sha256(b"y" * 50_000)]
        assert store.read(REF) == [b"y" * 50_000] * 2

    def test_equal_records_of_one_read_are_fetched_once(self) -> None:
        storage = RecordingStorage(MemoryStorage())
        store = ClaimCheckStorage(storage, RecordingPayloads(MemoryPayloads(), storage), 10)
        for seq in range(20):
            store.append(REF, seq, b"the same again")
        storage.take()
        assert store.read(REF) == [b"the same again"] * 20
        assert storage.take() == ["read(0)", "get_payload"]

    def test_a_payload_is_put_before_the_record_that_names_it(self, desk: Desk) -> None:
        desk.engine.execute("report", {"text": BIG}, "r-1")
        calls = desk.calls.take()
        assert calls[:4] == ["put_payload", "append(0)+running", "put_payload", "append(1)"]

    def test_small_instances_cost_no_call_more(self, desk: Desk) -> None:
        small = create_workflow("small").step("a", lambda ctx: 1).step("b", lambda ctx: 2)
        desk.engine.execute(small, {}, "s-1")
        assert desk.calls.take() == ["append(0)+running", "append(1)", "append(2)", "append(3)+completed"]

    def test_an_engine_has_the_limit_that_it_is_given(self) -> None:
        desk = Desk(inline=200)
        desk.engine.execute("report", {"text": "z" * 200}, "r-1")
        assert desk.inner.read(REF)[0].startswith(RESERVED)

    def test_an_instance_without_a_payload_storage_works_as_before(self) -> None:
        engine = FluxEngine(workflows=[report()])
        engine.execute("report", {"text": BIG}, "r-1")
        assert engine.signal("report", "r-1", "approved").status == "completed"

    def test_a_store_is_as_lasting_as_the_less_lasting_of_the_two(self, tmp_path: Path) -> None:
        durable, folder = SQLiteStorage(tmp_path / "flux.db"), FolderPayloads(tmp_path / "payloads")
        assert not ClaimCheckStorage(durable, folder).ephemeral
        assert ClaimCheckStorage(durable, MemoryPayloads()).ephemeral
        assert ClaimCheckStorage(MemoryStorage(), folder).ephemeral

    def test_a_large_instance_on_one_machine_outlives_its_process(self, tmp_path: Path) -> None:
        def engine() -> FluxEngine:
            storage = SQLiteStorage(tmp_path / "flux.db", synchronous="OFF")
            return FluxEngine(storage, payloads=FolderPayloads(tmp_path / "payloads", sync=False), workflows=[report()])

        first = engine()
        first.execute("report", {"text": BIG}, "r-1")
        first.storage.close()
        second = engine()
        assert second.signal("report", "r-1", "approved", BIG).status == "completed"
        second.storage.close()


class TestAReference:
    def test_it_shows_the_envelope_of_its_record(self, desk: Desk) -> None:
        desk.engine.execute("report", {"text": BIG}, "r-1")
        whole, kept = desk.store.read(REF), desk.inner.read(REF)
        for seq in (0, 1, 2):
            record, tree = decode_record(whole[seq], REF, seq), json.loads(kept[seq])
            assert (tree["t"], tree["ep"], tree["at"]) == (record.type, record.epoch, record.at)
            assert tree["n"] == [record.by, record.counter]
            assert (tree["ref"], tree["len"]) == (sha256(whole[seq]), len(whole[seq]))

    def test_bytes_that_look_like_a_reference_are_none(self) -> None:
        store = ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 10_000)
        forged = Reference("0" * 64, 5).to_bytes()
        mark = PurgeMark("0" * 32, 1, 0).to_bytes()
        for seq, raw in enumerate((forged, mark, RESERVED, b'{"ref":null')):
            assert store.append(REF, seq, raw) is None
            assert store.tail(REF) == (seq, raw)
        assert store.read(REF) == [forged, mark, RESERVED, b'{"ref":null']
        store.put_mail(REF, Mail("m", "1", 1, forged))
        assert store.mail(REF) == [Mail("m", "1", 1, forged)]
        store.put_snapshot(REF, 3, mark)
        assert store.snapshot(REF) == (3, mark)

    def test_a_value_of_a_user_that_looks_like_a_reference_is_a_value(self, desk: Desk) -> None:
        forged = json.loads(Reference("0" * 64, 5).to_bytes())
        flow = create_workflow("forged").step("a", lambda ctx: forged)
        desk.engine.execute(flow, forged, "f-1")
        result = desk.engine.get(flow, "f-1")
        assert (result.state.input, result.history[0].output) == (forged, forged)

    @pytest.mark.parametrize("seq", [0, 1])
    def test_without_its_payload_storage_it_is_not_taken_for_a_record(self, desk: Desk, seq: int) -> None:
        desk.engine.execute("report", {"text": BIG}, "r-1")
        with pytest.raises(CorruptRecord, match=rf"record {seq} of default/report/r-1 .*give FluxEngine the payloads="):
            decode_record(desk.inner.read(REF)[seq], REF, seq)
        desk.inner._snapshots.clear()
        with pytest.raises(CorruptRecord, match=r"give FluxEngine the payloads= that the instance was written with"):
            FluxEngine(desk.inner, workflows=[report()]).get("report", "r-1")

    @pytest.mark.parametrize(
        "damaged",
        [
            b'{"ref":"0123","len":5,"v":"P1"}',
            b'{"ref":"%b","len":"5","v":"P1"}' % (b"0" * 64),
            b'{"ref":"%b","len":5,"v":"P9"}' % (b"0" * 64),
            b'{"ref":"%b","len":5}' % (b"0" * 64),
            b'{"ref":"%b","len":5,' % (b"z" * 64),
            b'{"ref":null,"v":"P1"}',
            b'{"ref":[1],"len":5,"v":"P1"}',
            b'{"ref":\xff}',
        ],
    )
    def test_one_that_is_damaged_is_told_with_its_record(self, desk: Desk, damaged: bytes) -> None:
        desk.inner.append(REF, 0, b"start")
        desk.inner.append(REF, 1, damaged)
        with pytest.raises(CorruptRecord, match=r"record 1 of default/report/r-1 names a payload and cannot be read"):
            desk.store.read(REF)
        with pytest.raises(CorruptRecord, match=r"record 1 of default/report/r-1"):
            desk.store.tail(REF)


class TestAPayloadThatIsNotWhatWasPut:
    def test_a_missing_one_is_told_with_its_record_and_what_to_do(self, desk: Desk) -> None:
        desk.engine.execute("report", {"text": BIG}, "r-1")
        desk.payloads.purge(REF)
        with pytest.raises(PayloadMissing, match=r"record 0 of default/report/r-1 .*look whether payloads= is what"):
            desk.store.read(REF)
        with pytest.raises(PayloadMissing, match=r"snapshot \d of default/report/r-1 .* restore that payload"):
            desk.engine.get("report", "r-1")

    def test_a_changed_one_is_told_with_its_record(self, desk: Desk) -> None:
        store = desk.store
        store.append(REF, 0, b"x" * 40_000)
        digest = sha256(b"x" * 40_000)
        for other in (b"y" * 40_000, b"x" * 39_999, b""):
            desk.payloads.purge(REF)
            desk.payloads.put(REF, digest, other)
            with pytest.raises(CorruptRecord, match=rf"record 0 of default/report/r-1 .*payload {digest}.*else"):
                store.read(REF)

    def test_mail_that_cannot_be_read_is_told_with_its_name(self, desk: Desk) -> None:
        desk.store.put_mail(REF, Mail("approved", "m1", 1, b"x" * 40_000))
        desk.store.append(REF, 0, b"start")
        desk.payloads.purge(REF)
        with pytest.raises(PayloadMissing, match=r"mail approved/m1 of default/report/r-1"):
            desk.store.mail(REF)

    def test_the_invariants_name_what_refers_to_it(self, desk: Desk) -> None:
        desk.engine.execute("report", {"text": BIG}, "r-1")
        check_invariants(desk.store, REF)
        digests = desk.payloads.digests(REF)
        desk.payloads.purge(REF)
        with pytest.raises(AssertionError, match=r"I14: record 0 of default/report/r-1 names a payload that is gone"):
            check_invariants(desk.store, REF)
        for digest in digests:
            desk.payloads.put(REF, digest, b"something else")
        with pytest.raises(AssertionError, match=r"I14: record 0 of .* what is there is something else"):
            check_invariants(RecordingStorage(desk.store), REF)


class TestTakenSlots:
    def test_what_is_found_in_a_slot_is_whole(self, desk: Desk) -> None:
        store = desk.store
        store.append(REF, 0, b"a" * 50_000)
        assert store.append(REF, 0, b"b" * 50_000) == b"a" * 50_000
        assert store.append(REF, 0, b"short") == b"a" * 50_000

    def test_what_was_written_before_is_known_without_fetching_it(self) -> None:
        storage = RecordingStorage(MemoryStorage())
        store = ClaimCheckStorage(storage, RecordingPayloads(MemoryPayloads(), storage), 10)
        store.append(REF, 0, b"a large record")
        store.put_mail(REF, Mail("m", "1", 1, b"a large letter"))
        storage.take()
        assert store.append(REF, 0, b"a large record") == b"a large record"
        assert store.put_mail(REF, Mail("m", "1", 9, b"a large letter")) == Mail("m", "1", 1, b"a large letter")
        assert storage.take() == ["put_payload", "append(0)", "put_payload", "put_mail"]

    def test_a_large_signal_sent_twice_is_one(self, desk: Desk) -> None:
        desk.engine.execute("report", {"text": ""}, "r-1")
        desk.engine.signal("report", "r-1", "approved", BIG, "m1")
        assert desk.engine.signal("report", "r-1", "approved", BIG, "m1").status == "completed"
        assert len(desk.inner.mail(REF)) == 1


class TestDeletion:
    def test_nothing_is_left(self, desk: Desk) -> None:
        desk.completed()
        desk.engine.delete("report", "r-1")
        assert desk.payloads.digests(REF) == []
        assert (desk.inner.read(REF), desk.inner.mail(REF), desk.inner.snapshot(REF)) == ([], [], None)
        with pytest.raises(UnknownInstance):
            desk.engine.get("report", "r-1")

    def test_the_log_is_marked_before_the_payloads_go_and_is_removed_after_them(self) -> None:
        storage = RecordingStorage(MemoryStorage())
        store = ClaimCheckStorage(storage, RecordingPayloads(MemoryPayloads(), storage))
        store.append(REF, 0, b"start")
        storage.take()
        assert store.purge(REF, 0)
        assert storage.take() == ["tail", "append(1)", "purge_payloads", "purge(1)"]

    def test_with_another_number_nothing_is_marked(self, desk: Desk) -> None:
        desk.store.append(REF, 0, b"start")
        assert not desk.store.purge(REF, 1)
        assert not desk.store.purge(REF._replace(id="nobody"), 0)
        assert desk.store.read(REF) == [b"start"]

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("number", range(1, 9))
    def test_a_fault_at_any_call_leaves_it_whole_or_being_deleted(self, desk: Desk, number: int, fault: str) -> None:
        desk.completed()
        before = desk.store.read(REF)
        plan = FaultPlan({number: fault})
        with pytest.raises((InvocationDied, StorageUnavailable)):
            desk.another_engine(plan, seed=2).delete("report", "r-1")
        tail = desk.inner.tail(REF)
        if tail is not None and tail[0] == len(before) - 1:
            assert desk.store.read(REF) == before
            check_invariants(desk.store, REF, workflow=report().build(), at_rest=True)
        elif tail is not None:
            with pytest.raises(PurgeUnfinished, match=r"delete it again to complete it \(in 900 s"):
                desk.another_engine(seed=3).delete("report", "r-1")
            desk.clock.advance(900)
        if tail is not None:
            desk.another_engine(seed=4).delete("report", "r-1")
        assert (desk.inner.tail(REF), desk.payloads.digests(REF)) == (None, [])
        desk.completed()  # a new instance of that id, with the same payloads
        check_invariants(desk.store, REF, workflow=report().build(), at_rest=True)

    def test_the_calls_of_a_deletion_are_those_that_fail_above(self, desk: Desk) -> None:
        desk.completed()
        plan = FaultPlan()
        desk.another_engine(plan).delete("report", "r-1")
        assert len(plan.calls) == 8

    def test_payloads_that_go_before_the_log_is_marked_would_be_noticed(self, desk: Desk) -> None:
        desk.completed()
        desk.payloads.purge(REF)  # the invocation died here
        with pytest.raises(AssertionError, match=r"I14: record 0 of default/report/r-1"):
            check_invariants(desk.store, REF)

    def test_who_was_not_answered_may_go_on_at_once(self, desk: Desk) -> None:
        desk.completed()
        plan = FaultPlan({7: UNAVAILABLE})  # the removing of the payloads
        engine = desk.another_engine(plan, seed=2)
        with pytest.raises(StorageUnavailable):
            engine.delete("report", "r-1")
        engine.delete("report", "r-1")
        assert desk.inner.tail(REF) is None


class Interrupted(Desk):
    """An instance whose deletion died after the payloads were gone."""

    def __init__(self) -> None:
        super().__init__()
        self.completed()
        self.last = len(self.inner.read(REF)) - 1
        with pytest.raises(InvocationDied):
            self.another_engine(FaultPlan({7: CRASH_AFTER}), seed=2).delete("report", "r-1")


@pytest.fixture
def interrupted() -> Interrupted:
    return Interrupted()


class TestAnInterruptedDeletion:
    def test_every_verb_says_that_the_instance_is_being_deleted(self, interrupted: Interrupted) -> None:
        engine = interrupted.engine
        for verb in (
            lambda: engine.get("report", "r-1"),
            lambda: engine.execute("report", {"text": "other"}, "r-1"),
            lambda: engine.signal("report", "r-1", "approved"),
            lambda: engine.retry_step("report", "r-1", "render", force=True),
            lambda: engine.cancel("report", "r-1"),
            lambda: engine.audit("report", "r-1"),
        ):
            with pytest.raises(PurgeUnfinished, match=r"'report', id 'r-1' is being deleted"):
                verb()

    def test_nothing_that_reads_takes_a_missing_payload_for_damage(self, interrupted: Interrupted) -> None:
        store = interrupted.store
        for read in (
            lambda: store.read(REF),
            lambda: store.read(REF, interrupted.last + 1),
            lambda: store.tail(REF),
            lambda: store.mail(REF),
            lambda: store.snapshot(REF),
            lambda: store.append(REF, 0, b"a new one"),
            lambda: store.append(REF, interrupted.last + 1, b"a late one"),
            lambda: export_instance(store, REF),
        ):
            with pytest.raises(PurgeUnfinished):
                read()

    def test_it_is_listed_until_it_is_completed(self, interrupted: Interrupted) -> None:
        assert [item.id for item in interrupted.engine.list().items] == ["r-1"]
        interrupted.clock.advance(1000)
        interrupted.engine.delete("report", "r-1")
        assert list(interrupted.engine.list().items) == []

    def test_another_one_completes_it_only_when_the_first_cannot_be_running_any_more(
        self, interrupted: Interrupted
    ) -> None:
        interrupted.clock.advance(899)
        with pytest.raises(PurgeUnfinished, match=r"complete it \(in 1 s"):
            interrupted.engine.delete("report", "r-1")
        interrupted.clock.advance(1)
        with pytest.raises(PurgeUnfinished, match=r"complete it \(at once"):
            interrupted.engine.get("report", "r-1")
        interrupted.engine.delete("report", "r-1")
        assert interrupted.inner.tail(REF) is None

    def test_of_two_that_would_complete_it_one_does(self, interrupted: Interrupted) -> None:
        """The second looks while the first is removing payloads: it must not remove those of a new instance later."""
        interrupted.clock.advance(1000)
        other = interrupted.another_engine(seed=8).storage
        told = []

        class Slow(MemoryPayloads):
            def purge(self, ref: InstanceRef) -> None:
                told.append(other.purge(REF, interrupted.last))

        first = ClaimCheckStorage(interrupted.inner, Slow(), clock=interrupted.clock)
        assert first.purge(REF, interrupted.last)
        assert told == [False]

    def test_a_sweep_passes_over_it(self, interrupted: Interrupted) -> None:
        header = interrupted.inner.header(REF)
        assert header is not None
        interrupted.inner.nudge(REF, header.epoch, 1)
        assert interrupted.engine.recover() == []

    def test_a_reader_who_began_before_it_is_told_that_the_instance_is_gone(self, desk: Desk) -> None:
        desk.completed()
        last = len(desk.inner.read(REF)) - 1

        class Late(MemoryPayloads):
            """Between the reading of the log and that of its payloads everything is removed."""

            def get(self, ref: InstanceRef, digest: str) -> bytes:
                desk.store.purge(REF, last)
                return desk.payloads.get(ref, digest)

        with pytest.raises(UnknownInstance, match="was deleted meanwhile"):
            ClaimCheckStorage(desk.inner, Late()).read(REF)


class Batches(MemoryStorage):
    """A store that removes an instance in two commits, and may die between them."""

    def __init__(self) -> None:
        super().__init__()
        self.dies = True
        self.begun: dict[InstanceRef, int] = {}
        self.meanwhile: Callable[[], None] | None = None
        """What others do after the next look at a tail."""

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        begun = self.begun.get(ref)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if begun is not None:
            message = "half of it is gone"
            raise PurgeUnfinished(message, begun)
        return super().tail(ref)

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        tail = super().tail(ref)
        if tail is None or tail[0] != seq:
            return False
        self.begun[ref] = seq
        if self.dies:
            message = "the network is gone"
            raise StorageUnavailable(message)
        del self.begun[ref]
        return super().purge(ref, seq)


class TestADeletionThatTheStoreItselfDidNotEnd:
    @pytest.fixture
    def batches(self) -> Batches:
        return Batches()

    @pytest.fixture
    def payloads(self) -> MemoryPayloads:
        return MemoryPayloads()

    @pytest.fixture
    def store(self, batches: Batches, payloads: MemoryPayloads) -> ClaimCheckStorage:
        """Its record 0 is kept outside, its mark is record 1."""
        store = ClaimCheckStorage(batches, payloads, 10)
        store.append(REF, 0, b"longer than ten")
        with pytest.raises(StorageUnavailable):
            store.purge(REF, 0)
        batches.dies = False
        return store

    def test_is_completed_with_the_number_that_it_was_called_with(self, store: ClaimCheckStorage) -> None:
        assert store.purge(REF, 0) is True
        assert store.tail(REF) is None

    def test_is_completed_by_another_one_with_the_number_that_it_is_told(
        self, store: ClaimCheckStorage, batches: Batches, payloads: MemoryPayloads
    ) -> None:
        another = ClaimCheckStorage(batches, payloads, 10)
        with pytest.raises(PurgeUnfinished) as begun:
            another.tail(REF)
        assert another.purge(REF, begun.value.seq) is True
        assert (store.tail(REF), payloads.digests(REF)) == (None, [])

    def test_is_not_completed_with_a_number_that_the_log_has_not_reached(self, store: ClaimCheckStorage) -> None:
        assert store.purge(REF, 2) is False
        with pytest.raises(PurgeUnfinished):
            store.tail(REF)

    def test_leaves_the_payloads_of_a_new_instance_alone(
        self, store: ClaimCheckStorage, batches: Batches, payloads: MemoryPayloads
    ) -> None:
        """Another one ends it first, and the id is used again, with the same content."""

        def others() -> None:
            assert store.purge(REF, 0)
            store.append(REF, 0, b"longer than ten")

        batches.meanwhile = others
        assert ClaimCheckStorage(batches, payloads, 10).purge(REF, 1) is False
        assert store.read(REF) == [b"longer than ten"]


class TestTransfer:
    def test_an_export_carries_its_payloads(self, desk: Desk) -> None:
        desk.completed()
        tree = json.loads(json.dumps(export_instance(desk.store, REF)))
        other = Desk()
        assert import_instance(other.store, read_exported(tree)) == IMPORTED
        assert other.store.read(REF) == desk.store.read(REF)
        assert other.store.mail(REF) == desk.store.mail(REF)
        assert max(map(len, other.inner.read(REF))) < 400
        assert import_instance(other.store, read_exported(tree)) == SAME
        check_invariants(other.store, REF, workflow=report().build(), at_rest=True)

    def test_it_can_go_to_a_store_without_a_payload_storage_and_back(self, desk: Desk) -> None:
        desk.completed()
        plain = MemoryStorage()
        import_instance(plain, read_exported(export_instance(desk.store, REF)))
        assert plain.read(REF) == desk.store.read(REF)
        other = Desk()
        assert import_instance(other.store, read_exported(export_instance(plain, REF))) == IMPORTED
        assert other.inner.read(REF) == desk.inner.read(REF)

    def test_a_marked_import_is_marked_within_the_limit_of_nothing(self, desk: Desk) -> None:
        """The mark of an unfinished import is a snapshot like another, and may be kept outside too."""
        desk.completed()
        tiny = ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 0)
        assert import_instance(tiny, read_exported(export_instance(desk.store, REF))) == IMPORTED
        assert tiny.read(REF) == desk.store.read(REF)


class TestTheTestKit:
    def test_a_workflow_under_test_may_have_payloads(self) -> None:
        payloads = MemoryPayloads()
        flux = FluxTest(report(), payloads=payloads, inline_bytes=500)
        run = flux.execute("report", {"text": BIG}, "r-1")
        run.signal("approved", BIG)
        run.assert_completed()
        assert "render" in flux.story(run)
        assert payloads.digests(REF)

    def test_a_crash_at_every_write_changes_nothing(self) -> None:
        small = create_workflow("small").step("a", lambda ctx: "a" * 600).commit("b", lambda ctx: "b", idempotent=True)
        found = crash_at_every_write(small, {"text": BIG}, payloads=MemoryPayloads(), inline_bytes=500)
        assert found.end.steps[0] == ("a", "completed", "a" * 600)


@pytest.mark.parametrize("limit", [-1, 1.5, "32 KB", True])
def test_a_limit_that_is_no_number_of_bytes_is_refused(limit: Any) -> None:
    with pytest.raises(DefinitionError, match="the inline limit must be a number of bytes, such as 32768"):
        ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), limit)


@pytest.mark.parametrize("payloads", [MemoryPayloads, "payloads", MemoryStorage()])
def test_what_is_no_payload_storage_is_refused(payloads: Any) -> None:
    with pytest.raises(DefinitionError, match="payloads must be a payload storage, such as FolderPayloads"):
        FluxEngine(payloads=payloads)
