"""A make-believe warehouse, carrier and mailer, which know what they have done by key. They must not know workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.order_fulfilment.journal import Journal
    from examples.order_fulfilment.payment import Delays


class CarrierBusy(Exception):
    """No label now; asking again later helps."""


class CarrierRefuses(Exception):
    """The carrier does not go there; asking again does not help."""


class Shipping:
    """Everything behind the shop's back door."""

    def __init__(self, journal: Journal, delays: Delays) -> None:
        self._journal = journal
        self._delays = delays

    def reserve(self, order: str, key: str) -> str:
        """Put the items aside."""
        return self._do("reserve", order, key)

    def release(self, order: str, key: str) -> str:
        """Put the items back."""
        return self._do("release", order, key)

    def ship(self, order: str, key: str, *, busy: bool = False, refuses: bool = False) -> str:
        """Hand the parcel over. `CarrierBusy` or `CarrierRefuses`: then nothing was shipped."""
        if busy or refuses:
            self._delays.request(key)
            raise CarrierRefuses("the carrier does not deliver there") if refuses else CarrierBusy("no label now")
        return self._do("ship", order, key)

    def find_shipment(self, order: str, key: str) -> str | None:
        """The parcel handed over with `key`, if there is one."""
        self._delays.request(key)
        return self._journal.find("ship", key, order)

    def notify(self, order: str, key: str) -> str:
        """Mail the customer."""
        return self._do("notify", order, key)

    def _do(self, effect: str, order: str, key: str) -> str:
        self._delays.request(key)
        ref = self._journal.once(effect, key, order)
        self._delays.answer(key)
        return ref
