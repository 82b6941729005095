"""A test run in which one thing goes wrong, at one storage call: the invocation dies, is duplicated, or is overtaken.

It plays the platform as well: what was not acknowledged is sent again, and dead invocations are found when their
leases have ended. It must not judge; `crashes` compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_record
from flux_core.testing.faults import WRITES, InvocationDied, RecordingStorage
from flux_core.testing.flux_test import FluxTest
from flux_core.testing.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.builder import WorkflowBuilder
    from flux_core.engine import FluxEngine
    from flux_core.ports import InstanceRef, WorkflowStorage
    from flux_core.result import FluxResult
    from flux_core.testing.faults import Call
    from flux_core.workflow import WorkflowDefinition

    Resolve = Callable[[Run, str], object]

R = TypeVar("R")
T = TypeVar("T")

CRASH_BEFORE: Final = "crash before"
CRASH_AFTER: Final = "crash after"
DUPLICATE: Final = "duplicate before"
ZOMBIE_BEFORE: Final = "zombie before"
ZOMBIE_AFTER: Final = "zombie after"
KINDS: Final = {
    CRASH_BEFORE: "the invocation dies before the call takes effect",
    CRASH_AFTER: "the invocation dies after the call has taken effect",
    DUPLICATE: "a second invocation executes the same before the call",
    ZOMBIE_BEFORE: "the lease ends before the call, another invocation takes over, then the first goes on",
    ZOMBIE_AFTER: "the lease ends after the call, another invocation takes over, then the first goes on",
}
"""What can happen at a storage call."""

_LEASE = 2.0
"""Seconds, unless the test says otherwise: short, so that waits time out no earlier for a crash than without one."""
_MOST_DECISIONS = 20
_CONTROL: Final = frozenset(
    {"retry_step", "resume", "cancel", "pause", "unpause", "complete_step", "skip_step"}
)  # fmt: skip


class Schedule(NamedTuple):
    """What goes wrong, and at which storage call, counted from 1. `str()` of it can be parsed again."""

    kind: str
    call: int

    def __str__(self) -> str:
        return f"{self.kind} {self.call}"

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """`"crash before 5"`; `ValueError` tells the form."""
        kind, _, number = text.rpartition(" ")
        if kind not in KINDS or not number.isdecimal() or not int(number):
            message = f'a schedule is a kind and a call, such as "crash before 5"; the kinds are {", ".join(KINDS)}'
            raise ValueError(message)
        return cls(kind, int(number))

    @staticmethod
    def at(call: Call) -> list[Schedule]:
        """All that is worth trying at a call. Nothing can be overtaken at a read that it would not be at the write."""
        kinds = [CRASH_BEFORE, DUPLICATE]
        if call.method in WRITES:
            kinds += [CRASH_AFTER, ZOMBIE_BEFORE]
        if call.method == "append":
            kinds.append(ZOMBIE_AFTER)
        return [Schedule(kind, call.number) for kind in KINDS if kind in kinds]


class NeedsOperator(BaseException):
    """The instance is stuck, and the test has nobody to decide."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


