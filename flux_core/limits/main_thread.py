"""The main thread's road: an interval timer whose signal raises `AttemptCut` in the running handler.

The timer is armed lazily. A call only writes down its deadline; the timer is set if none is pending that fires early
enough, and a signal that comes before any deadline sets it again for what is left. So a short step costs one look at
the timer and no setting of it. The price: one signal may come after the last step. It disarms and gives back.

Every setting repeats: the interpreter can lose a signal that arrives in the few nanoseconds in which it takes notice
of the one before (CPython 3.11, ceval.c: `COMPUTE_EVAL_BREAKER` is not atomic), and a busy loop would never be cut.

What the application can rely on, if it uses SIGALRM or ITIMER_REAL itself:

- Its handler is called for every SIGALRM that is not of this module, also while a step runs. With the default action
  instead of a handler, a foreign signal is ignored while this module holds SIGALRM; the end of a timer that the
  application had started before has its usual effect, it ends the process.
- A timer that it had running when a step began keeps its time (and its interval): this module's timer stands in for
  it, and when the module disarms, the handler is installed again and the timer gets what remains of it.
- A handler (or anything between two steps) may take the timer and give it back or clear it. The limit of that one
  attempt may then be lost; the next call finds out and arms the timer again. Who takes the signal without setting the
  timer may receive this module's last expiry; `time_limit.release` gives both back at once.

What no signal can interrupt: C code that does not return to the interpreter (a long regular expression, a blocking
driver call without signal checks). It is cut as soon as it returns. A cut that lands in a `__del__` method or another
callback whose exceptions Python only prints is printed and raised again `AGAIN` seconds later.

This module must not be used outside the main thread, and must never let a cut out of `IntervalTimer.call`: a cut is
raised only in a frame below `_enter`, never in one of this module's own (`_BOOKS`).
"""

from __future__ import annotations

import _signal as signals  # type: ignore[import-not-found]  # the plain functions: `signal` converts every value to an enum
from time import monotonic

from flux_core.limits.lateness import drop, outlasted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Final, TypeVar

    A = TypeVar("A")


AGAIN: Final = 0.05
"""Seconds after which a cut that the handler swallowed is raised again."""

_NEVER: Final = float("inf")
_BUSY: Final = 0.001  # the signal came while the books were open: seconds until it is tried again
_LONGEST: Final = 86_400.0  # of one setting; a longer limit is reached in several
_SLACK: Final = 0.001  # two readings of the same moment may differ by so much
_MARK: Final = 50_017  # microseconds: the interval of our settings, by which we know them from the application's

_ALRM: Final[int] = getattr(signals, "SIGALRM", 0)
_REAL: Final[int] = getattr(signals, "ITIMER_REAL", 0)

AVAILABLE: Final = hasattr(signals, "setitimer") and hasattr(signals, "SIGALRM")
"""False where the platform has no interval timer (Windows)."""


class AttemptCut(BaseException):
    """Raised in a handler whose limit has passed. Let it pass; swallowing it only delays the end."""

    def __init__(self, level: Level) -> None:
        super().__init__("the time limit of this attempt has passed")
        self.level = level


class SignalTaken(Exception):
    """SIGALRM cannot be had: a handler that is not Python's own is installed, or this is a sub-interpreter."""


class Level:
    """One running call: its monotonic deadline, whether it was cut, and the call around it."""

    __slots__ = ("cut", "deadline", "outer")

    def __init__(self, deadline: float, outer: Level | None) -> None:
        self.cut = False
        self.deadline = deadline
        self.outer = outer


def _enter(handler: Callable[[A], object], argument: A) -> object:
    return handler(argument)  # a frame of its own, so that the signal can tell "inside" from "just before or after"


