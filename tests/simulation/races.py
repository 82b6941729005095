"""Races in forks and between parents and children: several invocations over several instances.

Like `world`, on the same scheduler, but of a family of instances; and what a step is, a definition says. It keeps no
books of its own: the invariants are checked on every instance of every state of the store that the search meets, and
at the end of each schedule what a family owes to each other. Which outcome of attempts under way comes first is a
choice of the schedule; so is, as often as the race says, that time passes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flux_core import FluxEngine, InstanceRef, MemoryStorage
from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_record, encode_state
from flux_core.errors import Refused, UnknownInstance
from flux_core.load import load
from flux_core.machine import fold
from flux_core.result import FluxResult
from flux_core.testing import Journal, check_invariants, story
from flux_core.testing.journal import RUN, Effect
from tests.simulation.kindred import definitions, members
from tests.simulation.mind import mind_of
from tests.simulation.scheduler import Choice, Exhaustive, Killed, Schedule, Stop, Store, Task, digest_of
from tests.simulation.world import Violated, _Entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flux_core import WorkflowBuilder
    from flux_core.context import Context
    from flux_core.records import Record

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
    time: int = 0
    """How often time may pass to the next thing that is due while invocations are under way."""
    order: bool = True
    """Whether the order in which attempts at the same time end is a choice; else they end as they began."""
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
        if self._task is None or count == 1 or not self._play.race.order:
            return 0
        verdict = self._task.park(Stop("pick", str(count), writes=False))
        return int(verdict.removeprefix("pick-"))


class Play:
    """One schedule of a race."""

    def __init__(self, race: Race, search: Search | None = None) -> None:
        """`search` is what this one is a schedule of; without it the store is not looked at before the end."""
        self.race = race
        self.time = _START
        self.store = MemoryStorage()
        self.journals: dict[InstanceRef, Journal] = {}
        self.kill = race.kill
        self.passes = race.time
        self._minds: dict[int, int] = {}
        """What those who have not moved since have in mind."""
        self._search = search
        self._written = 0
        """A digest of all that was written to logs, mailboxes and journals, in whatever order."""
        self.running: Task | None = None
        self.definition = race.build(self).build()
        self._known = definitions(self.definition)
        self.tasks = [Task(index, verb, self._body(verb)) for index, verb in enumerate(race.verbs)]

    # --- what handlers call ---------------------------------------------------------------------------------

    def effect(self, ctx: Context, what: str = RUN) -> str:
        """An effect at the other side; before it the schedule may turn to others."""
        if self.running is not None:
            self.running.park(Stop("effect", str(ctx.path), writes=True))
            self.running.dirty = True
        ref = InstanceRef(ctx.tenant, ctx.workflow, ctx.id)
        noted = self.journals.setdefault(ref, Journal(self.store)).note(ctx, what)
        self._wrote(ref, noted)
        return f"{ctx.path}"

    def undo(self, ctx: Context) -> None:
        """The effect of a compensator."""
        self.effect(ctx, "undo")

    # --- invocations ------------------------------------------------------------------------------------------

    def _engine(self, task: Task | None) -> FluxEngine:
        store: Any = self.store if task is None else Store(task, self._perform, frozenset({"snapshot"}))
        return FluxEngine(
            store, workflows=[self.definition], default_timeout=None, lease=_LEASE, clock=_Clock(self, task),
            entropy=_Entropy(99 if task is None else task.index),
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
        task.hear(name, repr(result))
        if result is None and name == "append":
            self._written += _nameless(args[0], args[1], args[2])
            if args[1] == 0:
                self._check_parent(args[0], args[2])
        elif result is None and name == "put_mail":
            self._wrote(args[0], args[1])
        return result

    def _wrote(self, *what: object) -> None:
        self._written += digest_of(repr(what))

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
        self._begin()
        try:
            while options := self._options():
                taken = schedule.choose(options, self._state)
                if taken is None:
                    return
                self._take(options[taken])
                self._look()
            if not schedule.knows(self._state):
                self._settle()
        finally:
            for task in self.tasks:
                task.kill()

    def _begin(self) -> None:
        """Ask what was asked before; it comes to the same in every schedule of a search."""
        search = self._search
        if search is None or search.begun is None:
            for verb in self.race.before:
                self._ask(self._engine(None), *verb)
        else:
            self.time, store, effects = search.begun
            self.store = _copied(store)
            for ref, noted in effects.items():
                self.journals[ref] = Journal(self.store)
                self.journals[ref] += noted
        if search is not None and search.begun is None:
            effects = {ref: [*journal] for ref, journal in self.journals.items()}
            search.begun = self.time, _copied(self.store), effects

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
        if options and self.passes and self._next_time() is not None:
            options.append(Choice("time", -1))
        return options

    def _next_time(self) -> int | None:
        dues = [header.due for header in self.store._headers.values() if header.due is not None]
        return min((due for due in dues if due > self.time), default=None)

    def _take(self, choice: Choice) -> None:
        if choice.verb == "time":
            self.passes -= 1
            self.time = self._next_time() or self.time
            return
        task = self.running = self.tasks[choice.task]
        self._minds.pop(task.index, None)
        if choice.verb == "kill":
            self.kill -= 1
            task.kill()
        elif task.status == "new":
            task.start()
            if task.alive:
                task.go("go")  # what comes before its first call nobody sees
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
        if task.status == "returned" and self._is_new("returned", task.index):
            self._check_answer(task)

    def _state(self) -> Hashable:
        tasks = tuple([(self._mind(task), self.kill > 0 and task.alive and task.dirty) for task in self.tasks])
        return self._stored(), self.time, self.kill, self.passes, tasks

    def _stored(self) -> Hashable:
        return self._written, frozenset(self.store._headers.items())

    def _mind(self, task: Task) -> Hashable:
        if task.status != "parked" or task.fiber is None:
            return task.status
        if self._search is not None and self._search.by_hearing:
            return task.place(), task.digest
        if task.index not in self._minds:
            self._minds[task.index] = mind_of(task.fiber.gr_frame, _SCENERY)
        return self._minds[task.index]

    # --- judging ------------------------------------------------------------------------------------------------

    def _is_new(self, *what: Hashable) -> bool:
        if self._search is None:
            return False
        place = (*what, self._stored())
        new = place not in self._search.looked
        self._search.looked.add(place)
        return new

    def _look(self) -> None:
        """Whether the store as it is breaks a rule."""
        if self._is_new():
            self._check_all(at_rest=False)

    def _check_all(self, *, at_rest: bool) -> None:
        try:
            for ref in self.store._logs:
                check_invariants(
                    self.store, ref, self.journals.get(ref), workflow=self._known[ref.workflow], at_rest=at_rest
                )  # fmt: skip
        except AssertionError as error:
            raise Violated(str(error)) from error
        children = self.children()
        if children and load(self.store, FIRST).state.terminal:
            for ref in children:
                status = load(self.store, ref).state.status
                if status not in s.TERMINAL:
                    raise Violated(f"rule 18: the parent has ended, its child {ref} is {status}\n{self.story()}")

    def _check_answer(self, task: Task) -> None:
        """L4, and I13: the state that it came to is the fold of the log."""
        for ref in self.store._logs:
            state = load(self.store, ref).state
            claims = [record for record in self._log(ref) if record.type in {r.START, r.CLAIM}]
            if state.owned and claims[-1].by.startswith(f"{task.index + 1:x}-"):
                raise Violated(f"L4: {task.name} has ended and still owns {ref}\n{self.story()}")
        results = task.result if isinstance(task.result, list) else [task.result]
        for result in results:
            assert isinstance(result, FluxResult)
            state = result.state
            log = self._log(InstanceRef(state.tenant, state.name, state.id))[: state.seq + 1]
            if encode_state(state) != encode_state(fold(FIRST, log)):
                raise Violated(f"I13: {task.name} ended in a state that is not the fold of the log\n{self.story()}")

    def _log(self, ref: InstanceRef) -> list[Record]:
        return [decode_record(raw, ref, seq) for seq, raw in enumerate(self.store.read(ref))]

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
        if self.store.tail(FIRST) is None:
            return
        self._check_all(at_rest=True)
        first = fold(FIRST, self._log(FIRST))
        if first.status not in self.race.ends:
            raise Violated(f"end: it is {first.status}, not one of {sorted(self.race.ends)}\n{self.story()}")
        if first.status == s.COMPLETED and self.race.data is not None and first.data != self.race.data:
            raise Violated(f"data: {first.data}, not {self.race.data}\n{self.story()}")
        cancelled = any(task.spec[0] == "cancel" and task.status == "returned" for task in self.tasks)
        if cancelled and not first.terminal:
            raise Violated(f"L3: an acknowledged cancel left it {first.status}\n{self.story()}")
        ended = [load(self.store, ref).state.terminal for ref in self.children()]
        if ended and all(ended) and first.status == s.SUSPENDED:
            raise Violated(f"L1: all children have ended, and the parent waits for them\n{self.story()}")

    def story(self) -> str:
        """What has happened to every instance."""
        return "\n".join(story(self.store, ref, self.journals.get(ref)) for ref in self.store._logs)


class Search:
    """What the schedules of one search share."""

    def __init__(self, *, by_hearing: bool = False) -> None:
        """`by_hearing`: two invocations are the same only if they were told the same, all the way."""
        self.by_hearing = by_hearing
        self.looked: set[Hashable] = set()
        """The states of the store, and the answers, that were found to break no rule."""
        self.begun: tuple[int, MemoryStorage, dict[InstanceRef, list[Effect]]] | None = None
        """When the invocations begin: time, store, and the effects there were."""


def _copied(store: MemoryStorage) -> MemoryStorage:
    copy = MemoryStorage()
    copy._logs = {ref: [*log] for ref, log in store._logs.items()}
    copy._headers = dict(store._headers)
    copy._mail = {ref: dict(box) for ref, box in store._mail.items()}
    copy._due_heap, copy._due_count = [*store._due_heap], store._due_count
    return copy


_SCENERY: Final = (Play, Task, Store, MemoryStorage, _Clock, _Entropy)


@lru_cache(maxsize=100_000)
def _nameless(ref: InstanceRef, seq: int, raw: bytes) -> int:
    """A digest of a record without its nonce: two runs draw other ones, and all that counts is that they differ."""
    record = decode_record(raw, ref, seq)
    return digest_of(repr((ref, seq, record.type, record.epoch, record.at, record.body)))


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
    """Play `count` schedules drawn from the seeds 0, 1, 2, ...: they take no state for another."""
    for seed in range(count):
        try:
            Play(race).run(AtRandom(seed))
        except Violated as broken:
            raise Violated(f"seed {seed}: {broken}") from broken


def explore(race: Race, most: int = 60_000, shared: Search | None = None) -> Exhaustive:
    """Play every schedule of `race` (at most `most`); `Violated` tells the first that breaks a rule."""
    search = Exhaustive(most)
    shared = Search() if shared is None else shared
    for schedule in search.runs():
        play = Play(race, shared)
        try:
            play.run(schedule)
        except Violated as broken:
            raise Violated(f"schedule {search.schedules}, choices {search.taken}: {broken}") from broken
    return search
