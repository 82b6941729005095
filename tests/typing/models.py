"""Models of every kind that `.input(...)` takes, for the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypedDict

import msgspec
import pydantic

from flux_core import Data


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Order:
    sku: str
    count: int = 1


@dataclass(frozen=True)
class GiftOrder(Order):
    card: str = ""


@dataclass(frozen=True)
class Parcel:
    weight: float


@dataclass(frozen=True)
class Charge:
    id: str
    amount: int


class DictOrder(TypedDict):
    sku: str


class PydanticOrder(pydantic.BaseModel):
    sku: str


class StructOrder(msgspec.Struct):
    sku: str


class OrderData:
    """Attributes for type checkers; at run time `ctx.data` is the dictionary it always is."""

    price: int
    charge: Charge


class BothData(Data):
    """Attributes, and keys beside them; attributes that are not listed are `Any`."""

    price: int


class DictData(TypedDict):
    price: int
