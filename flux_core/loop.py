"""The engine loop: decide, make durable, carry out, and again. It must not contain a rule: those are in `machine`."""

from __future__ import annotations

from flux_core.actions import (
    BackOff,
    EvaluateCondition,
    Finish,
    HandOver,
    Ignore,
    Probe,
    Proceed,
    ReadMail,
    Rest,
    RunStep,
)
from flux_core.codec import decode_payload
from flux_core.episode import Episode
from flux_core.errors import FluxError, InputInvalid, LeaseLost
from flux_core.events import (
    ADVANCED,
    BackedOff,
    Decided,
    InputRejected,
    Interrupted,
    MailRead,
    StepFailed,
    StepSucceeded,
    TimeRanOut,
    WokenUp,
)
from flux_core.lease import Watchdog
from flux_core.load import load
from flux_core.machine import decide, may_start, start
from flux_core.machine.waiting import mail_key
from flux_core.records import CLAIM
from flux_core.state import Lease, WorkflowState
from flux_core.step_runner import Attempts
from flux_core.trace import Telemetry, Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.deadline import Deadline
    from flux_core.events import Event
    from flux_core.load import Loaded
    from flux_core.ports import Clock, Entropy, InstanceRef, Logger, Mail, WorkflowStorage
    from flux_core.records import Record
    from flux_core.workflow import WorkflowDefinition

_CALLS = (RunStep, EvaluateCondition, Probe)  # a union written in place would be made anew every time
_NO_VALUES: dict[str, object] = {}
_RESERVE = 0.6
"""The part of a lease that has to be left when a step starts; else it is renewed first.

A step that nobody watches lasts less than half a lease, and one that is watched is renewed after half.
"""


class EngineLoop:
    """Starts instances, and ticks those there are."""

    def __init__(
        self,
        storage: WorkflowStorage,
        clock: Clock,
        entropy: Entropy,
        logger: Logger,
        telemetry: Telemetry,
        lease: float,
    ) -> None:
        self.storage = storage
        self.clock = clock
        self.entropy = entropy
        self.logger = logger
        self.telemetry = telemetry
        self._lease = lease
        self.watchdog = None if getattr(clock, "virtual", False) else Watchdog(logger)

    def start(
        self, ref: InstanceRef, definition: WorkflowDefinition, input_: object, input_hash: str, end: Deadline | None
    ) -> WorkflowState | None:
        """Create an instance and advance it; None if it exists already."""
        lease = self._new_lease(end)
        first = start(definition, input_, input_hash, lease, self.clock.now())
        run = _Run(self, ref, definition, WorkflowState(*ref), end, lease)
        try:
            run.episode.append(first)
        except LeaseLost:
            return None
        return run.advance(ADVANCED)

    def tick(
        self,
        ref: InstanceRef,
        definition: WorkflowDefinition,
        loaded: Loaded,
        end: Deadline | None,
        swept: int | None = None,
    ) -> WorkflowState:
        """Claim the instance and advance it, if it is to be had and has something to do.

        `swept` is the due entry that led here, if one did: if it came too early it is moved to the true time.
        """
        lease = self._new_lease(end)
        run = _Run(self, ref, definition, loaded.state, end, lease, loaded)
        return run.advance(WokenUp(lease), swept)

    def _new_lease(self, end: Deadline | None) -> Lease:
        """PROTOCOL rule 14; the reserve of 5 s is scaled down for leases under 20 s."""
        reserve = min(5.0, self._lease / 4)
        if end is None:
            return Lease(round((self._lease + reserve) * 1000))
        left = max(end.remaining(), 0.0)
        cap = self.clock.now() + round((left + reserve) * 1000)
        return Lease(round((min(left, self._lease) + reserve) * 1000), cap)


