"""A map of many trivial items in memory: the time an item, beside that of a plain step; the resume after it; memory.

An item costs what a step does and the opening and closing of its lane; the plain step is measured in turn with it, so
the ratio holds on a slow machine too. `max_concurrency=1` takes one item after the other, the default hands slow steps
to threads and finds out that these are quick.
"""

from __future__ import annotations

import gc
import time
import tracemalloc

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, MemoryStorage, WorkflowDefinition, create_workflow

TOPIC = "map"
_ITEM_US = 15.0
_RESUME_MS = 50.0


def measure(sizes: tuple[int, ...], rounds: int) -> list[Figure]:
    """`rounds` runs of maps of each size and of as many plain steps, in turn."""
    makes = {"an item, one at a time": 1, "an item, ten at a time": 10}
    times: dict[tuple[str, int], list[float]] = {}
    ratios: dict[tuple[str, int], list[float]] = {}
    plain = _steps(1000)
    for _ in range(rounds):
        step = _run(plain, None) / 1000
        times.setdefault(("a plain step", 1000), []).append(step * 1e6)
        for name, most in makes.items():
            for size in sizes:
                item = _run(_map(most), list(range(size))) / size
                times.setdefault((name, size), []).append(item * 1e6)
                ratios.setdefault((name, size), []).append(item / step)
    figures = [
        Figure.of(TOPIC, f"{name}, {size:,}", "µs", Samples.of(found), None if name == "a plain step" else _ITEM_US)
        for (name, size), found in times.items()
    ]
    figures += [
        Figure.of(TOPIC, f"{name}, {size:,}, over a plain step", "times", Samples.of(found))
        for (name, size), found in ratios.items()
    ]
    resumes = [_resume(sizes[-1]) for _ in range(rounds)]
    figures.append(Figure.of(TOPIC, f"resume after {sizes[-1]:,} items", "ms", Samples.of(resumes), _RESUME_MS))
    figures.append(Figure.of(TOPIC, f"peak memory of {sizes[-1]:,} items", "MB", Samples.of([_peak(sizes[-1])])))
    return figures


def _work(ctx: Context) -> None:
    """An item's work."""


def _map(most: int) -> WorkflowDefinition:
    return create_workflow(f"map-{most}").map("each", "input", _work, max_concurrency=most).build()


def _steps(count: int) -> WorkflowDefinition:
    workflow = create_workflow("steps")
    for number in range(count):
        workflow.step(f"step-{number}", _work)
    return workflow.build()


def _run(workflow: WorkflowDefinition, given: object) -> float:
    """Seconds of one run in a fresh store."""
    engine = FluxEngine(MemoryStorage(), workflows=[workflow])
    gc.collect()
    begun = time.perf_counter()
    result = engine.execute(workflow, given)
    taken = time.perf_counter() - begun
    assert result.status == "completed", result.error
    return taken


def _resume(size: int) -> float:
    """Milliseconds from a signal to an instance that has gone through its items until the next step runs."""
    ran = 0.0

    def end(ctx: Context) -> None:
        nonlocal ran
        ran = time.perf_counter()

    workflow = create_workflow("resumed").map("each", "input", _work).wait("ask", "go").step("end", end).build()
    engine = FluxEngine(MemoryStorage(), workflows=[workflow])
    id_ = engine.execute(workflow, list(range(size))).id
    gc.collect()
    begun = time.perf_counter()
    engine.signal(workflow, id_, "go")
    return (ran - begun) * 1e3


def _peak(size: int) -> float:
    """Megabytes that one run allocates at most, its store included."""
    workflow = _map(10)
    engine = FluxEngine(MemoryStorage(), workflows=[workflow])
    tracemalloc.start()
    engine.execute(workflow, list(range(size)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
