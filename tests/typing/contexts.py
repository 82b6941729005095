"""What a handler knows of its input and data. Type checkers hold this file; nobody runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from flux_core import (
    Context,
    FlowBuilder,
    WorkflowBuilder,
    WorkflowDefinition,
    compensation,
    create_workflow,
    flow,
    verify,
)
from tests.typing.models import (
    BothData,
    Charge,
    DictData,
    DictOrder,
    GiftOrder,
    Order,
    OrderData,
    PydanticOrder,
    StructOrder,
)


def plain(ctx: Context) -> None:
    assert_type(ctx, Context[Any, Any])
    assert_type(ctx.input, Any)
    assert_type(ctx.data, Any)


def of_input(ctx: Context[Order]) -> int:
    assert_type(ctx, Context[Order, Any])
    assert_type(ctx.input, Order)
    assert_type(ctx.data, Any)
    ctx.data = {"anything": 1}
    return ctx.input.count


def of_both(ctx: Context[Order, OrderData]) -> Charge:
    assert_type(ctx.input, Order)
    assert_type(ctx.data, OrderData)
    assert_type(ctx.data.price, int)
    ctx.data.price = 3
    return ctx.data.charge


def of_keys_and_attributes(ctx: Context[Order, BothData]) -> None:
    assert_type(ctx.data.price, int)
    assert_type(ctx.data["price"], Any)
    assert_type(ctx.data.get("price"), Any | None)


async def of_a_dict(ctx: Context[DictOrder, DictData]) -> int:
    assert_type(ctx.input["sku"], str)
    assert_type(ctx.data["price"], int)
    ctx.data["price"] = 3
    return ctx.data["price"]


def of_gifts(ctx: Context[GiftOrder]) -> str:
    return ctx.input.card


def holds(ctx: Context[Order]) -> bool:
    return ctx.input.count > 0


def undo(ctx: Context[Order]) -> None: ...


class TheBuilder:
    """It knows the input and the data; every word keeps both."""

    untyped = create_workflow("w")
    assert_type(untyped, WorkflowBuilder[Any, Any])
    assert_type(untyped.step("a", plain).step("b", of_input).step("c", of_both).step("d", of_a_dict), WorkflowBuilder)

    assert_type(create_workflow("w").input(Order), WorkflowBuilder[Order, Any])
    assert_type(create_workflow("w").input(DictOrder), WorkflowBuilder[DictOrder, Any])
    assert_type(create_workflow("w").input(PydanticOrder), WorkflowBuilder[PydanticOrder, Any])
    assert_type(create_workflow("w").input(StructOrder), WorkflowBuilder[StructOrder, Any])
    assert_type(create_workflow("w").input(lambda raw: raw is not None), WorkflowBuilder[Any, Any])
    assert_type(create_workflow("w").data(OrderData), WorkflowBuilder[Any, OrderData])

    typed = create_workflow("w").input(Order).data(OrderData)
    assert_type(typed, WorkflowBuilder[Order, OrderData])
    assert_type(create_workflow("w").data(OrderData).input(Order), WorkflowBuilder[Order, OrderData])
    annotated: WorkflowBuilder[Order] = create_workflow("w").input(Order)
    loose: WorkflowBuilder = typed

    assert_type(
        typed.step("a", plain)
        .step("b", of_input, retries=2, timeout=5, when=holds, compensate=undo, give_up_on=KeyError)
        .step(
            "lambda",
            lambda ctx: ctx.input.count,
            when=lambda ctx: ctx.data.price,
        )
        .commit("c", of_both, on_unknown=verify(holds), compensate=compensation(undo, retries=1), idempotent=False)
        .wait("d", "go", when=lambda ctx: ctx.input.count > 1)
        .wait_any("e", ["go", "stop"], compensate=undo)
        .sleep("f", 5)
        .sleep("g", lambda ctx: ctx.input.count, when=holds)
        .if_("h", holds, of_input, flow().step("x", of_both))
        .switch("i", lambda ctx: ctx.input.sku, {"a": of_input}, default=of_both)
        .loop("j", lambda ctx: ctx.input.count, of_input)
        .while_("k", lambda ctx: ctx.data.price, of_both, max_iterations=3)
        .parallel("l", of_input, flow("b").step("x", of_both))
        .map("m", lambda ctx: [ctx.input.sku], of_both, max_concurrency=3)
        .map("n", "data.prices", of_input)
        .child("o", "other", lambda ctx: ctx.input, when=holds, compensate=undo),
        WorkflowBuilder[Order, OrderData],
    )
    assert_type(typed.build(), WorkflowDefinition[Order, OrderData])


@TheBuilder.typed.step
def decorated(ctx: Context[Order]) -> Charge:
    return Charge(ctx.input.sku, 5)


@TheBuilder.typed.commit("named", retries=1, when=lambda ctx: ctx.input.count)
async def named(ctx: Context[Order, OrderData]) -> int:
    return ctx.data.price


assert_type(decorated, Callable[[Context[Order, OrderData]], Charge])


class AHandlerOfABaseClass:
    """It fits a workflow whose input is more."""

    gifts = create_workflow("w").input(GiftOrder)
    assert_type(
        gifts.step("a", of_input).step("b", of_gifts, compensate=compensation(undo)), WorkflowBuilder[GiftOrder]
    )


class AFlow:
    """It is checked where it says what it is for."""

    anything = flow().step("a", of_gifts)
    assert_type(anything, FlowBuilder[Any, Any])
    gifts: FlowBuilder[GiftOrder] = flow()
    gifts.step("a", of_gifts).step("b", of_input)
    shop = create_workflow("w").input(GiftOrder).if_("a", holds, gifts, anything)
