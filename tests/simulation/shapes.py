"""One small workflow for every shape the core has, each with the verbs that drive it to its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from flux_core import (
    Done,
    NonRetryable,
    RetryPolicy,
    Unknown,
    compensation,
    create_workflow,
    flow,
    sleep,
    sleep_until,
    verify,
    wait,
    wait_any,
)
from tests.simulation.child_shapes import CHILD_SHAPES
from tests.simulation.fork_shapes import FORK_SHAPES
from tests.simulation.script import (
    HOUR,
    Shape,
    World,
    cancel,
    deploy,
    execute,
    force_again,
    later,
    pause,
    repair,
    resume,
    retry_step,
    retry_suspended,
    settle,
    signal,
    skip_or_retry,
    unpause,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import WorkflowBuilder
    from flux_core.context import Context

AT_ONCE = RetryPolicy(initial=0.5, maximum=1, jitter=False)
LATER = RetryPolicy(initial=300, maximum=HOUR / 2, jitter=False)


def _plain(world: World) -> WorkflowBuilder:
    return (
        create_workflow("plain")
        .step("validate", world.effect)
        .step("price", lambda ctx: world.effect(ctx, 12))
        .step("report", world.effect)
    )


def _data(world: World) -> WorkflowBuilder:
    def begin(ctx: Context) -> None:
        ctx.data.lines = [{"sku": "a", "taxes": []}]
        ctx.data.total = Decimal("1.10")
        ctx.data.gone = True

    async def nested(ctx: Context) -> None:
        ctx.data.lines[0]["taxes"].append({"rate": Decimal("0.20")})
        ctx.data.at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)

    def remove(ctx: Context) -> None:
        del ctx.data["gone"]
        ctx.data.total += Decimal("0.22")
        ctx.data.lines.append({"$dec": "a dictionary that looks like a tag", "raw": b"\x00\xff"})

    return create_workflow("data").step("begin", begin).step("nested", nested).step("remove", remove)


def _outputs(world: World) -> WorkflowBuilder:
    return (
        create_workflow("outputs")
        .step("two", lambda ctx: {"n": 2, "at": datetime(2026, 1, 1, tzinfo=UTC)})
        .step("nothing", lambda ctx: None)
        .step("sum", lambda ctx: ctx.results["two"]["n"] + ctx.input["order"] + len(list(ctx.results)))
    )


def _fails_once(world: World) -> WorkflowBuilder:
    def flaky(ctx: Context) -> str:
        ctx.data.lost = "a failed attempt leaves nothing"
        if world.first("flaky", 2):
            raise RuntimeError("not yet")
        del ctx.data["lost"]
        return "at last"

    return (
        create_workflow("fails-once")
        .step("before", lambda ctx: ctx.data.update(before=1))
        .step("flaky", flaky, retry=AT_ONCE)
        .step("after", lambda ctx: ctx.data.update(after=2))
    )


def _durable_retry(world: World) -> WorkflowBuilder:
    def flaky(ctx: Context) -> int:
        if ctx.attempt <= 2:  # not by how often it was asked: attempts that died do not bring the end any nearer
            raise RuntimeError("not yet")
        return 5

    return create_workflow("durable-retry").step("flaky", flaky, retry=LATER).step("after", world.effect)


def _skips(world: World) -> WorkflowBuilder:
    async def no(ctx: Context) -> bool:
        return False

    return (
        create_workflow("skips")
        .step("never", world.effect, when=lambda ctx: False)
        .step("always", lambda ctx: ctx.data.update(ran=True), when=lambda ctx: True)
        .step("async-never", world.effect, when=no)
        .commit("no-commit", world.effect, when=no)
    )


def _commit(world: World) -> WorkflowBuilder:
    return (
        create_workflow("commit")
        .step("prepare", lambda ctx: 3)
        .commit("charge", lambda ctx: world.effect(ctx, "paid"))
        .step("after", lambda ctx: ctx.data.update(receipt=ctx.results.get("charge")))
    )


def _commit_when(world: World) -> WorkflowBuilder:
    return (
        create_workflow("commit-when")
        .step("prepare", lambda ctx: 3)
        .commit("charge", lambda ctx: world.effect(ctx, "paid"), when=lambda ctx: ctx.results["prepare"] == 3)
        .commit("gift", lambda ctx: world.effect(ctx, "sent"), when=lambda ctx: ctx.results["prepare"] == 4)
    )


def _commit_fails_once(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        if world.first("charge"):
            raise ValueError("the card is locked")
        return world.effect(ctx, "paid")

    return create_workflow("commit-fails-once").commit("charge", charge, retry=AT_ONCE).step("after", world.effect)


def _verify_done(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        answer = world.effect(ctx, "paid")
        if world.first("charge"):
            raise ConnectionResetError("the answer got lost")
        return answer

    return (
        create_workflow("verify-done")
        .commit("charge", charge, on_unknown=verify(world.probe), retry=AT_ONCE)
        .step("after", lambda ctx: ctx.results["charge"])
    )


def _verify_not_done(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        if world.first("charge"):
            raise Unknown("no idea")
        return world.effect(ctx, "paid")

    return (
        create_workflow("verify-not-done")
        .commit("charge", charge, on_unknown=verify(world.probe), retry=AT_ONCE)
        .step("after", lambda ctx: ctx.results["charge"])
    )


def _idempotent(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        answer = world.effect(ctx, "paid")
        if world.first("charge"):
            raise TimeoutError("no answer")
        return answer

    return (
        create_workflow("idempotent")
        .commit("charge", charge, idempotent=True, retry=AT_ONCE)
        .step("after", lambda ctx: ctx.results["charge"])
    )


def _doubtful(world: World) -> WorkflowBuilder:
    """The first attempt's outcome is unknown and the second is refused: the first may stand all the same."""

    def charge(ctx: Context) -> object:
        if world.first("charge"):
            world.effect(ctx, "paid")
            raise Unknown("no answer")
        raise NonRetryable("the account is closed")

    return (
        create_workflow("doubtful")
        .commit("charge", charge, on_unknown="retry", retry=AT_ONCE)
        .step("after", lambda ctx: ctx.results["charge"])
    )


