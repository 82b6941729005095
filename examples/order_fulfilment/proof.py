"""The proof: what the journal says must add up with the orders, whatever the engine's records say.

It takes values and returns values. Of the engine it is told only each order's status; that nothing was charged twice
and nothing shipped unpaid it reads from the journal alone. It must not import the engine.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from examples.order_fulfilment.journal import EFFECTS
from examples.order_fulfilment.orders import needs_approval, parse, problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from examples.order_fulfilment.journal import Entry

    Statuses = Mapping[str, str | None]

Choice = Literal["approve", "refuse", "cancel"]

ENDS: Final = frozenset({"completed", "failed", "rolled_back", "cancelled"})
_UNDONE: Final = frozenset({"failed", "rolled_back", "cancelled"})
_WHOLE: Final = Counter({"reserve": 1, "charge": 1, "ship": 1, "notify": 1})
_WAITING: Final = Counter({"reserve": 1, "charge": 1})


class Claim(NamedTuple):
    """Something that must hold, over how many cases it was checked, and which orders contradict it."""

    text: str
    checked: int
    offenders: list[str]


def foretold(raw: object, choice: Choice | None) -> str | None:
    """The status in which an order has to end, by its line and what people decided; None: it starts nothing."""
    order = parse(raw)
    if order is None:
        return None
    if problem(order) is not None:
        return "failed"
    if order.rehearse == "card_declined":
        return "rolled_back"
    if needs_approval(order) and choice != "approve":
        return {"refuse": "rolled_back", "cancel": "cancelled", None: "suspended"}[choice]
    return "rolled_back" if order.rehearse == "carrier_refuses" else "completed"


def prove(
    orders: Mapping[str, object], statuses: Statuses, choices: Mapping[str, Choice], journal: Sequence[Entry]
) -> list[Claim]:
    """Every claim with its offenders. `statuses` has None for an order without instance."""
    effects = [entry for entry in journal if entry.effect in EFFECTS]
    by_order: dict[str, list[Entry]] = {id_: [] for id_ in orders}
    for entry in effects:
        by_order.setdefault(entry.order, []).append(entry)
    return [
        _one_effect_a_key(effects),
        _completed(orders, statuses, by_order),
        _undone(statuses, by_order),
        _waiting(statuses, by_order),
        _paid_before_shipped(by_order),
        _none_lost(orders, statuses),
        _as_foretold(orders, statuses, choices),
        _no_strangers(orders, by_order, statuses),
    ]


def _one_effect_a_key(effects: list[Entry]) -> Claim:
    keys = Counter((entry.effect, entry.key, entry.order) for entry in effects)
    offenders = [f"{order}: {n} x {effect} with one key" for (effect, _, order), n in keys.items() if n > 1]
    return Claim("no idempotency key had more than one effect", len(keys), offenders)


def _completed(orders: Mapping[str, object], statuses: Statuses, by_order: Mapping[str, list[Entry]]) -> Claim:
    done = [id_ for id_, status in statuses.items() if status == "completed"]
    offenders = []
    for id_ in done:
        order, charged = parse(orders[id_]), sum(entry.amount for entry in by_order[id_] if entry.effect == "charge")
        if _counts(by_order[id_]) != _WHOLE or order is None or charged != order.total:
            offenders.append(f"{id_}: {_told(by_order[id_])}, {charged} cents taken")
    return Claim("completed: charged once, in full; shipped once; told once", len(done), offenders)


def _undone(statuses: Statuses, by_order: Mapping[str, list[Entry]]) -> Claim:
    undone = [id_ for id_, status in statuses.items() if status in _UNDONE]
    offenders = []
    for id_ in undone:
        n = _counts(by_order[id_])
        money = sum(
            entry.amount if entry.effect == "charge" else -entry.amount
            for entry in by_order[id_]
            if entry.effect in {"charge", "refund"}
        )
        square = n["charge"] == n["refund"] <= 1 and n["reserve"] == n["release"] <= 1
        if money or not square or n["ship"] or n["notify"]:
            offenders.append(f"{id_}: {_told(by_order[id_])}, {money} cents kept")
    return Claim("failed or undone: no money kept, nothing shipped", len(undone), offenders)


def _waiting(statuses: Statuses, by_order: Mapping[str, list[Entry]]) -> Claim:
    waiting = [id_ for id_, status in statuses.items() if status == "suspended"]
    offenders = [f"{id_}: {_told(by_order[id_])}" for id_ in waiting if _counts(by_order[id_]) != _WAITING]
    return Claim("waiting: charged once, not shipped", len(waiting), offenders)


def _paid_before_shipped(by_order: Mapping[str, list[Entry]]) -> Claim:
    offenders, parcels = [], 0
    for id_, entries in by_order.items():
        paid = 0
        for entry in entries:
            paid += {"charge": 1, "refund": -1}.get(entry.effect, 0)
            if entry.effect == "ship":
                parcels += 1
                if paid < 1:
                    offenders.append(f"{id_}: shipped unpaid")
    return Claim("every parcel was paid for when it left", parcels, offenders)


def _none_lost(orders: Mapping[str, object], statuses: Statuses) -> Claim:
    offenders = []
    for id_, raw in orders.items():
        status = statuses.get(id_)
        if status is None and parse(raw) is not None:
            offenders.append(f"{id_}: no instance")
        elif status is not None and status not in ENDS and status != "suspended":
            offenders.append(f"{id_}: still {status}")
    return Claim("nothing lost: each order has ended, waits, or was turned away", len(orders), offenders)


def _as_foretold(orders: Mapping[str, object], statuses: Statuses, choices: Mapping[str, Choice]) -> Claim:
    offenders = []
    for id_, raw in orders.items():
        expected, found = foretold(raw, choices.get(id_)), statuses.get(id_)
        if expected != found:
            offenders.append(f"{id_}: {found or 'no instance'} instead of {expected or 'no instance'}")
    return Claim("each order ended as its line and the decisions foretell", len(orders), offenders)


def _no_strangers(orders: Mapping[str, object], by_order: Mapping[str, list[Entry]], statuses: Statuses) -> Claim:
    offenders = [f"{id_}: {_told(some)}" for id_, some in by_order.items() if some and id_ not in orders]
    offenders += [
        f"{id_}: {_told(by_order[id_])}, turned away" for id_ in orders if statuses.get(id_) is None and by_order[id_]
    ]
    return Claim("nothing happened for an order that nobody placed", sum(map(len, by_order.values())), offenders)


def _counts(entries: list[Entry]) -> Counter[str]:
    return Counter(entry.effect for entry in entries)


def _told(entries: list[Entry]) -> str:
    return ", ".join(f"{n} x {effect}" for effect, n in _counts(entries).items()) or "no effect"
