"""The driver of shapes: a platform that never gives up, and what an instance is held against at its end.

After a crash it lets the lease pass, sweeps, sends the verb again that was not acknowledged, and goes on; an operator
resolves what is stuck by asking the other side. The crash-free run of the same shape says what the end has to look
like. Which faults there are is the business of the tests.

Between two invocations nothing of a run is in memory but the store, the world and what the driver is about. So a run
can begin where another one stood (`Standing`), and two deaths that leave the same behind have the same future.

A shape may have children (`kindred`): whatever is asked of the instance is asked of each of them.
"""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from flux_core import FluxEngine, InstanceRef, MemoryStorage, StorageUnavailable
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
from flux_core.workflow import CONCURRENT, UNDO
from tests.simulation.kindred import definitions, labelled, members
from tests.simulation.script import Shape, World

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flux_core import FluxResult, Header, Mail, WorkflowDefinition, WorkflowStorage
    from tests.simulation.kindred import Member

T = TypeVar("T")

LEASE = 20.0
PAST_THE_LEASE = 60.0
"""Seconds after which a sweeper finds what a dead invocation left: longer than lease, reserve and pause."""
MOST_INVOCATIONS = 500
"""No shape needs a tenth of it, whatever goes wrong."""
RIDDEN_OUT = frozenset({LOST_RESPONSE, UNAVAILABLE})
"""The faults of one append that an invocation survives (rule 3)."""


class End(NamedTuple):
    """What has to be the same with and without faults."""

    status: str
    data: dict[str, object]
    steps: list[tuple[str, str, object]]
    """Path, status and output of every step; in the order of the paths where steps run at the same time."""
    error: tuple[str, str | None] | None
    effects: dict[str, int]
    """Path -> how many idempotency keys the other side has seen."""
    children: dict[str, End]
    """By the label of the child (`kindred`)."""


SEND: Final = "send"
SWEEP: Final = "sweep"
OPERATE: Final = "operate"


class Agenda(NamedTuple):
    """What the driver is about to do."""

    verb: int = 0
    """Which of the script."""
    acknowledged: bool = False
    next: str = SEND
    """Send the verb, sweep what is due, or have the operator look."""


class Stored(NamedTuple):
    """All that a store has of one instance."""

    ref: InstanceRef
    log: tuple[bytes, ...]
    header: Header | None
    mail: tuple[Mail, ...]
    snapshot: tuple[int, bytes] | None

    @classmethod
    def of(cls, store: WorkflowStorage, ref: InstanceRef) -> Stored:
        return cls(ref, tuple(store.read(ref)), store.header(ref), tuple(store.mail(ref)), store.snapshot(ref))

    def put_into(self, store: MemoryStorage) -> None:
        """Let another store have the same."""
        ref = self.ref
        for seq, raw in enumerate(self.log):
            store.append(ref, seq, raw, self.header if seq + 1 == len(self.log) else None)
        for mail in self.mail:
            store.put_mail(ref, mail)
        if self.snapshot is not None:
            store.put_snapshot(ref, *self.snapshot)


class Standing(NamedTuple):
    """A run between two invocations."""

    stored: tuple[Stored, ...]
    """The instance and its children."""
    world: World
    agenda: Agenda
    invocations: int

    def put_back(self) -> MemoryStorage:
        """Another store that has the same."""
        store = MemoryStorage()
        for stored in self.stored:
            stored.put_into(store)
        return store


class Death(NamedTuple):
    """A place where an invocation of a run may die: before or after a storage call."""

    before: Standing
    """The run as it was before that invocation."""
    number: int
    """Which of the invocation's calls it is, from 1."""
    fault: str
    left: int
    """Equal for two deaths that leave the same behind."""
    call: Call

    def __str__(self) -> str:
        return f"{self.fault} call {self.number} ({self.call}) of invocation {self.before.invocations + 1}"