def _idempotent_later(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        answer = world.effect(ctx, "paid")
        if world.first("charge"):
            raise Unknown("no answer")
        return answer

    return create_workflow("idempotent-later").commit("charge", charge, on_unknown="retry", retry=LATER)


def _never_answers(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        world.effect(ctx, "paid")
        raise Unknown("no answer")

    return create_workflow("never-answers").commit("charge", charge, on_unknown="retry", retry=LATER)


def _quarantine(name: str, *, before: bool) -> Callable[[World], WorkflowBuilder]:
    def build(world: World) -> WorkflowBuilder:
        def charge(ctx: Context) -> object:
            if before and world.first("charge"):
                raise Unknown("no idea")
            answer = world.effect(ctx, "paid")
            if not before:
                raise Unknown("no idea")
            return answer

        return (
            create_workflow(name)
            .step("prepare", lambda ctx: ctx.data.update(ready=True))
            .commit("charge", charge)
            .step("after", lambda ctx: ctx.results.get("charge", "nothing"))
        )

    return build


def _waits(name: str, *, timeout: float | None = None, default: object = ...) -> Callable[[World], WorkflowBuilder]:
    def build(world: World) -> WorkflowBuilder:
        def ask(ctx: Context) -> object:
            ctx.data.asked = True
            return wait("approval", timeout) if default is ... else wait("approval", timeout, default)

        return (
            create_workflow(name)
            .step("before", world.effect)
            .step("ask", ask)
            .step("after", lambda ctx: ctx.results["ask"])
        )

    return build


def _two_waits(world: World) -> WorkflowBuilder:
    return (
        create_workflow("early-signal")
        .step("first", lambda ctx: wait("go"))
        .step("second", lambda ctx: wait_any(("no", "approval"), timedelta(days=2)))
        .step("third", lambda ctx: wait("approval"))
    )


def _sleeps(world: World) -> WorkflowBuilder:
    return (
        create_workflow("sleeps")
        .step("nap", lambda ctx: sleep(2 * HOUR))
        .step("between", world.effect)
        .step("until", lambda ctx: sleep_until(datetime.fromtimestamp(world.clock.now() / 1000 + 3 * HOUR, UTC)))
        .step("after", world.effect)
    )


def _saga(world: World) -> WorkflowBuilder:
    def unstable(ctx: Context) -> None:
        if world.first("unstable"):
            raise RuntimeError("once more")
        world.undo(ctx)
        ctx.data.undone = "b"

    def broken(ctx: Context) -> None:
        raise RuntimeError("never")

    def fail(ctx: Context) -> None:
        raise NonRetryable("out of stock")

    return (
        create_workflow("saga")
        .step("a", world.effect, compensate=world.undo)
        .step("b", world.effect, compensate=compensation(unstable, retry=AT_ONCE))
        .step("plain", world.effect)
        .step("c", world.effect, compensate=compensation(broken, on_unknown=verify(world.probe), retry=AT_ONCE))
        .step("fail", fail)
        .step("never", world.effect)
    )


def _saga_later(world: World) -> WorkflowBuilder:
    """A compensation whose back-off is so long that the instance rests while it is rolling back."""

    def unstable(ctx: Context) -> None:
        if world.first("unstable"):
            raise RuntimeError("later")
        world.undo(ctx)

    def fail(ctx: Context) -> None:
        raise NonRetryable("out of stock")

    return (
        create_workflow("saga-later")
        .step("a", world.effect, compensate=world.undo)
        .step("b", world.effect, compensate=compensation(unstable, retry=LATER))
        .step("fail", fail)
    )


def _undo_unknown(world: World) -> WorkflowBuilder:
    """Compensations of unknown outcome: run again with the same key, or asked about."""

    def lost(ctx: Context) -> None:
        world.undo(ctx)
        if world.first("lost"):
            raise ConnectionResetError("lost")

    def asked(ctx: Context) -> None:
        world.undo(ctx)
        if world.first("asked"):
            raise Unknown("lost")

    def fail(ctx: Context) -> None:
        raise NonRetryable("no")

    return (
        create_workflow("undo-unknown")
        .step("a", world.effect, compensate=compensation(lost, retry=AT_ONCE))
        .step("b", world.effect, compensate=compensation(asked, on_unknown=verify(world.probe), retry=AT_ONCE))
        .step("fail", fail)
    )


def _refund(world: World) -> WorkflowBuilder:
    def ship(ctx: Context) -> str:
        if not world.repaired:
            raise NonRetryable("out of stock")
        return "sent"

    return (
        create_workflow("refund")
        .step("before", lambda ctx: ctx.data.update(runs=ctx.data.get("runs", 0) + 1))
        .commit("charge", lambda ctx: world.effect(ctx, "paid"), compensate=world.undo)
        .step("ship", ship)
    )


def _kept(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        ctx.data.charged = True
        return world.effect(ctx, "paid")

    def ship(ctx: Context) -> str:
        assert ctx.data.charged
        if not world.repaired:
            raise NonRetryable("out of stock")
        return "sent"

    return (
        create_workflow("kept")
        .step("before", lambda ctx: ctx.data.update(runs=ctx.data.get("runs", 0) + 1))
        .commit("charge", charge, on_unknown=verify(lambda ctx: _charged(world, ctx)))
        .commit("maybe", world.effect, when=lambda ctx: world.repaired)
        .step("ship", ship)
    )


def _charged(world: World, ctx: Context) -> object:
    answer = world.probe(ctx)
    if isinstance(answer, Done):
        ctx.data.charged = True
    return answer


def _cancels(name: str) -> Callable[[World], WorkflowBuilder]:
    def build(world: World) -> WorkflowBuilder:
        undo = world.undo if name == "cancel-saga" else None
        return (
            create_workflow(name)
            .step("a", world.effect, compensate=undo)
            .commit("charge", lambda ctx: world.effect(ctx, "paid"), compensate=undo)
            .step("ask", lambda ctx: wait("approval", 5 * HOUR))
            .step("never", world.effect)
        )

    return build


def _cancel_while_running(world: World) -> WorkflowBuilder:
    """The cancel comes from another invocation while a step runs: the owner finds it in the slot of his record."""

    def slow(ctx: Context) -> object:
        if world.first("slow"):
            world.meanwhile(lambda engine: engine.cancel("cancel-running", ctx.id, "enough"))
        return world.effect(ctx, "done")

    return (
        create_workflow("cancel-running")
        .commit("slow", slow, compensate=world.undo, on_unknown=verify(world.probe))
        .commit("charge", world.effect)
    )


def _pause_while_running(world: World) -> WorkflowBuilder:
    """The pause comes from another invocation while a step runs: the owner finds it in the slot of his record."""

    def slow(ctx: Context) -> object:
        if world.first("slow"):
            world.meanwhile(lambda engine: engine.pause("pause-running", ctx.id))
        return world.effect(ctx, "done")

    return (
        create_workflow("pause-running")
        .commit("slow", slow, on_unknown=verify(world.probe))
        .commit("charge", world.effect, on_unknown=verify(world.probe))
    )


def _time_runs_out(world: World) -> WorkflowBuilder:
    return (
        create_workflow("time-runs-out", timeout=2 * HOUR)
        .commit("charge", world.effect, compensate=world.undo, on_unknown=verify(world.probe))
        .step("ask", lambda ctx: wait("approval"))
    )


def _changed(world: World) -> WorkflowBuilder:
    return (
        create_workflow("changed")
        .step("old", world.effect)
        .commit("charge", world.effect, compensate=world.undo, on_unknown=verify(world.probe))
        .step("ask", lambda ctx: wait("approval"))
        .step("after", world.effect)
    )


def _broken_van(world: World) -> WorkflowBuilder:
    def broken(ctx: Context) -> None:
        raise NonRetryable("no van")

    return (
        create_workflow("changed")
        .step("old", world.effect)
        .commit("charge", world.effect, on_unknown=verify(world.probe))
        .step("van", broken)
    )


def _changed_since(world: World) -> WorkflowBuilder:
    """The first step is gone, one is new before what is done, two are renamed, and a commit comes at the end."""
    return (
        create_workflow("changed")
        .step("new", world.effect)
        .commit("pay", world.effect, compensate=world.undo, on_unknown=verify(world.probe), aliases="charge")
        .step("question", lambda ctx: wait("approval"), aliases="ask")
        .commit("ship", lambda ctx: world.effect(ctx, ctx.results["question"]), on_unknown=verify(world.probe))
    )


def _changed_and_broken(world: World) -> WorkflowBuilder:
    def broken(ctx: Context) -> None:
        raise NonRetryable("no van")

    return _changed_since(world).step("deliver", broken)


def _handed_over(world: World) -> WorkflowBuilder:
    builder = create_workflow("handed-over")

    def work(ctx: Context) -> int:
        world.clock.advance(4)
        ctx.data.done = [*ctx.data.get("done", []), ctx.step]
        return len(ctx.data.done)

    for number in range(7):
        builder.step(f"s{number}", work)
    return builder.commit("charge", lambda ctx: world.effect(ctx, "paid"), timeout=5)


def _slow_failure(world: World) -> WorkflowBuilder:
    """It fails in the ordinary way when too little of the invocation is left for another attempt."""

    def charge(ctx: Context) -> object:
        if world.first("charge", 2):
            world.clock.advance(8)
            raise ValueError("the card is locked")
        return world.effect(ctx, "paid")

    return (
        create_workflow("slow-failure")
        .step("before", world.effect)
        .commit("charge", charge, retries=5, timeout=9, retry=AT_ONCE, on_unknown=verify(world.probe))
        .step("after", world.effect)
    )


def _commit_waits(world: World) -> WorkflowBuilder:
    """A commit asks for something and waits for the answer; both are kept by a later retry."""

    def ask(ctx: Context) -> object:
        world.effect(ctx, "asked")
        return wait("approval")

    def after(ctx: Context) -> object:
        if not world.repaired:
            raise NonRetryable("no")
        return ctx.results["ask"]

    return create_workflow("commit-waits").commit("ask", ask, on_unknown="retry").step("after", after)


def _large(world: World) -> WorkflowBuilder:
    def large(ctx: Context) -> str:
        ctx.data[ctx.step] = f"{ctx.step}" * 9_000
        return "y" * 9_000

    return (
        create_workflow("large")
        .step("a1", large)
        .step("a2", large)
        .step("ask", lambda ctx: wait("go"))
        .step("a3", large)
        .step("a4", large)
        .step("nap", lambda ctx: sleep(HOUR))
        .commit("charge", lambda ctx: world.effect(ctx, "paid"))
        .step("a5", lambda ctx: sorted(ctx.data))
    )


# --- branches and loops ---------------------------------------------------------------------------------------


def _branch(world: World) -> WorkflowBuilder:
    def asked(ctx: Context) -> bool:
        ctx.data.asked = "what a condition writes vanishes"
        return bool(world.effect(ctx, True))

    then = (
        flow().step("note", lambda ctx: ctx.data.update(noted=1)).commit("pay", lambda ctx: world.effect(ctx, "paid"))
    )
    return (
        create_workflow("branch")
        .if_("check", asked, then.step("after", lambda ctx: ctx.results["pay"]), world.effect)
        .if_("nothing", lambda ctx: False, world.effect)
        .step("end", lambda ctx: ctx.results["check"])
    )


def _switch(world: World) -> WorkflowBuilder:
    cases = {"a": flow().step("never", world.effect), "b": flow().step("never", world.effect)}
    return (
        create_workflow("switch")
        .switch("kind", lambda ctx: "c", cases, default=flow().commit("gift", lambda ctx: world.effect(ctx, "sent")))
        .switch("other", lambda ctx: "a", {"a": lambda ctx: "one"})
    )


def _loops(world: World) -> WorkflowBuilder:
    """The second iteration fails until the world is repaired."""

    def check(ctx: Context) -> object:
        if ctx.iteration == 1 and not world.repaired:
            raise NonRetryable("out of stock")
        return (ctx.results["charge"], ctx.iteration)

    def charge(ctx: Context) -> object:
        ctx.data.charged = [*ctx.data.get("charged", []), ctx.iteration]
        return world.effect(ctx, "paid")

    def charged(ctx: Context) -> object:
        answer = world.probe(ctx)
        if isinstance(answer, Done):
            ctx.data.charged = [*ctx.data.get("charged", []), ctx.iteration]
        return answer

    body = flow().commit("charge", charge, on_unknown=verify(charged)).step("check", check)
    return create_workflow("loops").loop("each", lambda ctx: 3, body).step("end", lambda ctx: ctx.results["each"])


def _polls(world: World) -> WorkflowBuilder:
    body = flow().step("look", lambda ctx: ctx.iteration).wait("answer", "approval")
    return create_workflow("polls").while_("poll", lambda ctx: ctx.results.get("answer") != "yes", body)


def _branch_saga(world: World) -> WorkflowBuilder:
    def fail(ctx: Context) -> None:
        if ctx.iteration == 1 and not world.repaired:
            raise NonRetryable("out of stock")

    inner = flow().commit("pay", world.effect, compensate=world.undo, on_unknown=verify(world.probe))
    outer = flow().step("a", world.effect, compensate=world.undo).loop("each", 2, inner.step("fail", fail))
    return (
        create_workflow("branch-saga")
        .step("first", world.effect, compensate=world.undo)
        .if_("check", lambda ctx: True, outer)
        .step("end", world.effect)
    )


def _decides_later(world: World) -> WorkflowBuilder:
    def flaky(ctx: Context) -> bool:
        if world.first("flaky"):
            raise RuntimeError("later")
        return ctx.iteration == 0

    return create_workflow("decides-later").while_("poll", flaky, world.effect, retry=LATER)


def _loop_in_doubt(world: World) -> WorkflowBuilder:
    def charge(ctx: Context) -> object:
        answer = world.effect(ctx, "paid")
        if ctx.iteration == 1:
            raise Unknown("no idea")
        return answer

    return create_workflow("loop-in-doubt").loop("each", 3, flow().commit("charge", charge).step("after", world.effect))


def _loop_handed_over(world: World) -> WorkflowBuilder:
    def work(ctx: Context) -> int:
        world.clock.advance(4)
        ctx.data.done = [*ctx.data.get("done", []), ctx.iteration]
        return len(ctx.data.done)

    return create_workflow("loop-handed-over").loop("each", 7, flow().step("work", work).sleep("nap", 1))


def _loop_changes(world: World) -> WorkflowBuilder:
    body = flow().commit("charge", world.effect, on_unknown=verify(world.probe)).wait("ask", "approval")
    return create_workflow("loop-changes").loop("each", 2, body.step("after", world.effect)).step("end", world.effect)


def _loop_changed(world: World) -> WorkflowBuilder:
    """The loop, its commit and its wait are renamed, and a step comes in before and one behind the wait."""
    body = (
        flow().step("new", world.effect).commit("pay", world.effect, on_unknown=verify(world.probe), aliases="charge")
    )
    body.wait("question", "approval", aliases="ask").step("more", world.effect)
    return create_workflow("loop-changes").loop("every", 2, body, aliases="each").step("last", world.effect)


def _loop_large(world: World) -> WorkflowBuilder:
    def large(ctx: Context) -> str:
        ctx.data[f"{ctx.iteration}"] = "x" * 9_000
        return "y" * 9_000

    body = flow().step("large", large).sleep("nap", HOUR).if_("odd", lambda ctx: ctx.iteration % 2, world.effect)
    return create_workflow("loop-large").loop("each", 4, body).step("end", lambda ctx: sorted(ctx.data))


# --- all of them ------------------------------------------------------------------------------------------

PLAIN_SHAPES = (
    Shape("plain steps", _plain, (execute(),), "completed"),
    Shape("data writes", _data, (execute(),), "completed"),
    Shape("outputs", _outputs, (execute(),), "completed"),
    Shape("a step retried inline", _fails_once, (execute(),), "completed"),
    Shape("a durable retry", _durable_retry, (execute(), later(HOUR), later(HOUR)), "completed"),
    Shape("skipped steps", _skips, (execute(),), "completed"),
    Shape("a commit", _commit, (execute(),), "completed"),
    Shape("commits with a condition", _commit_when, (execute(),), "completed"),
    Shape("a commit that fails once", _commit_fails_once, (execute(),), "completed"),
    Shape("an unknown outcome that verify finds done", _verify_done, (execute(),), "completed"),
    Shape("an unknown outcome that verify finds not done", _verify_not_done, (execute(),), "completed"),
    Shape("an idempotent commit", _idempotent, (execute(),), "completed"),
    Shape("a refusal after an unknown outcome", _doubtful, (execute(),), "completed", stops=1),
    Shape("an idempotent commit retried later", _idempotent_later, (execute(), later(HOUR)), "completed"),
    Shape("quarantine, completed by hand", _quarantine("q-complete", before=False), (execute(),), "completed", stops=1),
    Shape("quarantine, skipped by hand", _quarantine("q-skip", before=False), (execute(),), "completed",
          skip_or_retry, stops=1),
    Shape("quarantine, retried by hand", _quarantine("q-retry", before=True), (execute(),), "completed", stops=1),
    Shape("a signal", _waits("signal"), (execute(), signal("approval", {"by": "me"}, "m1")), "completed"),
    Shape("a signal sent twice", _waits("twice"),
          (execute(), signal("approval", 1, "m1"), signal("approval", 1, "m1")), "completed"),
    Shape("early signals", _two_waits,
          (execute(), signal("approval", 1, "m1"), signal("approval", 2, "m2"), signal("go", 3, "m3")), "completed"),
    Shape("a wait that times out", _waits("times-out", timeout=HOUR), (execute(), later(HOUR + 1)), "failed"),
    Shape("a wait with a default", _waits("default", timeout=HOUR, default="no"), (execute(), later(HOUR + 1)),
          "completed"),
    Shape("a signal before the time-out", _waits("in-time", timeout=9 * HOUR),
          (execute(), signal("approval", 1, "m1")), "completed"),
    Shape("sleeps", _sleeps, (execute(), later(2 * HOUR), later(3 * HOUR)), "completed"),
    Shape("a saga with a broken compensator", _saga, (execute(),), "failed"),
    Shape("a compensation settled by hand", _saga, (execute(), settle("c", done=True)), "rolled_back"),
    Shape("a compensation left out by hand", _saga, (execute(), settle("c", done=False)), "failed"),
    Shape("a saga with a durable retry", _saga_later, (execute(), later(HOUR)), "rolled_back"),
    Shape("compensations of unknown outcome", _undo_unknown, (execute(),), "rolled_back"),
    Shape("a refund, then a retry", _refund, (execute(), repair, retry_step("ship")), "completed"),
    Shape("a retry that keeps commits", _kept, (execute(), repair, retry_step("before")), "completed"),
    Shape("a resume from the failed step", _kept, (execute(), repair, resume), "completed"),
    Shape("a retry of a suspended step", _waits("again"),
          (execute(), retry_suspended("ask"), signal("approval", 1, "m1")), "completed"),
    Shape("a commit forced to run again", _commit, (execute(), force_again("charge")), "completed"),
    Shape("cancel while suspended", _cancels("cancel"), (execute(), cancel("enough")), "cancelled"),
    Shape("cancel with compensations", _cancels("cancel-saga"), (execute(), cancel("enough")), "cancelled"),
    Shape("cancel during a durable retry", _durable_retry, (execute(), cancel()), "cancelled"),
    Shape("cancel while a step runs", _cancel_while_running, (execute(), cancel("enough")), "cancelled"),
    Shape("cancel while nobody knows the outcome", _never_answers, (execute(), cancel()), "cancelled", stops=1),
    Shape("a pause while suspended", _waits("pause"),
          (execute(), pause, signal("approval", 1, "m1"), later(HOUR), unpause), "completed"),
    Shape("a pause while a step runs", _pause_while_running, (execute(), pause, later(HOUR), unpause), "completed"),
    Shape("a pause of a durable retry", _durable_retry,
          (execute(), pause, later(HOUR), unpause, later(HOUR)), "completed"),
    Shape("a workflow whose time runs out", _time_runs_out, (execute(), later(3 * HOUR)), "rolled_back"),
    Shape("a retry after the workflow's time ran out", _time_runs_out,
          (execute(), later(3 * HOUR), resume, signal("approval", 1, "m1")), "completed"),
    Shape("a definition that changes meanwhile", _changed,
          (execute(), deploy(_changed_since), later(60), signal("approval", 1, "m1")), "completed"),
    Shape("a saga whose definition changes meanwhile", _changed,
          (execute(), deploy(_changed_and_broken), signal("approval", 1, "m1")), "rolled_back"),
    Shape("a definition that changes after the failure", _broken_van,
          (execute(), deploy(_changed_since), resume, signal("approval", 1, "m1")), "completed"),
    Shape("a commit that fails at the deadline", _slow_failure, (execute(15),), "completed", deadline=15),
    Shape("a commit that waits", _commit_waits,
          (execute(), signal("approval", {"by": "me"}, "m1"), repair, retry_step("after")), "completed"),
    Shape("hand-overs at the deadline", _handed_over, (execute(15),), "completed", deadline=15),
    Shape("snapshots", _large, (execute(), signal("go", "g", "m1"), later(HOUR)), "completed"),
    Shape("an if with a commit", _branch, (execute(),), "completed"),
    Shape("a switch with a default", _switch, (execute(),), "completed"),
    Shape("a loop resumed in its second iteration", _loops, (execute(), repair, resume), "completed"),
    Shape("a loop retried from an iteration that is done", _loops,
          (execute(), repair, retry_step("each[0].charge")), "completed"),
    Shape("a loop retried from its decision", _loops, (execute(), repair, retry_step("each")), "completed"),
    Shape("a while with a wait inside", _polls,
          (execute(), signal("approval", "no", "m1"), signal("approval", "yes", "m2")), "completed"),
    Shape("a decision that is tried again later", _decides_later, (execute(), later(HOUR)), "completed"),
    Shape("a saga out of a loop in an if", _branch_saga, (execute(),), "rolled_back"),
    Shape("a saga out of a loop in an if, resumed", _branch_saga, (execute(), repair, resume), "completed"),
    Shape("a commit in a loop that is settled by hand", _loop_in_doubt, (execute(),), "completed", stops=1),
    Shape("cancel inside a loop", _loop_changes, (execute(), cancel("enough")), "cancelled"),
    Shape("a loop whose definition changes meanwhile", _loop_changes,
          (execute(), deploy(_loop_changed), signal("approval", 1, "m1"), signal("approval", 2, "m2")), "completed"),
    Shape("a loop handed over at the deadline", _loop_handed_over,
          (execute(15), *[later(2)] * 7), "completed", deadline=15),
    Shape("a loop with snapshots", _loop_large, (execute(), *[later(HOUR)] * 4), "completed"),
    Shape("execute twice", _commit, (execute(), execute()), "completed"),
)  # fmt: skip
"""Those in which one thing comes after the other, in one instance."""
SHAPES = (*PLAIN_SHAPES, *FORK_SHAPES, *CHILD_SHAPES)
