"""The roads of coroutines: one loop kept for the main thread, and loops on threads of their own for everyone else.

A coroutine runs as a task of a kept loop, so connections that a handler opens on it serve later handlers, and tasks
that a handler leaves behind go on whenever the loop runs. At the deadline the task is cancelled; if it has not ended
`GRACE` seconds later it is disowned: the caller goes on, the task may linger, its outcome is dropped. A task that
blocks its loop cannot be cancelled: `LATE` seconds after the deadline the main thread's timer cuts it, or, on a loop
thread, the caller gives up. Both times that loop is thrown away and the next coroutine gets a new one.

A handler on a loop thread that blocks it while it runs coroutines itself (an engine in a handler) gets a loop one
level deeper; the level travels in a context variable.

This module must be imported only once there is a coroutine to run: it is what brings asyncio in.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from contextlib import suppress
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import TYPE_CHECKING, Final

from flux_core.errors import StepFault
from flux_core.limits.lateness import drop, outlasted
from flux_core.limits.main_thread import SignalTaken

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from flux_core.limits.main_thread import IntervalTimer

GRACE: Final = 0.1
"""Seconds a cancelled task has for cleaning up before it is disowned."""

LATE: Final = 0.25
"""Seconds after the deadline at which a blocked loop is given up."""

_NEVER: Final = float("inf")
_depth: ContextVar[int] = ContextVar("flux_loop_depth", default=0)


class Attempt:
    """One coroutine on its way: what it brought, and whether anybody still waits for it."""

    __slots__ = ("answered", "awaitable", "cut", "done", "due", "error", "task", "value")

    def __init__(self, awaitable: Awaitable[object], deadline: float) -> None:
        self.awaitable = awaitable
        self.due = deadline  # monotonic; moved on by `GRACE` when the task is cancelled
        self.answered = False  # nobody waits any more: it ended, or it was disowned
        self.cut = False
        self.task: asyncio.Task[None] | None = None
        self.value: object = None
        self.error: BaseException | None = None
        self.done = allocate_lock()
        self.done.acquire()

    def outcome(self, seconds: float | None) -> object:
        """The coroutine's value; raises its exception, or `StepTimeout` if it was cut at its limit of `seconds`."""
        error, self.error = self.error, None
        if self.cut and seconds is not None and not isinstance(error, KeyboardInterrupt):
            drop(self.value)
            raise outlasted(seconds) from error
        if error is None:
            return self.value
        from asyncio import CancelledError

        try:
            if isinstance(error, CancelledError):
                raise StepFault(
                    "the handler was cancelled from inside: an asyncio.CancelledError came out of it, and it was not "
                    "its time limit that cancelled it; catch it in the handler, or raise what it means"
                ) from error
            raise error
        finally:
            del error  # the traceback holds this frame


class KeptLoop:
    """A loop with the attempts on it and one lazily set watchdog. Everything happens on the loop's own thread."""

    __slots__ = ("attempts", "leaving", "loop", "served", "torn", "wake", "wake_at")

    def __init__(self, *, served: bool) -> None:
        from asyncio import new_event_loop

        self.loop = new_event_loop()
        self.served = served  # runs all the time on a thread of its own
        self.attempts: set[Attempt] = set()
        self.leaving = False
        self.torn = False  # a call is on its way; if it still says so at the next one, that call was torn out
        self.wake: asyncio.TimerHandle | None = None
        self.wake_at = _NEVER

    def begin(self, attempt: Attempt, context: Context | None = None) -> None:
        """Make a task of the attempt, unless its caller has gone in the meantime."""
        from asyncio import Task

        if attempt.answered:
            drop(attempt.awaitable)
            return
        self.attempts.add(attempt)
        attempt.task = Task(self._carry(attempt), loop=self.loop, context=context)
        if attempt.due < self.wake_at:
            self._set(attempt.due)

    def run(self, attempt: Attempt) -> None:
        """Begin the attempt and run the loop until it has ended or is disowned, whoever else stops the loop."""
        self.begin(attempt)
        while not attempt.answered:
            self.loop.run_forever()

    def serve(self) -> None:
        """Run the loop until `leave` or `disown`; the body of a loop thread. A task's SystemExit does not end it."""
        while self.attempts or not self.leaving:
            with suppress(BaseException):
                self.loop.run_forever()
        self.throw_away()

    def leave(self) -> None:
        """End the loop thread once no attempt is left on it."""
        self.leaving = True
        if not self.attempts:
            self.loop.stop()

    def disown(self, attempt: Attempt) -> None:
        """Cancel an attempt whose caller has gone."""
        self.attempts.discard(attempt)
        if attempt.task is not None:
            attempt.task.cancel()
        if self.leaving:
            self.leave()

    def throw_away(self) -> None:
        """Close the loop without a word about what is still on it."""
        import asyncio
        import inspect
        import sys

        loop = self.loop
        if loop.is_closed():
            return
        for task in asyncio.all_tasks(loop):
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 -- asyncio's own switch, but not in its types
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
        for attempt in self.attempts:
            attempt.answered = True
            awaited = attempt.awaitable
            if inspect.iscoroutine(awaited) and inspect.getcoroutinestate(awaited) == inspect.CORO_CREATED:
                awaited.close()
        self.attempts.clear()
        if loop.is_running():  # torn out of the very end of `run_forever`: finish what that would have done
            setattr(loop, "_thread_id", None)  # noqa: B010 -- see above
        if asyncio._get_running_loop() is loop:  # noqa: SLF001 -- documented for writers of loops
            asyncio._set_running_loop(None)  # noqa: SLF001 -- the same
            sys.set_asyncgen_hooks(None, None)
        loop.close()

    async def _carry(self, attempt: Attempt) -> None:
        # The task itself never fails, so asyncio has nothing to report, however late the handler ends.
        try:
            attempt.value = await attempt.awaitable
        except BaseException as error:  # noqa: BLE001 -- it is the caller's, whatever it is
            attempt.error = error
        if attempt.answered:
            drop(attempt.value)
        else:
            self._answer(attempt)

    def _answer(self, attempt: Attempt) -> None:
        attempt.answered = True
        self.attempts.discard(attempt)
        attempt.done.release()
        if self.leaving:
            self.leave()
        elif not self.served:
            self.loop.stop()

    def _set(self, at: float) -> None:
        if self.wake is not None:
            self.wake.cancel()
        self.wake_at = at
        self.wake = self.loop.call_later(at - monotonic(), self._look)

    def _look(self) -> None:
        self.wake_at = _NEVER
        now = monotonic() + 0.0005  # a loop may call a little early
        soonest = _NEVER
        for attempt in list(self.attempts):
            if attempt.due <= now:
                if attempt.cut or attempt.task is None:
                    self._answer(attempt)
                    continue
                attempt.cut = True
                attempt.due = now + GRACE
                attempt.task.cancel()
            soonest = min(soonest, attempt.due)
        if soonest < _NEVER:
            self._set(soonest)


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
        """Start from nothing: a forked child shares the parent's selectors and must not touch them."""
        for kept in [self._here, *self._threads.values()]:
            if kept is not None:
                with suppress(AttributeError):
                    setattr(kept.loop, "_closed", True)  # noqa: B010 -- else its finaliser unregisters the parent's pipe
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