class Drive:
    """One run of a shape over a store, by a platform that never gives up."""

    def __init__(
        self,
        shape: Shape,
        store: WorkflowStorage,
        plan: FaultPlan,
        id: str,
        *,
        begin: Standing | None = None,
        deaths: list[Death] | None = None,
    ) -> None:
        """`begin` is where another run stood, with what is in `store`; `deaths` collects where this one may die."""
        self.shape = shape
        self.store = store
        self.plan = plan
        self.id = id
        self.world = World(store) if begin is None else begin.world.copy(store)
        self.world.meanwhile = lambda act: act(self._engine(store))
        self.definition = shape.build(self.world).build()
        """The one that the instance was started with."""
        self._deployed: WorkflowDefinition | None = None
        self.ref = InstanceRef("default", self.definition.name, id)
        self.failures = 0
        """Invocations that died or gave up."""
        self.stops = 0
        """Times an operator was needed."""
        self._agenda = Agenda() if begin is None else begin.agenda
        self._invocations = 0 if begin is None else begin.invocations
        self._deaths = deaths

    def run(self) -> End:
        """The whole script, to its end."""
        while self._agenda.verb < len(self.shape.script):
            try:
                self._agenda = self._invoke(*self._agenda)
            except (InvocationDied, StorageUnavailable):
                self.failures += 1
                self._look()
                self.world.clock.advance(PAST_THE_LEASE)
                self._agenda = self._agenda._replace(next=SWEEP)
        assert self.plan.fired or not self.plan.faults, f"no fault took place: {self.plan.faults}"
        assert not self.plan.after_death
        self._look(at_rest=True)
        return self._ends()

    def _current(self) -> WorkflowDefinition:
        """The definition that is deployed."""
        if self.world.deployed is None:
            return self.definition
        if self._deployed is None:
            self._deployed = self.world.deployed(self.world).build()
        return self._deployed

    def _invoke(self, verb: int, acknowledged: bool, to_do: str) -> Agenda:
        """One invocation at most, and what to do after it."""
        before = None if self._deaths is None else self._standing()
        if to_do == SEND:
            if acknowledged:
                return Agenda(verb + 1)
            self.shape.script[verb](self.world, self._engine(self._connection(before)), self.id)
            return Agenda(verb, acknowledged=True, next=SWEEP)
        if to_do == SWEEP:
            ticked = self._engine(self._connection(before)).recover(deadline=self.shape.deadline)
            return Agenda(verb, acknowledged, SWEEP if ticked else OPERATE)
        stuck = self._stuck()
        if stuck is None:
            return Agenda(verb, acknowledged, SEND)
        self.stops += 1
        self._look()
        self.shape.operator(self.world, self._engine(self._connection(before)), stuck.state.name, stuck)
        return Agenda(verb, acknowledged, SWEEP)

    def _engine(self, store: WorkflowStorage) -> FluxEngine:
        self._invocations += 1
        assert self._invocations <= MOST_INVOCATIONS, "the instance never comes to rest"
        return FluxEngine(
            store,
            workflows=[self._current()],
            clock=self.world.clock,
            entropy=SeededEntropy(self._invocations),
            lease=LEASE,
        )

    def _standing(self) -> Standing:
        return Standing(self.stored(), self.world.copy(self.store), self._agenda, self._invocations)

    def stored(self) -> tuple[Stored, ...]:
        """What the store has of the instance and its children."""
        return tuple(Stored.of(self.store, member.ref) for member in self._members())

    def _members(self) -> list[Member]:
        return members(self.store, self.ref)

    def _connection(self, before: Standing | None) -> WorkflowStorage:
        if before is None or self._deaths is None:
            return FaultyStorage(self.store, self.plan)
        return _Mortal(self, before, self._deaths)

    def left(self) -> Hashable:
        """What a death at this moment would leave behind: all that the future depends on."""
        return (
            (self._agenda.verb, self._agenda.acknowledged, self._invocations),
            self.stored(),
            self.world.known(),
        )

    def story(self) -> str:
        """What has happened to the instance and its children, for whoever looks for the reason of a failure."""
        return "\n".join(story(self.store, ref, self.world.journal(ref)) for ref, _ in self._members())

    def _stuck(self) -> FluxResult | None:
        """An instance where an operator has to decide. It is he who looks, so his reading never fails."""
        for ref, _ in self._members():
            header = self.store.header(ref)
            if header is not None and header.status == "stuck":
                return self._engine(self.store).get(ref.workflow, ref.id)
        return None

    def _look(self, *, at_rest: bool = False) -> None:
        if self.store.tail(self.ref) is None:
            return
        known = definitions(self._current() if at_rest else self.definition)
        for ref, _ in self._members():
            check_invariants(
                self.store, ref, self.world.journal(ref), workflow=known[ref.workflow], at_rest=at_rest
            )  # fmt: skip

    def _ends(self) -> End:
        first, *children = self._members()
        labels = {member.ref.id: f"<{member.label}>" for member in children}
        ends = {member.label: self._end(member, labels, {}) for member in children}
        return self._end(first, labels, ends)

    def _end(self, member: Member, labels: dict[str, str], children: dict[str, End]) -> End:
        engine = self._engine(self.store)
        result = engine.get(member.ref.workflow, member.ref.id)
        if member.label in self.shape.loose:
            return End(result.status, {}, [], None, {}, {})
        definition = engine.workflows[member.ref.workflow]
        keys: dict[str, set[str]] = {}
        for effect in self.world.journal(member.ref):
            keys.setdefault(effect.path, set()).add(effect.key)
        history = [(step.path, step.status, labelled(step.output, labels)) for step in result.history]
        if any(step.kind in CONCURRENT for step in definition.by_path.values()):
            history.sort(key=lambda entry: entry[0])
        loose = self.shape.loose if not member.label else ()
        return End(
            result.status,
            {key: labelled(value, labels) for key, value in result.data.items()},
            [entry for entry in history if entry[0] not in loose],
            None if result.error is None else (result.error.type, result.error.step),
            {path: len(seen) for path, seen in keys.items() if path.removesuffix(UNDO) not in loose},
            children,
        )


