"""Checks of what a declaration says. Messages tell what to change; nothing here knows what a workflow is."""

from __future__ import annotations

from flux_core.directives import Verify
from flux_core.errors import CallerError, DefinitionError
from flux_core.names import check_key
from flux_core.retry import RetryPolicy, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Literal

    from flux_core.generics import DataT, Input

    Duration = float | timedelta
    OnUnknown = Verify[Input, DataT] | Literal["retry", "quarantine"]

_MOST_RETRIES = 1000


def checked_retries(where: str, retries: object) -> int | None:
    """The number of further attempts, None if it is not said; `DefinitionError` if it is no such number."""
    if retries is None:
        return None
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
        message = f"{where}: retries must be a whole number from 0 to {_MOST_RETRIES}; got {retries!r}"
        raise DefinitionError(message)
    return retries


def checked_timeout(where: str, timeout: Duration | None, name: str = "timeout") -> float | None:
    """The time limit of an attempt in seconds, None for none; `DefinitionError` for one that no platform can keep."""
    if timeout is None:
        return None
    limit = seconds(timeout, f"{where}: {name}")
    if limit <= 0:
        message = f"{where}: {name} must be more than 0 seconds; leave it out for the engine's default"
        raise DefinitionError(message)
    if limit > LONGEST_STEP:
        message = (
            f"{where}: no platform lets a function run for {limit:.0f} s (the longest is {LONGEST_STEP:.0f} s); "
            f"split the step, or return wait(...) or sleep(...) and let the instance be suspended meanwhile"
        )
        raise DefinitionError(message)
    return limit


LONGEST_STEP = 3600.0
"""Seconds: the longest a function runs on any of the three clouds (Cloud Run functions over HTTP: 60 minutes)."""


def checked_workflow_timeout(where: str, timeout: Duration | None) -> float | None:
    """The time limit of a whole instance in seconds, None for none; `DefinitionError` if it is none at all."""
    if timeout is None:
        return None
    limit = seconds(timeout, f"{where}: timeout")
    if limit <= 0:
        message = (
            f"{where}: timeout must be more than 0 seconds; leave it out if the workflow may take as long as it likes"
        )
        raise DefinitionError(message)
    return limit


def checked_on_unknown(where: str, on_unknown: object) -> OnUnknown:
    """What to do about an unknown outcome; `DefinitionError` if it is none of the three ways (PROTOCOL rule 9)."""
    if isinstance(on_unknown, Verify) or on_unknown == "retry" or on_unknown == "quarantine":  # noqa: PLR1714 -- mypy narrows literals only so
        return on_unknown
    message = f'{where}: on_unknown must be verify(probe), "retry" or "quarantine"; got {on_unknown!r}'
    raise DefinitionError(message)


def checked_exceptions(where: str, types: object) -> tuple[type[BaseException], ...]:
    """Exception types, given as one or several; `DefinitionError` if anything else is among them."""
    listed = types if isinstance(types, tuple | list) else (types,)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            message = f"{where}: give_up_on must name exception types; got {kind!r}"
            raise DefinitionError(message)
    return tuple(listed)


def checked_names(where: str, option: str, names: object) -> tuple[str, ...]:
    """Names, given as one or several; `DefinitionError` if one is none."""
    listed = (names,) if isinstance(names, str) else tuple(names) if hasattr(names, "__iter__") else (names,)
    for name in listed:
        try:
            check_key(f"name in {option}", name)
        except CallerError as error:
            raise DefinitionError(f"{where}: {error}") from None
    return listed


def checked_retry(where: str, retry: object) -> RetryPolicy | None:
    """`retry`, or `DefinitionError` if it is no policy."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    message = f"{where}: retry must be a RetryPolicy(...); got {retry!r}"
    raise DefinitionError(message)
