"""Microseconds a step in memory, by road and by length of the workflow.

A sample is the time of whole `execute` calls divided by the number of steps: start and end of the instance are in it.
All roads are measured in turn, round by round, so that what else the machine does hits them alike. The default time
limit is on, and so is the garbage collector.

Twice: by the clock, and in processor time. On the main thread a step never waits for anything, so both are the same on
a quiet machine, and on a busy one the processor time is what is left of the truth. Off the main thread the threads do
wait for each other, so there only the clock counts.
"""

from __future__ import annotations

import gc
from threading import Thread
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.figure import Figure, Samples, spread
from flux_core import Context, FluxEngine, MemoryStorage, create_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flux_core import WorkflowDefinition

    _Seen = dict[tuple[str, int], list[float]]

CLOCK = "step in memory, by the clock"
PROCESSOR = "step in memory, processor time"
FLAT = 25.0
"""Per cent by which a step may cost more or less than the middle, however long the workflow is."""

_OUTPUT = {"ok": True, "charge": "ch_00017", "amount": 4250}


class Road(NamedTuple):
    """One way to run steps, and the microseconds that a step of it may take."""

    name: str
    target: float | None
    handler: Callable[[Context], object]
    data: bool = True
    commit: bool = False
    watched: bool = False
    off_main: bool = False
    loop: bool = False


class ListSink:
    """The cheapest sink there is: what telemetry costs, not what a file costs."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, object]] = []

    def emit(self, event: Mapping[str, object]) -> None:
        """Keep it."""
        self.events.append(event)


def _nothing(ctx: Context) -> None:
    pass


def _scalar(ctx: Context) -> None:
    ctx.data["attempts"] += 1


def _nested(ctx: Context) -> None:
    ctx.data["totals"]["net"] += 1


def _output(ctx: Context) -> object:
    return _OUTPUT


async def _async_nothing(ctx: Context) -> None:
    pass


async def _async_scalar(ctx: Context) -> None:
    ctx.data["attempts"] += 1


def _fill(ctx: Context) -> None:
    """1 KB of data in 5 keys, among them the nested ones of a real order."""
    ctx.data.update(
        order={
            "id": "A-1000042",
            "currency": "EUR",
            "lines": [{"sku": f"SKU-{number:05}", "quantity": number, "price": 19.9} for number in range(1, 9)],
        },
        customer={"name": "Ada Lovelace", "address": {"street": "St James's Square 12", "city": "London"}},
        totals={"net": 1, "tax": 190, "gross": 1190},
        note="please ring twice, the bell is broken; " * 6,
        attempts=0,
    )


ROADS = (
    Road("sync, no data", 10, _nothing, data=False),
    Road("sync, data untouched", 10, _nothing),
    Road("sync, a scalar written", 10, _scalar),
    Road("sync, a small container changed", 10, _nested),
    Road("sync, with output", 18, _output),
    Road("sync, with output, hooks and a sink", 18, _output, watched=True),
    Road("async, data untouched", 25, _async_nothing),
    Road("async, a scalar written", 25, _async_scalar),
    Road("sync off the main thread, data untouched", 35, _nothing, off_main=True),
    Road("sync off the main thread, a scalar written", 35, _scalar, off_main=True),
    Road("async off the main thread, data untouched", None, _async_nothing, off_main=True),
    Road("commit, data untouched", None, _nothing, commit=True),
    Road("loop of one trivial step", None, _nothing, data=False, loop=True),
)


def measure(sizes: tuple[int, ...], rounds: int, block: int) -> list[Figure]:
    """Every road at every size, `rounds` samples each, of `block` steps or of one execute if that is longer."""
    workflows = {(road.name, size): _workflow(road, size) for road in ROADS for size in sizes}
    clock: _Seen = {key: [] for key in workflows}
    processor: _Seen = {key: [] for key in workflows}
    for road in ROADS:
        _sample(road, workflows[road.name, sizes[0]], sizes[0], sizes[0])  # imports and the first thread
    for _ in range(rounds):
        for size in sizes:
            for road in ROADS:
                seconds, busy = _sample(road, workflows[road.name, size], size, block)
                clock[road.name, size].append(seconds)
                processor[road.name, size].append(busy)
    figures = [figure for road in ROADS for figure in _figures(CLOCK, road, sizes, clock)]
    never_wait = [road for road in ROADS if not road.off_main]
    return figures + [figure for road in never_wait for figure in _figures(PROCESSOR, road, sizes, processor)]


def _figures(topic: str, road: Road, sizes: tuple[int, ...], seen: _Seen) -> list[Figure]:
    figures = []
    for size in sizes:
        name = f"{road.name}: {size:,} steps"
        figures.append(Figure.of(topic, name, "µs/step", Samples.of(seen[road.name, size]), road.target))
    by_round = zip(*(seen[road.name, size] for size in sizes), strict=True)
    apart = Samples.of([spread(values) for values in by_round])
    figures.append(Figure.of(topic, f"{road.name}: {sizes[0]:,} to {sizes[-1]:,} flat within", "± %", apart, FLAT))
    if len(sizes) > 2:
        apart = Samples.of([spread(values) for values in zip(*(seen[road.name, s] for s in sizes[1:]), strict=True)])
        figures.append(Figure.of(topic, f"{road.name}: {sizes[1]:,} to {sizes[-1]:,} flat within", "± %", apart, FLAT))
    return figures


def _workflow(road: Road, size: int) -> WorkflowDefinition:
    builder = create_workflow("benchmark", version="1")
    if road.loop:
        return builder.loop("each", size, road.handler).build()
    for number in range(size):
        handler = _fill if road.data and number == 0 else road.handler
        if road.commit:
            builder.commit(f"step-{number}", handler)
        else:
            builder.step(f"step-{number}", handler)
    return builder.build()


def _sample(road: Road, workflow: WorkflowDefinition, size: int, block: int) -> tuple[float, float]:
    """Microseconds a step, by the clock and of the processor."""
    calls = max(1, block // size)
    sink = ListSink()
    engine = FluxEngine(
        MemoryStorage(),
        workflows=[workflow],
        trace=sink if road.watched else None,
        on=_hooks() if road.watched else None,
    )
    times: list[float] = []

    def work() -> None:
        execute = engine.execute
        begun, busy = perf_counter(), process_time()
        for _ in range(calls):
            execute(workflow, {"order": 1})
        times.extend((process_time() - busy, perf_counter() - begun))

    gc.collect()
    if road.off_main:
        thread = Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
    assert len(engine.list(status="completed").items) == min(calls, 100)
    assert not road.watched or len(sink.events) == calls * (2 * size + 2), "a step has a start and an end"
    busy, seconds = (time / (calls * size) * 1e6 for time in times)
    return seconds, busy


def _hooks() -> dict[str, Callable[..., Any]]:
    return {
        "step_start": lambda name, ctx: None,
        "step_complete": lambda name, ctx, result: None,
        "step_error": lambda name, ctx, error: None,
        "workflow_complete": lambda ctx: None,
        "workflow_error": lambda ctx, error: None,
    }
