"""Runs of every shape the core has, for tests that look at records and decisions rather than at one behaviour."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from flux_core import (
    NOT_DONE,
    Context,
    Done,
    NonRetryable,
    RetryPolicy,
    Unknown,
    compensation,
    create_workflow,
    flow,
    sleep,
    verify,
    wait,
    wait_any,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

DURABLE = RetryPolicy(60, maximum=60, jitter=False)


def boom(ctx: Context) -> None:
    message = "boom"
    raise NonRetryable(message)


def unknown(ctx: Context) -> None:
    raise Unknown


def once(ctx: Context) -> str:
    ctx.data["attempt"] = {"n": (ctx.attempt,)}
    if ctx.attempt == 1:
        raise OSError
    return "ok"


def completes(lab: Lab) -> None:
    w = create_workflow("order").step("a", once).commit("b", once, when=lambda ctx: True)
    w.step("c", lab.note("c"), when=lambda ctx: False).step("d", lambda ctx: ctx.data.pop("attempt") and None)
    lab.engine().execute(w, {"n": (1, 2)}, "o-1")


def waits(lab: Lab) -> None:
    w = create_workflow("order").step("a", lambda ctx: wait("go", timeout=60, on_timeout=(1, 2)))
    w.step("b", lambda ctx: wait_any(["go", "on"])).step("c", lambda ctx: sleep(60)).step("d", lambda ctx: wait("x", 5))
    lab.engine().execute(w, None, "o-1")
    lab.clock.advance(60)
    lab.engine().signal(w, "o-1", "other")
    lab.engine().signal(w, "o-1", "on", (b"x", 1))
    lab.engine().wake(w, "o-1")
    lab.clock.advance(60)
    lab.engine().wake(w, "o-1")
    lab.clock.advance(60)
    lab.engine().wake(w, "o-1")


def is_undone(lab: Lab) -> None:
    w = create_workflow("order").step("a", lab.note("a", (1,)), compensate=compensation(once, retry=DURABLE))
    w.commit("b", lab.note("b"), compensate=compensation(boom)).step("c", once, retry=DURABLE).step("d", boom)
    lab.engine().execute(w, None, "o-1")
    for _ in range(3):
        lab.clock.advance(60)
        lab.engine().wake(w, "o-1")
    lab.engine().skip_step(w, "o-1", "b", who="ann", why="so")
    lab.engine().retry_step(w, "o-1", "d")


def is_cancelled(lab: Lab) -> None:
    w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1), compensate=lab.note("undo"))
    w.step("b", lambda ctx: wait("go"))
    lab.engine().execute(w, None, "o-1")
    lab.engine().cancel(w, "o-1", "why", who="ann")
    lab.engine().retry_step(w, "o-1", "b", force=True)


def is_paused(lab: Lab) -> None:
    """While a step runs, and taken back; while it runs, in a back-off, and while it waits; until its time is over."""

    def busy(ctx: Context) -> None:
        lab.engine().pause(w, "o-1", who="ann", why="look at it")
        if ctx.attempt == 1:
            lab.engine().unpause(w, "o-1", who="ann")
            raise OSError

    w = create_workflow("order", timeout=3600).step("a", busy, retry=RetryPolicy(1, jitter=False))
    w.step("b", lambda ctx: wait("go"))
    lab.engine().execute(w, None, "o-1")
    lab.engine().unpause(w, "o-1")
    lab.engine().pause(w, "o-1")
    lab.clock.advance(7200)
    lab.engine().unpause(w, "o-1")
    lab.engine().retry_step(w, "o-1", "b", data={"more": (1,)}, who="ann", why="once more")


def is_in_doubt(lab: Lab) -> None:
    answers = iter([NOT_DONE, None, Done((1, 2))])
    w = create_workflow("order").commit("a", unknown, on_unknown=verify(lambda ctx: next(answers)))
    w.commit("b", unknown).commit("c", once, idempotent=True)
    lab.engine().execute(w, None, "o-1")
    lab.engine().complete_step(w, "o-1", "a", {"by": "hand"})
    lab.engine().retry_step(w, "o-1", "b")
    lab.engine().skip_step(w, "o-1", "b")
    lab.engine().retry_step(w, "o-1", "a", force=True)


def hands_over(lab: Lab) -> None:
    w = create_workflow("order").step("a", lambda ctx: lab.clock.advance(20)).step("b", lab.note("b"))
    lab.engine().execute(w, None, "o-1", deadline=10)
    lab.engine().wake(w, "o-1")


def is_blocked(lab: Lab) -> None:
    w = create_workflow("order").step("a", lambda ctx: wait("go"))
    lab.engine().execute(w, None, "o-1")
    lab.engine().wake(create_workflow("order").step("b", lab.note("b")), "o-1")
    lab.engine().signal(w, "o-1", "go")


def is_adopted(lab: Lab) -> None:
    """Renamed, with a new step before what is done, and without a later one: by a tick, then by a verb."""

    def flaky(ctx: Context) -> None:
        raise OSError

    w = create_workflow("order", timeout=9000).step("a", lambda ctx: ctx.data.update(x=1), compensate=lab.note("undo"))
    w.commit("b", flaky, idempotent=True, retry=DURABLE).step("c", lab.note("c"))
    lab.engine().execute(w, None, "o-1")
    changed = (
        create_workflow("order").step("new", lab.note("new")).step("a", lab.note("a"), compensate=lab.note("undo"))
    )
    changed.commit("bb", boom, idempotent=True, aliases="b")
    lab.clock.advance(60)
    lab.engine().wake(changed, "o-1")
    again = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo")).commit("bb", lab.note("bb"))
    lab.engine().retry_step(again.step("last", lab.note("last")), "o-1", "bb")


def branches(lab: Lab) -> None:
    """An if, a switch and both loops; a step in one fails, is retried, and the definition changes inside of one."""

    def body() -> Any:
        inner = flow().commit("pay", lab.note("pay")).step("x", once, retry=DURABLE)
        return inner.switch("kind", lambda ctx: "gold", {"gold": lab.note("gift", (1,))}, default=lab.note("none"))

    def fetch(ctx: Context) -> object:
        if ctx.iteration == 1 and lab.calls.count("fetch") == 1:
            lab.calls.append("fetch")
            raise NonRetryable
        lab.calls.append("fetch")
        return wait("go", 60, ctx.iteration)

    w = create_workflow("order").if_("check", lambda ctx: True, body(), lab.note("no"))
    w.loop("poll", 3, flow().step("fetch", fetch)).while_("more", lambda ctx: ctx.iteration < 2, lab.note("more"))
    lab.engine().execute(w, None, "o-1")
    for _ in range(2):
        lab.clock.advance(60)
        lab.engine().wake(w, "o-1")
    lab.engine().retry_step(w, "o-1", "poll[1].fetch", who="ann")
    changed = create_workflow("order").if_("check", lambda ctx: True, body(), lab.note("no"))
    changed.loop("ask", 3, flow().step("new", lab.note("new")).step("get", fetch, aliases="fetch"), aliases="poll")
    changed.while_("more", lambda ctx: ctx.iteration < 2, lab.note("more"))
    lab.engine().signal(changed, "o-1", "go", (1, 2))
    lab.engine().skip_step(changed, "o-1", "ask[2].get")


def forks(lab: Lab) -> None:
    """Branches and items that wait, fail, contradict each other and go on."""

    def flaky(ctx: Context) -> int:
        ctx.data["k"] = [ctx.iteration]
        if ctx.attempt == 1 and ctx.item == "b":
            raise ValueError
        return ctx.iteration

    def merged(values: list[Any]) -> object:
        if lab.calls.count("merged") == 0:
            lab.calls.append("merged")
            raise ValueError
        return values

    w = create_workflow("order").parallel(
        "fan",
        flow("a").step("x", lab.note("x"), compensate=lab.note("undo")).wait("ask", "go"),
        flow("b").map("ship", ["a", "b", "c"], flaky, max_concurrency=2, merge={"k": merged}),
        flow("c").wait("late", "never", timeout=60),
        on_error="wait_all",
    )
    engine = lab.engine()
    engine.execute(w, None, "o-1")
    engine.signal(w, "o-1", "go")
    lab.clock.advance(61)
    engine.wake(w, "o-1")
    engine.retry_step(w, "o-1", "fan.c.late")
    engine.complete_step(w, "o-1", "fan.c.late")


def has_a_child(lab: Lab) -> None:
    """A child is waited for, cancelled with its parent, and found by a sweep after its end."""
    ship = create_workflow("ship").step("label", lab.note("label")).wait("van", "go")
    w = create_workflow("order").child("ship", ship, {"sku": 1}).step("after", lab.note("after"))
    engine = lab.engine()
    engine.execute(w, None, "o-1")
    engine.execute(w, None, "o-2")
    engine.cancel(w, "o-2")
    (child,) = [item.id for item in engine.list("ship", status="suspended").items]
    engine.signal("ship", child, "go")
    engine.wake("ship", child)


def dies(lab: Lab) -> None:
    w = create_workflow("order").commit("a", once, idempotent=True).step("b", lab.die)
    for _ in range(6):
        try:
            lab.engine().execute(w, None, "o-1")
        except BaseException as error:
            if type(error).__name__ != "Killed":
                raise
        lab.past_the_lease()
    lab.engine().skip_step(w, "o-1", "b")


def is_interrupted(lab: Lab) -> None:
    """Ctrl-C in a commit, then in the step after it; each time somebody goes on at once."""

    def ctrl_c(ctx: Context) -> None:
        if lab.calls.count(f"{ctx.step}") == 0:
            lab.calls.append(f"{ctx.step}")
            raise KeyboardInterrupt

    w = create_workflow("order").commit("charge", ctrl_c, idempotent=True).step("ship", ctrl_c)
    with suppress(KeyboardInterrupt):
        lab.engine().execute(w, None, "o-1")
    with suppress(KeyboardInterrupt):
        lab.engine().wake(w, "o-1")
    lab.engine().wake(w, "o-1")


def has_a_picky_definition(lab: Lab) -> None:
    def strict(raw: Any) -> Any:
        message = "no longer accepted"
        raise ValueError(message)

    lab.engine().execute(create_workflow("order").step("a", lambda ctx: wait("go")).step("b", lab.note("b")), 5, "o-1")
    w = create_workflow("order").input(strict).step("a", lambda ctx: wait("go")).step("b", lab.note("b"))
    lab.engine().signal(w, "o-1", "go")


STORIES: Final[dict[str, Callable[[Lab], None]]] = {
    story.__name__: story
    for story in (
        completes,
        waits,
        is_undone,
        is_cancelled,
        is_paused,
        is_in_doubt,
        hands_over,
        is_blocked,
        is_adopted,
        branches,
        forks,
        has_a_child,
        dies,
        has_a_picky_definition,
        is_interrupted,
    )
}
