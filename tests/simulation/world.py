"""One world: a workflow, a store, a clock, some invocations of the real engine, and what may go wrong.

`World.run(schedule)` plays one schedule to its end, lets the dust settle (time passes, the sweeper ticks, nothing
fails any more), and judges. The engine is not changed, except that time limits are not measured: time is virtual.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import (
    FluxEngine,
    MemoryStorage,
    NonRetryable,
    RetryPolicy,
    compensation,
    create_workflow,
    episode,
    step_runner,
)
from flux_core import state as s
from flux_core.codec import decode_record, encode_state
from flux_core.directives import NOT_DONE, Done, sleep, verify, wait
from flux_core.errors import Refused, StorageUnavailable, Unknown, UnknownInstance
from flux_core.keys import mail_id
from flux_core.load import load
from flux_core.machine import fold, takeover_at
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.result import FluxResult
from tests.simulation.ledger import Ledger
from tests.simulation.scheduler import Choice, Killed, Schedule, Stop, Store, Task, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from flux_core.workflow import WorkflowDefinition

REF = InstanceRef("default", "w", "i")
_START = 1_000_000
_LEASE = 100.0


class Step(NamedTuple):
    """One step of a shape."""

    name: str
    kind: str = "step"
    """step, commit, wait (for the signal `go`), sleep."""
    policy: str = "quarantine"
    """A commit's `on_unknown`: quarantine, verify, retry."""
    undo: str | None = None
    """None, or what the compensation does about an unknown outcome: retry, quarantine, verify."""
    timeout: float | None = None
    """Of a wait, or the length of a sleep, in seconds."""
    retries: int = 1
    skip: bool = False
    """Whether its condition does not hold."""


class Setting(NamedTuple):
    """What is played: everything that a schedule does not choose."""

    steps: tuple[Step, ...]
    tasks: tuple[tuple[str, ...], ...]
    """`(verb, *arguments)` of the invocations that run at the same time."""
    setup: tuple[tuple[str, ...], ...] = ()
    """Invocations that have run before, one after the other. `("fail", path)` makes the next attempt there fail."""
    kill: int = 0
    time: int = 0
    """How often time may pass to the next thing that is due while invocations are under way."""
    drop: int = 0
    lost: int = 0
    fail: int = 0
    """How many attempts may fail in the ordinary way."""
    fatal: int = 0
    """How many may fail with `NonRetryable`."""
    unknown: int = 0
    """How many may end without anybody knowing whether they took effect."""
    poison: str = ""
    """The step at which every invocation dies, also those after the play."""
    near: bool = False
    """Whether time may also stop shortly before the end of a lease."""
    inline: float = 2.0
    """The engine's `inline_backoff`."""
    deadline: float | None = None
    """Seconds that every invocation of the play may take; every attempt then has a limit of 10 s."""
    work: float = 0.0
    """Seconds that every effect takes."""
    limit: float | None = None
    """Seconds that the whole workflow may take."""
    snapshots: bool = False
    """Write snapshots at every opportunity."""
    store: Callable[[], MemoryStorage] = MemoryStorage


class Clock:
    """Virtual time; it moves when the schedule says so."""

    virtual = True

    def __init__(self) -> None:
        self.time = _START

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / 1000


class _TaskClock:
    """The same time as one invocation sees it: its pauses are stops."""

    virtual = True

    def __init__(self, clock: Clock, task: Task) -> None:
        self._clock = clock
        self._task = task
        self.now = clock.now
        self.monotonic = clock.monotonic

    def sleep(self, seconds: float) -> None:
        until = self._clock.time + round(seconds * 1000)
        self._task.park(Stop("sleep", f"{seconds:g} s", writes=False))
        self._clock.time = max(self._clock.time, until)
        self._task.hear("slept", self._clock.time)


