"""`FluxTest`: workflows run in process, on virtual time, with stubs; no thread is started and nothing really waits.

It drives the real engine over a real store (memory unless told otherwise) and must not contain a rule of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from flux_core.claim_check import INLINE
from flux_core.codec import decode_payload
from flux_core.errors import DefinitionError
from flux_core.load import load, load_log
from flux_core.machine.waiting import mail_key
from flux_core.memory import MemoryStorage
from flux_core.ports import InstanceRef
from flux_core.store_layers import layered
from flux_core.system import SystemEntropy
from flux_core.testing.clock import START_MS, SeededEntropy, VirtualClock
from flux_core.testing.narrative import narrate
from flux_core.testing.outlook import Letter, outlook
from flux_core.testing.own import OwnInstances
from flux_core.testing.remarks import Remarks
from flux_core.testing.run import Run
from flux_core.testing.stage import HANDLER, Stage, StagedEngine
from flux_core.testing.stubs import UNSET, Stub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flux_core.builder import WorkflowBuilder
    from flux_core.context import Context
    from flux_core.engine import DeadlineLike, Declared, FluxEngine, Workflow
    from flux_core.generics import Input, NoInput
    from flux_core.ports import WorkflowStorage
    from flux_core.result import FluxResult
    from flux_core.state import WorkflowState
    from flux_core.testing.attempts import Attempt
    from flux_core.workflow import WorkflowDefinition

R = TypeVar("R")

_MOST_WAKE_UPS = 1000
_LONGEST_PURGE = 900.0


class FluxTest:
    """Workflows under test.

    flux = FluxTest(order)
    flux.stub("charge", returns={"id": "ch_1"})
    run = flux.execute(order, {"amount": 5}, id="o-1")
    flux.advance(days=2)
    run.signal("approval", {"by": "Ada"})
    run.assert_completed()
    """

    def __init__(
        self,
        *workflows: WorkflowBuilder | WorkflowDefinition,
        storage: WorkflowStorage | None = None,
        tenant: str | None = None,
        start: datetime | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """`options` are those of `FluxEngine` (`default_retries`, `inline_backoff`, `on`, `payloads`, `codec`, ...).

        `storage` may be shared with other tests: unless `tenant` names one, the test then has a fresh one of its own,
        so that ids do not meet. `start` is when the clock begins (with a time zone); equal `seed`s draw equal ids
        and jitter.
        """
        for taken in ("clock", "entropy", "workflows"):
            if taken in options:
                message = f"FluxTest brings its own {taken}; leave {taken}= out"
                raise DefinitionError(message)
        self.clock = VirtualClock(START_MS if start is None else _milliseconds(start))
        """The virtual clock. `advance` moves it and does what is due on the way; moving it by hand does not."""
        self._entropy = SeededEntropy(seed)
        layers = layered(
            MemoryStorage() if storage is None else storage,
            options.pop("payloads", None),
            options.pop("codec", None),
            options.pop("inline_bytes", INLINE),
            _LONGEST_PURGE,
            self.clock,
            self._entropy,
        )
        self.storage = OwnInstances(layers)
        self.tenant = tenant or ("default" if storage is None else f"test-{SystemEntropy().token()}")
        self._seed = seed
        self._remarks = Remarks(self.clock, options.pop("logger", None))
        self._options = options
        self._stage = Stage(self.clock)
        self._workflows = workflows
        self._seen: dict[InstanceRef, tuple[tuple[int, bytes] | None, WorkflowState]] = {}
        self.engine: FluxEngine = self._engine(self.storage)
        """The engine itself, over the test's clock, store and stubs, for every verb that has no short form here."""

    # --- running -------------------------------------------------------------------------------------------

    @overload
    def execute(
        self, workflow: Declared[NoInput], input: None = None, id: str | None = None,
        *, deadline: DeadlineLike | None = None,
    ) -> Run: ...  # fmt: skip
    @overload
    def execute(
        self, workflow: Declared[Input], input: Input | Mapping[str, object], id: str | None = None,
        *, deadline: DeadlineLike | None = None,
    ) -> Run: ...  # fmt: skip
    @overload
    def execute(
        self, workflow: str, input: object = None, id: str | None = None,
        *, deadline: DeadlineLike | None = None,
    ) -> Run: ...  # fmt: skip

    def execute(
        self,
        workflow: Workflow,
        input: object = None,
        id: str | None = None,
        *,
        deadline: DeadlineLike | None = None,
    ) -> Run:
        """Start an instance and let it run as far as it goes; the same id and input give the instance there is."""
        name = id or self._entropy.token()
        result = self._invoke(lambda engine: engine.execute(workflow, input, name, deadline=deadline))
        return Run(self, result.workflow, result.id, created=result.created)

    def instance(self, workflow: Workflow, id: str) -> Run:
        """An instance that exists already; `UnknownInstance` if it does not."""
        result = self.engine.get(workflow, id)
        return Run(self, result.workflow, result.id)

    def stub(
        self,
        step: str,
        *,
        returns: object = UNSET,
        raises: BaseException | type[BaseException] | None = None,
        sequence: Iterable[object] | None = None,
        calls: Callable[[Context], object] | None = None,
        takes: float | timedelta | None = None,
        part: str = HANDLER,
        workflow: Workflow | None = None,
    ) -> None:
        """From now on let a stub play a step, instead of its handler.

        `returns`: a value (or `wait(...)`, `sleep(...)`), every time. `raises`: an exception, every time. `sequence`:
        one entry an attempt of an instance: exceptions are raised, other entries returned; when it is used up, the
        test fails. `calls`: another function of the context. `takes` (seconds or timedelta): so long it lasts on the
        virtual clock, and is cut by the step's time limit if that is shorter; alone, the real handler follows.

        `part` is what of the step is played: "handler", "compensate", "when" or "verify". `workflow` is needed if
        several under test have a step of that name. The workflow itself is not changed.
        """
        definition = self._having(step, workflow)
        where = f"the stub of step {step!r}" if part == HANDLER else f"the stub of {part} of step {step!r}"
        self._stage.put(definition, step, part, Stub(where, returns, raises, sequence, calls, takes))

    def unstub(self, step: str, *, part: str = HANDLER, workflow: Workflow | None = None) -> None:
        """From now on the step plays itself again."""
        self._stage.remove(self._having(step, workflow), step, part)

    # --- time --------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return datetime.fromtimestamp(self.clock.now() / 1000, UTC)

    def advance(
        self,
        by: float | timedelta = 0,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Let time pass. What is due on the way happens in the order of time, each at its own time.

        `by` is seconds or a timedelta. `ValueError` if the sum is negative.
        """
        first = by if isinstance(by, timedelta) else timedelta(seconds=by)
        total = first + timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        if total < timedelta(0):
            message = f"a clock cannot be advanced by {total.total_seconds():g} seconds"
            raise ValueError(message)
        end = self.clock.now() + round(total.total_seconds() * 1000)
        while (due := self._next()) is not None and due <= end:
            self._go_to(due)
        self._move(end)

    def advance_to_next(self) -> datetime | None:
        """Go to the next time at which something is due, and do it; None if nothing ever is, and no time passes."""
        due = self._next()
        if due is None:
            return None
        self._go_to(due)
        return self.now

    def run_until_idle(self, most: int = _MOST_WAKE_UPS) -> None:
        """Let time pass until only a signal or an operator can move anything; every timer fires at its time.

        `AssertionError` if that takes more than `most` wake-ups.
        """
        for _ in range(most):
            if self.advance_to_next() is None:
                return
        if entries := self.storage.due(END_OF_TIME, 1):
            run = Run(self, entries[0].ref.workflow, entries[0].ref.id)
            what = f"{run.workflow}/{run.id} is not idle after {most} wake-ups; look whether it ever ends"
            message = f"{what}\n\n{self.story(run)}"
            raise AssertionError(message)

    # --- what happened -----------------------------------------------------------------------------------------

    def story(self, run: Run) -> str:
        """What happened to an instance, step by step, and what it waits for."""
        ref = self._ref(run)
        log = load_log(self.storage.inner, ref)
        remarks, now, redacted = self._remarks.of(ref), self.clock.now(), self.engine.redacted
        return narrate(ref, log, self.attempts(run), self._letters(ref), remarks, now, redacted)

    def attempts(self, run: Run) -> list[Attempt]:
        """Every call of a handler or compensator of an instance, in the order they began."""
        return self._stage.logbook.of(run.workflow, run.id, load_log(self.storage.inner, self._ref(run)))

    def outlook(self, run: Run) -> list[str]:
        """What an instance waits for, and what would move it."""
        return outlook(self.state(run), self._letters(self._ref(run)), self.clock.now())

    def state(self, run: Run) -> WorkflowState:
        """All that is known of an instance now; only to be read. It is loaded again only if its log has grown."""
        ref, storage = self._ref(run), self.storage.inner
        tail = storage.tail(ref)
        seen = self._seen.get(ref)
        if seen is None or seen[0] != tail:
            seen = self._seen[ref] = tail, load(storage, ref).state
        return seen[1]

    def look(self, workflow: str, id: str) -> FluxResult:
        """An instance as it is now."""
        return self.engine.get(workflow, id)

    def verb(self, name: str, workflow: str, id: str, *args: object, **options: object) -> FluxResult:
        """Call a verb of the engine by its name; the verbs of `Run` come here."""

        def call(engine: FluxEngine) -> FluxResult:
            result: FluxResult = getattr(engine, name)(workflow, id, *args, **options)
            return result

        return self._invoke(call)

    # --- what these share -------------------------------------------------------------------------------------------

    def _engine(self, storage: WorkflowStorage, **more: Any) -> StagedEngine:
        return StagedEngine(
            self._stage,
            storage,
            **{
                "workflows": self._workflows,
                "tenant": self.tenant,
                "clock": self.clock,
                "entropy": self._entropy,
                "logger": self._remarks,
                **self._options,
                **more,
            },
        )

    def _invoke(self, work: Callable[[FluxEngine], R]) -> R:
        """One invocation; whatever went wrong with a stub in it fails the test."""
        try:
            return work(self.engine)
        finally:
            self._check()

    def _check(self) -> None:
        if self._stage.faults:
            faults = "\n".join(self._stage.faults)
            self._stage.faults.clear()
            raise AssertionError(faults)

    def _next(self) -> int | None:
        entries = self.storage.due(END_OF_TIME, 1)
        return entries[0].due if entries else None

    def _go_to(self, due: int) -> None:
        """Do what is due at `due`, and then."""
        self._move(due)
        before = self._standing()
        self._invoke(lambda engine: engine.recover(END_OF_TIME))
        if self._standing() == before:
            (entry,) = self.storage.due(due, 1)
            message = (
                f"{entry.ref.workflow}/{entry.ref.id} is due, but cannot be run: "
                f"{'; '.join(text for _, text in self._remarks.of(entry.ref)) or 'the engine did not say why'}"
            )
            raise AssertionError(message)

    def _standing(self) -> list[object]:
        """What the headers say: if a sweep changes none of them, another one would not either."""
        return [self.storage.inner.header(ref) for ref in self.storage.refs]

    def _move(self, to: int) -> None:
        while self.clock.now() < to:
            self.clock.advance((to - self.clock.now()) / 1000)

    def _ref(self, run: Run) -> InstanceRef:
        return InstanceRef(self.tenant, run.workflow, run.id)

    def _letters(self, ref: InstanceRef) -> list[Letter]:
        """The signals that nobody has taken."""
        taken = load(self.storage.inner, ref).state.consumed
        return [
            Letter(mail.name, self.engine.redacted(decode_payload(mail.body, ref, mail_key(mail))), mail.at)
            for mail in self.storage.inner.mail(ref)
            if mail_key(mail) not in taken
        ]

    def _having(self, step: str, workflow: Workflow | None) -> WorkflowDefinition:
        """The workflow meant by a stub of `step`."""
        known = self.engine.workflows
        if workflow is not None:
            found = known.get(workflow) if isinstance(workflow, str) else workflow.build()
            if found is None:
                message = f"no workflow {workflow!r} is under test; there are {', '.join(known) or 'none'}"
                raise DefinitionError(message)
            return found
        having = [definition for definition in known.values() if step in definition.by_path]
        if len(having) > 1:
            names = ", ".join(definition.name for definition in having)
            message = f"several workflows have a step {step!r} ({names}); say which with workflow="
            raise DefinitionError(message)
        if having:
            return having[0]
        if len(known) == 1:
            (only,) = known.values()
            only.step(step)
        there = "; ".join(f"{name}: {', '.join(definition.by_path)}" for name, definition in known.items())
        message = f"no workflow under test has a step {step!r} ({there or 'give FluxTest the workflow, or execute it'})"
        raise DefinitionError(message)


END_OF_TIME: Final = 2**53
"""Milliseconds since the epoch that no due time exceeds."""


def _milliseconds(time: datetime) -> int:
    if time.tzinfo is None:
        message = (
            f"start= needs a datetime with a time zone, for example datetime(2026, 1, 1, tzinfo=UTC); got {time!r}"
        )
        raise DefinitionError(message)
    return round(time.timestamp() * 1000)
