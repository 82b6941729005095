"""The shapes whose steps run at the same time: parallels and maps, with all that may happen inside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core import Done, NonRetryable, RetryPolicy, Unknown, create_workflow, flow, verify
from tests.simulation.script import (
    HOUR,
    Shape,
    World,
    cancel,
    deploy,
    execute,
    later,
    pause,
    repair,
    resume,
    retry_step,
    signal,
    unpause,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import FlowBuilder, WorkflowBuilder
    from flux_core.context import Context

    Handler = Callable[[Context], object]

AT_ONCE = RetryPolicy(initial=0.5, maximum=1, jitter=False)
LATER = RetryPolicy(initial=300, maximum=HOUR / 2, jitter=False)


def _commit(world: World, name: str) -> FlowBuilder:
    return flow(name).commit(name, lambda ctx: world.effect(ctx, name), on_unknown=verify(world.probe))


def _undoable(world: World, name: str) -> FlowBuilder:
    return flow(name).commit(
        name, lambda ctx: world.effect(ctx, name), compensate=world.undo, on_unknown=verify(world.probe)
    )


def _fails(world: World) -> Handler:
    def fail(ctx: Context) -> None:
        if not world.repaired:
            raise NonRetryable("out of stock")

    return fail


# --- parallel -----------------------------------------------------------------------------------------------------


def _parallel(world: World) -> WorkflowBuilder:
    def note(ctx: Context) -> str:
        ctx.data[ctx.step] = [ctx.data.before, ctx.step]
        return str(ctx.step)

    pay = _commit(world, "pay").step("receipt", note)
    return (
        create_workflow("parallel")
        .step("before", lambda ctx: ctx.data.update(before=1))
        .parallel("fan", pay, _commit(world, "ship").step("label", note), note)
        .step("end", lambda ctx: ctx.results["fan"])
    )


def _waits(world: World) -> WorkflowBuilder:
    """Two branches wait for the same signal, one for a timer."""

    def answered(ctx: Context) -> object:
        ctx.data[f"{ctx.path}".replace(".", "-")] = ctx.results.get("ask", "slept")
        return ctx.results.get("ask")

    left, right = (flow(name).wait("ask", "approval").step("after", answered) for name in ("left", "right"))
    nap = flow("nap").sleep("sleep", 2 * HOUR).step("after", answered)
    return create_workflow("parallel-waits").parallel("fan", left, right, nap).step("end", world.effect)


def _wait_all(world: World) -> WorkflowBuilder:
    broken = flow("broken").step("fail", _fails(world))
    slow = _undoable(world, "slow").wait("ask", "approval").commit("more", world.effect, compensate=world.undo)
    return (
        create_workflow("wait-all")
        .step("first", world.effect, compensate=world.undo)
        .parallel("fan", _undoable(world, "pay"), broken, slow, on_error="wait_all")
        .step("end", world.effect)
    )


def _fail_fast(world: World) -> WorkflowBuilder:
    """The failure is found while two branches are under way: what of them is recorded may depend on a crash."""
    broken = flow("broken").step("fail", _fails(world))
    return (
        create_workflow("fail-fast")
        .step("first", world.effect, compensate=world.undo)
        .parallel("fan", broken, _undoable(world, "pay"), world.effect)
        .step("end", world.effect)
    )


def _retried_branch(world: World) -> WorkflowBuilder:
    waits = flow("waits").wait("ask", "approval").step("after", world.effect)
    broken = _commit(world, "broken").step("fail", _fails(world))
    return create_workflow("retried-branch").parallel("fan", broken, _commit(world, "pay"), waits, on_error="wait_all")


def _merges(world: World) -> WorkflowBuilder:
    def count(ctx: Context) -> None:
        ctx.data.total = ctx.data.get("total", 0) + len(f"{ctx.path}")
        ctx.data.lines = [*ctx.data.get("lines", []), ctx.step]

    def joined(values: list[list[str]]) -> list[str]:
        return [line for lines in values for line in lines]

    fan = [flow(name).step(name, count).step("again", count) for name in ("a", "bb", "ccc")]
    return (
        create_workflow("merges")
        .parallel("fan", *fan, merge={"total": sum, "lines": joined})
        .step("end", lambda ctx: dict(ctx.data))
    )


def _conflict(world: World) -> WorkflowBuilder:
    def write(ctx: Context) -> None:
        ctx.data.total = world.effect(ctx, 1)

    left, right = (flow(name).step("write", write, compensate=world.undo) for name in ("left", "right"))
    return create_workflow("conflict").parallel("fan", left, right)


def _durable(world: World) -> WorkflowBuilder:
    """One branch is tried again later, others at once or not at all."""

    def flaky(ctx: Context) -> int:
        if ctx.attempt <= 2:
            raise RuntimeError("not yet")
        return ctx.attempt

    late = flow("late").step("flaky", flaky, retry=LATER)
    soon = flow("soon").step("flaky", flaky, retry=AT_ONCE).commit("pay", world.effect, on_unknown=verify(world.probe))
    return create_workflow("durable").parallel("fan", late, soon, world.effect).step("end", world.effect)


def _in_doubt(world: World) -> WorkflowBuilder:
    """Nobody knows the outcome of one branch's commit, and an operator settles it by hand."""

    def charge(ctx: Context) -> object:
        world.effect(ctx, "paid")
        raise Unknown("no idea")

    pay = flow("pay").commit("charge", charge).step("after", lambda ctx: ctx.results["charge"])
    return create_workflow("in-doubt").parallel("fan", pay, _commit(world, "ship")).step("end", world.effect)