class IntervalTimer:
    """The one timer of the process. `call` is the whole interface; `release` gives everything back at once."""

    __slots__ = ("alarm", "armed", "due", "earlier", "innermost", "interval", "owed", "promised")

    def __init__(self) -> None:
        self.alarm = self._alarm  # one object, so that `is` tells whether it is installed
        self.earlier: object = signals.SIG_DFL
        self.promised = False
        self.forget()

    def forget(self) -> None:
        """Start from nothing. After a fork the child has no timer, but may still have the handler installed."""
        self.innermost: Level | None = None
        self.armed = _NEVER  # our setting fires no earlier than this
        self.owed = False  # a signal of ours is on its way although the timer was set anew
        self.due = _NEVER  # the application's own timer
        self.interval = 0.0

    def call(self, handler: Callable[[A], object], argument: A, seconds: float, span: float) -> object:
        """Call `handler` and cut it `span` seconds from now; the error speaks of a limit of `seconds`.

        Raises what the handler raises, `StepTimeout`, or `SignalTaken` before the handler was called.
        """
        outer = self.innermost
        level = Level(monotonic() + span, outer)
        try:
            self.innermost = level
            if signals.getsignal(_ALRM) is not self.alarm or not 0.0 < signals.getitimer(_REAL)[0] <= span:
                self._arm()
            value = _enter(handler, argument)
            self.innermost = outer
        except BaseException as error:
            self.innermost = outer
            if not level.cut or isinstance(error, KeyboardInterrupt):
                raise
            if isinstance(error, AttemptCut) and error.level is not level:
                raise  # the cut of a call around this one
            raise outlasted(seconds) from error
        if level.cut:  # swallowed
            drop(value)
            raise outlasted(seconds)
        return value

    def release(self) -> None:
        """Disarm, install the earlier handler again and give the application's timer what remains of its time."""
        if signals.getsignal(_ALRM) is self.alarm or round(signals.getitimer(_REAL)[1] * 1e6) == _MARK:
            self._reconcile()
            self._give_back()

    def _arm(self) -> None:
        installed = signals.getsignal(_ALRM)
        self._reconcile()
        if installed is not self.alarm:
            if installed is None:
                raise SignalTaken
            try:
                signals.signal(_ALRM, self.alarm)
            except ValueError:
                raise SignalTaken from None
            self.earlier = installed
            self._promise()
        self._set(monotonic(), self._soonest())

    def _promise(self) -> None:
        """Give back before the interpreter ends: it restores the default action, and a pending signal would kill."""
        if not self.promised:
            import atexit

            atexit.register(self.release)
            self.promised = True

    def _soonest(self) -> float:
        soonest = self.due
        level = self.innermost
        while level is not None:
            soonest = min(soonest, level.deadline)
            level = level.outer
        return soonest

    def _reconcile(self) -> None:
        """Take over the application's timer, if that is what is pending."""
        now = monotonic()
        left, interval = signals.getitimer(_REAL)
        if not left:
            self.due = _NEVER  # ours repeats: somebody cleared the timer, and the application's with it
        elif round(interval * 1e6) != _MARK:
            self.due = now + left
            self.interval = interval

    def _set(self, now: float, at: float) -> None:
        if self.armed <= now:
            self.owed = True
        seconds = min(max(at - now, 1e-6), _LONGEST)
        self.armed = now + seconds
        signals.setitimer(_REAL, seconds, _MARK / 1e6)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        now = monotonic()
        foreign = now + _SLACK < self.armed and not self.owed
        self.owed = False
        if foreign:
            self._reconcile()
        else:
            self.armed = _NEVER  # taken notice of
        ended = not foreign and self.due <= now + _SLACK
        if ended:
            self.due = now + self.interval if self.interval else _NEVER
        expired = None
        soonest = self.due
        level = self.innermost
        while level is not None:
            if level.deadline <= now:
                expired = level  # the outermost of those that have expired: it ends the others, too
            elif level.deadline < soonest:
                soonest = level.deadline
            level = level.outer
        inside = frame is not None and frame.f_code not in _BOOKS
        if self.innermost is None:
            self._give_back()
        else:
            self._set(now, soonest if expired is None else min(soonest, now + (AGAIN if inside else _BUSY)))
        if foreign or ended:
            self._pass_on(number, frame, ended=ended)
        if expired is not None and inside:
            expired.cut = True
            raise AttemptCut(expired)

    def _give_back(self) -> None:
        signals.setitimer(_REAL, 0.0)
        if signals.getsignal(_ALRM) is self.alarm:
            signals.signal(_ALRM, self.earlier)
        if self.due < _NEVER:
            signals.setitimer(_REAL, max(self.due - monotonic(), 1e-6), self.interval)
        self.armed = self.due = _NEVER
        self.owed = False

    def _pass_on(self, number: int, frame: FrameType | None, *, ended: bool) -> None:
        earlier = self.earlier
        if callable(earlier):
            earlier(number, frame)
        elif ended and earlier == signals.SIG_DFL:
            signals.signal(_ALRM, signals.SIG_DFL)
            signals.raise_signal(_ALRM)


_BOOKS: Final = frozenset(
    code for method in vars(IntervalTimer).values() if (code := getattr(method, "__code__", None)) is not None
)
