"""The same shop as most are first written: charging is a plain step, and the provider ignores idempotency keys.

It exists to show that the demo's proof is one: `--app examples.order_fulfilment.careless:engine` must fail it.
"""

from __future__ import annotations

from examples.order_fulfilment.app import LEASE, home, journal_path
from examples.order_fulfilment.journal import Journal
from examples.order_fulfilment.orders import Order, needs_approval
from examples.order_fulfilment.payment import CardDeclined, Delays, PaymentProvider
from examples.order_fulfilment.shipping import CarrierRefuses, Shipping
from examples.order_fulfilment.workflows import BACK_OFF, Fulfilment, order_workflow
from flux_core import NOT_DONE, Context, FluxEngine, create_workflow
from flux_local import SQLiteStorage


class CarelessFulfilment(Fulfilment):
    """Asks nobody what became of a charge."""

    def charged(self, ctx: Context) -> object:
        """Claims that nothing happened."""
        return NOT_DONE


def _shop() -> CarelessFulfilment:
    journal, delays = Journal(journal_path()), Delays()
    return CarelessFulfilment(PaymentProvider(journal, delays, remembers=False), Shipping(journal, delays))


def engine() -> FluxEngine:
    """The charge is an ordinary step: after a crash it is simply run again."""
    shop = _shop()
    order = (
        create_workflow("order-fulfilment", version="1", retry=BACK_OFF)
        .input(Order)
        .step("validate", shop.validate)
        .step("reserve", shop.reserve, compensate=shop.release)
        .step("charge", shop.charge, give_up_on=(CardDeclined,), compensate=shop.refund)
        .step("approval", shop.approval, when=lambda ctx: needs_approval(ctx.input))
        .step("approved", shop.approved)
        .step("ship", shop.ship, give_up_on=(CarrierRefuses,))
        .step("notify", shop.notify)
    )
    return FluxEngine(SQLiteStorage(home() / "orders.db"), workflows=[order], lease=LEASE)


def blind_probe() -> FluxEngine:
    """The charge is a commit, but its probe always answers that nothing happened."""
    return FluxEngine(SQLiteStorage(home() / "orders.db"), workflows=[order_workflow(_shop())], lease=LEASE)