def _cancelled(world: World) -> WorkflowBuilder:
    waits = flow("waits").step("before", world.effect, compensate=world.undo).wait("ask", "approval")
    return create_workflow("cancelled").parallel("fan", _undoable(world, "pay"), waits).step("end", world.effect)


def _cancelled_meanwhile(world: World) -> WorkflowBuilder:
    """The cancel comes while two branches run."""

    def slow(ctx: Context) -> object:
        if world.first("slow"):
            world.meanwhile(lambda engine: engine.cancel("cancelled-meanwhile", ctx.id, "enough"))
        return world.effect(ctx, "done")

    busy = flow("busy").commit("slow", slow, compensate=world.undo, on_unknown=verify(world.probe))
    more = _undoable(world, "pay").commit("never", world.effect, on_unknown=verify(world.probe))
    return create_workflow("cancelled-meanwhile").parallel("fan", more, busy.commit("never", world.effect))


def _changes(world: World) -> WorkflowBuilder:
    left = _commit(world, "left").wait("ask", "approval").step("after", world.effect)
    right = flow("right").step("do", world.effect).wait("ask", "go")
    return create_workflow("parallel-changes").parallel("fan", left, right).step("end", world.effect)


def _changed(world: World) -> WorkflowBuilder:
    """A commit and a wait are renamed, and steps come in before and behind the wait."""
    left = flow("left").commit(
        "pay", lambda ctx: world.effect(ctx, "left"), on_unknown=verify(world.probe), aliases="left"
    )
    left.step("new", world.effect).wait("question", "approval", aliases="ask").step("after", world.effect)
    right = flow("right").step("do", world.effect).wait("ask", "go").step("more", world.effect)
    return create_workflow("parallel-changes").parallel("fan", left, right).step("last", world.effect)


# --- map ----------------------------------------------------------------------------------------------------------


def _map(world: World) -> WorkflowBuilder:
    def pack(ctx: Context) -> object:
        ctx.data[ctx.item] = ctx.iteration
        return (ctx.item, ctx.results["charge"])

    body = flow().commit("charge", lambda ctx: world.effect(ctx, ctx.item * 2), on_unknown=verify(world.probe))
    return (
        create_workflow("map")
        .map("each", ["a", "b", "c"], body.step("pack", pack), max_concurrency=2)
        .step("end", lambda ctx: ctx.results["each"])
    )


def _map_saga(world: World) -> WorkflowBuilder:
    """All items have come through when the workflow fails: what each has written is there when they are undone."""

    def charge(ctx: Context) -> object:
        ctx.data[f"charged-{ctx.item}"] = ctx.item
        return world.effect(ctx, ctx.item)

    def charged(ctx: Context) -> object:
        answer = world.probe(ctx)
        if isinstance(answer, Done):
            ctx.data[f"charged-{ctx.item}"] = ctx.item
        return answer

    def refund(ctx: Context) -> None:
        world.undo(ctx)
        ctx.data.refunded = [*ctx.data.get("refunded", []), ctx.data[f"charged-{ctx.item}"]]

    body = flow().commit("charge", charge, compensate=refund, on_unknown=verify(charged))
    return create_workflow("map-saga").map("each", ["a", "b", "c"], body, max_concurrency=1).step("fail", _fails(world))


def _map_fails_inside(world: World) -> WorkflowBuilder:
    """One item fails behind its own commit: a compensator sees what its item has written, and nobody else's."""

    def charge(ctx: Context) -> object:
        ctx.data.charged = ctx.item
        return world.effect(ctx, ctx.item)

    def charged(ctx: Context) -> object:
        answer = world.probe(ctx)
        if isinstance(answer, Done):
            ctx.data.charged = ctx.item
        return answer

    def refund(ctx: Context) -> None:
        assert ctx.data.charged == ctx.item
        world.undo(ctx)

    def check(ctx: Context) -> None:
        if ctx.item == "b" and not world.repaired:
            raise NonRetryable("out of stock")

    body = flow().commit("charge", charge, compensate=refund, on_unknown=verify(charged)).step("check", check)
    merge = {"charged": sorted}
    return create_workflow("map-fails").map("each", ["a", "b", "c"], body, on_error="wait_all", merge=merge)


