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
from flux_core.workflow import CHILD, COMMIT, SLEEP, STEP, WAIT, ChildCall, Compensation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from flux_core.context import Context
    from flux_core.generics import DataT, Handler, Input
    from flux_core.options import Duration, OnUnknown
    from flux_core.retry import RetryPolicy


def compensation(
    handler: Handler[Input, DataT],
    *,
    retries: int | None = None,
    timeout: Duration | None = None,
    on_unknown: OnUnknown[Input, DataT] = "retry",
    retry: RetryPolicy | None = None,
) -> Compensation[Input, DataT]:
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
"""Of what has bodies: they hold for its condition, selector, number or items."""


def check_known(where: str, options: Iterable[str], kind: str) -> None:
    """`DefinitionError` for an option that a node of this kind does not have."""
    known = _OPTIONS_OF.get(kind, _DECISION_OPTIONS)
    for option in options:
        if option not in known:
            only = kind == STEP and option in _COMMIT_OPTIONS
            hint = "; only a commit has it, so declare it with .commit(...)" if only else ""
            message = f"{where}: there is no option {option!r}{hint}; the options are {', '.join(known)}"
            raise DefinitionError(message)


def checked_concurrency(where: str, most: object, on_error: object, merge: object) -> dict[str, Any]:
    """What is said of all that runs at the same time, as fields of a `StepDefinition`."""
    if most is not None and (type(most) is not int or most < 1):
        message = f"{where}: max_concurrency must be a whole number from 1 on, or None for no limit; got {most!r}"
        raise DefinitionError(message)
    if on_error not in {"fail_fast", "wait_all"}:
        message = f'{where}: on_error must be "fail_fast" or "wait_all"; got {on_error!r}'
        raise DefinitionError(message)
    functions = [merge] if callable(merge) else list(getattr(merge, "values", list)())
    if merge is not None and (not functions or not all(map(callable, functions))):
        message = f"{where}: merge must be a dict of keys of ctx.data and functions, or one function; got {merge!r}"
        raise DefinitionError(message)
    return {"max_concurrency": most or 0, "wait_all": on_error == "wait_all", "merge": merge}


def checked_child(where: str, workflow: object, wait: object, on_failure: object, on_cancel: object) -> ChildCall:
    """Which workflow a child step starts, and what their ends mean for each other."""
    if not (isinstance(workflow, str) and workflow) and not (hasattr(workflow, "build") and hasattr(workflow, "name")):
        message = f"{where}: a child is a workflow, or the name of one that the engine knows; got {workflow!r}"
        raise DefinitionError(message)
    if not isinstance(wait, bool):
        message = f"{where}: wait must be True or False; got {wait!r}"
        raise DefinitionError(message)
    if on_failure not in {"fail", "continue"}:
        message = f'{where}: on_failure must be "fail" or "continue"; got {on_failure!r}'
        raise DefinitionError(message)
    if on_cancel not in {"cancel", "abandon"}:
        message = f'{where}: on_cancel must be "cancel" or "abandon"; got {on_cancel!r}'
        raise DefinitionError(message)
    return ChildCall(workflow, wait=wait, on_failure=str(on_failure), on_cancel=str(on_cancel))


def as_function(value: object) -> Handler:
    """A function of the context as it is; anything else as a function that returns it."""
    return value if callable(value) and not isinstance(value, type) else lambda _ctx: value


def checked_items(where: str, items: object) -> Handler:
    """The items of a map as a function of the context."""
    if callable(items):
        handler: Handler = checked_handler(where, "items", items)
        return handler
    if isinstance(items, list | tuple):
        kept = list(items)
        return lambda _ctx: kept
    root, *keys = items.split(".") if isinstance(items, str) else [""]
    if root not in {"input", "data"}:
        message = (
            f'{where}: items must be a list, a function of the context, or where they are, as in "input.orders" or '
            f'"data.orders"; got {items!r}'
        )
        raise DefinitionError(message)

    def found(ctx: Context) -> object:
        value: Any = getattr(ctx, root)
        for key in keys:
            value = value[key] if hasattr(value, "__getitem__") else getattr(value, key)
        return value

    return found


_OPTIONS_OF = {STEP: _OPTIONS, CHILD: _OPTIONS, COMMIT: _COMMIT_OPTIONS, WAIT: _PAUSE_OPTIONS, SLEEP: _PAUSE_OPTIONS}


def checked_options(where: str, options: Mapping[str, Any], kind: str) -> dict[str, Any]:
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
