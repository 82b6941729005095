"""The workflows that the functions of the tests run. What they do outside is a line in the file `FLUX_TEST_EFFECTS`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flux_core import create_workflow, sleep, wait

if TYPE_CHECKING:
    from flux_core import Context


def effect(text: str) -> None:
    """One line at the end of the file, whole however many processes write."""
    file = os.open(os.environ["FLUX_TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{text}\n".encode())
    finally:
        os.close(file)


def approval(ctx: Context) -> object:
    return wait("approved", timeout=3600)


def ship(ctx: Context) -> str:
    effect(f"ship {ctx.id}")
    ctx.log.warn("shipping")
    return "shipped"


order = create_workflow("order").step("approval", approval).commit("ship", ship, idempotent=True)


def link(ctx: Context) -> object:
    effect(f"link {ctx.callback_url('answer')}")
    return wait("answer", timeout=3600)


asking = create_workflow("asking").step("ask", link).step("done", lambda ctx: effect(f"answered {ctx.results['ask']}"))


def one(ctx: Context) -> None:
    effect(f"{ctx.id} {ctx.step}")
    time.sleep(float(os.environ.get("FLUX_TEST_STEP", "0.25")))


long = create_workflow("long")
for number in range(40):
    long = long.step(f"s{number}", one)


def hang(ctx: Context) -> None:
    """The first attempt never ends; it is the process that does."""
    effect(f"hang {ctx.id}")
    with open(os.environ["FLUX_TEST_EFFECTS"], encoding="utf-8") as file:  # noqa: PTH123 -- opened as it is written
        first = file.read().count(f"hang {ctx.id}\n") == 1
    if first:
        time.sleep(300)


dying = create_workflow("dying").step("hang", hang, timeout=None).step("after", lambda ctx: effect(f"after {ctx.id}"))


def fragile(ctx: Context) -> str:
    if "repaired" not in ctx.data:
        message = "broken"
        raise ValueError(message)
    return "well"


repair = create_workflow("repair").step("first", lambda ctx: effect("first")).step("second", fragile, retries=0)


def nap(ctx: Context) -> object:
    return sleep(float(ctx.input["seconds"]))


timer = create_workflow("timer").step("nap", nap).step("after", lambda ctx: effect(f"rang {ctx.id}"))


def busy(ctx: Context) -> None:
    effect(f"busy {ctx.id}")
    time.sleep(1.0)


slow = create_workflow("slow").step("busy", busy)


def meet(ctx: Context) -> None:
    """Wait until all are here: in one process at a time, or never."""
    effect(f"meets {ctx.id} {os.getpid()}")
    name = os.environ["FLUX_TEST_EFFECTS"]
    while True:
        with open(name, encoding="utf-8") as file:  # noqa: PTH123 -- opened as it is written
            if file.read().count("meets ") >= ctx.input["of"]:
                return
        time.sleep(0.02)


meeting = create_workflow("meeting").step("meet", meet)

stubborn = create_workflow("stubborn").step("sleep", lambda ctx: time.sleep(60), timeout=0.3, retries=0)

ALL = (order, asking, long, dying, repair, timer, slow, meeting, stubborn)
