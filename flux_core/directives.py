"""What a handler returns instead of an output: wait for a signal, or sleep; and what a probe answers.

These are values. The machine turns a directive into an open wait; nothing here waits.
"""

from __future__ import annotations

from flux_core.errors import CallerError, DefinitionError
from flux_core.generics import DataT_contra, Generic, Input_contra
from flux_core.handlers import checked_handler
from flux_core.names import check_key
from flux_core.retry import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Final

    from flux_core.generics import DataT, Handler, Input


class _Fail:
    """The default of `on_timeout`: the step fails with `WaitTimeout`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "FAIL"

    def __reduce__(self) -> str:
        """A copy is the thing itself: it is known by its identity."""
        return "FAIL"


FAIL: Final = _Fail()


class Directive:
    """Suspend here. `signals` is empty for a sleep; `seconds` or `until` (ms since the epoch) bound it."""

    __slots__ = ("on_timeout", "seconds", "signals", "until")

    def __init__(
        self, signals: tuple[str, ...], duration: float | None, until: int | None, on_timeout: object = FAIL
    ) -> None:
        self.signals = signals
        self.seconds = duration
        self.until = until
        self.on_timeout = on_timeout

    def due(self, now: int) -> int | None:
        """When the timer fires, in ms since the epoch, for a step that ended at `now`; None without a timer."""
        if self.until is not None:
            return self.until
        return None if self.seconds is None else now + round(self.seconds * 1000)


def wait(signal: str, timeout: float | timedelta | None = None, on_timeout: object = FAIL) -> Directive:
    """Return this from a handler: the step ends with the payload of the next `signal`.

    `timeout` is seconds or `timedelta`; without one the wait is open-ended. When it passes, the step fails with
    `WaitTimeout` (not retried), or, if `on_timeout` is given, ends with that value as its output.
    """
    return wait_any((signal,), timeout, on_timeout)


def wait_any(
    signals: tuple[str, ...] | list[str], timeout: float | timedelta | None = None, on_timeout: object = FAIL
) -> Directive:
    """Like `wait`, for whichever of several signals comes first."""
    if isinstance(signals, str):
        message = f'wait_any() takes several signal names; for one use wait("{signals}")'
        raise DefinitionError(message)
    try:
        names = tuple(check_key("signal name", name) for name in signals)
    except CallerError as error:
        raise DefinitionError(str(error)) from None  # at a handler's return it is a mistake of the workflow
    if not names:
        message = "wait_any() needs at least one signal name"
        raise DefinitionError(message)
    limit = None if timeout is None else seconds(timeout, "wait(timeout=...)")
    return Directive(names, limit, None, on_timeout)


def sleep(duration: float | timedelta) -> Directive:
    """Return this from a handler: the step ends `duration` (seconds or `timedelta`) later. No compute is held."""
    return Directive((), seconds(duration, "sleep(...)"), None)


def sleep_until(time: datetime) -> Directive:
    """Return this from a handler: the step ends at `time`, which must carry a time zone."""
    if getattr(time, "tzinfo", None) is None:
        message = f"sleep_until() needs a datetime with a time zone, for example datetime.now(UTC); got {time!r}"
        raise DefinitionError(message)
    return Directive((), None, round(time.timestamp() * 1000))


class Done:
    """A probe's answer: the effect did happen; `value` becomes the step's output."""

    __slots__ = ("value",)

    def __init__(self, value: object = None) -> None:
        self.value = value


class _Verdict:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        """A copy is the thing itself: it is known by its identity."""
        return self.name


NOT_DONE: Final = _Verdict("NOT_DONE")
"""A probe's answer: the effect did not happen; the attempt counts as an ordinary failure."""

UNKNOWN: Final = _Verdict("UNKNOWN")
"""A probe's answer: it cannot tell; the instance is quarantined (`stuck`) for an operator."""


class Verify(Generic[Input_contra, DataT_contra]):
    """`on_unknown=verify(probe)`: ask `probe(ctx)` what became of an attempt whose outcome is unknown."""

    __slots__ = ("probe",)

    def __init__(self, probe: Handler[Input_contra, DataT_contra]) -> None:
        self.probe = probe


def verify(probe: Handler[Input, DataT]) -> Verify[Input, DataT]:
    """Resolve an unknown outcome by asking the other side (PROTOCOL rule 9).

    `probe`, `def` or `async def`, takes the context (with the attempt's `idempotency_key`) and returns
    `Done(value)`, `NOT_DONE` or `UNKNOWN`. Anything else, None included, and an exception mean UNKNOWN.
    """
    return Verify(checked_handler("verify(...)", "the probe", probe))
