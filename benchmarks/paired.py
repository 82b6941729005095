"""A durable step of the whole engine against the bare write of the same bytes, in small blocks in turn.

A handler of the running workflow ends the engine's block, and then has the records that the engine has just written
written once more, bare, to a place of the same form. A third place gets them a second time: what two runs of the very
same thing differ by is the noise of the method. More places may get them in other ways. This module must not know a
store.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, create_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flux_core import WorkflowStorage

    Rows = Sequence[tuple[str, int, bytes]]
    Write = Callable[[Rows], float]
    """Writes rows bare, one commit each, and says how many seconds that took."""

BLOCK = 20
"""Steps a block, unless told otherwise: short enough that both sides of a pair see the same machine."""


class _Pairs:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, read: Callable[[int], Rows], sides: Sequence[Write], block: int) -> None:
        self._read = read
        self._block = block
        self._sides: list[tuple[Write, list[float]]] = [(write, []) for write in sides]
        self._begun = 0.0
        self._next = 0
        self.engine: list[float] = []
        self.sizes: list[int] = []

    @property
    def times(self) -> list[list[float]]:
        """Seconds of each block, for each of the sides."""
        return [times for _, times in self._sides]

    def end_block(self) -> None:
        """Take the engine's time since the last block, and do the bare writes of the same records."""
        now = perf_counter()
        rows = self._read(self._next)
        if self._next:
            assert len(rows) == self._block, f"{len(rows)} records in a block of {self._block} steps"
            first = len(self.engine) % len(self._sides)  # they take turns to be the one behind the engine
            for write, times in self._sides[first:] + self._sides[:first]:
                times.append(write(rows))
            self.engine.append(now - self._begun)
            self.sizes += [len(row[2]) for row in rows]
        else:
            for write, _ in self._sides:
                write(rows)
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
    others: Mapping[str, Write] | None = None,
) -> list[Figure]:
    """`blocks` pairs. `read` gives what the engine has written from a number on, past the store.

    `bare_write` says in the figures what a bare write is, `written` what it writes; `block` is in steps. `others` are
    other ways to write the same, by what the figures call them.
    """
    named = {} if others is None else dict(others)
    pairs = _Pairs(read, [bare, again, *named.values()], block)

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

    bares, agains, *rest = pairs.times
    by_name = dict(zip(named, rest, strict=True))
    return [
        figure("engine", "µs/step", each(pairs.engine)),
        figure(bare_write, "µs/step", each(bares)),
        *(figure(name, "µs/step", each(times)) for name, times in by_name.items()),
        figure(f"engine over {bare_write}, paired blocks", "ratio", over(pairs.engine, bares), target),
        *(figure(f"engine over {name}", "ratio", over(pairs.engine, times)) for name, times in by_name.items()),
        figure(f"{bare_write} over itself (noise)", "ratio", over(agains, bares)),
        figure(f"bytes {written}", "B", [float(size) for size in pairs.sizes]),
    ]
