"""Call one handler within a time limit: which road it takes. The roads themselves are the modules beside this one.

| handler      | on the main thread                          | on another thread               |
|--------------|---------------------------------------------|---------------------------------|
| `def`        | in place, cut by a signal (`main_thread`)   | on a spare thread, disowned     |
| `async def`  | on the kept loop, cancelled (`event_loop`)  | on a loop thread, cancelled     |

The loop thread also serves a main thread that already runs a loop, and the threads serve a main thread without
signals (Windows). Without a limit a `def` handler is called in place, wherever that is.

This module must not know what a step is, and must not bring in asyncio or threading before they are needed.
"""

from __future__ import annotations

import os
from _thread import get_ident
from time import monotonic
from types import CoroutineType

from flux_core.limits.main_thread import AVAILABLE, IntervalTimer, SignalTaken
from flux_core.limits.worker_thread import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Final, TypeGuard, TypeVar

    from flux_core.limits.event_loop import Loops

    A = TypeVar("A")


_NEVER: Final = float("inf")
_CO_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE: the code of an `async def`


class _Roads:
    """What this process keeps between calls."""

    __slots__ = ("loops", "main", "timer", "workers")

    def __init__(self) -> None:
        self.main = 0  # the main thread's ident, once somebody asked
        self.timer: IntervalTimer | None = IntervalTimer() if AVAILABLE else None
        self.workers = Workers()
        self.loops: Loops | None = None

    def on_main(self) -> bool:
        if self.main == 0:
            from threading import main_thread

            self.main = main_thread().ident or 0
        return get_ident() == self.main

    def forget(self) -> None:
        """In a forked child: the parent's threads, loops and timer are not there, or are not the child's to use."""
        self.main = 0
        if self.timer is not None:
            self.timer.forget()
        self.workers.forget()
        if self.loops is not None:
            self.loops.forget()


_roads: Final = _Roads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_roads.forget)


def call_within(handler: Callable[[A], object], argument: A, seconds: float | None) -> object:
    """Call `handler(argument)` and return its value; if that is awaitable, await it and return what it brings.

    `seconds` (None: no limit; otherwise greater than 0) counts from now. Raises what the handler raises, unchanged,
    except that an `asyncio.CancelledError` out of an `async def` handler becomes a `StepFault`. Raises `StepTimeout`
    when the limit has passed: the handler was then cut, cancelled or disowned, whatever it still does or brings is
    dropped, and where it was is in the error's `__cause__` if it was cut. A handler that reached its end without
    having been cut is not late. Raises `ValueError`, without calling the handler, for a limit of 0 or less.
    """
    roads = _roads
    if seconds is None:
        value = handler(argument)
        return _awaited(value, None, _NEVER) if _awaitable(value) else value
    if not seconds > 0:
        raise ValueError(f"a time limit is greater than 0 s, not {seconds!r}; use None for no limit")
    deadline = monotonic() + seconds
    if get_ident() == roads.main or roads.on_main():
        timer = roads.timer
        try:
            if roads.loops is not None and _is_coroutine_function(handler):
                value = handler(argument)  # runs nothing of the handler yet
            elif timer is None:
                value = _on_a_worker(handler, argument, seconds)
            else:
                value = timer.call(handler, argument, seconds, seconds)
        except SignalTaken:
            value = _on_a_worker(handler, argument, seconds)
    else:
        value = _on_a_worker(handler, argument, seconds)
    return _awaited(value, seconds, deadline) if value is not None and _awaitable(value) else value


def release() -> None:
    """Give back what is kept: the timer and its signal, idle threads, loops. The next call starts anew."""
    if _roads.timer is not None and _roads.on_main():
        _roads.timer.release()
    _roads.workers.release()
    if _roads.loops is not None:
        _roads.loops.release()


def _on_a_worker(handler: Callable[[A], object], argument: A, seconds: float) -> object:
    if _is_coroutine_function(handler):
        return handler(argument)  # runs nothing of the handler yet
    return _roads.workers.call(handler, argument, seconds)


def _is_coroutine_function(handler: object) -> bool:
    code = getattr(handler, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & _CO_COROUTINE)


def _awaitable(value: object) -> TypeGuard[Awaitable[object]]:
    kind = type(value)
    return kind is CoroutineType or hasattr(kind, "__await__")  # as `await` does: ask the type, not the value


def _awaited(value: Awaitable[object], seconds: float | None, deadline: float) -> object:
    roads = _roads
    loops = roads.loops
    if loops is None:
        from flux_core.limits.event_loop import Loops

        loops = roads.loops = Loops()
    if roads.on_main() and (seconds is None or roads.timer is not None) and not loops.running():
        try:
            return loops.here(value, seconds, deadline, roads.timer)
        except SignalTaken:
            pass
    return loops.elsewhere(value, seconds, deadline)
