"""The roads of coroutines: one loop kept for the main thread, and loops on threads of their own for everyone else.

A coroutine runs as a task of a kept loop, so connections that a handler opens on it serve later handlers, and tasks
that a handler leaves behind go on whenever the loop runs. A task that blocks its loop cannot be cancelled: `LATE`
seconds after the deadline the main thread's timer cuts it, or, on a loop thread, the caller gives up. Both times that
loop is thrown away, with what else was on it, and the next coroutine gets a new one.

A handler on a loop thread that blocks it while it runs coroutines itself (an engine in a handler) gets a loop one
level deeper; the level travels in a context variable.

This module must be imported only once there is a coroutine to run: it is what brings asyncio in.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from contextlib import suppress
from contextvars import ContextVar, copy_context
from time import monotonic

from flux_core.limits.kept_loop import Attempt, KeptLoop
from flux_core.limits.lateness import drop, outlasted
from flux_core.limits.main_thread import SignalTaken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context
    from typing import Final

    from flux_core.limits.main_thread import IntervalTimer

LATE: Final = 0.25
"""Seconds after the deadline at which a blocked loop is given up."""

_depth: ContextVar[int] = ContextVar("flux_loop_depth", default=0)


class Loops:
    """The kept loops of this process: one for the main thread, one thread per level of nesting."""

    __slots__ = ("_here", "_lock", "_threads", "_watched", "running")

    def __init__(self) -> None:
        from asyncio import _get_running_loop

        self.running: Callable[[], object] = _get_running_loop  # the calling thread's, or None
        self._here: KeptLoop | None = None
        self._threads: dict[int, KeptLoop] = {}
        self._lock = allocate_lock()
        self._watched = False

    def here(
        self, awaitable: Awaitable[object], seconds: float | None, deadline: float, timer: IntervalTimer | None
    ) -> object:
        """Run on the main thread's loop, which must be the calling thread and run no loop yet.

        `seconds` is the limit to speak of, `deadline` its monotonic end. Raises what the coroutine raises, or
        `StepTimeout`; an `asyncio.CancelledError` of the handler's own making comes out as `StepFault`.
        `SignalTaken` says that the coroutine was not begun.
        """
        kept = self._here
        if kept is None or kept.torn or kept.loop.is_closed():
            if kept is not None:
                kept.throw_away()
            kept = self._here = self._new(served=False)
        kept.torn = True
        attempt = Attempt(awaitable, deadline)
        try:
            if timer is None or seconds is None:
                kept.run(attempt)
            else:
                timer.call(kept.run, attempt, seconds, max(deadline - monotonic(), 0.0) + LATE)
        except SignalTaken:
            kept.torn = False
            raise
        except BaseException:
            if attempt.task is None:
                drop(awaitable)
            elif attempt.task.done() and not attempt.task.cancelled():
                attempt.task.exception()  # the cut may have struck the task outside the handler: seen
            kept.throw_away()
            raise
        kept.torn = False
        return attempt.outcome(seconds)

    def elsewhere(self, awaitable: Awaitable[object], seconds: float | None, deadline: float) -> object:
        """Run on a loop thread and wait for it; raises as `here` does."""
        depth = _depth.get()
        context = copy_context()
        context.run(_depth.set, depth + 1)
        attempt = Attempt(awaitable, deadline)
        kept = self._submit(depth, attempt, context)
        try:
            if seconds is None:
                done = attempt.done.acquire()
            else:
                wait = max(deadline - monotonic(), 0.0) + LATE
                done = attempt.done.acquire(timeout=min(wait, TIMEOUT_MAX))
        except BaseException:
            attempt.answered = True
            with suppress(RuntimeError):  # closed
                kept.loop.call_soon_threadsafe(kept.disown, attempt)
            raise
        if not done and seconds is not None:
            attempt.answered = True
            self._retire(depth, kept, attempt)
            raise outlasted(seconds)
        return attempt.outcome(seconds)

    def forget(self) -> None:
        """Start from nothing: a forked child must not use its parent's loops."""
        for kept in (self._here, *self._threads.values()):
            if kept is not None:
                kept.renounce()
        self._here = None
        self._threads = {}
        self._lock = allocate_lock()

    def release(self) -> None:
        """Close every kept loop and end the loop threads that are idle."""
        kept, self._here = self._here, None
        if kept is not None and not kept.loop.is_running():
            kept.throw_away()
        with self._lock:
            threads, self._threads = self._threads, {}
        for kept in threads.values():
            kept.loop.call_soon_threadsafe(kept.leave)

    def _submit(self, depth: int, attempt: Attempt, context: Context) -> KeptLoop:
        from threading import Thread

        with self._lock:
            kept = self._threads.get(depth)
            if kept is None:
                kept = self._new(served=True)
                Thread(target=kept.serve, name=f"flux-loop-{depth}", daemon=True).start()
                self._threads[depth] = kept
            kept.loop.call_soon_threadsafe(kept.begin, attempt, context)
        return kept

    def _retire(self, depth: int, kept: KeptLoop, attempt: Attempt) -> None:
        with self._lock:
            if self._threads.get(depth) is kept:
                del self._threads[depth]
        with suppress(RuntimeError):  # closed
            kept.loop.call_soon_threadsafe(kept.leave)
            kept.loop.call_soon_threadsafe(kept.disown, attempt)

    def _new(self, *, served: bool) -> KeptLoop:
        if not self._watched:
            import atexit

            self._watched = True
            atexit.register(self.release)  # else Python warns of loops left open
        return KeptLoop(served=served)
