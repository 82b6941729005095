"""The workflow that most tests of the kit play with, and a shop whose handlers really do something."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flux_core import create_workflow, sleep, wait

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder


def order_workflow(**options: Any) -> WorkflowBuilder:
    """Charge, wait up to three days for an approval, sleep an hour, ship. `options` are the commit's."""

    def charge(ctx: Context) -> dict[str, str]:
        ctx.data.charged = ctx.input["amount"]
        return {"id": "ch_real"}

    def refund(ctx: Context) -> None:
        ctx.data.refunded = True

    return (
        create_workflow("order")
        .commit("charge", charge, compensate=refund, **options)
        .step("approval", lambda ctx: wait("approval", timeout=timedelta(days=3)))
        .step("nap", lambda ctx: sleep(timedelta(hours=1)))
        .step("ship", lambda ctx: f"shipped, {ctx.results['approval']['by']} agrees")
    )


INPUT = {"amount": 5}
