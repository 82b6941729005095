"""What type checkers must report. Each mark is an error of that kind on its line; `test_types.py` takes them away.

A mark without its error is reported too (`unused-ignore`), so the ordinary run of mypy holds this file as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core import Context, FlowBuilder, FluxEngine, WorkflowBuilder, compensation, create_workflow, flow, verify
from tests.typing.contexts import holds, of_both, of_gifts, of_input, plain
from tests.typing.models import Charge, DictData, Order, OrderData, Parcel
from tests.typing.outputs import charge, find, order, perhaps

if TYPE_CHECKING:
    from flux_core.testing import FluxTest


def of_a_parcel(ctx: Context[Parcel]) -> float:
    return ctx.input.weight


def of_other_data(ctx: Context[Order, DictData]) -> int:
    return ctx.data["price"]


parcels: FlowBuilder[Parcel] = flow()
typed = create_workflow("w").input(Order).data(OrderData)


def a_handler_that_does_not_fit() -> None:
    typed.step("a", of_a_parcel)  # type: ignore[arg-type]
    typed.commit("a", of_a_parcel)  # type: ignore[arg-type]
    typed.step("a", of_gifts)  # type: ignore[arg-type]
    typed.step("a", of_other_data)  # type: ignore[arg-type]
    typed.step("a", of_both).step("b", plain).commit("c", of_a_parcel, retries=3)  # type: ignore[arg-type]
    typed.step("a", lambda ctx: ctx.input.weight)  # type: ignore[attr-defined]
    typed.step("a", lambda ctx: ctx.data.weight)  # type: ignore[attr-defined]


def a_decorated_one() -> None:
    @typed.step  # type: ignore[arg-type]
    def bare(ctx: Context[Parcel]) -> None: ...

    @typed.commit("named", retries=1)  # type: ignore[arg-type]
    async def named(ctx: Context[Parcel]) -> None: ...


def one_in_an_option() -> None:
    typed.step("a", plain, when=of_a_parcel)  # type: ignore[arg-type]
    typed.step("a", plain, compensate=of_a_parcel)  # type: ignore[arg-type]
    typed.step("a", plain, compensate=compensation(of_a_parcel))  # type: ignore[arg-type]
    typed.commit("a", plain, on_unknown=verify(of_a_parcel))  # type: ignore[arg-type]
    typed.wait("a", "go", when=of_a_parcel)  # type: ignore[arg-type]
    typed.sleep("a", lambda ctx: ctx.input.weight)  # type: ignore[attr-defined]


def one_inside() -> None:
    typed.if_("a", of_a_parcel, plain)  # type: ignore[arg-type]
    typed.if_("a", plain, of_a_parcel)  # type: ignore[arg-type]
    typed.if_("a", plain, plain, of_a_parcel)  # type: ignore[arg-type]
    typed.if_("a", plain, parcels)  # type: ignore[arg-type]
    typed.switch("a", plain, {"a": of_a_parcel})  # type: ignore[dict-item]
    typed.loop("a", 3, of_a_parcel)  # type: ignore[arg-type]
    typed.while_("a", of_a_parcel, plain)  # type: ignore[arg-type]
    typed.parallel("a", plain, of_a_parcel)  # type: ignore[arg-type]
    typed.map("a", of_a_parcel, plain)  # type: ignore[arg-type]
    typed.map("a", [1], of_a_parcel)  # type: ignore[arg-type]
    typed.map("a", lambda ctx: ctx.input.weight, plain)  # type: ignore[attr-defined]
    typed.child("a", "other", compensate=of_a_parcel)  # type: ignore[arg-type]
    parcels.step("a", of_input)  # type: ignore[arg-type]


def an_option_that_is_none() -> None:
    typed.step("a", plain, retires=3)  # type: ignore[call-overload]
    typed.step("a", plain, retries="3")  # type: ignore[call-overload]
    typed.step("a", plain, idempotent=True)  # type: ignore[call-overload]


def an_input_that_does_not_fit(engine: FluxEngine, flux: FluxTest) -> None:
    engine.execute(typed, Parcel(3))  # type: ignore[misc]
    engine.execute(typed, "a-1")  # type: ignore[misc]
    engine.execute(typed, None)  # type: ignore[arg-type]
    engine.execute(typed)  # type: ignore[arg-type]
    engine.execute(typed.build(), Parcel(3))  # type: ignore[misc]
    engine.execute_batch(typed, [Parcel(3)])  # type: ignore[misc]
    engine.instance(typed, "o-1").execute(Parcel(3))  # type: ignore[arg-type]
    engine.instance(typed, "o-1").execute()  # type: ignore[call-arg]
    _ = engine.aio.execute(typed, Parcel(3))  # type: ignore[misc]
    _ = engine.aio.instance(typed, "o-1").execute(Parcel(3))  # type: ignore[arg-type]
    flux.execute(typed, Parcel(3))  # type: ignore[misc]


def a_use_of_an_output_that_does_not_fit(ctx: Context[Order, OrderData], engine: FluxEngine) -> None:
    _ = ctx.results[charge].weight  # type: ignore[attr-defined]
    _ = ctx.results[find].amount  # type: ignore[union-attr]
    _ = ctx.results[perhaps].amount  # type: ignore[union-attr]
    _ = ctx.results[5]  # type: ignore[call-overload]
    amount: str = engine.execute(order, Order("a-1")).output(charge).amount  # type: ignore[assignment]
    _ = ctx.input.weight  # type: ignore[attr-defined]
    _ = ctx.data.weight  # type: ignore[attr-defined]
    ctx.data.charge = Charge  # type: ignore[assignment]
    ctx.input = Order(amount)  # type: ignore[misc]


def a_builder_of_another_input() -> None:
    parcel: WorkflowBuilder[Parcel] = typed.step("a", holds)  # type: ignore[assignment]
    _ = parcel