class _Run:
    """One invocation's work on one instance."""

    __slots__ = (
        "_attempts", "_clock", "_definition", "_end", "_entropy", "_first", "_lease", "_logger", "_observed",
        "_storage", "_telemetry", "_undoing", "_watchdog", "_watched", "episode",
    )  # fmt: skip

    def __init__(
        self,
        loop: EngineLoop,
        ref: InstanceRef,
        definition: WorkflowDefinition,
        state: WorkflowState,
        end: Deadline | None,
        lease: Lease,
        loaded: Loaded | None = None,
    ) -> None:
        self._storage = loop.storage
        self._clock = loop.clock
        self._entropy = loop.entropy
        self._logger = loop.logger
        self._telemetry = loop.telemetry
        self._watchdog = loop.watchdog
        self._definition = definition
        self._end = end
        self._lease = lease
        self._attempts: Attempts | None = None
        self._first = True
        self._undoing = False
        self._observed: dict[str, float] = {}
        self._watched: Watched | None = None
        told: Callable[[Record], None] | None = None
        if not self._telemetry.idle:
            watched = self._watched = Watched(ref, definition, state)
            recorded = self._telemetry.recorded

            def told(record: Record) -> None:
                recorded(watched, record)

        self.episode = Episode(ref, state, self._storage, self._clock, self._entropy.token(), told)
        if loaded is not None:
            self.episode.log_bytes, self.episode.snapshot_bytes = loaded.log_bytes, loaded.snapshot_bytes
            self.episode.log_records = loaded.log_records

    def advance(self, event: Event, swept: int | None = None) -> WorkflowState:
        """Until the instance rests, ends, or belongs to somebody else; then the state as it is."""
        episode = self.episode
        try:
            self._advance(event, swept)
        except LeaseLost:
            # What the other invocation has recorded since is what there is to say.
            return load(self._storage, episode.ref).state
        return episode.state

    def _advance(self, event: Event, swept: int | None) -> None:
        definition, episode, now = self._definition, self.episode, self._clock.now
        state = episode.state
        reserve = self._lease.ms / 1000 * _RESERVE
        while True:
            decision = decide(definition, state, event, now())
            action, records = decision.action, decision.records
            if isinstance(action, _CALLS):
                if self._end is not None and not self._is_time_for(action, self._end):
                    event = TimeRanOut(event if isinstance(event, BackedOff) else None)
                    continue
                if episode.lease_left() < reserve and not episode.renew():
                    continue
                # Before the intent goes on record: what cannot be called must not look like an attempt under way.
                if self._attempts is None or self._undoing != state.undoing:
                    try:
                        self._attempts = self._new_attempts()
                    except InputInvalid as error:
                        event = InputRejected(action.step.path, str(error))
                        continue
            written = self._record(records) if records else 0
            if written < len(records):
                # A control record came first. Work that is done is decided again, and so recorded after it.
                if written:
                    event = ADVANCED
                elif isinstance(event, WokenUp | MailRead):
                    event = ADVANCED if episode.owns else WokenUp(self._lease)
                continue
            match action:
                case Proceed():
                    event = ADVANCED
                case RunStep() | EvaluateCondition() | Probe():
                    event = self._call(action)
                case BackOff():
                    event = self._back_off(action)
                case ReadMail():
                    event = MailRead(self._read_mail(), self._lease, resting=action.resting, due=action.due)
                case Rest():
                    self._rest(action)
                    return
                case Ignore():
                    if swept is not None and action.due is not None and action.due > swept:
                        self._move_entry(action.due)
                    return
                case HandOver():
                    episode.save_snapshot()
                    return
                case Finish():
                    return

    def _record(self, records: tuple[Record, ...]) -> int:
        """How many of the decision's records were written before a control record came in the way."""
        episode, attempts = self.episode, self._attempts
        for written, record in enumerate(records):
            if not episode.append(record):
                return written
            body = record.body
            if attempts is not None and ("set" in body or "del" in body):
                attempts.tracker.apply(body.get("set", _NO_VALUES), body.get("del", ()))
            elif record.type == CLAIM:
                episode.save_snapshot()
        return len(records)

    # --- calling handlers ---------------------------------------------------------------------------------

    def _is_time_for(self, action: RunStep | EvaluateCondition | Probe, end: Deadline) -> bool:
        """PROTOCOL rule 15: whether enough is left of the invocation."""
        step = action.step
        timeout = step.time_limit(undo=action.undo)
        observed = self._observed.get(step.declared, 0.0)
        effect = step.commit or action.undo
        return may_start(timeout, observed, end.remaining(), end.margin, commit=effect, first=self._first)

    def _call(self, action: RunStep | EvaluateCondition | Probe) -> Event:
        attempts = self._attempts
        assert attempts is not None  # noqa: S101 -- made before the decision's records were written
        self._first = False
        watchdog = self._watchdog
        if self._is_short(action.step.time_limit(undo=action.undo)):
            watchdog = None
        if watchdog is not None:
            watchdog.watch(self.episode)
        try:
            return self._outcome(attempts, action)
        except (KeyboardInterrupt, SystemExit):
            self._let_go(action.step.path)
            raise
        finally:
            if watchdog is not None:
                watchdog.release(self.episode)

    def _let_go(self, path: str) -> None:
        """Release the instance before the process ends, so that nobody has to wait for the lease's end."""
        episode = self.episode
        try:
            while episode.owns:
                for record in decide(self._definition, episode.state, Interrupted(path), self._clock.now()).records:
                    episode.append(record)
        except FluxError as error:
            self._logger.warn("the lease was not released", id=episode.ref.id, error=repr(error))

    def _is_short(self, seconds: float | None) -> bool:
        """Whether the lease outlasts something that takes so long (None: as long as it likes) without a renewal."""
        return seconds is not None and seconds < self._lease.ms / 2000

    def _outcome(self, attempts: Attempts, action: RunStep | EvaluateCondition | Probe) -> Event:
        if isinstance(action, RunStep):
            event = attempts.run(action)
            if self._end is not None and isinstance(event, (StepSucceeded, StepFailed, Decided)):
                seconds, declared = event.run_ms / 1000, action.step.declared
                self._observed[declared] = max(seconds, self._observed.get(declared, 0.0))
            return event
        return attempts.evaluate(action) if isinstance(action, EvaluateCondition) else attempts.probe(action)

    def _new_attempts(self) -> Attempts:
        budget = None if self._end is None else self._end.budget
        episode = self.episode
        # Turning back may put data back that a retry had kept for later, so a new tracker has to look at it then.
        self._undoing = episode.state.undoing
        return Attempts(
            episode.ref, self._definition, episode.state, self._clock, self._entropy, self._logger,
            budget, self._watched, self._telemetry,
        )  # fmt: skip

    def _back_off(self, action: BackOff) -> BackedOff:
        if self._watched is not None:
            step = self._definition.by_path[action.path]
            self._telemetry.step_retried(self.episode.ref, step, action.attempt, action.error)
        if self._watchdog is None or self._is_short(action.seconds):
            self._clock.sleep(action.seconds)
        else:
            self._watchdog.watch(self.episode)
            try:
                self._clock.sleep(action.seconds)
            finally:
                self._watchdog.release(self.episode)
        return BackedOff(action.path, action.attempt, action.error, undo=action.undo, unresolved=action.unresolved)

    # --- mail and rest ------------------------------------------------------------------------------------

    def _read_mail(self) -> list[tuple[Mail, object]]:
        """Of each name that is awaited the first mail that nobody has taken; the rest is not even decoded."""
        ref, state = self.episode.ref, self.episode.state
        wanted = {signal for wait in state.waits.values() for signal in wait.signals}
        found: list[tuple[Mail, object]] = []
        for mail in self._storage.mail(ref) if wanted else ():
            if mail.name in wanted and (key := mail_key(mail)) not in state.consumed:
                found.append((mail, decode_payload(mail.body, ref, key)))
                wanted.discard(mail.name)
        return found

    def _rest(self, action: Rest) -> None:
        if action.due is None:
            self._move_entry(action.then)
            return
        if action.due != action.then:
            self._storage.settle(self.episode.ref, self.episode.state.seq, action.due, action.then)
        self.episode.save_snapshot()

    def _move_entry(self, due: int | None) -> None:
        """An entry that came too early becomes `due`, if nobody has changed it since (PROTOCOL rule 7)."""
        header = self._storage.header(self.episode.ref)
        if header is not None and header.due is not None and header.due != due and header.seq <= self.episode.state.seq:
            self._storage.settle(self.episode.ref, header.seq, header.due, due)
