"""Races in forks and between parents and children: several invocations over several instances.

Like `world`, on the same scheduler, but of a family of instances; and what a step is, a definition says. It keeps no
books of its own: at the end of each schedule the invariants are checked on every instance, and what a family owes to
each other. Time stands still while invocations are under way, so nobody loses a lease but by dying. Which outcome of
attempts under way comes first is a choice of the schedule.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flux_core import FluxEngine, InstanceRef, MemoryStorage
from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_record
from flux_core.errors import Refused, UnknownInstance
from flux_core.load import load
from flux_core.machine import fold
from flux_core.testing import Journal, SeededEntropy, check_invariants, story
from flux_core.testing.journal import RUN
from tests.simulation.kindred import definitions, members
from tests.simulation.scheduler import Choice, Exhaustive, Killed, Schedule, Stop, Store, Task
from tests.simulation.world import Violated

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flux_core import WorkflowBuilder
    from flux_core.context import Context

    Verb = tuple[str, ...]

FIRST: Final = InstanceRef("default", "w", "i")
_START = 1_000_000
_LEASE = 100.0
_ROUNDS = 60


class Race(NamedTuple):
    """What is played: everything that a schedule does not choose."""

    build: Callable[[Play], WorkflowBuilder]
    """The workflow, named `w`."""
    verbs: tuple[Verb, ...]
    """What the invocations that run at the same time were asked."""
    ends: frozenset[str]
    """The statuses in which the instance may come to rest."""
    before: tuple[Verb, ...] = ()
    """What was asked before, one after the other."""
    kill: int = 1
    """How many invocations may die."""
    data: dict[str, object] | None = None
    """The data of an instance that has completed."""


class _Clock:
    """Virtual time as one invocation sees it; the order of outcomes is the schedule's choice."""

    virtual = True

    def __init__(self, play: Play, task: Task | None) -> None:
        self._play = play
        self._task = task

    def now(self) -> int:
        return self._play.time

    def monotonic(self) -> float:
        return self._play.time / 1000

    def sleep(self, seconds: float) -> None:
        self._play.time += round(seconds * 1000)

    def pick(self, count: int) -> int:
        if self._task is None or count == 1:
            return 0
        verdict = self._task.park(Stop("pick", str(count), writes=False))
        self._task.hear("pick", verdict)
        return int(verdict.removeprefix("pick-"))