class _Entropy:
    """Tokens that depend on the task alone, never on the interleaving."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.count = 0

    def token(self) -> str:
        self.count += 1
        return f"{self._index + 1:x}-{self.count:x}"

    def uniform(self) -> float:
        return 0.5


class Violated(AssertionError):
    """A rule was broken; the message tells which and the story that led there."""


class World:
    """One run of one setting."""

    def __init__(self, setting: Setting, *, story: bool = False) -> None:
        self.setting = setting
        self.clock = Clock()
        self.storage = setting.store()
        self.ledger = Ledger(REF, setting.steps)
        self.told: list[str] | None = [] if story else None
        self.budget = {verb: getattr(setting, verb) for verb in _BUDGETS}
        self.entropies: dict[int, _Entropy] = {}
        self.tasks = [self._task(index, spec) for index, spec in enumerate(setting.tasks)]
        self.quiet = _quiet(-2, self._verb("recover", ()))
        self.running: Task = self.quiet
        self.acknowledged: list[tuple[str, ...]] = []
        self.failing: list[str] = []
        self._mail_hash = 0
        self._snapshot_hash = 0

    # --- tasks ---------------------------------------------------------------------------------------------

    def _task(self, index: int, spec: tuple[str, ...]) -> Task:
        return Task(index, spec, self._verb(spec[0], spec[1:]))

    def _verb(self, verb: str, args: tuple[str, ...]) -> Callable[[Task], object]:
        def body(task: Task) -> object:
            engine = self._engine(task)
            definition = definition_of(self.setting.steps, self.setting.limit)
            return _VERBS[verb](engine, definition, self.setting.deadline, *args)

        return body

    def _engine(self, task: Task) -> FluxEngine:
        quiet = task.index < -1
        at_once = None if quiet else _NEVER_STOP if self.setting.snapshots else _UNSEEN
        return FluxEngine(
            Store(task, self.perform, at_once),
            workflows=[definition_of(self.setting.steps, self.setting.limit)],
            default_timeout=None if self.setting.deadline is None else 10,
            retry=_RETRY,
            inline_backoff=self.setting.inline,
            lease=_LEASE,
            clock=_QuietClock(self.clock) if quiet else _TaskClock(self.clock, task),
            entropy=self.entropies.setdefault(task.index, _Entropy(task.index)),
        )

    # --- the store -------------------------------------------------------------------------------------------

    def perform(self, task: Task, name: str, args: tuple[Any, ...]) -> Any:
        """A call takes place."""
        storage, ledger = self.storage, self.ledger
        result = getattr(storage, name)(*args)
        if name == "append":
            if result is None:
                _, seq, raw, *rest = args
                ledger.appended(seq, raw, rest[0] if rest else None)
        elif name == "put_mail":
            if result is None:
                self._mail_hash += digest_of(repr(args[1]))
        elif name == "put_snapshot":
            self._snapshot(*args)
        if name in _MOVES_INDEX:
            ledger.indexed(storage.header(REF), self.clock.time)
        self._tell(task, name, args, result)
        if self.told is not None:
            self.told.append(f"    {task.name}: {name} {_shown(name, args, result)}")
        return result

    def _tell(self, task: Task, name: str, args: tuple[Any, ...], result: Any) -> None:
        """What the task knows after a call, as far as it matters to what follows: times only where they do."""
        ledger = self.ledger
        match name:
            case "append" if result is None:
                task.forget(name, self.clock.time, ledger.now_known(), self._drawn(task))
            case "read" if len(args) == 1 or args[1] == 0:
                task.hear_log(self.clock.time, ledger.now_known(), self._drawn(task))
            case "read":
                task.hear(name, tuple(result), self.clock.time)
            case "due":
                task.hear_due(name, tuple(result), self.clock.time)
            case "mail":
                task.hear(name, tuple((mail.name, mail.id) for mail in result), self.clock.time)
            case "tail":
                task.hear(name, ledger.log_hash, self.clock.time)
            case "header":
                task.hear(name, _timeless(result), self.clock.time)
            case _:
                task.hear(name, result, self.clock.time)

    def _drawn(self, task: Task) -> int:
        return self.entropies[task.index].count

    def _snapshot(self, ref: InstanceRef, seq: int, raw: bytes) -> None:
        self._snapshot_hash = hash((self._snapshot_hash, seq, raw))
        if encode_state(fold(REF, self._decoded(seq + 1))) != raw:
            self.ledger.fail("I13", f"the snapshot after record {seq} is not the fold of the log")

    def _decoded(self, end: int | None = None) -> list[Any]:
        return [decode_record(raw, REF, seq) for seq, raw in enumerate(self.storage.read(REF)[:end])]

    # --- handlers ---------------------------------------------------------------------------------------------

    def attempt(self, step: Step, ctx: Any, *, undo: bool = False) -> object:
        """The body of every handler and compensator."""
        task, ledger, path = self.running, self.ledger, step.name
        state = ctx._around.state
        key = ctx.idempotency_key
        ledger.begins(task.index, state.epoch, path, ctx.attempt, key, undo=undo, probe=False)
        value = f"{'undone-' if undo else ''}{path}-{task.index}-{state.epoch}-{ctx.attempt}"
        if not undo:
            if state.undoing and path not in state.doubts:
                ledger.fail("rule 6", f"{path!r} runs although its invocation knows that all is to be undone")
            if state.paused:
                ledger.fail("pause", f"{path!r} runs although its invocation knows of the pause")
            if (
                not state.undoing
                and state.epoch == ledger.state.epoch
                and dict(ctx.data) != (wanted := ledger.expected_data(path))
            ):
                ledger.fail("data", f"{path!r} starts with {dict(ctx.data)}, not with {wanted}")
        if step.kind in {"wait", "sleep"} and not undo:
            return sleep(step.timeout or 0) if step.kind == "sleep" else wait("go", timeout=step.timeout)
        verdict = self._before_effect(task, path, undo=undo)
        self.clock.time += round(self.setting.work * 1000)
        if verdict == "fail":
            raise ValueError("declined")
        if verdict == "fatal":
            raise NonRetryable("impossible")
        if verdict == "unknown-not-done":
            raise Unknown("silence")
        ledger.effect(path, ctx.attempt, key, value, undo=undo)
        if self.told is not None:
            self.told.append(f"    {task.name}: {'undoes' if undo else 'does'} {path}, attempt {ctx.attempt}")
        if verdict == "unknown":
            raise Unknown("silence")
        if not undo:
            ctx.data[path] = value
        return value

    def _before_effect(self, task: Task, path: str, *, undo: bool) -> str:
        verdict = "go" if task.index < -1 else task.park(Stop("effect", path, writes=True))
        if path == self.setting.poison:
            self.ledger.excuses += 1
            raise Killed
        if path in self.failing and not undo:
            self.failing.remove(path)
            verdict = "fatal"
        task.dirty = True
        task.hear(verdict, self.clock.time)
        return verdict

    def probe(self, step: Step, ctx: Any, *, undo: bool = False) -> object:
        """The probe of a commit that verifies: the other side always knows."""
        epoch = ctx._around.state.epoch
        key = ctx.idempotency_key
        self.ledger.begins(self.running.index, epoch, step.name, ctx.attempt, key, undo=undo, probe=True)
        if key not in self.ledger.provider:
            return NOT_DONE
        value = self.ledger.provider[key]
        if not undo:
            ctx.data[step.name] = value
        return Done(value)

    # --- one run ------------------------------------------------------------------------------------------------

    def run(self, schedule: Schedule) -> bool:
        """Play to the end; False if the schedule ended it early. `Violated` if a rule was broken."""
        with playing(self):
            self._set_up()
            try:
                if not self._play(schedule):
                    return False
                if not schedule.knows(self.state_key):
                    self.settle()
            finally:
                for task in self.tasks:
                    if task.status == "parked":
                        self.running = task
                        task.kill()
            return True

    def _set_up(self) -> None:
        for number, (verb, *args) in enumerate(self.setting.setup):
            if verb == "fail":
                self.failing += args
            elif verb == "pass":
                self.clock.time = self.next_time() or self.clock.time
            else:
                with suppress(Refused):
                    _quiet(-3 - number, self._verb(verb, tuple(args))).run(self)
        self.judge()

    def _play(self, schedule: Schedule) -> bool:
        while True:
            options = self._options()
            if not options:
                return True
            taken = 0
            if len(options) > 1:
                chosen = schedule.choose(options, self.state_key)
                if chosen is None:
                    return False
                taken = chosen
            self._take(options[taken])
            if self.ledger.broken:
                self.judge()

    def _options(self) -> list[Choice]:
        options: list[Choice] = []
        budget = self.budget
        for task in self.tasks:
            if task.status == "new":
                options.append(Choice("go", task.index))
                continue
            if task.status != "parked":
                continue
            options.append(Choice("go", task.index))
            stop = task.stop
            assert stop is not None
            if budget["kill"] and task.dirty:
                options.append(Choice("kill", task.index))
            if stop.kind == "call":
                if budget["drop"]:
                    options.append(Choice("drop", task.index))
                if budget["lost"] and stop.writes:
                    options.append(Choice("lost", task.index))
            elif stop.kind == "effect":
                options += [Choice(verb, task.index) for verb in ("fail", "fatal") if budget[verb]]
                if budget["unknown"]:
                    options += [Choice("unknown", task.index), Choice("unknown-not-done", task.index)]
        if options and budget["time"] and self.next_time() is not None:
            options.append(Choice("time", -1))
        return options

    def _take(self, choice: Choice) -> None:
        verb = choice.verb
        if verb == "time":
            self.budget["time"] -= 1
            self.clock.time = self.next_time() or self.clock.time
            self.ledger.excuses += 1
            if self.told is not None:
                self.told.append(f"  time passes: {self.clock.time - _START} ms")
            return
        if verb != "go":
            self.budget[verb.split("-", maxsplit=1)[0]] -= 1
        self.step(self.tasks[choice.task], verb)

    def join(self, spec: tuple[str, ...]) -> Task:
        """One more invocation, beside those of the setting."""
        task = self._task(len(self.tasks), spec)
        self.tasks.append(task)
        return task

    def step(self, task: Task, verb: str) -> None:
        """Let `task` go on to its next stop, or meet trouble at this one."""
        self.running = task
        if verb in _EXCUSES:
            self.ledger.excuses += 1
        if self.told is not None:
            stop = task.stop
            self.told.append(f"  {verb} {task.name}" + (f" at {stop.kind} {stop.name}" if stop else ""))
        if verb == "kill":
            task.kill()
            if task.haunting:
                self.ledger.fail("death", f"{task.name} went on after its death: {task.haunting}")
        elif task.status == "new":
            if self.setting.deadline is not None:
                task.hear_due("begins", self.clock.time)
            task.start()
            if task.status == "parked":
                task.go("go")
        else:
            task.go(verb)
        self.running = self.quiet
        if not task.alive and task.status != "killed":
            self._ended(task)

    def _ended(self, task: Task) -> None:
        """An invocation has answered."""
        ledger = self.ledger
        error = task.error
        if error is not None:
            if isinstance(error, StorageUnavailable) and (self.setting.drop or self.setting.lost):
                return
            if not isinstance(error, Refused | UnknownInstance):
                ledger.fail("error", f"{task.name} raised {error!r}")
        elif isinstance(task.result, FluxResult):
            self.acknowledged.append(task.spec)
            if self.told is not None:
                self.told.append(f"    {task.name}: answered {task.result.status}")
            self._check_state(task, task.result)
        if ledger.state.owned and ledger.owner.startswith(f"{task.index + 1:x}-"):
            ledger.fail("L4", f"{task.name} has ended and still owns the instance")

    def _check_state(self, task: Task, result: FluxResult) -> None:
        state = result.state
        if state.seq == self.ledger.state.seq and encode_state(state) != encode_state(self.ledger.state):
            self.ledger.fail("I13", f"the state in which {task.name} ended is not the fold of the log")

    def next_time(self) -> int | None:
        """The next moment at which something is due."""
        state, now = self.ledger.state, self.clock.time
        header = self.storage.header(REF)
        times = [] if header is None or header.due is None else [header.due]
        if state.owned:
            end = takeover_at(state)
            times.append(end)
            if self.setting.near:
                times.append(end - round(_LEASE * 100))
        times += [due for wait in state.waits.values() if (due := wait.due) is not None]
        times += state.retry_at.values()
        if state.expires is not None:
            times.append(state.expires)
        return min((time for time in times if time > now), default=None)

    def state_key(self) -> Hashable:
        """Equal for two states from which the same can happen."""
        ledger = self.ledger
        return hash((
            ledger.now_known(), ledger.books, ledger.pause, self._mail_hash, self._snapshot_hash,
            _timeless(self.storage.header(REF)), self.clock.time,
            tuple(self.budget.values()), tuple(self.failing), tuple(self.acknowledged), min(ledger.excuses, 1),
            tuple((task.place(), task.digest, task.dirty and self.budget["kill"] > 0) for task in self.tasks),
        ))  # fmt: skip

    # --- the end ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Nothing fails any more: time passes and the sweeper ticks until nothing is due (L1 to L6)."""
        ledger = self.ledger
        header = self.storage.header(REF)
        ledger.indexed(header, self.clock.time)
        unread = self._unread()
        if unread and (header is None or header.due is None) and ledger.state.status != s.PAUSED:
            ledger.fail("L1", f"acknowledged mail {unread} for an open wait, and nothing is indexed")
        self.judge()
        ledger.excuses += 1  # who died before may be found now
        for round_ in range(_ROUNDS):
            if ledger.state.status == s.PAUSED:
                _quiet(-100 - round_, self._verb("unpause", ())).run(self)
                self.judge()
            header = self.storage.header(REF)
            if header is None or header.due is None:
                break
            self.clock.time = max(self.clock.time, header.due)
            before = ledger.state.seq, header
            _quiet(-100 - round_, self._verb("recover", ())).run(self)
            self.judge()
            header = self.storage.header(REF)
            if before == (ledger.state.seq, header):
                ledger.fail("L6", f"the sweeper meets the instance ({ledger.state.status}) for ever: nothing moves")
                break
        else:
            ledger.fail("L6", f"after {_ROUNDS} ticks the instance is still {ledger.state.status}")
        self._final()
        self.judge()

    def _final(self) -> None:
        ledger, state = self.ledger, self.ledger.state
        verbs = {spec[0] for spec in self.acknowledged}
        if state.seq < 0:
            if "execute" in verbs:
                ledger.fail("I8", "execute was acknowledged, but there is no instance")
            return
        waiting = [wait for wait in state.waits.values() if wait.signals and wait.due is None]
        ended = state.terminal or state.status == s.STUCK or (state.status == s.SUSPENDED and waiting)
        if not ended:
            ledger.fail("L6", f"it stays {state.status}")
        if state.owned:
            ledger.fail("L4", "it stays owned")
        if self._unread():
            ledger.fail("L1", f"acknowledged mail {self._unread()} is not received by the open wait")
        opened = {task.spec[0] for task in self.tasks} & {"retry", "resume", "complete", "skip"}
        if "cancel" in verbs and not opened and not state.terminal and state.status != s.STUCK:
            ledger.fail("L3", f"an acknowledged cancel left it {state.status}")
        if encode_state(load(self.storage, REF).state) != encode_state(state):
            ledger.fail("I13", "what is loaded is not the fold of the log")

    def _unread(self) -> list[str]:
        if not any(wait.signals for wait in self.ledger.state.waits.values()) or self.ledger.state.undoing:
            return []
        sent = [f"go/{mail_id(spec[1])}" for spec in self.acknowledged if spec[0] == "signal"]
        return [key for key in sent if key not in self.ledger.mail]

    def judge(self) -> None:
        """`Violated` if a rule was broken so far."""
        broken = self.ledger.broken
        if broken:
            raise Violated("\n".join([*broken, *(["the story:", *self.told] if self.told is not None else [])]))