class _Mortal(FaultyStorage):
    """A connection that notes where its invocation may die."""

    def __init__(self, drive: Drive, before: Standing, deaths: list[Death]) -> None:
        super().__init__(drive.store, drive.plan)
        self._drive = drive
        self._before = before
        self._deaths = deaths
        self._from = len(drive.plan.calls)

    def _do(self, call: Call, work: Callable[[], T]) -> T:
        self._note(call, CRASH_BEFORE)
        answer = super()._do(call, work)
        if call.writes:  # else a crash after it is one before it
            self._note(call, CRASH_AFTER)
        return answer

    def _note(self, call: Call, fault: str) -> None:
        if self._drive.plan.done:  # else the run dies later than here
            left = hash(self._drive.left())
            self._deaths.append(Death(self._before, call.number - self._from, fault, left, call))


class Undisturbed(NamedTuple):
    """The crash-free run of a shape."""

    end: End
    calls: list[Call]
    stops: int
    deaths: list[Death]


@cache
def undisturbed(shape: Shape) -> Undisturbed:
    deaths: list[Death] = []
    drive = Drive(shape, MemoryStorage(), FaultPlan(), "1", deaths=deaths)
    end = drive.run()
    return Undisturbed(end, drive.plan.calls, drive.stops, deaths)


_ids = count(1)


def disturbed(shape: Shape, store: WorkflowStorage, faults: dict[int, str]) -> Drive:
    """Run `shape` with `faults` and hold it against the crash-free run; an error says which call and fault it was."""
    drive = Drive(shape, store, FaultPlan(faults), str(next(_ids)))
    held_against(shape, drive)
    return drive


def after(shape: Shape, death: Death, deaths: list[Death] | None = None, before: str = "") -> Drive:
    """Let the run die there and go on, likewise. `deaths` collects where it may die again.

    `before` says what an error has to tell of earlier deaths.
    """
    plan = FaultPlan({death.number: death.fault})
    drive = Drive(shape, death.before.put_back(), plan, "1", begin=death.before, deaths=deaths)
    held_against(shape, drive, f"{before}{death}; calls counted from there: ")
    return drive


def held_against(shape: Shape, drive: Drive, told: str = "") -> None:
    """Run it, and compare its end with that of the crash-free run; `told` begins what an error says."""
    wanted = undisturbed(shape)
    plan = drive.plan
    try:
        end = drive.run()
        assert end == wanted.end
        if [(call.method, fault in RIDDEN_OUT) for call, fault in plan.fired] == [("append", True)]:
            assert not drive.failures, "an append that is not answered once is tried again, and the nonce tells"
        if not drive.failures:
            assert drive.stops == wanted.stops, "nothing died or gave up, yet an operator was needed"
    except Exception as error:
        fired = "; ".join(f"{fault} {call.number}, {call}" for call, fault in plan.fired)
        log = "" if "\n" in str(error) else f"\n{drive.story()}"
        message = f"{shape.name} on {type(drive.store).__name__}: {told}{fired}: {error!r}{log}"
        raise AssertionError(message) from error
