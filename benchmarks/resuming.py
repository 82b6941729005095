"""The time to resume: from the call of `wake` on a suspended instance until the handler of its next step runs.

The instance has run a number of steps and then sleeps again and again; each wake-up is a sample. A new engine is made
for each, since an invocation knows nothing of the one before it; the store's connection stays open.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, MemoryStorage, create_workflow, sleep
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from pathlib import Path

    from flux_core import WorkflowDefinition, WorkflowStorage

TOPIC = "resume"
_NAP = 0.1
"""Seconds, long enough that the invocation that falls asleep has ended before they are over."""


def measure(folder: Path, sizes: tuple[int, ...], samples: int) -> list[Figure]:
    """`samples` wake-ups after each number of steps, in memory and on SQLite, in turn."""
    folder.mkdir()
    stores: dict[str, WorkflowStorage] = {
        "memory": MemoryStorage(),
        "SQLite FULL": SQLiteStorage(folder / "resume.db"),
    }
    sleepers = {(name, size): _Sleeper(store, size, samples) for name, store in stores.items() for size in sizes}
    for _ in range(samples):
        for sleeper in sleepers.values():
            sleeper.wake()
    return [
        Figure.of(TOPIC, f"{name}: after {size:,} steps", "ms", Samples.of(sleeper.times))
        for (name, size), sleeper in sleepers.items()
    ]


class _Sleeper:
    """One instance that has run `size` steps and sleeps."""

    def __init__(self, store: WorkflowStorage, size: int, naps: int) -> None:
        self._store = store
        self._id = f"after-{size}"
        self._workflow = self._make(size, naps)
        self._ran = 0.0
        self.times: list[float] = []
        result = FluxEngine(store, lease=3600).execute(self._workflow, {"order": 1}, self._id)
        assert result.status == "suspended", result.status

    def wake(self) -> None:
        """Take one sample, in milliseconds."""
        time.sleep(_NAP)
        engine = FluxEngine(self._store, workflows=[self._workflow])
        before = self._ran
        begun = time.perf_counter()
        engine.wake(self._workflow, self._id)
        assert self._ran > before, "the next step did not run"
        self.times.append((self._ran - begun) * 1e3)

    def _make(self, size: int, naps: int) -> WorkflowDefinition:
        def step(ctx: Context) -> object:
            ctx.data["attempts"] = ctx.current_step
            return {"ok": True, "charge": "ch_00017", "amount": 4250}

        def nap(ctx: Context) -> object:
            self._ran = time.perf_counter()
            return sleep(_NAP)

        builder = create_workflow(f"benchmark-{size}", version="1")
        for number in range(size):
            builder.step(f"step-{number}", step)
        for number in range(naps + 1):
            builder.step(f"nap-{number}", nap)
        return builder.build()
