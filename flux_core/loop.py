"""The engine loop: decide, make durable, carry out, and again. It must not contain a rule: those are in `machine`."""

from __future__ import annotations

from flux_core.actions import (
    PROCEED,
    Await,
    BackOff,
    CancelChildren,
    EvaluateCondition,
    Finish,
    HandOver,
    Ignore,
    Join,
    Probe,
    Proceed,
    ReadMail,
    Rest,
    RunStep,
    StartChild,
    TellParent,
)
from flux_core.codec import decode_payload
from flux_core.episode import Episode
from flux_core.errors import CallerError, CorruptRecord, FluxError, ImportUnfinished, InputInvalid, LeaseLost
from flux_core.events import (
    ADVANCED,
    Advanced,
    BackedOff,
    Decided,
    InputRejected,
    Interrupted,
    MailRead,
    Probed,
    StepFailed,
    StepSucceeded,
    TimeRanOut,
    WokenUp,
)
from flux_core.family import Errands
from flux_core.lease import Watchdog
from flux_core.load import Loaded, caught_up, load
from flux_core.machine import decide, may_start, start
from flux_core.machine.forks import is_apart
from flux_core.machine.waiting import mail_key
from flux_core.records import CLAIM
from flux_core.state import Lease, WorkflowState
from flux_core.step_runner import Attempts
from flux_core.trace import Telemetry, Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.actions import Call
    from flux_core.deadline import Deadline
    from flux_core.events import Event
    from flux_core.family import Family
    from flux_core.flight import Flight
    from flux_core.ports import Clock, Entropy, InstanceRef, Logger, Mail, WorkflowStorage
    from flux_core.records import Record
    from flux_core.waker import Waker
    from flux_core.workflow import WorkflowDefinition

