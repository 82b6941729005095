"""Workflows that leave a line in a ledger for every attempt, so that a test sees what ran, how often and where."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flux_core import create_workflow, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context

FOLDER = "TEST_FOLDER"
"""Names the folder of the ledger, and of the files by which a test tells a step what to do."""
STEPS = 40
NAPS = 6
_PATIENCE = 60.0


def note(ctx: Context, what: str) -> None:
    """A line in one write, which processes do not mix."""
    line = f"{ctx.id} {ctx.step} {what} {os.getpid()}\n".encode()
    ledger = os.open(Path(os.environ[FOLDER]) / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line)
    os.close(ledger)


def work(seconds: float) -> Callable[[Context], str]:
    """A step that takes so long."""

    def step(ctx: Context) -> str:
        note(ctx, "begun")
        time.sleep(seconds)
        note(ctx, "done")
        return str(ctx.step)

    return step


def hold(ctx: Context) -> None:
    """Takes as long as the test's file `hold` is there; whoever kills the process meanwhile kills it mid-step."""
    note(ctx, "begun")
    give_up_at = time.monotonic() + _PATIENCE
    while (Path(os.environ[FOLDER]) / "hold").exists() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    note(ctx, "done")


def charge(ctx: Context) -> str:
    """Fails as long as the test's file `broken` is there."""
    note(ctx, "begun")
    if (Path(os.environ[FOLDER]) / "broken").exists():
        message = "the provider is down"
        raise ValueError(message)
    note(ctx, "done")
    return ctx.idempotency_key


SECONDS = float(os.environ.get("TEST_SECONDS", "0.25"))
"""That each step of the long workflow takes."""
long = create_workflow("long")
for number in range(STEPS):
    long.step(f"step-{number}", work(SECONDS))
naps = create_workflow("naps")
for number in range(NAPS):
    naps.step(f"step-{number}", work(0)).sleep(f"nap-{number}", 0.2)
order = (
    create_workflow("order")
    .step("reserve", work(0))
    .step("pack", hold)
    .step("approval", lambda ctx: wait("approved", timeout=3600))
    .commit("charge", charge, idempotent=True, retries=0)
    .step("ship", work(0))
)
approval = (
    create_workflow("approval")
    .step("ask", work(0))
    .step("answer", lambda ctx: wait("answered", timeout=1))
    .step("tell", work(0))
)
link = (
    create_workflow("link")
    .step("send", lambda ctx: ctx.data.update(link=ctx.callback_url("answered")))
    .step("answer", lambda ctx: wait("answered", timeout=3600))
)
stubborn = create_workflow("stubborn").step("pack", hold).step("ship", work(0))
