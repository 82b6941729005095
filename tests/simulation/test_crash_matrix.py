"""Every shape, with every fault at every storage call it makes, ends as if nothing had happened.

The driver behaves like a platform: after a crash it lets the lease pass, sweeps, sends the verb again that was not
acknowledged, and goes on; an operator resolves what is stuck by asking the other side. The crash-free run of the
same shape says what the end has to look like.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest

from flux_core import FluxEngine, InstanceRef, MemoryStorage, StorageUnavailable
from flux_core.errors import UnknownInstance
from flux_core.testing import (
    CRASH_AFTER,
    CRASH_BEFORE,
    LOST_RESPONSE,
    UNAVAILABLE,
    Call,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    SeededEntropy,
    check_invariants,
    story,
)
from flux_local import SQLiteStorage
from tests.simulation.script import Shape, World
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flux_core import FluxResult, WorkflowStorage

LEASE = 20.0
PAST_THE_LEASE = 60.0
"""Seconds after which a sweeper finds what a dead invocation left: longer than lease, reserve and pause."""
MOST_INVOCATIONS = 500
"""No shape needs a tenth of it, whatever goes wrong."""

ONE_BLOW = {
    "the invocation dies before the call": {0: CRASH_BEFORE},
    "the invocation dies after the call": {0: CRASH_AFTER},
    "the response is lost": {0: LOST_RESPONSE},
    "the store does not answer": {0: UNAVAILABLE},
    "the response is lost, and the store does not answer the second try": {0: LOST_RESPONSE, 1: UNAVAILABLE},
    "the store is down for two calls": {0: UNAVAILABLE, 1: UNAVAILABLE},
}
"""What can go wrong from call n on: offset -> fault."""
RIDDEN_OUT = frozenset({LOST_RESPONSE, UNAVAILABLE})
"""The faults of one append that an invocation survives (rule 3)."""
FOR_READS = frozenset({"the invocation dies before the call", "the store does not answer"})
"""The faults that differ for a call that changes nothing."""


class End(NamedTuple):
    """What has to be the same with and without faults."""

    status: str
    data: dict[str, object]
    steps: list[tuple[str, str, object]]
    """Path, status and output of every step."""
    error: tuple[str, str | None] | None
    effects: dict[str, int]
    """Path -> how many idempotency keys the other side has seen."""


class Drive:
    """One run of a shape over a store, by a platform that never gives up."""

    def __init__(self, shape: Shape, store: WorkflowStorage, plan: FaultPlan, id: str) -> None:
        self.shape = shape
        self.store = store
        self.plan = plan
        self.id = id
        self.world = World(store)
        self.world.meanwhile = lambda act: act(self._engine(store))
        self.definition = shape.build(self.world).build()
        self.ref = InstanceRef("default", self.definition.name, id)
        self.failures = 0
        """Invocations that died or gave up."""
        self.stops = 0
        """Times an operator was needed."""
        self._seeds = count()

    def run(self) -> End:
        """The whole script, to its end."""
        for verb in self.shape.script:
            self._until_acknowledged(partial(verb, self.world))
            self._sweep()
            self._operate()
        assert self.plan.fired or not self.plan.faults, f"no fault took place: {self.plan.faults}"
        assert not self.plan.after_death
        current = self.world.deployed or self.definition
        check_invariants(self.store, self.ref, self.world.journal, workflow=current, at_rest=True)
        return self._end(self._engine(self.store).get(current, self.id))

    def _engine(self, store: WorkflowStorage) -> FluxEngine:
        invocation = next(self._seeds)
        assert invocation < MOST_INVOCATIONS, "the instance never comes to rest"
        return FluxEngine(
            store,
            workflows=[self.world.deployed or self.definition],
            clock=self.world.clock,
            entropy=SeededEntropy(invocation),
            lease=LEASE,
        )

    def _until_acknowledged(self, act: Callable[[FluxEngine, str], object]) -> object:
        while True:
            try:
                return act(self._engine(FaultyStorage(self.store, self.plan)), self.id)
            except (InvocationDied, StorageUnavailable):
                self.failures += 1
                self._look()
                self.world.clock.advance(PAST_THE_LEASE)
                self._sweep()
                self._operate()

    def _sweep(self) -> None:
        """What is due goes on, until nothing is."""
        while self._until_acknowledged(lambda engine, _: engine.recover(deadline=self.shape.deadline)):
            pass

    def _operate(self) -> None:
        """While the instance is stuck, its operator decides. It is he who looks, so his reading never fails."""
        while (seen := self._seen()) is not None and seen.status == "stuck":
            self.stops += 1
            self._look()

            def decide(engine: FluxEngine, _: str) -> None:
                now = self._seen()
                if now is not None and now.status == "stuck":
                    self.shape.operator(self.world, engine, self.definition.name, now)

            self._until_acknowledged(decide)
            self._sweep()

    def _seen(self) -> FluxResult | None:
        try:
            return self._engine(self.store).get(self.definition, self.id)
        except UnknownInstance:
            return None

    def _look(self) -> None:
        if self.store.tail(self.ref) is not None:
            check_invariants(self.store, self.ref, self.world.journal, workflow=self.definition)

    def _end(self, result: FluxResult) -> End:
        keys: dict[str, set[str]] = {}
        for effect in self.world.journal:
            keys.setdefault(effect.path, set()).add(effect.key)
        return End(
            result.status,
            result.data,
            [(step.path, step.status, step.output) for step in result.history],
            None if result.error is None else (result.error.type, result.error.step),
            {path: len(seen) for path, seen in keys.items()},
        )


class Undisturbed(NamedTuple):
    """The crash-free run of a shape."""

    end: End
    calls: list[Call]
    stops: int


@cache
def undisturbed(shape: Shape) -> Undisturbed:
    drive = Drive(shape, MemoryStorage(), FaultPlan(), "1")
    end = drive.run()
    return Undisturbed(end, drive.plan.calls, drive.stops)


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowStorage]:
    if request.param == "memory":
        yield MemoryStorage()
        return
    folder: Path = tmp_path_factory.mktemp("matrix")
    opened = SQLiteStorage(folder / "flux.db", synchronous="OFF")
    yield opened
    opened.close()


_ids = count(1)


def disturbed(shape: Shape, store: WorkflowStorage, faults: dict[int, str]) -> Drive:
    """Run `shape` with `faults` and hold it against the crash-free run; an error says which call and fault it was."""
    plan = FaultPlan(faults)
    drive = Drive(shape, store, plan, str(next(_ids)))
    wanted = undisturbed(shape)
    try:
        end = drive.run()
        assert end == wanted.end
        if [(call.method, fault in RIDDEN_OUT) for call, fault in plan.fired] == [("append", True)]:
            assert not drive.failures, "an append that is not answered once is tried again, and the nonce tells"
        if not drive.failures:
            assert drive.stops == wanted.stops, "nothing died or gave up, yet an operator was needed"
    except Exception as error:
        fired = "; ".join(f"{fault} {call.number}, {call}" for call, fault in plan.fired)
        told = "" if "\n" in str(error) else f"\n{story(store, drive.ref, drive.world.journal)}"
        message = f"{shape.name} on {type(store).__name__}: {fired}: {error!r}{told}"
        raise AssertionError(message) from error
    return drive


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_a_fault_a_shape_ends_as_it_says(shape: Shape) -> None:
    run = undisturbed(shape)
    assert (run.end.status, run.stops) == (shape.ends, shape.stops)


def test_without_a_fault_data_and_outputs_are_exactly_what_the_steps_wrote() -> None:
    """All other runs are held against these, so they must not be wrong in the same way."""
    ends = {shape.name: undisturbed(shape).end for shape in SHAPES}
    assert ends["data writes"].data == {
        "lines": [
            {"sku": "a", "taxes": [{"rate": Decimal("0.20")}]},
            {"$dec": "a dictionary that looks like a tag", "raw": b"\x00\xff"},
        ],
        "total": Decimal("1.32"),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    }
    assert ends["a step retried inline"].data == {"before": 1, "after": 2}
    assert [output for _, _, output in ends["outputs"].steps] == [
        {"n": 2, "at": datetime(2026, 1, 1, tzinfo=UTC)},
        None,
        2 + 7 + 2,
    ]
    assert [output for _, _, output in ends["early signals"].steps] == [3, 1, 2]
    assert ends["a retry that keeps commits"].data == {"runs": 1, "charged": True}
    assert ends["a retry that keeps commits"].effects == {"charge": 1, "maybe": 1}
    assert ends["a refund, then a retry"].effects == {"charge": 2, "charge~undo": 1}
    assert ends["a commit forced to run again"].effects == {"charge": 2}
    assert ends["cancel with compensations"].effects == {"a": 1, "charge": 1, "charge~undo": 1, "a~undo": 1}


@pytest.mark.parametrize("blow", ONE_BLOW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fault_at_any_call_changes_nothing(shape: Shape, store: WorkflowStorage, blow: str) -> None:
    for call in undisturbed(shape).calls:
        if call.writes or blow in FOR_READS:
            faults = {call.number + offset: fault for offset, fault in ONE_BLOW[blow].items()}
            disturbed(shape, store, faults)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_second_crash_during_the_recovery_changes_nothing(shape: Shape) -> None:
    """The sweeper's invocation looks for due entries, reads, claims and goes on: it dies too, at each of these."""
    store = MemoryStorage()
    for call in undisturbed(shape).calls:
        if call.writes:
            for offset in range(4, 7):
                disturbed(shape, store, {call.number: CRASH_AFTER, call.number + offset: CRASH_AFTER})


def test_every_write_of_a_durable_store_may_be_the_last(tmp_path: Path) -> None:
    """One shape with the level of durability that production uses."""
    (shape,) = (shape for shape in SHAPES if shape.name == "cancel with compensations")
    store = SQLiteStorage(tmp_path / "flux.db")
    for call in undisturbed(shape).calls:
        disturbed(shape, store, {call.number: CRASH_AFTER})
    store.close()
