"""An order as the shop sends it, and what has to become of it. No workflow, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

APPROVAL_LIMIT: Final = 50_000
"""Orders above this total, in cents, need a person's approval."""

Trouble = Literal["", "answer_lost", "card_declined", "carrier_busy", "carrier_refuses"]


@dataclass(frozen=True)
class Item:
    """A line of an order. `price` is in cents a piece."""

    sku: str
    name: str
    quantity: int
    price: int


@dataclass(frozen=True)
class Customer:
    """Who gets the parcel and the mail."""

    name: str
    email: str


@dataclass(frozen=True)
class Order:
    """One line of orders.jsonl. `rehearse` names the trouble that the make-believe outside world has with it."""

    order_id: str
    customer: Customer
    items: list[Item]
    total: int
    rehearse: Trouble = ""


def parse(raw: object) -> Order | None:
    """The order in a line of orders.jsonl, read without the kit; None if the line holds none."""
    match raw:
        case {
            "order_id": str(order_id),
            "customer": {"name": str(name), "email": str(email)},
            "items": [*items],
            "total": int(total),
            **rest,
        }:
            troubles: tuple[Trouble, ...] = get_args(Trouble)
            trouble = next((one for one in troubles if one == rest.get("rehearse", "")), None)
            goods = [_item(item) for item in items]
            if trouble is not None and None not in goods:
                good = [item for item in goods if item is not None]
                return Order(order_id, Customer(name, email), good, total, trouble)
    return None


def _item(raw: object) -> Item | None:
    match raw:
        case {"sku": str(sku), "name": str(name), "quantity": int(quantity), "price": int(price)}:
            return Item(sku, name, quantity, price)
    return None


def problem(order: Order) -> str | None:
    """Why the shop cannot take the order; None if it can."""
    if not order.items:
        return "it has no items"
    for item in order.items:
        if item.quantity < 1:
            return f"the quantity of {item.sku} is {item.quantity}"
    due = sum(item.quantity * item.price for item in order.items)
    return None if due == order.total else f"its items cost {due} cents and its total says {order.total}"


def needs_approval(order: Order) -> bool:
    """Whether a person has to look at it before it ships."""
    return order.total > APPROVAL_LIMIT
