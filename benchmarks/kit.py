"""What a test of a workflow costs: three virtual weeks of a 30-step workflow with signals, and a crash at every write.

Everything is measured that a test does: declaring, `FluxTest`, executing, a look every virtual day, assertions.
"""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import create_workflow, sleep, wait
from flux_core.testing import FluxTest, crash_at_every_write

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder

TOPIC = "test kit"
TARGET = 50.0
"""Milliseconds."""
_STEPS, _WEEKS = 30, 3


def measure(samples: int) -> list[Figure]:
    """`samples` tests of each kind, in turn."""
    weeks: list[float] = []
    crashes: list[float] = []
    _three_weeks()  # imports
    for _ in range(samples):
        begun = perf_counter()
        _three_weeks()
        between = perf_counter()
        runs = crash_at_every_write(_short(), {"amount": 5}, signals=["go"]).runs
        crashes.append((perf_counter() - between) / runs * 1e3)
        weeks.append((between - begun) * 1e3)
    return [
        Figure.of(TOPIC, f"{_STEPS} steps, {_WEEKS} virtual weeks, signals", "ms", Samples.of(weeks), TARGET),
        Figure.of(TOPIC, "crash_at_every_write, 4 steps, a signal and a sleep", "ms/run", Samples.of(crashes)),
    ]


def _three_weeks() -> None:
    flow = _long()
    flux = FluxTest(flow)
    flux.stub("step-0", sequence=[TimeoutError("gateway"), {"id": "ch_1"}])
    run = flux.execute(flow, {"amount": 5})
    signals = 0
    for _ in range(_WEEKS * 7):
        flux.advance(days=1)
        if run.waiting_for:
            run.signal("go", {"by": "Ada"})
            signals += 1
    run.assert_completed().assert_step("step-0", attempts=2)
    assert signals == 3


def _long() -> WorkflowBuilder:
    """30 steps: 3 wait for a signal, 6 sleep for three days, 3 are commits, the others write data."""
    flow = create_workflow("long")
    for number in range(_STEPS):
        name = f"step-{number}"
        if number % 10 == 4:
            flow.step(name, lambda ctx: wait("go", timeout=timedelta(days=14)))
        elif number % 5 == 2:
            flow.step(name, lambda ctx: sleep(timedelta(days=3)))
        elif number % 10 == 0:
            flow.commit(name, lambda ctx: {"ok": True}, idempotent=True)
        else:
            flow.step(name, _write)
    return flow


def _write(ctx: Context) -> object:
    ctx.data["step"] = ctx.current_step
    return {"ok": True, "charge": "ch_00017", "amount": 4250}


def _short() -> WorkflowBuilder:
    flow = create_workflow("short").commit("charge", lambda ctx: {"id": "ch_1"}, idempotent=True)
    flow.step("approval", lambda ctx: wait("go", timeout=timedelta(days=3)))
    return flow.step("nap", lambda ctx: sleep(3600)).step("ship", _write)
