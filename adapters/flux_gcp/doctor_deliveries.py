"""What Cloud Tasks or Cloud Scheduler was answered by a function, and what that means. It must not ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.doctor import FAILURE, WARNING
from flux_gcp.settings import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NOT_FOUND: Final = 5
_REFUSED: Final = frozenset({7, 16})
"""Codes of google.rpc.Code, which both services make of an HTTP status: 404; 403 and 401."""


class Refusal(NamedTuple):
    """An answer that was not wanted."""

    standing: str
    """`FAILURE` for what does not pass by itself, else `WARNING`."""
    said: str


def refusal(status: Mapping[str, Any], account: str | None, elsewhere: str) -> Refusal | None:
    """Of a google.rpc.Status; None if all went well. `account` has called; `elsewhere` says what to look at for 404."""
    code = status.get("code", 0)
    if not code:
        return None
    said = status.get("message") or f"code {code}"
    if code in _REFUSED:
        return Refusal(
            FAILURE,
            f"{said}. Give roles/run.invoker on the function to {account or f'an account, and name it in {ACCOUNT}'}",
        )
    if code == _NOT_FOUND:
        return Refusal(FAILURE, f"{said}. There is no Flux at that address: look at {elsewhere}")
    return Refusal(WARNING, f"{said}. Look at the function's log")
