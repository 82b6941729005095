"""The workflows. Nothing here knows a cloud: the file is the same on each of them, on a laptop and in tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flux_core import Context, Directive, NonRetryable, create_workflow, wait

WITHOUT_APPROVAL = 100
"""Orders up to this total are charged at once; for the others somebody has to send the signal `approved`."""


@dataclass(frozen=True)
class Order:
    """What a caller sends to start one."""

    sku: str
    total: int


class Refused(NonRetryable):
    """Whoever was asked for an approval said no."""


def reserve(ctx: Context[Order]) -> str:
    """Take the goods off the shelf."""
    ctx.log.info("reserving", sku=ctx.input.sku)
    return f"shelf of {ctx.input.sku}"


def release(ctx: Context[Order]) -> None:
    """Put them back: called if a later step fails for good, or if the order is cancelled."""
    ctx.log.info("releasing", sku=ctx.input.sku)


def approval(ctx: Context[Order]) -> Directive | None:
    """Wait for two days at most. No function runs meanwhile, and nothing is paid for."""
    if ctx.input.total <= WITHOUT_APPROVAL:
        return None
    return wait("approved", timeout=timedelta(days=2))


def charge(ctx: Context[Order]) -> str:
    """Charge the customer. The provider knows a repeated call by its key: send `ctx.idempotency_key` along."""
    answer = ctx.results["approval"]
    if answer is not None and not answer.get("yes"):
        raise Refused(f"{answer.get('by', 'somebody')} refused the order")
    return f"ch_{ctx.idempotency_key[:8]}"


def refund(ctx: Context[Order]) -> None:
    """Give the money back."""
    ctx.log.info("refunding", charge=ctx.results["charge"])


def ship(ctx: Context[Order]) -> str:
    """Hand the parcel over."""
    return f"parcel with {ctx.input.sku}"


order = (
    create_workflow("order")
    .input(Order)
    .step("reserve", reserve, compensate=release)
    .step("approval", approval)
    .commit("charge", charge, idempotent=True, compensate=refund, timeout=10)
    .step("ship", ship)
)
