"""What a shape is made of: the world outside the engine, the verbs of a script, and operators.

Nothing here knows of crashes; the driver in `driving` plays platform and sweeper. Verbs are sent again until
they are acknowledged, so those that are not idempotent look first, as a person would.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import NOT_DONE, Done, InstanceRef
from flux_core.keys import idempotency_key
from flux_core.paths import renamed
from flux_core.testing import Journal, VirtualClock
from flux_core.testing.journal import RUN, UNDONE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from flux_core import FluxEngine, FluxResult, WorkflowBuilder, WorkflowStorage
    from flux_core.context import Context

    Verb = Callable[["World", FluxEngine, str], object]

INPUT = {"order": 7, "lines": [{"sku": "a", "count": 2}]}
HOUR = 3600.0


class World:
    """Everything outside the engine: time, the other side of each effect, and what has gone wrong there so far."""

    def __init__(self, store: WorkflowStorage) -> None:
        self.clock = VirtualClock()
        self.store = store
        """The store itself, for whoever looks at it without any fault."""
        self._journals: dict[InstanceRef, Journal] = {}
        self.happened: dict[str, object] = {}
        """Idempotency key -> what the other side answered: it does nothing twice for one key."""
        self.repaired = False
        self.deployed: Callable[[World], WorkflowBuilder] | None = None
        """What builds the definition that has taken the shape's place."""
        self.meanwhile: Callable[[Callable[[FluxEngine], object]], object] = lambda act: None
        """Has another invocation, which never crashes, act at this moment; the driver fills it in."""
        self._asked: Counter[str] = Counter()

    def effect(self, ctx: Context, answer: object = None, what: str = RUN) -> Any:
        """Have the effect of this step (with "undo", of its compensation); a key that is known has none."""
        effect = self.journal(InstanceRef(ctx.tenant, ctx.workflow, ctx.id)).note(ctx, what)
        return self.happened.setdefault(effect.key, answer)

    def journal(self, ref: InstanceRef) -> Journal:
        """The effects of one instance."""
        found = self._journals.get(ref)
        if found is None:
            found = self._journals[ref] = Journal(self.store)
        return found

    def first(self, name: str, times: int = 1) -> bool:
        """Whether `name` is asked for the first time (or one of the first `times`)."""
        self._asked[name] += 1
        return self._asked[name] <= times

    def copy(self, store: WorkflowStorage) -> World:
        """Another world that stands where this one stands, around `store`."""
        other = World(store)
        other.clock.advance(self.clock.monotonic())
        for ref, journal in self._journals.items():
            other.journal(ref).extend(journal)
        other.happened = dict(self.happened)
        other.repaired = self.repaired
        other.deployed = self.deployed
        other._asked = Counter(self._asked)
        return other

    def known(self) -> Hashable:
        """Equal for two worlds that stand alike."""
        asked = tuple(self._asked.items())
        changed = self.repaired, self.deployed
        seen = tuple((ref, tuple(journal)) for ref, journal in self._journals.items() if journal)
        return self.clock.monotonic(), seen, repr(self.happened), changed, asked

    def undo(self, ctx: Context) -> None:
        """The effect of a compensator."""
        self.effect(ctx, what=UNDONE)

    def probe(self, ctx: Context) -> object:
        """Ask the other side what became of this key."""
        key = ctx.idempotency_key
        return Done(self.happened[key]) if key in self.happened else NOT_DONE


def complete_or_retry(world: World, engine: FluxEngine, workflow: str, stuck: FluxResult) -> None:
    """An operator who asks the other side: completed if it happened there, tried again if not."""
    path, answer = look(world, stuck)
    if answer is None:
        engine.retry_step(workflow, stuck.id, path)
    else:
        engine.complete_step(workflow, stuck.id, path, answer[0], who="operator", why="the other side has it")


def skip_or_retry(world: World, engine: FluxEngine, workflow: str, stuck: FluxResult) -> None:
    """An operator who does without the result of what happened."""
    path, answer = look(world, stuck)
    if answer is None:
        engine.retry_step(workflow, stuck.id, path)
    else:
        engine.skip_step(workflow, stuck.id, path, who="operator")


