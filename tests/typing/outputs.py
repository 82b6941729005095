"""What comes out of a step, by its handler. Type checkers hold this file; nobody runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from flux_core import Context, Directive, create_workflow, sleep, wait
from tests.typing.models import Charge, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import FluxResult
    from flux_core.testing import Run

order = create_workflow("order").input(Order)


def charge(ctx: Context[Order]) -> Charge:
    return Charge("ch_1", ctx.input.count)


async def ship(ctx: Context[Order]) -> list[str]:
    return [ctx.input.sku]


def find(ctx: Context) -> Charge | None: ...


def note(ctx: Context) -> None: ...


def approval(ctx: Context) -> Directive:
    return wait("approval")


async def nap(ctx: Context) -> Directive:
    return sleep(5)


def perhaps(ctx: Context) -> Charge | Directive:
    return wait("charge")


def anything(ctx: Context) -> Any: ...


class Shop:
    def pack(self, ctx: Context[Order]) -> int:
        return ctx.input.count


@order.step
def decorated(ctx: Context[Order]) -> Charge:
    return Charge("ch_2", 1)


@order.commit("named", retries=1)
async def named(ctx: Context[Order]) -> Charge:
    return Charge("ch_3", 1)


@order.step
def report(ctx: Context[Order]) -> int:
    assert_type(ctx.results["charge"], Any)
    assert_type(ctx.results[charge], Charge)
    assert_type(ctx.results[ship], list[str])
    assert_type(ctx.results[find], Charge | None)
    assert_type(ctx.results[note], None)
    assert_type(ctx.results[Shop().pack], int)
    assert_type(ctx.results[decorated], Charge)
    assert_type(ctx.results[named], Charge)
    assert_type(ctx.results[approval], Any)
    assert_type(ctx.results[nap], Any)
    assert_type(ctx.results[perhaps], Charge | Directive)
    assert_type(ctx.results[anything], Any)
    return ctx.results[charge].amount


def absent(ctx: Context) -> None:
    assert_type(ctx.results.get("charge"), Any)
    assert_type(ctx.results.get(charge), Charge | None)
    assert_type(ctx.results.get(ship), list[str] | None)
    assert_type(ctx.results.get(charge, Charge("none", 0)), Charge)
    assert_type(ctx.results.get(ship, 0), list[str] | int)
    assert_type(ctx.results.get(approval), Any)
    assert_type(ctx.results.get(nap, 5), Any)


def results_of_an_execution(result: FluxResult, run: Run, handler: Callable[[Context], object]) -> None:
    assert_type(result.output("charge"), Any)
    assert_type(result.output(charge), Charge)
    assert_type(result.output(ship), list[str])
    assert_type(result.output(approval), Any)
    assert_type(result.output(handler), object)
    assert_type(run.output("charge"), Any)
    assert_type(run.output("charge", Charge), Charge)
    assert_type(run.output(charge), Charge)
    assert_type(run.output(ship), list[str])
    assert_type(run.output(nap), Any)
