"""Writes orders.jsonl, the same 240 orders every time: `python -m examples.order_fulfilment.make_orders`."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Final

from examples.order_fulfilment.orders import APPROVAL_LIMIT

ORDERS: Final = 240
_FIRST = 1001
_PEOPLE = (
    "Ada Okafor", "Bruno Lind", "Chiara Conti", "Dmitri Orlov", "Elif Kaya", "Femke de Vries", "Goran Babic",
    "Hana Sato", "Ines Moreau", "Jonas Weber", "Katya Ivanova",
    "Liam Byrne", "Mei Chen", "Noor Haddad", "Olga Nowak", "Pablo Ruiz",
)  # fmt: skip
_GOODS = (
    ("KB-75", "Mechanical keyboard", 8900), ("MS-02", "Wireless mouse", 3450), ("HD-4T", "External disk 4 TB", 11900),
    ("CB-C2", "USB-C cable", 1290), ("ST-AL", "Laptop stand", 4200), ("HP-NC", "Headphones", 15900),
    ("LP-DK", "Desk lamp", 3990), ("NB-A5", "Notebook, dotted", 850),
)  # fmt: skip
_COSTLY = (("MN-32", "Monitor 32 inch", 54900), ("LT-14", "Laptop 14 inch", 129900), ("CH-ER", "Office chair", 61900))
_TROUBLES: Final = {"carrier_refuses": 20, "carrier_busy": 26, "answer_lost": 12, "card_declined": 9}
_LARGE: Final = 34
_WRONG: Final = ("no_customer", "quantity_text", "total", "quantity_zero", "total", "no_items")


def make_orders(seed: int = 2026) -> list[dict[str, Any]]:
    """The orders as plain data. Troubles, large orders and wrong ones are spread over the whole file."""
    random = Random(seed)
    places = random.sample(range(ORDERS), sum(_TROUBLES.values()) + len(_WRONG))
    wrong = dict(zip(places, _WRONG, strict=False))
    troubles = dict(zip(places[len(_WRONG) :], (name for name, n in _TROUBLES.items() for _ in range(n)), strict=True))
    large = set(random.sample([place for place in range(ORDERS) if place not in wrong], _LARGE))
    orders = []
    for place in range(ORDERS):
        order = _order(random, place, large=place in large)
        if place in troubles:
            order["rehearse"] = troubles[place]
        if place in wrong:
            _spoil(order, wrong[place])
        orders.append(order)
    return orders


def _order(random: Random, place: int, *, large: bool) -> dict[str, Any]:
    name = random.choice(_PEOPLE)
    items: list[dict[str, Any]] = []
    for sku, what, price in random.sample(_GOODS, random.randint(1, 3)):
        if sum(item["quantity"] * item["price"] for item in items) + price <= APPROVAL_LIMIT // 2:
            items.append({"sku": sku, "name": what, "quantity": random.choice((1, 1, 1, 2)), "price": price})
    if large:
        sku, what, price = random.choice(_COSTLY)
        items.insert(0, {"sku": sku, "name": what, "quantity": 1, "price": price})
    return {
        "order_id": f"order-{_FIRST + place}",
        "customer": {"name": name, "email": f"{name.lower().replace(' ', '.')}@example.com"},
        "items": items,
        "total": sum(item["quantity"] * item["price"] for item in items),
    }


def _spoil(order: dict[str, Any], how: str) -> None:
    match how:
        case "no_customer":
            del order["customer"]
        case "quantity_text":
            order["items"][0]["quantity"] = "two"
        case "quantity_zero":
            order["items"][0]["quantity"] = 0
        case "no_items":
            order["items"] = []
        case _:
            order["total"] += 100


def text() -> str:
    """What orders.jsonl holds."""
    return "".join(json.dumps(order) + "\n" for order in make_orders())


if __name__ == "__main__":
    Path(__file__).with_name("orders.jsonl").write_text(text(), encoding="utf-8")