def look(world: World, stuck: FluxResult) -> tuple[str, list[object] | None]:
    """Where an instance is stuck, and `[answer]` if the other side has had the effect."""
    state = stuck.state
    assert state.stuck is not None, "only a stuck instance has a place where it is stuck"
    path = state.stuck[1]
    assert path is not None
    origin = renamed(path, state.origins)
    key = idempotency_key(state.tenant, state.name, state.id, origin, state.discarded.get(path, 0))
    return path, [world.happened[key]] if key in world.happened else None


class Shape(NamedTuple):
    """A workflow over a world, its script, and who resolves it when it is stuck."""

    name: str
    build: Callable[[World], WorkflowBuilder]
    script: tuple[Verb, ...]
    ends: str
    """The status in which the crash-free run ends."""
    operator: Callable[[World, FluxEngine, str, FluxResult], None] = complete_or_retry
    deadline: float | None = None
    """Seconds of each invocation."""
    stops: int = 0
    """How often the operator is needed without any crash."""
    loose: tuple[str, ...] = ()
    """Steps that were under way beside one that fails: what becomes of them may depend on a crash. Of the child of
    one only the status is compared."""

    def __str__(self) -> str:
        return self.name


# --- verbs ------------------------------------------------------------------------------------------------


def _name(engine: FluxEngine) -> str:
    return next(iter(engine.workflows))  # those of its children come behind it


def execute(deadline: float | None = None) -> Verb:
    return lambda _, engine, instance: engine.execute(_name(engine), INPUT, instance, deadline=deadline)


def signal(name: str, payload: object, dedupe_id: str) -> Verb:
    return lambda _, engine, instance: engine.signal(_name(engine), instance, name, payload, dedupe_id)


def cancel(reason: str | None = None) -> Verb:
    return lambda _, engine, instance: engine.cancel(_name(engine), instance, reason)


def pause(world: World, engine: FluxEngine, id: str) -> object:
    """Pausing an instance that has ended meanwhile is for nobody."""
    seen = engine.get(_name(engine), id)
    return seen if seen.state.terminal or seen.state.paused else engine.pause(_name(engine), id, who="operator")


def unpause(world: World, engine: FluxEngine, id: str) -> object:
    return engine.unpause(_name(engine), id, who="operator")


def deploy(build: Callable[[World], WorkflowBuilder]) -> Verb:
    """From now on every invocation has another definition of the workflow."""

    def change(world: World, engine: FluxEngine, id: str) -> object:
        world.deployed = build
        return None

    return change


def later(seconds: float) -> Verb:
    """Time passes; the sweeper ticks what is due."""

    def tick(world: World, engine: FluxEngine, id: str) -> object:
        world.clock.advance(seconds)
        return engine.recover()

    return tick


def repair(world: World, engine: FluxEngine, id: str) -> object:
    world.repaired = True
    return None


def retry_step(step: str) -> Verb:
    """Not idempotent: whoever sends it again looks first whether it was taken."""

    def retry(world: World, engine: FluxEngine, id: str) -> object:
        seen = engine.get(_name(engine), id)
        if seen.status not in {"failed", "rolled_back"}:
            return seen
        return engine.retry_step(_name(engine), id, step)

    return retry


def retry_suspended(step: str) -> Verb:
    def retry(world: World, engine: FluxEngine, id: str) -> object:
        seen = engine.get(_name(engine), id)
        return seen if seen.state.generation else engine.retry_step(_name(engine), id, step)

    return retry


def force_again(step: str) -> Verb:
    def retry(world: World, engine: FluxEngine, id: str) -> object:
        seen = engine.get(_name(engine), id)
        if seen.status != "completed" or seen.state.discarded:
            return seen
        return engine.retry_step(_name(engine), id, step, force=True)

    return retry


def resume(world: World, engine: FluxEngine, id: str) -> object:
    seen = engine.get(_name(engine), id)
    return engine.resume(_name(engine), id) if seen.status in {"failed", "rolled_back"} else seen


def settle(step: str, *, done: bool) -> Verb:
    """Complete or skip by hand a compensation that has failed."""

    def resolve(world: World, engine: FluxEngine, id: str) -> object:
        seen = engine.get(_name(engine), id)
        if {entry.path: entry.status for entry in seen.history}[step] != "compensation_failed":
            return seen
        verb = engine.complete_step if done else engine.skip_step
        return verb(_name(engine), id, step)

    return resolve
