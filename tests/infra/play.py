"""What is played on a deployed stack to record the calls of its functions, and how calls and permissions compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import NonRetryable, create_workflow, wait
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DAY = 86_400_000


class Tomorrow(SystemClock):
    """What has just ended is old."""

    def now(self) -> int:
        return super().now() + DAY


class Call(NamedTuple):
    """Somebody made use of a permission, on a resource."""

    who: str
    permission: str
    resource: str


class Grant(NamedTuple):
    """Somebody may make use of a permission, on a resource."""

    who: str
    permission: str
    resource: str
    allows: Callable[[str], bool] | None = None
    """Where the grant has a condition: whether it holds for a resource within this one, whose name is given."""

    def covers(self, call: Call) -> bool:
        """Whether it lets this call be made."""
        if (self.who, self.permission) != (call.who, call.permission):
            return False
        inside = f"{self.resource}/"
        if call.resource != self.resource and not call.resource.startswith(inside):
            return False
        return self.allows is None or self.allows(call.resource.removeprefix(inside))


def refused(calls: Iterable[Call], grants: Iterable[Grant]) -> set[Call]:
    """Calls that nobody has allowed."""
    given = [*grants]
    return {call for call in calls if not any(grant.covers(call) for grant in given)}


def idle(calls: Iterable[Call], grants: Iterable[Grant]) -> set[tuple[str, str]]:
    """By who has it: permissions that no call made use of."""
    made = {*calls}
    return {(grant.who, grant.permission) for grant in grants if not any(grant.covers(call) for call in made)}


# --- the workflow ---------------------------------------------------------------------------------------------------


def prepare(ctx: Any) -> str:
    return "large" * 20_000


def ask(ctx: Any) -> Any:
    ctx.data["link"] = ctx.callback_url("approval")
    return wait("approval", timeout=600)


def pack(ctx: Any) -> str:
    return "large too" * 20_000


def confirm(ctx: Any) -> Any:
    return wait("confirmed", timeout=600)


def ship(ctx: Any) -> str:
    if ctx.input.get("fails") and not ctx.data.get("mended"):
        message = "no parcel"
        raise NonRetryable(message)
    return "shipped"


order = create_workflow("order")
for name, step in (("prepare", prepare), ("ask", ask), ("pack", pack), ("confirm", confirm), ("ship", ship)):
    order.step(name, step)
"""Whoever takes it on puts a payload, and has a wake to ask for, until it fails or is shipped."""
