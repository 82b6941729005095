"""What may be said of a step beside its name and handler: options, checked at once. Nothing here collects or runs.

Messages of `DefinitionError` say what to change.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError
from flux_core.handlers import checked_handler
from flux_core.options import (
    checked_exceptions,
    checked_names,
    checked_on_unknown,
    checked_retries,
    checked_retry,
    checked_timeout,
)
from flux_core.workflow import COMMIT, SLEEP, STEP, WAIT, Compensation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from flux_core.options import Duration, OnUnknown
    from flux_core.retry import RetryPolicy
    from flux_core.workflow import Handler


def compensation(
    handler: Handler,
    *,
    retries: int | None = None,
    timeout: Duration | None = None,
    on_unknown: OnUnknown = "retry",
    retry: RetryPolicy | None = None,
) -> Compensation:
    """A compensator with options. After an unknown outcome it re-runs with the same key unless `on_unknown` differs."""
    where = "compensation(...)"
    return Compensation(
        checked_handler(where, "the compensation", handler),
        checked_retries(where, retries),
        checked_timeout(where, timeout),
        checked_on_unknown(where, on_unknown),
        checked_retry(where, retry),
    )


_OPTIONS = ("retries", "timeout", "when", "compensate", "give_up_on", "retry", "aliases")
_COMMIT_OPTIONS = (*_OPTIONS, "idempotent", "on_unknown")
_PAUSE_OPTIONS = ("when", "aliases", "compensate")
_DECISION_OPTIONS = ("retries", "timeout", "retry", "aliases")
"""Of a branch or loop: they hold for its condition, selector or number."""


def check_known(where: str, options: Iterable[str], kind: str) -> None:
    """`DefinitionError` for an option that a node of this kind does not have."""
    known = _OPTIONS_OF.get(kind, _DECISION_OPTIONS)
    for option in options:
        if option not in known:
            only = kind == STEP and option in _COMMIT_OPTIONS
            hint = "; only a commit has it, so declare it with .commit(...)" if only else ""
            message = f"{where}: there is no option {option!r}{hint}; the options are {', '.join(known)}"
            raise DefinitionError(message)


_OPTIONS_OF = {STEP: _OPTIONS, COMMIT: _COMMIT_OPTIONS, WAIT: _PAUSE_OPTIONS, SLEEP: _PAUSE_OPTIONS}


def checked_options(where: str, options: dict[str, Any], kind: str) -> dict[str, Any]:
    """The options as fields of a `StepDefinition`; `DefinitionError` for one that there is not, or a wrong value."""
    check_known(where, options, kind)
    when = options.get("when")
    if when is not None:
        checked_handler(where, "when", when)
    undo = options.get("compensate")
    if undo is not None and not isinstance(undo, Compensation):
        undo = compensation(checked_handler(where, "compensate", undo))
    checked: dict[str, Any] = {
        "retries": checked_retries(where, options.get("retries")),
        "timeout": checked_timeout(where, options.get("timeout")),
        "when": when,
        "compensate": undo,
        "give_up_on": checked_exceptions(where, options.get("give_up_on", ())),
        "retry": checked_retry(where, options.get("retry")),
        "aliases": checked_names(where, "aliases", options.get("aliases", ())),
    }
    if kind == COMMIT:
        idempotent = options.get("idempotent", False)
        if not isinstance(idempotent, bool):
            message = f"{where}: idempotent must be True or False; got {idempotent!r}"
            raise DefinitionError(message)
        default = "retry" if idempotent else "quarantine"
        checked["on_unknown"] = checked_on_unknown(where, options.get("on_unknown", default))
    return checked
