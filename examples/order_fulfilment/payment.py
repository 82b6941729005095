"""A make-believe payment provider. Like a real one it knows a charge by its idempotency key, and can be asked for it.

It must not know workflows: it gets an order's id, an amount and a key, takes its time, and writes the journal.
"""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.order_fulfilment.journal import Journal


class CardDeclined(Exception):
    """The bank said no. No money moved."""


class Delays:
    """How long the wire takes, in seconds: the same for the same key, so that runs can be compared."""

    def __init__(self, there: float = 0.012, back: float = 0.03) -> None:
        self._there = there
        self._back = back

    def request(self, key: str) -> None:
        """The request travels."""
        time.sleep(self._there * (0.5 + Random(f"there {key}").random()))

    def answer(self, key: str) -> None:
        """The effect has happened; its answer travels. Who dies now does not learn of it."""
        time.sleep(self._back * (0.5 + Random(f"back {key}").random()))


class PaymentProvider:
    """Charges and refunds cards. With `remembers=False` it is one that ignores idempotency keys."""

    def __init__(self, journal: Journal, delays: Delays, *, remembers: bool = True) -> None:
        self._journal = journal
        self._delays = delays
        self._remembers = remembers

    def charge(self, order: str, amount: int, key: str, *, declines: bool = False, loses_answer: bool = False) -> str:
        """Take `amount` cents; the charge's id. The same key again: the first charge's id, and no money moves.

        `CardDeclined` if it `declines`. If it `loses_answer` the money has moved and the connection breaks.
        """
        self._delays.request(key)
        if declines:
            raise CardDeclined("the bank declined the card")
        ref = self._journal.once("charge", key, order, amount, remembers=self._remembers)
        self._delays.answer(key)
        if loses_answer:
            raise ConnectionResetError("the payment provider closed the connection")
        return ref

    def find_charge(self, order: str, key: str) -> str | None:
        """The id of the charge made with `key`, if there is one."""
        self._delays.request(key)
        return self._journal.find("charge", key, order)

    def refund(self, order: str, amount: int, key: str) -> str:
        """Give `amount` cents back; known by its key as well."""
        self._delays.request(key)
        ref = self._journal.once("refund", key, order, amount, remembers=self._remembers)
        self._delays.answer(key)
        return ref
