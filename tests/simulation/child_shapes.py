"""The shapes whose steps start other workflows: what becomes of the children is held against the crash-free run too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core import Done, InstanceRef, NonRetryable, RetryPolicy, create_workflow, flow, verify
from flux_core.load import load
from tests.simulation.kindred import members
from tests.simulation.script import HOUR, Shape, World, cancel, execute, later, pause, repair, resume, unpause

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import FluxEngine, WorkflowBuilder
    from flux_core.context import Context
    from tests.simulation.script import Verb

LATER = RetryPolicy(initial=300, maximum=HOUR / 2, jitter=False)


def _paying(world: World) -> WorkflowBuilder:
    """A child that has an effect, keeps data, and is undone where it is asked to be."""

    def charge(ctx: Context) -> object:
        ctx.data.paid = ctx.input
        return world.effect(ctx, "paid")

    def charged(ctx: Context) -> object:
        answer = world.probe(ctx)
        if isinstance(answer, Done):
            ctx.data.paid = ctx.input
        return answer

    return create_workflow("paying").commit("charge", charge, compensate=world.undo, on_unknown=verify(charged))


def _asking(world: World) -> WorkflowBuilder:
    """A child that waits after its effect."""
    return _paying(world).wait("ask", "approval").step("after", lambda ctx: ctx.data.update(answer=ctx.results["ask"]))


def _failing(world: World) -> WorkflowBuilder:
    def fail(ctx: Context) -> None:
        if not world.repaired:
            raise NonRetryable("out of stock")

    return _paying(world).step("fail", fail)


def _waited_for(world: World) -> WorkflowBuilder:
    return (
        create_workflow("parent")
        .step("before", lambda ctx: ctx.data.update(order=1))
        .child("pay", _paying(world), lambda ctx: ctx.data.order)
        .step("after", lambda ctx: ctx.results["pay"]["paid"])
    )


def _answered(world: World) -> WorkflowBuilder:
    return create_workflow("parent").child("pay", _asking(world), 7).step("after", lambda ctx: ctx.results["pay"])


def _grandchild(world: World) -> WorkflowBuilder:
    middle = create_workflow("middle").child("down", _asking(world), lambda ctx: [ctx.input, 1])
    middle.step("up", lambda ctx: ctx.data.update(got=ctx.results["down"]["answer"]))
    return create_workflow("parent").child("pay", middle, 7).step("after", lambda ctx: ctx.results["pay"])


def _fails(world: World) -> WorkflowBuilder:
    return (
        create_workflow("parent")
        .commit("first", world.effect, compensate=world.undo, on_unknown=verify(world.probe))
        .child("pay", _failing(world), 7)
        .step("after", lambda ctx: ctx.results["pay"])
    )


def _goes_on(world: World) -> WorkflowBuilder:
    """The failure of the child is an answer."""
    return (
        create_workflow("parent")
        .child("pay", _failing(world), 7, on_failure="continue")
        .step("after", lambda ctx: ctx.results["pay"]["status"])
    )


def _later(world: World) -> WorkflowBuilder:
    """The child rests until its own timer."""

    def flaky(ctx: Context) -> None:
        if ctx.attempt <= 2:
            raise RuntimeError("not yet")

    child = _paying(world).sleep("nap", HOUR).step("flaky", flaky, retry=LATER)
    return create_workflow("parent").child("pay", child, 7).step("after", lambda ctx: ctx.results["pay"])


def _cancels(on_cancel: str) -> Callable[[World], WorkflowBuilder]:
    def build(world: World) -> WorkflowBuilder:
        return (
            create_workflow("parent")
            .commit("first", world.effect, compensate=world.undo, on_unknown=verify(world.probe))
            .child("pay", _asking(world), 7, on_cancel=on_cancel)
        )

    return build


def _undone(world: World) -> WorkflowBuilder:
    """A child that has completed is undone by the parent's compensation alone."""

    def fail(ctx: Context) -> None:
        if not world.repaired:
            raise NonRetryable("out of stock")

    return (
        create_workflow("parent")
        .child("pay", _paying(world), 7, compensate=world.undo)
        .child("kept", _paying(world), 8)
        .step("fail", fail)
    )


def _mapped(world: World) -> WorkflowBuilder:
    body = flow().child("pay", _asking(world), lambda ctx: ctx.item)
    return (
        create_workflow("parent")
        .map("each", ["a", "b", "c"], body, max_concurrency=2)
        .step("after", lambda ctx: [one["paid"] for one in ctx.results["each"]])
    )