def _map_in_loop(world: World) -> WorkflowBuilder:
    def note(ctx: Context) -> object:
        ctx.data[f"{ctx.item}"] = [*ctx.data.get(f"{ctx.item}", []), len(ctx.data.get("rounds", []))]
        return world.effect(ctx, ctx.item)

    body = flow().map("each", lambda ctx: [ctx.iteration, "x"], note)
    body.step("round", lambda ctx: ctx.data.update(rounds=[*ctx.data.get("rounds", []), ctx.results["each"]]))
    return create_workflow("map-in-loop").loop("twice", 2, body)


def _loop_in_map(world: World) -> WorkflowBuilder:
    body = flow().loop("times", lambda ctx: ctx.item, flow().step("work", world.effect).wait("ask", "go"))
    return create_workflow("loop-in-map").map("each", [1, 2, 0], body).step("end", world.effect)


def _map_handed_over(world: World) -> WorkflowBuilder:
    def work(ctx: Context) -> int:
        world.clock.advance(4)
        ctx.data[f"{ctx.item}"] = ctx.item
        return int(ctx.item)

    body = (
        flow()
        .step("work", work)
        .commit("pay", lambda ctx: world.effect(ctx, "paid"), timeout=5, on_unknown=verify(world.probe))
    )
    return create_workflow("map-handed-over").map("each", list(range(4)), body, max_concurrency=2)


def _map_large(world: World) -> WorkflowBuilder:
    def large(ctx: Context) -> str:
        ctx.data[f"{ctx.item}"] = "x" * 9_000
        return "y" * 9_000

    body = flow().step("large", large).wait("ask", "go").step("more", world.effect)
    return create_workflow("map-large").map("each", [0, 1, 2], body).step("end", lambda ctx: sorted(ctx.data))


FORK_SHAPES = (
    Shape("a parallel with commits", _parallel, (execute(),), "completed"),
    Shape("a parallel whose branches wait for one signal and a timer", _waits,
          (execute(), signal("approval", 1, "m1"), later(2 * HOUR), signal("approval", 2, "m2")), "completed"),
    Shape("a parallel paused while its branches wait", _waits,
          (execute(), pause, signal("approval", 1, "m1"), later(2 * HOUR), unpause, signal("approval", 2, "m2")),
          "completed"),
    Shape("a failure held back until all branches have ended", _wait_all,
          (execute(), signal("approval", 1, "m1")), "rolled_back"),
    Shape("a failure while other branches are under way", _fail_fast, (execute(),), "rolled_back",
          loose=("fan.pay.pay", "fan.effect.effect")),
    Shape("a failure while other branches are under way, resumed", _fail_fast,
          (execute(), repair, resume), "completed", loose=("fan.pay.pay", "fan.effect.effect")),
    Shape("a retry of one branch", _retried_branch,
          (execute(), signal("approval", 1, "m1"), repair, retry_step("fan.broken.fail")), "completed"),
    Shape("a resume of the branch that failed", _retried_branch,
          (execute(), signal("approval", 1, "m1"), repair, resume), "completed"),
    Shape("branches that write the same, merged", _merges, (execute(),), "completed"),
    Shape("branches that write the same", _conflict, (execute(),), "rolled_back"),
    Shape("a branch retried later", _durable, (execute(), later(HOUR), later(HOUR)), "completed"),
    Shape("a branch settled by hand", _in_doubt, (execute(),), "completed", stops=1),
    Shape("cancel inside a parallel", _cancelled, (execute(), cancel("enough")), "cancelled"),
    Shape("cancel while two branches run", _cancelled_meanwhile, (execute(), cancel("enough")), "cancelled",
          loose=("fan.pay.pay", "fan.pay.never", "fan.busy.slow")),
    Shape("a parallel whose definition changes meanwhile", _changes,
          (execute(), deploy(_changed), signal("go", 1, "m1"), signal("approval", 1, "m2")), "completed"),
    Shape("a map with commits", _map, (execute(),), "completed"),
    Shape("a saga across a map", _map_saga, (execute(),), "rolled_back"),
    Shape("a saga across a map, resumed", _map_saga, (execute(), repair, resume), "completed"),
    Shape("a map of which one item fails", _map_fails_inside, (execute(),), "rolled_back"),
    Shape("a map of which one item fails, resumed", _map_fails_inside, (execute(), repair, resume), "completed"),
    Shape("a map in a loop", _map_in_loop, (execute(),), "completed"),
    Shape("a loop with waits in a map", _loop_in_map,
          (execute(), *(signal("go", n, f"m{n}") for n in range(3))), "completed"),
    Shape("a map handed over at the deadline", _map_handed_over, (execute(15),), "completed", deadline=15),
    Shape("a map with snapshots", _map_large,
          (execute(), *(signal("go", n, f"m{n}") for n in range(3))), "completed"),
)  # fmt: skip
