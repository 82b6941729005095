"""The workflow of a spec (`nesting`), the other side it has effects on, and whoever disturbs its one instance.

Every invocation is an engine of its own over one `MemoryStorage`, which may die at any storage call and in any
handler. After everything that is done to the instance, the invariants are checked.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from flux_core import (
    NOT_DONE,
    Done,
    FluxEngine,
    MemoryStorage,
    NonRetryable,
    RetryPolicy,
    Unknown,
    create_workflow,
    episode,
    flow,
    verify,
)
from flux_core.codec import decode_state, encode_state
from flux_core.errors import Refused, StorageUnavailable, UnknownInstance, UnknownStep
from flux_core.load import load
from flux_core.machine import takeover_at, timer
from flux_core.ports import InstanceRef
from flux_core.testing import (
    FAULTS,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    Journal,
    SeededEntropy,
    VirtualClock,
    check_invariants,
)
from tests.simulation.nesting import LOOPING, Node, chosen, effect, lanes, nodes, skipped, unwrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from flux_core.machine import Continuation
    from flux_core.result import FluxResult
    from flux_core.state import WorkflowState

REF = InstanceRef("default", "w", "i")
_EXPECTED = (Refused, UnknownStep, StorageUnavailable, UnknownInstance)


class Playground:
    """One instance, and all there is around it."""

    def __init__(self, spec: list[Node], dice: Random, *, hard: bool) -> None:
        """`hard`: invocations die."""
        self.spec = spec
        self.dice = dice
        self.hard = hard
        self.storage = MemoryStorage()
        self.clock = VirtualClock()
        self.entropy = SeededEntropy(dice.randrange(10**9))
        self.journal = Journal(self.storage)
        self.mended = False
        self.honest = True
        """Whether operators complete, skip and retry attempts of unknown outcome as the other side says."""
        self.done: Counter[str] = Counter()
        """Effects of commits, by idempotency key."""
        self.tries: Counter[object] = Counter()
        self.deployed: dict[str, tuple[list[Node], Any]] = {}
        """Every spec and its workflow, by fingerprint."""
        self.followed = spec
        """The one that the instance goes on with."""
        self.change(spec)
        self.told: list[str] = []
        """What was done, for whoever looks for the reason of a failure."""
        self._log: list[bytes] = []
        self._kill = 0.0
        self._inline = dice.choice((0.0, 100.0))
        self._work = dice.choice((0.0, 0.0, 1.0))

    # --- the workflow --------------------------------------------------------------------------------------

    def definition(self, spec: list[Node]) -> Any:
        """The workflow of `spec`, whose handlers play here."""
        return self._filled(create_workflow("w"), spec)

    def _filled(self, into: Any, lane: list[Node]) -> Any:
        for place, node in enumerate(lane):
            self._add(into, node, lane[place - 1].name if place else "a")
        return into

    def _add(self, into: Any, node: Node, before: str) -> None:
        options: dict[str, Any] = {"aliases": node.aliases} if node.aliases else {}
        bodies = {case: self._filled(flow(), body) for case, body in node.bodies.items()}
        if node.kind == "if":
            into.if_(node.name, self._asked(node), bodies["then"], bodies.get("else"), **options)
        elif node.kind == "switch":
            default = bodies.pop("default")
            into.switch(node.name, self._asked(node), bodies, default=default, **options)
        elif node.kind == "loop":
            fixed = not (node.told or node.trips or node.fatal is not None)
            into.loop(node.name, node.times if fixed else self._asked(node), bodies["body"], **options)
        elif node.kind == "while":
            into.while_(node.name, self._asked(node), bodies["body"], max_iterations=max(node.times, 1), **options)
        else:
            if node.conditional:
                options["when"] = lambda ctx: not skipped(node, ctx.data.get("n", 0))
            if node.undo:
                options["compensate"] = self._undoing(node)
            if node.kind == "wait":
                into.wait(node.name, f"s{node.uid % 3}", **options)
            elif node.kind == "sleep":
                into.sleep(node.name, 10, **options)
            elif node.kind == "step":
                into.step(node.name, self._working(node, before), **options)
            else:
                on_unknown: Any = verify(self._probing(node, before)) if node.policy == "verify" else node.policy
                into.commit(node.name, self._working(node, before), on_unknown=on_unknown, **options)

    def _trip(self, node: Node, ctx: Any) -> tuple[int, ...]:
        iterations = tuple(map(int, re.findall(r"\[(\d+)\]", ctx.path)))
        if iterations and node.kind != "while":
            assert ctx.iteration == iterations[-1]
        if node.fatal == iterations and not self.mended:
            raise NonRetryable("not yet")
        spot = (node.uid, iterations, ctx.iteration if node.kind == "while" else 0)
        self.tries[spot] += 1
        if self.tries[spot] <= node.trips:
            raise RuntimeError("again")
        self._maybe_die()
        return iterations

    def _maybe_die(self) -> None:
        if self._kill and self.dice.random() < self._kill:
            raise InvocationDied("in a handler")

    def _asked(self, node: Node) -> Any:
        def asked(ctx: Any) -> Any:
            self._trip(node, ctx)
            number = ctx.data.get("n", 0)
            ctx.data["n"] = 123  # what a decision writes vanishes
            if node.kind == "while":
                return ctx.iteration < node.times
            if node.kind == "loop":
                return node.times
            case = chosen(node, number)
            return case == "then" if node.kind == "if" else case

        return asked

    def _working(self, node: Node, before: str) -> Any:
        def work(ctx: Any) -> Any:
            iterations = self._trip(node, ctx)
            self.clock.advance(self._work)
            self.journal.note(ctx)
            if node.kind == "commit":
                self._maybe_die()
                key = ctx.idempotency_key
                if node.policy != "retry" or not self.done[key]:
                    self.done[key] += 1
                self._maybe_die()
                spot = ("doubt", node.uid, iterations)
                if node.doubtful and not self.tries[spot]:
                    self.tries[spot] += 1
                    raise Unknown("perhaps")
            return effect(node, iterations, ctx.data, self._looked(ctx, before))

        return work

    def _probing(self, node: Node, before: str) -> Any:
        def probe(ctx: Any) -> Any:
            self._maybe_die()
            if not self.done[ctx.idempotency_key]:
                return NOT_DONE
            iterations = tuple(map(int, re.findall(r"\[(\d+)\]", ctx.path)))
            return Done(effect(node, iterations, ctx.data, self._looked(ctx, before)))

        return probe

    def _looked(self, ctx: Any, before: str) -> Any:
        """What a step sees of the one before it; nothing where renaming may change which one a name means."""
        return None if self.hard else ctx.results.get(before)

    def _undoing(self, node: Node) -> Any:
        def undo(ctx: Any) -> None:
            self._maybe_die()
            self.journal.note(ctx, "undo")
            assert ctx.path in ctx.results
            unwrite(node.uid, ctx.data)
            self._maybe_die()

        return undo

    # --- what is done to it --------------------------------------------------------------------------------

    @property
    def state(self) -> WorkflowState:
        """The instance as the store has it."""
        return load(self.storage, REF).state

    def engine(self, storage: Any = None) -> FluxEngine:
        """Another process."""
        return FluxEngine(
            storage or self.storage, workflows=[self.workflow], clock=self.clock, entropy=self.entropy,
            default_timeout=None, retry=RetryPolicy(), inline_backoff=self._inline, lease=100,
        )  # fmt: skip

    def do(self, verb: str, *args: Any, calm: bool = False, **options: Any) -> FluxResult | None:
        """One verb in an invocation of its own; None if it was refused, or died."""
        storage: Any = self.storage
        self._kill = 0.0
        if self.hard and not calm:
            if self.dice.random() < 0.6:
                at = int(self.dice.expovariate(0.1)) + 1
                storage = FaultyStorage(storage, FaultPlan({at: self.dice.choice(FAULTS)}))
            else:
                self._kill = 0.05
            if self.dice.random() < 0.2:
                options["deadline"] = self.dice.choice((0.5, 3, 8))
        told = f"{verb} {args} {options}"
        result = None
        try:
            engine = self.engine(storage)
            if verb == "recover":
                engine.recover()
            else:
                result = getattr(engine, verb)(self.workflow, *args, **options)
        except (*_EXPECTED, InvocationDied) as error:
            told += f": {type(error).__name__}: {error}"
        self.told.append(told + ("" if result is None else f": {result.status}"))
        self._kill = 0.0
        if self.storage.tail(REF) is not None:
            self.check()
        return result

    def check(self) -> None:
        """The invariants, that the log has only grown, that a snapshot holds all, and effects by key."""
        before, self._log = self._log, self.storage.read(REF)
        state = self.state
        self.followed, workflow = self.deployed[state.fingerprint]
        check_invariants(self.storage, REF, self.journal, workflow=workflow.build(), before=before)
        raw = encode_state(state)
        assert encode_state(decode_state(raw, REF, state.seq)) == raw
        twice = {key: count for key, count in self.done.items() if count > 1}
        assert not twice or not self.honest, f"effects of the same key: {twice}"

    def fitting(self, spec: list[Node]) -> Continuation:
        """Whether the definition of `spec` could go on with the instance."""
        return self.engine().check(self.definition(spec), "i")

    def change(self, spec: list[Node]) -> None:
        """Deploy another definition."""
        self.spec = spec
        self.workflow = self.definition(spec)
        self.deployed[self.workflow.build().fingerprint] = spec, self.workflow

    def pass_time(self) -> None:
        """Until something is due, lease or timer."""
        state = self.state
        due = takeover_at(state) if state.owned else timer(state)
        if due is not None:
            self.clock.advance(max(0, due - self.clock.now()) / 1000 + 0.001)

    def settle(self, *, calm: bool = True) -> WorkflowState:
        """Play whoever is in charge, until the instance has ended."""
        for _ in range(200):
            if self.storage.tail(REF) is None:
                self.do("execute", None, "i", calm=calm)
                continue
            state = self.state
            if state.terminal:
                return state
            self.pass_time()
            if state.paused and not state.undoing and not state.owned:
                self.do("unpause", "i", calm=calm)
            elif state.status == "stuck":
                self.mend_stuck(state, calm=calm)
            elif state.waits and not state.owned and not state.undoing and self.awaited(state):
                name = self.awaited(state)
                self.do("signal", "i", name, {"signal": name}, calm=calm)
            else:
                self.do("recover", calm=calm)
        raise AssertionError(f"it does not come to an end: {self.state.status}")

    def awaited(self, state: WorkflowState) -> str | None:
        """A signal that it waits for."""
        return next((name for wait in state.waits.values() for name in wait.signals), None)

    def mend_stuck(self, state: WorkflowState, *, calm: bool = True) -> None:
        """What an operator does who can look at the other side."""
        assert state.stuck is not None
        path = state.stuck[1]
        assert path is not None
        node, path_now = located(self.followed, path)
        path_now = located(self.spec, path)[1]
        if path in state.intents or path in state.doubts:
            ran = [one for one in self.journal if one.what == "run"]
            keys = [one.key for one in ran if located(self.followed, one.path)[1] == path]
            if keys and self.done[keys[-1]] and node.policy == "quarantine":
                out = [node.uid, *map(int, re.findall(r"\[(\d+)\]", path))]
                self.do("complete_step", "i", path_now, out, calm=calm)
                return
            if state.undoing:
                self.do("skip_step", "i", path_now, calm=calm)
                return
        self.do("retry_step", "i", path_now, calm=calm)


def located(spec: list[Node], path: str) -> tuple[Node, str]:
    """The node of a runtime path, which may have earlier names, and the path as it is now."""
    lane, parts, now = spec, path.split("."), ""
    while True:
        name, bracket, number = parts.pop(0).partition("[")
        node = next((node for node in lane if name in {node.name, *node.aliases}), None)
        if node is None:
            return Node(0, name, "step"), path  # it is gone
        now += node.name + bracket + number
        if not parts:
            return node, now
        case = "body" if node.kind in LOOPING else parts.pop(0)
        lane, now = node.bodies[case], now + ("." if node.kind in LOOPING else f".{case}.")


@contextmanager
def snapshots_from(size: int | None) -> Iterator[None]:
    """Within it, snapshots are written from so many bytes of log on; None: as always."""
    owner = vars(episode)
    kept = owner["_SNAPSHOT_FROM"]
    owner["_SNAPSHOT_FROM"] = kept if size is None else size
    try:
        yield
    finally:
        owner["_SNAPSHOT_FROM"] = kept


def renamed(spec: list[Node], dice: Random, count: int, fresh: Iterator[int]) -> list[Node]:
    """A copy in which some nodes have other names, and the old ones as aliases."""
    spec = deepcopy(spec)
    every = nodes(spec)
    for node in dice.sample(every, min(count, len(every))):
        node.aliases = [*node.aliases, node.name]
        node.name = f"r{next(fresh)}"
    return spec


def changed(spec: list[Node], dice: Random, fresh: Iterator[int]) -> list[Node]:
    """A copy in which something is renamed, new, gone or has moved."""
    spec = renamed(spec, dice, dice.choice((0, 0, 1)), fresh)
    lane = dice.choice(lanes(spec))
    what = dice.choice(("new", "new", "gone", "moved", "kind"))
    if what == "new":
        number = next(fresh)
        node = Node(2000 + number, f"n{number}", dice.choice(("step", "commit", "wait", "sleep")))
        node.undo = node.kind != "sleep" and dice.random() < 0.3
        lane.insert(dice.randrange(len(lane) + 1), node)
    elif what == "gone" and len(lane) > 1:
        lane.pop(dice.randrange(len(lane)))
    elif what == "moved":
        dice.shuffle(lane)
    elif what == "kind":
        node = dice.choice(lane)
        if node.kind == "step":
            node.kind = "commit"
    return spec