class Disturbed(FluxTest):
    """A `FluxTest` of one instance in which a schedule comes true. Each invocation has an engine of its own."""

    def __init__(
        self,
        workflow: WorkflowBuilder | WorkflowDefinition,
        schedule: Schedule | None,
        resolve: Resolve | None,
        **options: Any,
    ) -> None:
        options.setdefault("lease", _LEASE)
        super().__init__(workflow, **options)
        self.schedule = schedule
        self.calls: list[Call] = []
        """Every storage call of the invocations that the test made, in order."""
        self.fired = False
        self.died = 0
        self._resolve = resolve
        self._deciding = False
        self._lease_s = self.engine._loop._new_lease(None).ms / 1000  # noqa: SLF001 -- how long a dead one is in the way
        self._again: Callable[[FluxEngine], object] | None = None
        self._signals = 0

    # --- the platform ------------------------------------------------------------------------------------------

    def verb(self, name: str, workflow: str, id: str, *args: object, **options: object) -> FluxResult:
        """Send a verb until it is acknowledged, but not twice what must not be sent twice."""
        ref = self._ref(Run(self, workflow, id))
        if name == "signal":
            self._signals += 1
            signal, payload, dedupe = (*args, None, None)[:3]
            args = (signal, payload, dedupe or f"crash-test-{self._signals}")
        since = len(self.storage.inner.read(ref))

        def call(engine: FluxEngine) -> FluxResult:
            if name in _CONTROL and self._taken(ref, since):
                return engine.get(workflow, id)
            result: FluxResult = getattr(engine, name)(workflow, id, *args, **options)
            return result

        return self._invoke(call)

    def duplicate(self) -> None:
        """A second invocation of the execute under way, from beginning to end."""
        if self._again is not None:
            self._again(self._engine(self.storage))

    def overtake(self) -> None:
        """The lease ends, and whoever sweeps takes over and goes on as far as it goes."""
        self.clock.advance(self._lease_s + 1)
        self._sweep(lambda work: work(self._engine(self.storage)))

    def _invoke(self, work: Callable[[FluxEngine], R]) -> R:
        if self._again is None:
            self._again = work  # the first is the execute
        while True:
            try:
                result = work(self._engine(_Connection(self.storage, self)))
            except InvocationDied:
                self.died += 1
                self.clock.advance(self._lease_s + 1)
                self._sweep(self._invoke)
            else:
                self._check()
                self._operate()
                return result

    def _sweep(self, invoke: Callable[[Callable[[FluxEngine], object]], object]) -> None:
        """Tick what is due now, until nothing is."""
        before = None
        while self.storage.due(self.clock.now(), 1) and (now := self._standing()) != before:
            before = now
            invoke(lambda engine: engine.recover())

    def _operate(self) -> None:
        """If the instance is stuck, whoever decides does so; `NeedsOperator` if the disturbance needs one."""
        if self._deciding:
            return
        decisions = 0
        while (stuck := self._stuck()) is not None:
            run, step = stuck
            if decisions == _MOST_DECISIONS:
                message = f"resolve= was called {decisions} times, and step {step!r} is stuck\n\n{self.story(run)}"
                raise AssertionError(message)
            decisions += 1
            if self._resolve is None:
                if self.fired:
                    raise NeedsOperator(step)
                return
            self._deciding = True
            try:
                self._resolve(run, step)
            finally:
                self._deciding = False

    def _stuck(self) -> tuple[Run, str] | None:
        for ref in self.storage.refs:
            header = self.storage.inner.header(ref)
            if header is not None and header.status == s.STUCK:
                run = Run(self, ref.workflow, ref.id)
                reason, step, _ = run.result.state.stuck or (None, None, None)
                if reason == "unknown_outcome" and step is not None:
                    return run, step
        return None

    def _taken(self, ref: InstanceRef, since: int) -> bool:
        """Whether a control verb that was not acknowledged has left its record."""
        raws = self.storage.inner.read(ref, since)
        return any(decode_record(raw, ref, since + place).type in r.CONTROL for place, raw in enumerate(raws))


class _Connection(RecordingStorage):
    """One invocation's connection to the store: what the schedule says happens at its call."""

    def __init__(self, inner: WorkflowStorage, test: Disturbed) -> None:
        super().__init__(inner)
        self.calls = test.calls
        self._test = test
        self._dead = False

    def _do(self, call: Call, work: Callable[[], T]) -> T:
        if self._dead:
            message = f"an invocation that had died went on and called {call}; something swallowed InvocationDied"
            raise AssertionError(message)
        test, schedule = self._test, self._test.schedule
        if schedule is None or schedule.call != call.number:
            return work()
        test.fired = True
        match schedule.kind:
            case "crash before":
                self._die(call)
            case "crash after":
                work()
                self._die(call)
            case "duplicate before":
                test.duplicate()
            case "zombie before":
                test.overtake()
            case _:
                result = work()
                test.overtake()
                return result
        return work()

    def _die(self, call: Call) -> None:
        self._dead = True
        message = f"as planned, at call {call.number}, {call}"
        raise InvocationDied(message)