class Play:
    """One schedule of a race."""

    def __init__(self, race: Race) -> None:
        self.race = race
        self.time = _START
        self.store = MemoryStorage()
        self.journals: dict[InstanceRef, Journal] = {}
        self.kill = race.kill
        self.running: Task | None = None
        self.definition = race.build(self).build()
        self._alone = len(definitions(self.definition)) == 1
        """Of other instances an invocation remembers what is not in their logs."""
        self.tasks = [Task(index, verb, self._body(verb)) for index, verb in enumerate(race.verbs)]

    # --- what handlers call ---------------------------------------------------------------------------------

    def effect(self, ctx: Context, what: str = RUN) -> str:
        """An effect at the other side; before it the schedule may turn to others."""
        if self.running is not None:
            self.running.park(Stop("effect", str(ctx.path), writes=True))
            self.running.dirty = True
        ref = InstanceRef(ctx.tenant, ctx.workflow, ctx.id)
        self.journals.setdefault(ref, Journal(self.store)).note(ctx, what)
        return f"{ctx.path}"

    def undo(self, ctx: Context) -> None:
        """The effect of a compensator."""
        self.effect(ctx, "undo")

    # --- invocations ------------------------------------------------------------------------------------------

    def _engine(self, task: Task | None) -> FluxEngine:
        store: Any = self.store if task is None else Store(task, self._perform, frozenset({"snapshot"}))
        return FluxEngine(
            store, workflows=[self.definition], default_timeout=None, lease=_LEASE, clock=_Clock(self, task),
            entropy=SeededEntropy(99 if task is None else task.index),
        )  # fmt: skip

    def _body(self, verb: Verb) -> Callable[[Task], object]:
        return lambda task: self._ask(self._engine(task), *verb)

    def _ask(self, engine: FluxEngine, verb: str, *args: str) -> object:
        match verb:
            case "execute":
                return engine.execute("w", None, "i")
            case "recover":
                return engine.recover()
            case "signal":
                return engine.signal("w", "i", args[0], args[1], args[1])
            case "signal-child":
                ref = self.children()[int(args[2])]
                return engine.signal(ref.workflow, ref.id, args[0], args[1], args[1])
            case _:
                return getattr(engine, verb)("w", "i")

    def children(self) -> list[InstanceRef]:
        """The instances that others have asked for, as far as they are there."""
        return [ref for ref, label in members(self.store, FIRST) if label]

    def _perform(self, task: Task, name: str, args: tuple[Any, ...]) -> Any:
        result = getattr(self.store, name)(*args)
        if name == "append" and result is None and self._alone:
            task.forget(name, self.time)  # what it knows is the log, which is part of the state
        else:
            task.hear(name, repr(result))
        if name == "append" and result is None and args[1] == 0:
            self._check_parent(args[0], args[2])
        return result

    def _check_parent(self, ref: InstanceRef, raw: bytes) -> None:
        parent = decode_record(raw, ref, 0).body.get("pa")
        if parent is None:
            return
        above = InstanceRef(ref.tenant, parent[0], parent[1])
        asked = (decode_record(raw, above, seq) for seq, raw in enumerate(self.store.read(above)))
        if not any(record.type == r.CHILD and record.body["id"] == ref.id for record in asked):
            raise Violated(f"rule 18: {ref} was created before its parent's log says so\n{self.story()}")

    # --- one schedule -----------------------------------------------------------------------------------------

    def run(self, schedule: Schedule) -> None:
        """Play to the end, then let the dust settle; `Violated` if a rule was broken."""
        for verb in self.race.before:
            self._ask(self._engine(None), *verb)
        try:
            while options := self._options():
                taken = schedule.choose(options, self._state) if len(options) > 1 else 0
                if taken is None:
                    return
                self._take(options[taken])
            if not schedule.knows(self._state):
                self._settle()
        finally:
            for task in self.tasks:
                task.kill()

    def _options(self) -> list[Choice]:
        options: list[Choice] = []
        for task in self.tasks:
            if not task.alive:
                continue
            picks = task.stop is not None and task.stop.kind == "pick"
            verbs = [f"pick-{number}" for number in range(int(task.stop.name))] if picks and task.stop else ["go"]
            options += [Choice(verb, task.index) for verb in verbs]
            if self.kill and task.dirty:
                options.append(Choice("kill", task.index))
        return options

    def _take(self, choice: Choice) -> None:
        task = self.running = self.tasks[choice.task]
        if choice.verb == "kill":
            self.kill -= 1
            task.kill()
        elif task.status == "new":
            task.start()
        else:
            task.go(choice.verb)
        self.running = None
        if task.haunting:
            raise Violated(f"death: {task.name} went on after its death: {task.haunting}")
        if isinstance(task.error, Violated):
            raise task.error
        known = (Refused, UnknownInstance, IndexError, Killed)  # the child is perhaps not there yet
        if task.error is not None and not isinstance(task.error, known):
            raise Violated(f"error: {task.name} raised {task.error!r}\n{self.story()}") from task.error

    def _state(self) -> Hashable:
        store = self.store
        return hash((
            self.time, self.kill, repr(store._logs), repr(store._headers), repr(store._mail),
            repr(self.journals), tuple((task.place(), task.digest, task.dirty) for task in self.tasks),
        ))  # fmt: skip

    def _settle(self) -> None:
        engine = self._engine(None)
        for task in self.tasks:
            if task.status == "killed" and task.spec[0].startswith("signal"):  # it was not acknowledged
                with suppress(Refused, UnknownInstance, IndexError):
                    self._ask(engine, *task.spec)
        for _ in range(_ROUNDS):
            due = self.store.due(2**62, 1)
            if due:
                self.time = max(self.time, due[0].due)
                engine.recover()
            elif self.store.tail(FIRST) is not None and load(self.store, FIRST).state.status == s.PAUSED:
                engine.unpause("w", "i")
            else:
                break
        else:
            raise Violated(f"L6: the sweeper meets somebody for ever\n{self.story()}")
        self._judge()

    def _judge(self) -> None:
        known = definitions(self.definition)
        if self.store.tail(FIRST) is None:
            return
        try:
            for ref in self.store._logs:
                check_invariants(
                    self.store, ref, self.journals.get(ref), workflow=known[ref.workflow], at_rest=True
                )  # fmt: skip
        except AssertionError as error:
            raise Violated(str(error)) from error
        log = [decode_record(raw, FIRST, seq) for seq, raw in enumerate(self.store.read(FIRST))]
        first = fold(FIRST, log)
        if first.status not in self.race.ends:
            raise Violated(f"end: it is {first.status}, not one of {sorted(self.race.ends)}\n{self.story()}")
        if first.status == s.COMPLETED and self.race.data is not None and first.data != self.race.data:
            raise Violated(f"data: {first.data}, not {self.race.data}\n{self.story()}")
        for ref in self.children():
            child = load(self.store, ref).state
            if first.terminal and not child.terminal:
                raise Violated(f"rule 18: the parent has ended, its child {ref} is {child.status}\n{self.story()}")
            if child.terminal and first.status == s.SUSPENDED and len(self.children()) == 1:
                raise Violated(f"L1: the child has ended, and the parent waits for it\n{self.story()}")

    def story(self) -> str:
        """What has happened to every instance."""
        return "\n".join(story(self.store, ref, self.journals.get(ref)) for ref in self.store._logs)


class AtRandom:
    """Choices drawn from a seed; now and then somebody dies."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._deadly = self._dice.choice((0.0, 0.03, 0.1))

    def choose(self, options: list[Choice], state: Callable[[], Hashable]) -> int | None:
        kills = self._dice.random() < self._deadly
        places = [place for place, option in enumerate(options) if (option.verb == "kill") == kills]
        return self._dice.choice(places or range(len(options)))

    def knows(self, state: Callable[[], Hashable]) -> bool:
        return False


def sample(race: Race, count: int) -> None:
    """Play `count` schedules drawn from the seeds 0, 1, 2, ...: for races that are too big to explore to the end."""
    for seed in range(count):
        try:
            Play(race).run(AtRandom(seed))
        except Violated as broken:
            raise Violated(f"seed {seed}: {broken}") from broken


def explore(race: Race, most: int = 60_000) -> Exhaustive:
    """Play every schedule of `race` (at most `most`); `Violated` tells the first that breaks a rule."""
    search = Exhaustive(most)
    for schedule in search.runs():
        play = Play(race)
        try:
            play.run(schedule)
        except Violated as broken:
            raise Violated(f"schedule {search.schedules}, choices {search.taken}: {broken}") from broken
    return search
