"""Workflows of random nesting, failing, retried at random places, with crashes: each ends as if it had just run.

What a run without a failure writes to the data, in order, is what every other run has to come to.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    Done,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    NonRetryable,
    Refused,
    create_workflow,
    flow,
    verify,
)
from flux_core.testing import (
    CRASH_AFTER,
    CRASH_BEFORE,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    Journal,
    SeededEntropy,
    VirtualClock,
    check_invariants,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, FluxResult
    from flux_core.nodes import NodeCollector

REF = InstanceRef("default", "nested", "1")
KINDS = ("step", "commit", "skipped", "sleep", "if", "switch", "loop", "while", "parallel", "map")


class _AnyOrder(VirtualClock):
    """Of attempts at the same time any may end first."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = Random(seed)

    def pick(self, count: int) -> int:
        return self._dice.randrange(count)


class Case:
    """One workflow, its store, and the platform that never gives up."""

    def __init__(self, seed: int, crashes: int) -> None:
        self.random = Random(seed)
        self.crashes = Random(seed * 1000 + crashes) if crashes else None
        self.store = MemoryStorage()
        self.clock = _AnyOrder(seed)
        self.journal = Journal(self.store)
        self.failures: set[str | None] = set()
        self.happened: set[str] = set()
        self.names = 0
        self.invocations = 0
        self.workflow = create_workflow("nested")
        self.fill(self.workflow, 3)
        self.wanted = self.without_a_failure()

    # --- the workflow -----------------------------------------------------------------------------------------

    def work(self, ctx: Context) -> None:
        effect = self.journal.note(ctx)
        if ctx.path in self.failures:
            self.failures.discard(ctx.path)
            raise NonRetryable("no")
        self.happened.add(effect.key)
        ctx.data.log = [*ctx.data.get("log", []), ctx.path]

    def probe(self, ctx: Context) -> object:
        if ctx.idempotency_key not in self.happened:
            return NOT_DONE
        ctx.data.log = [*ctx.data.get("log", []), ctx.path]
        return Done()

    def undo(self, ctx: Context) -> None:
        self.journal.note(ctx, "undo")

    def fill(self, into: NodeCollector, depth: int) -> Any:
        draw = self.random
        for _ in range(draw.randint(1, 3)):
            self.names += 1
            kind = draw.choice(KINDS if depth else KINDS[:3])
            name = f"{kind}-{self.names}"
            undo: dict[str, Any] = {"compensate": self.undo} if draw.random() < 0.4 else {}
            number = draw.randint(0, 2)
            match kind:
                case "step":
                    into.step(name, self.work, **undo)
                case "commit":
                    into.commit(name, self.work, on_unknown=verify(self.probe), **undo)
                case "skipped":
                    into.step(name, self.work, when=lambda ctx: False)
                case "sleep":
                    into.sleep(name, 5)
                case "if":
                    then, other = self.fill(flow(), depth - 1), self.fill(flow(), depth - 1)
                    into.if_(name, _tells(number), then, other if number else None)
                case "switch":
                    cases = {"0": self.fill(flow(), depth - 1), "1": self.fill(flow(), depth - 1)}
                    into.switch(name, _tells(str(number)), cases, default=self.work)
                case "loop":
                    into.loop(name, number, self.fill(flow(), depth - 1))
                case "while":
                    body = self.fill(flow(), depth - 1)
                    into.while_(name, _is_before(number), body)
                case "parallel":
                    bodies = [self.fill(flow(f"lane-{lane}"), depth - 1) for lane in range(number + 1)]
                    into.parallel(name, *bodies, **self.drawn_fork())
                case "map":
                    into.map(name, list(range(number)), self.fill(flow(), depth - 1), **self.drawn_fork())
        return into

    def drawn_fork(self) -> dict[str, Any]:
        draw = self.random
        return {
            "max_concurrency": draw.choice((None, 1, 2)),
            "on_error": draw.choice(("fail_fast", "wait_all")),
            "merge": {"log": _one_after_the_other},
        }

    def without_a_failure(self) -> FluxResult:
        clock = VirtualClock()
        engine = FluxEngine(workflows=[self.workflow], clock=clock, entropy=SeededEntropy())
        result = engine.execute(self.workflow, None, "1")
        while result.status == "suspended":
            clock.advance(5)
            result = engine.wake(self.workflow, "1")
        self.journal.clear()
        self.happened.clear()
        return result

    # --- the platform -----------------------------------------------------------------------------------------

    def engine(self, *, may_crash: bool = True) -> FluxEngine:
        self.invocations += 1
        plan = FaultPlan()
        if self.crashes is not None and may_crash:
            plan = FaultPlan({self.crashes.randint(0, 25): self.crashes.choice((CRASH_BEFORE, CRASH_AFTER))})
        return FluxEngine(
            FaultyStorage(self.store, plan), workflows=[self.workflow], clock=self.clock, lease=20,
            entropy=SeededEntropy(self.invocations),
        )  # fmt: skip

    def look(self) -> FluxResult:
        return self.engine(may_crash=False).get(self.workflow, "1")

    def act(self, verb: Callable[[FluxEngine], object]) -> None:
        while True:
            try:
                verb(self.engine())
            except InvocationDied:
                self.clock.advance(60)
            except Refused:
                return
            else:
                return

    def settle(self) -> FluxResult:
        while (seen := self.look()).status in {"running", "suspended", "rolling_back"}:
            self.clock.advance(60)
            self.act(lambda engine: engine.recover())
            check_invariants(self.store, REF, self.journal, workflow=self.workflow.build())
        return seen

    def retry(self, path: str) -> Callable[[FluxEngine], object]:
        return lambda engine: engine.retry_step(self.workflow, "1", path, force=True)

    def play(self) -> FluxResult:
        paths = [step.path for step in self.wanted.history]
        self.failures.update(self.random.sample(paths, min(len(paths), 3)))
        self.act(lambda engine: engine.execute(self.workflow, None, "1"))
        for _ in range(3):
            if self.random.random() < 0.5:
                self.settle()
            self.act(self.retry(self.random.choice(paths)))
        while (seen := self.settle()).status in {"failed", "rolled_back"}:
            self.act(lambda engine: engine.resume(self.workflow, "1"))
        return seen


def _one_after_the_other(logs: list[list[str]]) -> list[str]:
    """What was there when the lanes began, then what each has added, in the order of the lanes."""
    before = next((n for n, paths in enumerate(zip(*logs, strict=False)) if len(set(paths)) > 1), min(map(len, logs)))
    return logs[0][:before] + [path for log in logs for path in log[before:]]


def _tells(answer: object) -> Callable[[Context], object]:
    return lambda ctx: answer


def _is_before(number: int) -> Callable[[Context], object]:
    return lambda ctx: ctx.iteration < number


@pytest.mark.parametrize("crashes", [0, 1, 2])
def test_whatever_fails_and_is_retried_the_end_is_the_same(crashes: int) -> None:
    for seed in range(60):
        case = Case(seed, crashes)
        seen = case.play()
        check_invariants(case.store, REF, case.journal, workflow=case.workflow.build(), at_rest=True)
        where = f"seed {seed}, crashes {crashes}"
        assert (seen.status, seen.data) == ("completed", case.wanted.data), where
        ends = [sorted((step.path, step.status) for step in result.history) for result in (seen, case.wanted)]
        assert ends[0] == ends[1], where
        assert not seen.state.frames, where
