"""Snapshots keep reading proportional to the state, and change nothing else (PROTOCOL rule 12, I13)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from flux_core import (
    CorruptRecord,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    create_workflow,
    register_type,
    sleep,
    wait,
)
from flux_core.claim_check import ClaimCheckStorage
from flux_core.codec import decode_record, decode_state, encode_state
from flux_core.machine import evolve, fold
from flux_core.payloads import MemoryPayloads
from flux_core.testing import (
    CRASH_AFTER,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    RecordingStorage,
    VirtualClock,
    check_invariants,
)
from tests.simulation.driving import Drive
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import WorkflowBuilder, WorkflowStorage
    from flux_core.context import Context
    from flux_core.ports import Header
    from flux_core.records import Record
    from tests.simulation.script import Shape

THRESHOLD = 32 * 1024
"""Bytes of log below which no snapshot is worth it."""


@register_type
@dataclass
class Address:
    street: str
    since: date


VALUES: dict[str, object] = {
    "null": None,
    "numbers": [0, -1, 2**70, 0.1, 1e300, True, False],
    "text": ["", "ä€😀", "\x00\x1f\u2028", '"\\'],
    "time": [
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3))),
        date(2024, 2, 29),
    ],
    "exact": [Decimal("1.10"), Decimal("-0"), UUID(int=7), b"", b"\x00\xff"],
    "nested": {"a": [{"b": [[], {}]}], "$like": {"$dec": "a tag"}},
    "registered": Address("Main Street", date(2020, 1, 1)),
}


def written(size: int) -> Callable[[Context], str]:
    return lambda ctx: "x" * size


class BillsReads(MemoryStorage):
    """A store for which many small records are as dear as a few large ones."""

    snapshot_records = 20


class Bench:
    """A store whose calls are recorded, and engines over it."""

    def __init__(self, inner: MemoryStorage | None = None) -> None:
        self.inner = inner or MemoryStorage()
        self.store = RecordingStorage(self.inner)
        self.clock = VirtualClock()

    def engine(self, workflow: WorkflowBuilder, store: WorkflowStorage | None = None) -> FluxEngine:
        return FluxEngine(store or self.store, workflows=[workflow], clock=self.clock)

    def snapshots(self) -> list[int | None]:
        """After which records snapshots were written."""
        return [call.seq for call in self.store.calls if call.method == "put_snapshot"]

    def log(self, ref: InstanceRef) -> list[Record]:
        return [decode_record(raw, ref, seq) for seq, raw in enumerate(self.inner.read(ref))]


REF = InstanceRef("default", "w", "1")


class TestWhenASnapshotIsWritten:
    def test_never_in_a_run_of_one_episode(self) -> None:
        bench = Bench()
        workflow = create_workflow("w")
        for number in range(20):
            workflow.step(f"s{number}", written(THRESHOLD))
        bench.engine(workflow).execute(workflow, {}, "1")
        assert bench.snapshots() == []

    def test_after_a_suspend_if_more_than_the_threshold_was_logged(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("ask", lambda ctx: wait("go"))
        bench.engine(workflow).execute(workflow, {}, "1")
        assert [record.type for record in bench.log(REF)][3] == "susp"
        assert bench.snapshots() == [3]

    def test_not_after_a_suspend_if_less_was_logged(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD - 2000)).step("ask", lambda ctx: wait("go"))
        bench.engine(workflow).execute(workflow, {}, "1")
        assert bench.snapshots() == []

    def test_after_a_durable_sleep_as_after_a_wait(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("nap", lambda ctx: sleep(60))
        bench.engine(workflow).execute(workflow, {}, "1")
        assert bench.snapshots() == [3]

    def test_after_a_hand_over(self) -> None:
        bench = Bench()

        def work(ctx: Context) -> str:
            bench.clock.advance(8)
            return "x" * THRESHOLD

        workflow = create_workflow("w").step("a", work).step("b", work).step("c", work)
        bench.engine(workflow).execute(workflow, {}, "1", deadline=15)
        assert [record.type for record in bench.log(REF)] == ["start", "step", "step", "yield"]
        assert bench.snapshots() == [3]

    def test_after_a_claim_that_had_to_read_more(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("b", written(1)).step("c", written(1))
        dying = bench.engine(workflow, FaultyStorage(bench.inner, FaultPlan({3: CRASH_AFTER})))
        with pytest.raises(InvocationDied):
            dying.execute(workflow, {}, "1")
        bench.clock.advance(1000)
        (result,) = bench.engine(workflow).recover()
        assert result.status == "completed"
        assert bench.log(REF)[3].type == "claim"
        assert bench.snapshots() == [3]

    def test_again_only_when_as_much_was_logged_as_the_last_one_holds(self) -> None:
        """Reading stays proportional to the state: a state of 100 KB is not written again for every 32 KB."""
        bench = Bench()
        workflow = create_workflow("w").step("a", written(100_000))
        for number in range(12):
            workflow.step(f"ask{number}", lambda ctx: wait("go"))
        engine = bench.engine(workflow)
        engine.execute(workflow, {}, "1")
        (first,) = bench.snapshots()
        for number in range(12):
            engine.signal(workflow, "1", "go", "y" * 20_000, f"m{number}")
        first, second, *more = bench.snapshots()
        assert not more
        assert first is not None
        assert second is not None
        sizes = [len(raw) for raw in bench.inner.read(REF)]
        assert sum(sizes[first + 1 : second + 1]) > 100_000
        assert sum(sizes[first + 1 : second - 3]) <= 100_000

    def test_a_small_state_is_written_again_after_each_threshold_of_log(self) -> None:
        bench = Bench()
        workflow = create_workflow("w")
        for number in range(8):
            workflow.step(f"big{number}", lambda ctx: ctx.data.update(x=str(ctx.step) * 5_000))
            workflow.step(f"ask{number}", lambda ctx: wait("go"))
        engine = bench.engine(workflow)
        engine.execute(workflow, {}, "1")
        for number in range(8):
            engine.signal(workflow, "1", "go", None, f"m{number}")
        assert len(bench.snapshots()) == 4

    def test_where_reads_are_billed_also_after_many_small_records(self) -> None:
        """Twenty records after the last one are read; the twenty-first is worth a snapshot (PROTOCOL rule 12)."""
        for steps, snapshots in ((17, []), (18, [20])):
            bench = Bench(BillsReads())
            workflow = create_workflow("w")
            for number in range(steps):
                workflow.step(f"s{number}", written(1))
            workflow.step("ask", lambda ctx: wait("go"))
            bench.engine(workflow).execute(workflow, {}, "1")
            assert len(bench.log(REF)) == steps + 3
            assert bench.snapshots() == snapshots

    def test_where_reads_are_billed_records_that_were_read_count_too(self) -> None:
        bench = Bench(BillsReads())
        workflow = create_workflow("w")
        for number in range(12):
            workflow.step(f"ask{number}", lambda ctx: wait("go"))
        engine = bench.engine(workflow)
        engine.execute(workflow, {}, "1")
        for number in range(12):
            engine.signal(workflow, "1", "go", None, f"m{number}")
        first, *more = bench.snapshots()
        assert first is not None
        assert 20 <= first <= 24
        assert all(later is not None and 20 < later - first <= 25 for later in more)

    def test_what_a_store_says_of_its_reads_goes_through_the_layers_around_it(self) -> None:
        layers = (ClaimCheckStorage(BillsReads(), MemoryPayloads()), RecordingStorage(BillsReads()))
        assert [layer.snapshot_records for layer in layers] == [20, 20]
        assert ClaimCheckStorage(MemoryStorage(), MemoryPayloads()).snapshot_records == 0

    def test_where_reads_are_billed_a_run_of_one_episode_still_writes_none(self) -> None:
        bench = Bench(BillsReads())
        workflow = create_workflow("w")
        for number in range(50):
            workflow.step(f"s{number}", written(1))
        bench.engine(workflow).execute(workflow, {}, "1")
        assert bench.snapshots() == []

    def test_the_next_reader_starts_behind_it(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("ask", lambda ctx: wait("go"))
        engine = bench.engine(workflow)
        engine.execute(workflow, {}, "1")
        bench.store.take()
        engine.get(workflow, "1")
        assert bench.store.take() == ["snapshot", "read(4)"]

    def test_a_snapshot_that_was_not_written_is_not_missed(self) -> None:
        """A crash between `susp` and the snapshot costs reading, nothing else."""
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("nap", lambda ctx: sleep(60))
        plan = FaultPlan()
        bench.engine(workflow, FaultyStorage(bench.inner, plan)).execute(workflow, {}, "0")
        (number,) = [call.number for call in plan.calls if call.method == "put_snapshot"]
        with pytest.raises(InvocationDied):
            bench.engine(workflow, FaultyStorage(bench.inner, FaultPlan({number: "crash before"}))).execute(
                workflow, {}, "1"
            )
        assert bench.inner.snapshot(REF) is None
        bench.clock.advance(60)
        results = bench.engine(workflow).recover()
        assert {result.id: result.status for result in results} == {"0": "completed", "1": "completed"}


class TestASnapshotIsTheFoldOfTheLog:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_at_every_record_of_every_shape(self, shape: Shape) -> None:
        """Taken after any record, and folded on with the rest, it gives what the whole log gives."""
        drive = Drive(shape, MemoryStorage(), FaultPlan(), "1")
        drive.run()
        ref = drive.ref
        log = [decode_record(raw, ref, seq) for seq, raw in enumerate(drive.store.read(ref))]
        _holds_at_every_record(ref, log)

    def test_with_every_kind_of_value_in_every_place(self) -> None:
        bench = Bench()
        repaired: list[bool] = []

        def fails(ctx: Context) -> None:
            if not repaired:
                raise NonRetryable("no")

        def write(ctx: Context) -> object:
            ctx.data.update(VALUES)
            return VALUES

        workflow = (
            create_workflow("w")
            .step("before", lambda ctx: ctx.data.update(VALUES))
            .commit("write", write)
            .commit("skipped", write, when=lambda ctx: False)
            .step("ask", lambda ctx: wait("go", 60, on_timeout=VALUES))
            .step("asked", lambda ctx: wait("go"))
            .step("fails", fails)
            .step("last", lambda ctx: wait("go", 60, on_timeout=VALUES))
        )
        engine = bench.engine(workflow)
        engine.execute(workflow, VALUES, "1")
        bench.clock.advance(60)
        engine.recover()
        engine.signal(workflow, "1", "go", VALUES, "m1")
        repaired.append(True)
        engine.retry_step(workflow, "1", "before")
        _holds_at_every_record(REF, bench.log(REF))
        state = fold(REF, bench.log(REF))
        again = decode_state(encode_state(state), REF, state.seq)
        for tree in (again.input, again.data, again.steps["write"].output):
            assert _typed(tree) == _typed(VALUES)
        check_invariants(bench.inner, REF)

    def test_so_resuming_from_it_gives_what_resuming_from_the_log_gives(self) -> None:
        def run(*, keep: bool) -> dict[str, object]:
            inner = MemoryStorage() if keep else _WithoutSnapshots()
            clock = VirtualClock()

            def large(ctx: Context) -> object:
                ctx.data[f"{ctx.step}"] = [VALUES, "x" * THRESHOLD]
                return VALUES

            workflow = create_workflow("w").step("a", large).step("ask", lambda ctx: wait("go")).step("b", large)
            workflow.step("c", lambda ctx: [ctx.results["a"], ctx.results["ask"], ctx.input, sorted(ctx.data)])
            engine = FluxEngine(inner, workflows=[workflow], clock=clock)
            engine.execute(workflow, VALUES, "1")
            assert (inner.snapshot(REF) is not None) is keep
            result = engine.signal(workflow, "1", "go", VALUES, "m1")
            assert result.status == "completed"
            return {"data": result.data, "outputs": [step.output for step in result.history]}

        assert _typed(run(keep=True)) == _typed(run(keep=False))


class _WithoutSnapshots(MemoryStorage):
    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Lose it: a store may, since the log is the truth."""


