"""The road for every other thread: a spare thread runs the handler while the caller waits as long as the limit.

Nothing can be raised in a foreign thread, so a late handler is disowned: the caller goes on, the thread ends when the
handler does, and what the handler brings then is dropped. The handler sees a copy of the caller's context variables;
what it sets in them stays with it.

This module must not be asked to run anything without a limit: that needs no thread.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from contextvars import Context, copy_context

from flux_core.limits.lateness import drop, outlasted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeVar

    A = TypeVar("A")


SPARE: Final = 16
"""So many idle threads are kept; a burst of more ends those that find no place."""


class Worker:
    """One spare thread. Two bare locks hand over: `_begin` to the thread, `_done` back to the caller."""

    __slots__ = ("_argument", "_begin", "_context", "_done", "_error", "_handler", "_leave", "_value")

    def __init__(self, number: int) -> None:
        from threading import Thread

        self._begin = allocate_lock()
        self._done = allocate_lock()
        self._begin.acquire()
        self._done.acquire()
        self._leave = False
        self._handler: Callable[..., object] | None = None
        self._argument: object = None
        self._context: Context | None = None
        self._value: object = None
        self._error: BaseException | None = None
        Thread(target=self._serve, name=f"flux-step-{number}", daemon=True).start()

    def run(self, handler: Callable[[A], object], argument: A, seconds: float) -> object:
        """Call `handler` on the thread. After `StepTimeout`, or any break of the waiting, the worker is used up."""
        self._context = copy_context()
        self._handler = handler
        self._argument = argument
        # Whoever hands over goes to sleep at once: the other then often runs on the same processor, much sooner.
        wait, longest = self._done.acquire, min(seconds, TIMEOUT_MAX)
        try:
            self._begin.release()
            done = wait(True, longest)
        except BaseException:
            self.leave()
            raise
        if not done:
            self.leave()
            raise outlasted(seconds)
        error = self._error
        if error is None:
            value = self._value
            self._value = None
            return value
        self._error = None
        try:
            raise error
        finally:
            del error  # the traceback holds this frame

    def leave(self) -> None:
        """Let the thread end: now if it is idle, else with its handler, whose outcome nobody will see."""
        self._leave = True
        if self._begin.locked():  # else, on a busy machine, it has not begun yet with what it was given, and leaves
            self._begin.release()

    @property
    def spent(self) -> bool:
        """True once the thread was told to end."""
        return self._leave

    def _serve(self) -> None:
        begin, done = self._begin.acquire, self._done.release
        while True:
            begin()
            if self._leave:
                drop(self._value)
                return
            context, handler, argument = self._context, self._handler, self._argument
            self._context = self._handler = self._argument = None
            if context is None or handler is None:  # cannot be: `run` sets both before it releases `_begin`
                return
            try:
                self._value = context.run(handler, argument)
            except BaseException as error:  # noqa: BLE001 -- it is the caller's, whatever it is
                self._error = error
            del context, handler, argument
            done()


class Workers:
    """The idle workers of this process."""

    __slots__ = ("_idle", "_made")

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._made = 0

    def call(self, handler: Callable[[A], object], argument: A, seconds: float) -> object:
        """Call `handler(argument)` on a worker; raises what it raises, or `StepTimeout` after `seconds`."""
        try:
            worker = self._idle.pop()
        except IndexError:
            self._made += 1
            worker = Worker(self._made)
        try:
            return worker.run(handler, argument, seconds)
        finally:
            if not worker.spent:
                if len(self._idle) < SPARE:
                    self._idle.append(worker)
                else:
                    worker.leave()

    def forget(self) -> None:
        """Start from nothing: in a forked child the parent's threads do not exist."""
        self._idle.clear()

    def release(self) -> None:
        """Let the idle threads end."""
        while self._idle:
            self._idle.pop().leave()