def _mapped_at_once(world: World) -> WorkflowBuilder:
    body = flow().child("pay", _paying(world), lambda ctx: ctx.item)
    return create_workflow("parent").map("each", ["a", "b", "c"], body).step("after", lambda ctx: ctx.results["each"])


def _one_fails(world: World) -> WorkflowBuilder:
    """One branch's child fails while another's waits: that one is cancelled and undone with the parent."""
    return create_workflow("parent").parallel(
        "fan", flow("left").child("ask", _asking(world), 7), flow("right").child("pay", _failing_apart(world), 7)
    )


def _failing_apart(world: World) -> WorkflowBuilder:
    def fail(ctx: Context) -> None:
        raise NonRetryable("out of stock")

    return create_workflow("failing").commit(
        "charge", world.effect, compensate=world.undo, on_unknown=verify(world.probe)
    ).step("fail", fail)  # fmt: skip


def _not_waited_for(world: World) -> WorkflowBuilder:
    return (
        create_workflow("parent")
        .child("pay", _asking(world), 7, wait=False)
        .step("after", lambda ctx: ctx.results["pay"])
    )


def _abandoned(world: World) -> WorkflowBuilder:
    """The child is not waited for, and the parent is undone without it."""

    def fail(ctx: Context) -> None:
        raise NonRetryable("out of stock")

    return create_workflow("parent").child("pay", _asking(world), 7, wait=False).step("fail", fail)


def _to_children(dedupe_id: str) -> Verb:
    """Approve whatever child waits for it; what it is told follows from the child, not from when it was begun."""

    def send(world: World, engine: FluxEngine, id: str) -> object:
        for ref, label in members(world.store, InstanceRef(engine.tenant, "parent", id)):
            state = load(world.store, ref).state
            if label and any("approval" in wait.signals for wait in state.waits.values()):
                engine.signal(ref.workflow, ref.id, "approval", ["yes", state.input], dedupe_id)
        return None

    return send


def _to_child(verb: str) -> Verb:
    """Cancel, pause or unpause the child."""

    def send(world: World, engine: FluxEngine, id: str) -> object:
        _, (ref, _), *_ = members(world.store, InstanceRef(engine.tenant, "parent", id))
        state = load(world.store, ref).state
        return None if state.terminal else getattr(engine, verb)(ref.workflow, ref.id)

    return send


CHILD_SHAPES = (
    Shape("a child waited for", _waited_for, (execute(),), "completed"),
    Shape("a child that waits itself", _answered, (execute(), _to_children("m1")), "completed"),
    Shape("a child of a child", _grandchild, (execute(), _to_children("m1")), "completed"),
    Shape("a child that fails", _fails, (execute(),), "rolled_back"),
    Shape("a child that fails, resumed", _fails, (execute(), repair, resume), "completed"),
    Shape("a child whose failure is an answer", _goes_on, (execute(),), "completed"),
    Shape("a child that takes its time", _later, (execute(), *[later(HOUR)] * 3), "completed"),
    Shape("a child paused while its parent waits", _answered,
          (execute(), _to_child("pause"), _to_children("m1"), later(HOUR), _to_child("unpause")), "completed"),
    Shape("a parent paused while its child goes on", _answered,
          (execute(), pause, _to_children("m1"), later(HOUR), unpause), "completed"),
    Shape("cancel with an open child", _cancels("cancel"), (execute(), cancel("enough")), "cancelled"),
    Shape("cancel that abandons the child", _cancels("abandon"),
          (execute(), cancel("enough"), _to_children("m1")), "cancelled"),
    Shape("a child that is cancelled", _answered, (execute(), _to_child("cancel")), "failed"),
    Shape("a saga across children", _undone, (execute(),), "rolled_back"),
    Shape("a saga across children, resumed", _undone, (execute(), repair, resume), "completed"),
    Shape("a map of children", _mapped_at_once, (execute(),), "completed"),
    Shape("a map of children that wait", _mapped,
          (execute(), _to_children("m1"), _to_children("m2")), "completed"),
    Shape("a child that fails beside one that waits", _one_fails, (execute(),), "failed",
          loose=("fan.left.ask",)),
    Shape("a child not waited for", _not_waited_for, (execute(), _to_children("m1")), "completed"),
    Shape("a child not waited for of a parent that fails", _abandoned, (execute(), _to_children("m1")), "failed"),
)  # fmt: skip