_BUDGETS = ("kill", "time", "drop", "lost", "fail", "fatal", "unknown")
_EXCUSES = frozenset({"kill", "drop", "lost", "unknown", "unknown-not-done"})
_MOVES_INDEX = frozenset({"append", "settle", "nudge", "index"})
_ROUNDS = 60
_RETRY = RetryPolicy(initial=1.0, factor=2.0, maximum=4.0, jitter=False)
_NEVER_STOP: frozenset[str] = frozenset()
_UNSEEN = frozenset({"snapshot"})
"""Without snapshots, looking for one tells nothing, so it is no stop."""


class _QuietClock(Clock):
    """For invocations outside the play: a pause simply passes."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now  # type: ignore[method-assign]
        self.monotonic = clock.monotonic  # type: ignore[method-assign]
        self._clock = clock

    def sleep(self, seconds: float) -> None:
        self._clock.time += round(seconds * 1000)


class _quiet(Task):  # noqa: N801
    """An invocation outside the play: nothing interrupts it."""

    __slots__ = ()

    def __init__(self, index: int, body: Callable[[Task], object]) -> None:
        super().__init__(index, ("sweeper" if index <= -100 else "setup",), body)

    def run(self, world: World) -> None:
        world.running = self
        with suppress(Killed):
            self.result = self.body(self)


# --- workflows and verbs ------------------------------------------------------------------------------------------

_world: World | None = None
_definitions: dict[tuple[tuple[Step, ...], float | None], WorkflowDefinition] = {}


def _now() -> World:
    assert _world is not None
    return _world


def _unlimited(handler: Callable[[Any], object], argument: Any, seconds: float | None) -> object:
    """Time limits are not measured here."""
    return handler(argument)


@contextmanager
def playing(world: World) -> Iterator[None]:
    """Within it, handlers play in `world`."""
    global _world  # noqa: PLW0603 -- handlers belong to a definition, and definitions outlive worlds
    before, runner, owner = _world, vars(step_runner), vars(episode)
    kept, limit = runner["call_within"], owner["_SNAPSHOT_FROM"]
    _world = world
    runner["call_within"] = _unlimited
    if world.setting.snapshots:
        owner["_SNAPSHOT_FROM"] = -1
    try:
        yield
    finally:
        _world = before
        runner["call_within"] = kept
        owner["_SNAPSHOT_FROM"] = limit


def definition_of(steps: tuple[Step, ...], limit: float | None = None) -> WorkflowDefinition:
    """The workflow of a shape; its handlers play in whichever world is current."""
    made = _definitions.get((steps, limit))
    if made is None:
        builder = create_workflow("w", timeout=limit)
        for step in steps:
            _declare(builder, step)
        made = _definitions[steps, limit] = builder.build()
    return made


def _declare(builder: Any, step: Step) -> None:
    def handler(ctx: Any) -> object:
        return _now().attempt(step, ctx)

    def undo(ctx: Any) -> None:
        _now().attempt(step, ctx, undo=True)

    def probe(ctx: Any) -> object:
        return _now().probe(step, ctx)

    def undo_probe(ctx: Any) -> object:
        return _now().probe(step, ctx, undo=True)

    options: dict[str, Any] = {"retries": step.retries}
    if step.skip:
        options["when"] = lambda ctx: False
    if step.undo is not None:
        policies: dict[str, Any] = {"verify": verify(undo_probe), "retry": "retry", "quarantine": "quarantine"}
        options["compensate"] = compensation(undo, retries=2, on_unknown=policies[step.undo])
    if step.kind == "commit":
        policies = {"verify": verify(probe), "retry": "retry", "quarantine": "quarantine"}
        builder.commit(step.name, handler, on_unknown=policies[step.policy], **options)
    else:
        builder.step(step.name, handler, **options)


_VERBS: dict[str, Callable[..., object]] = {
    "execute": lambda engine, wf, end: engine.execute(wf, {"x": 1}, id="i", deadline=end),
    "signal": lambda engine, wf, end, dedupe: engine.signal(wf, "i", "go", "payload", dedupe_id=dedupe, deadline=end),
    "cancel": lambda engine, wf, end: engine.cancel(wf, "i", deadline=end),
    "pause": lambda engine, wf, end: engine.pause(wf, "i", deadline=end),
    "unpause": lambda engine, wf, end: engine.unpause(wf, "i", deadline=end),
    "retry": lambda engine, wf, end, step, *force: engine.retry_step(wf, "i", step, force=bool(force), deadline=end),
    "resume": lambda engine, wf, end: engine.resume(wf, "i", deadline=end),
    "wake": lambda engine, wf, end: engine.wake(wf, "i", deadline=end),
    "recover": lambda engine, wf, end: engine.recover(deadline=end),
    "complete": lambda engine, wf, end, step: engine.complete_step(wf, "i", step, "by hand", deadline=end),
    "skip": lambda engine, wf, end, step: engine.skip_step(wf, "i", step, deadline=end),
}


def _timeless(header: Header | None) -> Hashable:
    return None if header is None else (header.status, header.epoch, header.seq, header.due)


def _shown(name: str, args: tuple[Any, ...], result: Any) -> str:
    if name == "append":
        record = decode_record(args[2], REF, args[1])
        header = args[3] if len(args) > 3 else None
        index = "" if header is None else f" | header {header.status} due {header.due}"
        verdict = "" if result is None else " -> SLOT TAKEN"
        return f"{args[1]} {record!r}{index}{verdict}"
    if name == "read":
        return f"from {args[1] if len(args) > 1 else 0}: {len(result)} records"
    if isinstance(result, Mail) or name == "put_mail":
        return f"{args[1].name}/{args[1].id[:6]}"
    return f"{args[1:]} -> {result!r}"
