"""A durable step of the whole engine against the bare write of the same bytes, in small blocks in turn.

A handler of the running workflow ends the engine's block, and then has the records that the engine has just written
written once more, bare, to a place of the same form. A third place gets them a second time: what two runs of the very
same thing differ by is the noise of the method. This module must not know a store.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, create_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flux_core import WorkflowStorage

    Rows = Sequence[tuple[str, int, bytes]]
    Write = Callable[[Rows], float]
    """Writes rows bare, one commit each, and says how many seconds that took."""

BLOCK = 20
"""Steps a block, unless told otherwise: short enough that both sides of a pair see the same machine."""


class _Pairs:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, read: Callable[[int], Rows], bare: Write, again: Write, block: int) -> None:
        self._read = read
        self._block = block
        self._bare = bare
        self._again = again
        self._begun = 0.0
        self._next = 0
        self._flip = False
        self.engine: list[float] = []
        self.bare: list[float] = []
        self.again: list[float] = []
        self.sizes: list[int] = []

    def end_block(self) -> None:
        """Take the engine's time since the last block, and do the bare writes of the same records."""
        now = perf_counter()
        rows = self._read(self._next)
        if self._next:
            assert len(rows) == self._block, f"{len(rows)} records in a block of {self._block} steps"
            pair = (self._bare, self.bare), (self._again, self.again)
            self._flip = not self._flip
            for write, times in pair if self._flip else pair[::-1]:
                times.append(write(rows))
            self.engine.append(now - self._begun)
            self.sizes += [len(row[2]) for row in rows]
        else:
            self._bare(rows)
            self._again(rows)
        self._next += len(rows)
        self._begun = perf_counter()


def measure(
    storage: WorkflowStorage,
    read: Callable[[int], Rows],
    bare: Write,
    again: Write,
    blocks: int,
    *,
    topic: str,
    prefix: str = "",
    bare_write: str = "bare write",
    written: str = "a record",
    target: float | None = None,
    block: int = BLOCK,
) -> list[Figure]:
    """`blocks` pairs. `read` gives what the engine has written from a number on, past the store.

    `bare_write` says in the figures what a bare write is, `written` what it writes; `block` is in steps.
    """
    pairs = _Pairs(read, bare, again, block)

    def step(ctx: Context) -> object:
        if ctx.current_step % block == 0:
            pairs.end_block()
        ctx.data["attempts"] = ctx.current_step
        return {"ok": True, "charge": "ch_00017", "amount": 4250}

    builder = create_workflow("benchmark", version="1")
    for number in range(block * (blocks + 1) + 1):
        builder.step(f"step-{number}", step)
    result = FluxEngine(storage, lease=3600).execute(builder, {"order": 1})
    assert result.status == "completed", result.error

    def figure(name: str, measured_in: str, values: list[float], aim: float | None = None) -> Figure:
        return Figure.of(topic, prefix + name, measured_in, Samples.of(values), aim)

    def over(these: list[float], those: list[float]) -> list[float]:
        return [one / other for one, other in zip(these, those, strict=True)]

    def each(values: list[float]) -> list[float]:
        return [value / block * 1e6 for value in values]

    return [
        figure("engine", "µs/step", each(pairs.engine)),
        figure(bare_write, "µs/step", each(pairs.bare)),
        figure(f"engine over {bare_write}, paired blocks", "ratio", over(pairs.engine, pairs.bare), target),
        figure(f"{bare_write} over itself (noise)", "ratio", over(pairs.again, pairs.bare)),
        figure(f"bytes {written}", "B", [float(size) for size in pairs.sizes]),
    ]
