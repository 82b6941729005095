"""The order workflow. It imports no cloud and no store: the same file runs on a laptop and behind a queue.

`Fulfilment` holds the outside world it talks to, so that whoever composes the app says which one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from examples.order_fulfilment.orders import Order, needs_approval, problem
from examples.order_fulfilment.payment import CardDeclined
from examples.order_fulfilment.shipping import CarrierRefuses
from flux_core import NOT_DONE, Done, NonRetryable, RetryPolicy, create_workflow, verify, wait

if TYPE_CHECKING:
    from examples.order_fulfilment.payment import PaymentProvider
    from examples.order_fulfilment.shipping import Shipping
    from flux_core import Context, WorkflowBuilder

BACK_OFF = RetryPolicy(initial=0.1, maximum=1.0)


class OrderWrong(NonRetryable):
    """The order contradicts itself: no retry makes it right."""


class NotApproved(NonRetryable):
    """A person said no."""


class Fulfilment:
    """The handlers. Each talks to one service, and passes on the key that makes a repeated request harmless."""

    def __init__(self, payments: PaymentProvider, shipping: Shipping) -> None:
        self.payments = payments
        self.shipping = shipping

    def validate(self, ctx: Context) -> None:
        """Fails at once, before anything was done that would have to be undone."""
        wrong = problem(ctx.input)
        if wrong is not None:
            raise OrderWrong(f"{ctx.id} cannot be taken: {wrong}")

    def reserve(self, ctx: Context) -> str:
        """Put the items aside."""
        return self.shipping.reserve(ctx.id, ctx.idempotency_key)

    def release(self, ctx: Context) -> None:
        """Undo `reserve`."""
        self.shipping.release(ctx.id, ctx.idempotency_key)

    def charge(self, ctx: Context) -> str:
        """Take the money: the one thing that must not happen twice."""
        order: Order = ctx.input
        return self.payments.charge(
            ctx.id,
            order.total,
            ctx.idempotency_key,
            declines=order.rehearse == "card_declined",
            loses_answer=order.rehearse == "answer_lost" and ctx.attempt == 1,
        )

    def charged(self, ctx: Context) -> object:
        """After a crash or a lost answer: ask the provider instead of charging again."""
        charge = self.payments.find_charge(ctx.id, ctx.idempotency_key)
        return NOT_DONE if charge is None else Done(charge)

    def refund(self, ctx: Context) -> None:
        """Undo `charge`."""
        self.payments.refund(ctx.id, ctx.input.total, ctx.idempotency_key)

    def approval(self, ctx: Context) -> object:
        """Suspend: no process waits while a person decides."""
        return wait("approval", timeout=timedelta(days=2))

    def approved(self, ctx: Context) -> None:
        """What the person said, if one was asked."""
        answer = ctx.results.get("approval")
        if answer is not None and not answer["approved"]:
            raise NotApproved(f"{answer['by']} did not approve {ctx.id}")

    def ship(self, ctx: Context) -> str:
        """Hand the parcel over."""
        trouble = ctx.input.rehearse
        return self.shipping.ship(
            ctx.id,
            ctx.idempotency_key,
            busy=trouble == "carrier_busy" and ctx.attempt <= 2,
            refuses=trouble == "carrier_refuses",
        )

    def shipped(self, ctx: Context) -> object:
        """After a crash: ask the carrier."""
        parcel = self.shipping.find_shipment(ctx.id, ctx.idempotency_key)
        return NOT_DONE if parcel is None else Done(parcel)

    def notify(self, ctx: Context) -> str:
        """Mail the customer. The mailer drops a second mail with the same key, so this is simply repeated."""
        return self.shipping.notify(ctx.id, ctx.idempotency_key)


def order_workflow(shop: Fulfilment) -> WorkflowBuilder:
    """What happens to an order, over the services of `shop`."""
    return (
        create_workflow("order-fulfilment", version="1", retry=BACK_OFF)
        .input(Order)
        .step("validate", shop.validate)
        .step("reserve", shop.reserve, retries=6, compensate=shop.release)
        .commit(
            "charge",
            shop.charge,
            retries=6,
            timeout=10,
            give_up_on=(CardDeclined,),
            on_unknown=verify(shop.charged),
            compensate=shop.refund,
        )
        .step("approval", shop.approval, when=lambda ctx: needs_approval(ctx.input))
        .step("approved", shop.approved)
        .commit(
            "ship",
            shop.ship,
            retries=6,
            timeout=10,
            give_up_on=(CarrierRefuses,),
            on_unknown=verify(shop.shipped),
        )
        .commit("notify", shop.notify, idempotent=True, retries=6, timeout=10)
    )