def _holds_at_every_record(ref: InstanceRef, log: list[Record]) -> None:
    wanted = encode_state(fold(ref, log))
    for seq in range(len(log)):
        state = decode_state(encode_state(fold(ref, log[: seq + 1])), ref, seq)
        for record in log[seq + 1 :]:
            evolve(state, record)
        assert encode_state(state) == wanted, f"a snapshot after record {seq} ({log[seq]}) gives another state"


def _typed(value: Any) -> Any:
    """The value with the type of everything in it, since 1 == True == 1.0 and -0 == 0."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return (type(value), repr(value))


class TestAnUnreadableSnapshotIsRefused:
    GARBAGE = (
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b'{"seq": 3}',
        b'{"v": 1}',
        b"[" * 100_000,
    )

    @staticmethod
    def _damaged(garbage: bytes) -> tuple[Bench, WorkflowBuilder]:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("ask", lambda ctx: wait("go", 60))
        bench.engine(workflow).execute(workflow, {}, "1")
        bench.inner._snapshots[REF] = (3, garbage)
        return bench, workflow

    @pytest.mark.parametrize("garbage", GARBAGE, ids=lambda raw: repr(raw[:12]))
    def test_by_every_verb_naming_its_key_and_nothing_is_changed(self, garbage: bytes) -> None:
        bench, workflow = self._damaged(garbage)
        before = (bench.inner.read(REF), bench.inner.header(REF), bench.inner.snapshot(REF))
        engine = bench.engine(workflow)
        bench.clock.advance(100)
        verbs: list[Callable[[], object]] = [
            lambda: engine.get(workflow, "1"),
            lambda: engine.execute(workflow, {}, "1"),
            lambda: engine.wake(workflow, "1"),
            lambda: engine.signal(workflow, "1", "go", 1, "m1"),
            lambda: engine.cancel(workflow, "1"),
            lambda: engine.retry_step(workflow, "1", "a"),
            lambda: engine.complete_step(workflow, "1", "ask"),
            lambda: engine.delete(workflow, "1"),
        ]
        for verb in verbs:
            with pytest.raises(CorruptRecord, match="snapshot 3 of default/w/1"):
                verb()
        assert engine.recover() == []
        assert (bench.inner.read(REF), bench.inner.header(REF), bench.inner.snapshot(REF)) == before

    def test_of_a_newer_schema_saying_which_and_what_to_do(self) -> None:
        bench, workflow = self._damaged(b'{"v":2,"state":"of the future"}')
        with pytest.raises(CorruptRecord, match=r"snapshot 3 of default/w/1 has schema version 2.*upgrade"):
            bench.engine(workflow).get(workflow, "1")

    def test_whatever_field_is_of_another_kind(self) -> None:
        bench = Bench()
        workflow = create_workflow("w").step("a", written(THRESHOLD)).step("ask", lambda ctx: wait("go", 60))
        bench.engine(workflow).execute(workflow, {}, "1")
        kept = bench.inner.snapshot(REF)
        assert kept is not None
        tree = json.loads(kept[1])
        for name in tree:
            others: tuple[object, ...] = (None, 7, "text", [], [None], {}, {"a": None}, [[]])
            for wrong in others:
                if type(wrong) is type(tree[name]):
                    continue
                raw = json.dumps({**tree, name: wrong}).encode()
                try:
                    decode_state(raw, REF, 3)
                except CorruptRecord as error:
                    assert "3 of default/w/1" in str(error)  # noqa: PT017 -- reading it may also succeed

    def test_while_other_instances_go_on(self) -> None:
        bench, workflow = self._damaged(b"not json")
        engine = bench.engine(workflow)
        engine.execute(workflow, {}, "2")
        bench.clock.advance(100)
        (result,) = engine.recover()
        assert (result.id, result.status) == ("2", "failed")


def test_the_header_is_not_a_snapshot_and_carries_no_data() -> None:
    bench = Bench()
    workflow = create_workflow("w").step("a", written(THRESHOLD))
    bench.engine(workflow).execute(workflow, {"secret": 1}, "1")
    header: Header | None = bench.inner.header(REF)
    assert header is not None
    assert all(isinstance(field, str | int | None) for field in header)
    assert header.status == "completed"
