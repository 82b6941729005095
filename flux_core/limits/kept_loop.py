"""One kept loop: the coroutines on it, each within its time limit, and how the loop is thrown away.

At its deadline a coroutine's task is cancelled; if it has not ended `GRACE` seconds later it is disowned: its caller
goes on, the task may linger, its outcome is dropped. A lazily set watchdog sees to that; `asyncio.wait_for` would
cost twice as much as the whole call.

This module must not choose a loop or a thread (`event_loop` does), and needs asyncio only once there is a coroutine.
"""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import suppress
from time import monotonic

from flux_core.errors import StepFault
from flux_core.limits.lateness import drop, outlasted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable
    from contextvars import Context
    from typing import Final

GRACE: Final = 0.1
"""Seconds a cancelled task has for cleaning up before it is disowned."""

_NEVER: Final = float("inf")


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

    __slots__ = ("attempts", "leaving", "loop", "served", "task", "torn", "wake", "wake_at")

    def __init__(self, *, served: bool) -> None:
        from asyncio import Task, new_event_loop

        self.loop = new_event_loop()
        self.task = Task
        self.served = served  # runs all the time on a thread of its own
        self.attempts: set[Attempt] = set()
        self.leaving = False
        self.torn = False  # a call is on its way; if it still says so at the next one, that call was torn out
        self.wake: asyncio.TimerHandle | None = None
        self.wake_at = _NEVER

    def begin(self, attempt: Attempt, context: Context | None = None) -> None:
        """Make a task of the attempt, unless its caller has gone in the meantime."""
        if attempt.answered:
            drop(attempt.awaitable)
            return
        self.attempts.add(attempt)
        attempt.task = self.task(self._carry(attempt), loop=self.loop, context=context)
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

    def renounce(self) -> None:
        """Let go of the parent's loop in a forked child.

        `close` would take the parent's pipe out of the selector, which both processes share. So the child closes only
        its own descriptors, and the loop counts as closed.
        """
        with suppress(AttributeError):  # not a loop of asyncio's own: it has other names for them
            setattr(self.loop, "_closed", True)  # noqa: B010 -- see above
            for name in () if self.torn else ("_ssock", "_csock", "_selector"):
                getattr(self.loop, name).close()

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