_CALLS = (RunStep, EvaluateCondition, Probe, Join)  # a union written in place would be made anew every time
_LETTING_GO = (HandOver, Finish, Rest, Ignore, TellParent)
_OF_NOBODY = (Advanced, MailRead)  # events that no attempt has brought
_NO_VALUES: dict[str, object] = {}
_RESERVE = 0.6
"""The part of a lease that has to be left when a step starts; else it is renewed first.

A step that nobody watches lasts less than half a lease, and one that is watched is renewed after half.
"""
_QUICK_MS = 1.0
_QUICK_FROM = 4
"""A step of which so many attempts in a row took no longer, each while nothing else was under way, is called in place,
even where others may run beside it: to hand it to a thread would take longer. Attempts beside others do not count:
they may have been quick because of these. So one that is alone is given so long to end before another begins."""
_NOT_AGAIN_FOR = 8
"""After a slow attempt of a step, so many quick ones have to pass before one is given time to end alone."""


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
        family: Family,
        waker: Waker,
    ) -> None:
        self.storage = storage
        self.waker = waker
        self.family = family
        self.clock = clock
        self.entropy = entropy
        self.logger = logger
        self.telemetry = telemetry
        self._lease = lease
        self.watchdog = None if getattr(clock, "virtual", False) else Watchdog(logger)

    def start(
        self, ref: InstanceRef, definition: WorkflowDefinition, input_: object, input_hash: str, end: Deadline | None
    ) -> WorkflowState | None:
        """Create an instance and advance it, and its children; None if it exists already."""
        lease = self._new_lease(end)
        first = start(definition, input_, input_hash, lease, self.clock.now())
        run = _Run(self, ref, definition, WorkflowState(*ref), end, lease)
        try:
            run.episode.append(first)
        except LeaseLost:
            return None
        return self._with_errands(run, run.advance(ADVANCED), end)

    def tick(
        self,
        ref: InstanceRef,
        definition: WorkflowDefinition,
        loaded: Loaded,
        end: Deadline | None,
        swept: int | None = None,
    ) -> WorkflowState:
        """Claim the instance and advance it, and its children, if it is to be had and has something to do.

        `swept` is the due entry that led here, if one did: if it came too early it is moved to the true time.
        """
        lease = self._new_lease(end)
        run = _Run(self, ref, definition, loaded.state, end, lease, loaded)
        return self._with_errands(run, run.advance(WokenUp(lease), swept), end)

    def _with_errands(self, first: _Run, state: WorkflowState, end: Deadline | None) -> WorkflowState:
        """Tick the children and parents that a run has left to be ticked, as far as there is time for it.

        Of several children the queue, if there is one, brings all but one to other invocations, which run beside this
        one. To what is not done here the due index leads others. It returns the state of the run's own instance.
        """
        errands = first.errands
        if not errands:
            return state
        held: dict[InstanceRef, Loaded] = {}
        _hold_on_to(held, first, state)
        waker = self.waker
        while errands:
            errand = errands.next()
            ref, settles = errand.ref, errand.settles
            if end is not None and end.budget() <= 0:
                if waker.scheduler is None:
                    break
                if settles is None:
                    waker.now(ref)
            elif errand.downward and errands.downward and waker.scheduler is not None:
                waker.now(ref)
            elif settles is not None:
                self.storage.settle(ref, settles[0], settles[1], None)
            elif not errand.if_enough or self.family.is_enough(ref):
                self._tick_beside(ref, end, errands, held)
        return self._held_or_loaded(held, first.episode.ref).state

    def _held_or_loaded(self, held: dict[InstanceRef, Loaded], ref: InstanceRef) -> Loaded:
        """The instance; of one that was held on to only what is new is read."""
        found = held.pop(ref, None)
        return load(self.storage, ref) if found is None else caught_up(self.storage, found)

    def _tick_beside(
        self, ref: InstanceRef, end: Deadline | None, errands: Errands, held: dict[InstanceRef, Loaded]
    ) -> None:
        try:
            definition, loaded = self.family.definition_of(ref.workflow), self._held_or_loaded(held, ref)
        except (CallerError, CorruptRecord, ImportUnfinished) as error:
            self.logger.error("due, but cannot be ticked", workflow=ref.workflow, id=ref.id, error=repr(error))
            return
        lease = self._new_lease(end)
        run = _Run(self, ref, definition, loaded.state, end, lease, loaded, errands)
        _hold_on_to(held, run, run.advance(WokenUp(lease)))

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
        "_attempts", "_begun", "_cancelled", "_clock", "_definition", "_end", "_entropy", "_family", "_first",
        "_flight", "_held", "_lease", "_logger", "_looked", "_observed", "_quick", "_slow", "_storage", "_telemetry",
        "_undoing", "_waker", "_watchdog", "_watched", "episode", "errands",
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
        errands: Errands | None = None,
    ) -> None:
        self._storage = loop.storage
        self._waker = loop.waker
        self._family = loop.family
        self.errands = Errands() if errands is None else errands
        """What is left to do in other instances."""
        self._begun: int | None = None
        """The record by which the last child was asked for that was created here."""
        self._cancelled: set[str] = set()
        """Steps whose children were cancelled here."""
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
        self._flight: Flight | None = None
        """Attempts that are under way at the same time, once there are such."""
        self._held: Event | None = None
        """By which the instance is let go, once nothing is under way any more."""
        self._looked = self._clock.now()
        """When the open waits were looked at last."""
        self._quick: dict[str, int] = {}
        """By declared path, how many attempts in a row were quick; below 0, how many have to be after a slow one."""
        self._slow = False
        """Whether something that is, or was, under way may outlast half the lease."""
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
        finally:
            if self._flight is not None:
                self._flight.disown()
        return episode.state

    def _advance(self, event: Event, swept: int | None) -> None:
        definition, episode, now = self._definition, self.episode, self._clock.now
        state = episode.state
        beside = False  # whether the event is of an attempt that others were under way with
        while True:
            decision = decide(definition, state, event, now())
            action, records = decision.action, decision.records
            if isinstance(action, _CALLS):
                # Before the intent goes on record: what cannot be called must not look like an attempt under way.
                beside = (beside or decision.abreast) and not self._is_quick(action)
                instead = self._hindrance(action, event, beside=beside)
                if instead is not None:
                    event = instead
                    continue
            elif isinstance(action, _LETTING_GO) and self._flight is not None and self._flight.paths:
                records = self._hold(event, records)
                action = PROCEED
            written = self._record(records) if records else 0
            if written < len(records):
                # A control record came first. Work that is done is decided again, and so recorded after it.
                if written:
                    event = self._next()
                elif isinstance(event, WokenUp | MailRead):
                    event = self._next() if episode.owns else WokenUp(self._lease)
                continue
            match action:
                case Proceed():
                    event = self._next()
                case RunStep() | EvaluateCondition() | Probe() | Join():
                    event = self._begin(action) if beside else self._call(action)
                case BackOff():
                    event = self._pause(action) if beside else self._back_off(action)
                case Await():
                    event = self._await(action.until)
                case StartChild() | CancelChildren():
                    event = self._attend(action)
                case TellParent():
                    self._family.tell(episode.ref, state, self.errands)
                    return
                case ReadMail():
                    event = self._read_mail(action)
                case Rest():
                    self._rest(action)
                    return
                case Ignore():
                    if swept is not None and action.due is not None and action.due > swept:
                        self._move_entry(action.due)
                    return
                case HandOver():
                    episode.save_snapshot()
                    self._waker.now(episode.ref)
                    return
                case Finish():
                    return
            beside = self._flight is not None and not isinstance(event, _OF_NOBODY)

    def _hindrance(self, action: Call, event: Event, *, beside: bool) -> Event | None:
        """What to decide on instead of calling anything; None if the call can be made now."""
        episode = self.episode
        if self._end is not None and not self._is_time_for(action, self._end):
            return TimeRanOut(event if isinstance(event, BackedOff) else None)
        if episode.lease_left() < self._lease.ms / 1000 * _RESERVE and not episode.renew():
            return event
        if beside and self._flight is not None and self._flight.full:
            return self._await(None)
        if self._attempts is None or self._undoing != episode.state.undoing:
            try:
                self._attempts = self._new_attempts()
            except InputInvalid as error:
                return InputRejected(action.step.path, str(error))
        return None

    def _record(self, records: tuple[Record, ...]) -> int:
        """How many of the decision's records were written before a control record came in the way."""
        episode, state = self.episode, self.episode.state
        for written, record in enumerate(records):
            body, joins = record.body, state.joins
            changes = "set" in body or "del" in body
            apart = changes and bool(state.frames) and is_apart(state, body["p"])
            if not episode.append(record):
                return written
            attempts = self._attempts
            if state.joins != joins:
                self._attempts = None  # what the lanes have written has come together
            elif changes and not apart and attempts is not None:
                attempts.tracker.apply(body.get("set", _NO_VALUES), body.get("del", ()))
            elif record.type == CLAIM:
                episode.save_snapshot()
        return len(records)

    # --- attempts at the same time ------------------------------------------------------------------------

    def _next(self, patience: float = 0.0) -> Event:
        """What to decide on next: the outcome of an attempt that has ended meanwhile, or what can begin now.

        For `patience` seconds nothing else begins, unless an attempt ends.
        """
        flight = self._flight
        if flight is None or not flight.paths:
            if self._held is not None:
                event, self._held = self._held, None
                return event
            state = self.episode.state
            plain = not state.waits and state.starting is None
            return ADVANCED if plain else Advanced((), self._looked, self._begun, self._cancelled)
        if self._held is not None:
            return self._await(None)
        try:
            landed = flight.landed(patience)
        except (KeyboardInterrupt, SystemExit):
            self._let_go(flight.raised)
            raise
        return self._noted(landed, alone=patience > 0) or Advanced(flight.paths, self._looked, self._begun)

    def _attend(self, action: StartChild | CancelChildren) -> Event:
        """Start a child, or cancel some."""
        ref, state = self.episode.ref, self.episode.state
        if isinstance(action, StartChild):
            assert state.starting is not None  # noqa: S101 -- that is what the machine has seen
            self._family.start(ref, state, state.starting, self.errands)
            self._begun = state.starting.seq
        else:
            for path in action.paths:
                self._family.cancel(ref, state.steps[path].child or "", self.errands)
                self._cancelled.add(path)
        return self._next()

    def _await(self, until: int | None) -> Event:
        """Wait for an attempt to end, at most until `until` (ms since the epoch)."""
        flight, seconds = self._flight, None
        assert flight is not None  # noqa: S101 -- there is something to wait for
        if until is not None:
            seconds = max(0, until - self._clock.now()) / 1000
        watchdog = self._watchdog if self._slow else None
        if watchdog is not None:
            watchdog.watch(self.episode)
        try:
            event = flight.next(seconds)
        except (KeyboardInterrupt, SystemExit):
            self._let_go(flight.raised or next(iter(flight.paths), None))
            raise
        finally:
            if watchdog is not None:
                watchdog.release(self.episode)
        return self._noted(event) or self._next()

    def _noted(self, event: Event | None, *, alone: bool = False) -> Event | None:
        if isinstance(event, (StepSucceeded, StepFailed, Decided)):
            self._note(event, self._definition.by_path[event.path].declared, alone=alone)
        if self._watched is not None and isinstance(event, (StepSucceeded, StepFailed, Decided, Probed)):
            self._watched.attempt, self._watched.undo = event.attempt, False
        return event

    def _begin(self, action: Call) -> Event:
        """Let the call run beside others."""
        attempts, flight = self._attempts, self._flight
        assert attempts is not None  # noqa: S101 -- made before the decision's records were written
        if flight is None:
            from flux_core.flight import Flight

            flight = self._flight = Flight(self._clock)
        self._first = False
        self._slow = self._slow or not self._is_short(action.step.time_limit(undo=action.undo))
        attempts.announce(action)
        one = attempts.apart(action.step.path)
        flight.begin(action.step.path, lambda: one.carry_out(action), one.disown)
        trial = len(flight.paths) == 1 and self._quick.get(action.step.declared, 0) >= 0
        return self._next(_QUICK_MS / 1000 if trial else 0.0)

    def _pause(self, action: BackOff) -> Event:
        """Let the pause before the next attempt pass while others go on."""
        flight = self._flight
        assert flight is not None  # noqa: S101 -- the attempt before was in it
        if self._watched is not None:
            step = self._definition.by_path[action.path]
            self._telemetry.step_retried(self.episode.ref, step, action.attempt, action.error)
        flight.pause(action.path, action.seconds, _backed_off(action))
        return self._next()

    def _hold(self, event: Event, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """The instance is to be let go, but not while attempts are under way: what to record of the decision now."""
        if len(records) <= 1:
            # If there is one already, what is left unrecorded now is as after a death: the next owner finds it out.
            self._held = self._held or event
            return ()
        # What is known of a failed attempt goes on record at once. A pause is noticed again when nothing is under way.
        if not self.episode.state.paused:
            self._held = self._held or TimeRanOut()
        return records[:-1]

    def _is_quick(self, action: Call) -> bool:
        return isinstance(action, RunStep) and self._quick.get(action.step.declared, 0) >= _QUICK_FROM

    def _note(self, event: StepSucceeded | StepFailed | Decided, declared: str, *, alone: bool) -> None:
        """How long an attempt of the step has taken; `alone`: nothing else was under way."""
        if self._end is not None:
            self._observed[declared] = max(event.run_ms / 1000, self._observed.get(declared, 0.0))
        if self._flight is not None:
            count = self._quick.get(declared, 0)
            if event.run_ms > _QUICK_MS:
                self._quick[declared] = -_NOT_AGAIN_FOR
            elif alone or count < 0:
                self._quick[declared] = count + 1

    # --- calling handlers ---------------------------------------------------------------------------------

    def _is_time_for(self, action: Call, end: Deadline) -> bool:
        """PROTOCOL rule 15: whether enough is left of the invocation."""
        step = action.step
        timeout = step.time_limit(undo=action.undo)
        observed = self._observed.get(step.declared, 0.0)
        effect = step.commit or action.undo
        return may_start(timeout, observed, end.remaining(), end.margin, commit=effect, first=self._first)

    def _call(self, action: Call) -> Event:
        attempts, path = self._attempts, action.step.path
        assert attempts is not None  # noqa: S101 -- made before the decision's records were written
        self._first = False
        if self._watched is not None:
            attempts.announce(action)
        state = self.episode.state
        if state.frames and is_apart(state, path):
            attempts = attempts.apart(path)
        watchdog = self._watchdog
        if self._is_short(action.step.time_limit(undo=action.undo)):
            watchdog = None
        if watchdog is not None:
            watchdog.watch(self.episode)
        try:
            event = attempts.carry_out(action)
        except (KeyboardInterrupt, SystemExit):
            self._let_go(path)
            raise
        finally:
            if watchdog is not None:
                watchdog.release(self.episode)
        if (self._end is not None or self._flight is not None) and isinstance(
            event, (StepSucceeded, StepFailed, Decided)
        ):
            self._note(event, action.step.declared, alone=True)
        return event

    def _let_go(self, path: str | None) -> None:
        """Release the instance before the process ends, so that nobody has to wait for the lease's end."""
        episode = self.episode
        try:
            while episode.owns:
                for record in decide(
                    self._definition, episode.state, Interrupted(path or ""), self._clock.now()
                ).records:
                    episode.append(record)
        except FluxError as error:
            self._logger.warn("the lease was not released", id=episode.ref.id, error=repr(error))

    def _is_short(self, seconds: float | None) -> bool:
        """Whether the lease outlasts something that takes so long (None: as long as it likes) without a renewal."""
        return seconds is not None and seconds < self._lease.ms / 2000

    def _new_attempts(self) -> Attempts:
        budget = None if self._end is None else self._end.budget
        episode = self.episode
        # Turning back may put data back that a retry had kept for later, so a new tracker has to look at it then.
        self._undoing = episode.state.undoing
        return Attempts(
            episode.ref, self._definition, episode.state, self._clock, self._entropy, self._logger,
            budget, self._watched, self._telemetry, self._family.definition_of,
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
        return _backed_off(action)

    # --- mail and rest ------------------------------------------------------------------------------------

    def _read_mail(self, action: ReadMail) -> MailRead:
        """Of each name that is awaited as many mails that nobody has taken; the rest is not even decoded."""
        ref, state = self.episode.ref, self.episode.state
        self._looked = self._clock.now()
        wanted: dict[str, int] = {}
        for wait in state.waits.values():
            for signal in wait.signals:
                wanted[signal] = wanted.get(signal, 0) + 1
        found: list[tuple[Mail, object]] = []
        for mail in self._storage.mail(ref) if wanted else ():
            if wanted.get(mail.name) and (key := mail_key(mail)) not in state.consumed:
                found.append((mail, decode_payload(mail.body, ref, key)))
                wanted[mail.name] -= 1
        running = () if self._flight is None else self._flight.paths
        return MailRead(
            found, self._lease, resting=action.resting, due=action.due, idle=action.idle, running=running
        )  # fmt: skip

    def _rest(self, action: Rest) -> None:
        if action.due is None:
            self._move_entry(action.then)
            return
        if action.due != action.then:
            self._storage.settle(self.episode.ref, self.episode.state.seq, action.due, action.then)
        self.episode.save_snapshot()
        if action.then is not None:
            self._waker.at(self.episode.ref, action.then)

    def _move_entry(self, due: int | None) -> None:
        """An entry that came too early becomes `due`, if nobody has changed it since (PROTOCOL rule 7)."""
        header = self._storage.header(self.episode.ref)
        if header is not None and header.due is not None and header.due != due and header.seq <= self.episode.state.seq:
            self._storage.settle(self.episode.ref, header.seq, header.due, due)


def _hold_on_to(held: dict[InstanceRef, Loaded], run: _Run, state: WorkflowState) -> None:
    """A parent of many is ticked many times: keep what is known of it, unless it was lost to somebody else."""
    episode = run.episode
    if len(state.children) > 1 and state is episode.state:
        held[episode.ref] = Loaded(state, episode.log_bytes, episode.snapshot_bytes)


def _backed_off(action: BackOff) -> BackedOff:
    return BackedOff(action.path, action.attempt, action.error, undo=action.undo, unresolved=action.unresolved)
