"""Handlers whose annotations are evaluated, as in a file without `from __future__ import annotations`."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Optional, TypedDict

import msgspec
import pydantic

from flux_core import Context, FlowBuilder, WorkflowBuilder, create_workflow, flow, wait


@dataclass
class Order:
    sku: str


class Colour(Enum):
    RED = "red"


@dataclass
class Charge:
    id: str
    colour: Colour = Colour.RED


class Place(NamedTuple):
    shelf: int


class Parcel(pydantic.BaseModel):
    weight: int


class Label(msgspec.Struct):
    text: str


class Note(TypedDict):
    by: Place


@dataclass
class Stamp:
    value: int


class OrderData:
    stamp: Stamp


def charge(ctx: Context[Order, OrderData]) -> Charge:
    ctx.data.stamp = Stamp(3)
    return Charge("ch_1")


async def parcels(ctx: Context) -> list[Parcel]:
    return [Parcel(weight=3)]


def label(ctx: Context) -> Optional["Label"]:
    return Label("a-1")


def note(ctx: Context) -> Note:
    return {"by": Place(7)}


def look(ctx: Context[Order]) -> list[object]:
    return [ctx.results[charge], ctx.results[parcels], ctx.results[label], ctx.results[note], ctx.data.stamp]


def order() -> WorkflowBuilder[Order, OrderData]:
    """All of them, with a wait in the middle."""
    return (
        create_workflow("order")
        .input(Order)
        .data(OrderData)
        .step("charge", charge)
        .step("parcels", parcels)
        .step("label", label)
        .step("note", note)
        .step("wait", lambda ctx: wait("go"))
        .step("look", look)
    )


def inside() -> FlowBuilder[Order]:
    return flow()


def later(ctx: Context) -> Awaitable[Charge]:
    raise NotImplementedError


def logged(function: Callable[[Context], object]) -> Callable[[Context], object]:
    """A decorator of another module than the handlers it is put over."""

    @functools.wraps(function)
    def wrapped(ctx: Context) -> object:
        return function(ctx)

    return wrapped
