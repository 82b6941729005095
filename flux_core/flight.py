"""Attempts that are under way at the same time in one invocation: handed to threads, and fetched as they end.

It knows nothing of steps: a path, a call, and the event that came of it. With a virtual clock there are no threads: all
that was begun runs when the first outcome is asked for, so that a simulation can be repeated.
"""

from __future__ import annotations

import os
from _queue import Empty, SimpleQueue
from _thread import allocate_lock
from contextvars import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Final

    from flux_core.events import Event
    from flux_core.ports import Clock

    _Call = Callable[[], Event]
    _Outcome = tuple[str, Event | None, BaseException | None]
    _Job = tuple[SimpleQueue[_Outcome], str, _Call, Context]


MOST: Final = 32
"""Attempts that one invocation has under way at the same time; more wait for one of these to end."""


class Flight:
    """The attempts under way of one invocation, and those in a short pause before their next."""

    __slots__ = ("_begun", "_clock", "_ended", "_pauses", "_virtual", "paths", "raised")

    def __init__(self, clock: Clock) -> None:
        """A virtual clock may have `pick(n)`: which of n outcomes comes first; without it the one that began first."""
        self.paths: dict[str, Callable[[], None]] = {}
        """What is under way, and how to disown it."""
        self.raised: str | None = None
        """Whose attempt has raised what no handler may raise."""
        self._clock = clock
        self._virtual = getattr(clock, "virtual", False)
        self._begun: list[tuple[str, _Call]] = []
        self._ended: list[_Outcome] | SimpleQueue[_Outcome] = [] if self._virtual else SimpleQueue()
        self._pauses: dict[str, tuple[float, Event]] = {}

    @property
    def full(self) -> bool:
        """Whether no more may begin now."""
        return len(self.paths) - len(self._pauses) >= MOST

    def begin(self, path: str, call: _Call, disown: Callable[[], None]) -> None:
        """Have `call` run on a thread. `disown` is called if nobody waits for it any more."""
        self.paths[path] = disown
        if self._virtual:
            self._begun.append((path, call))
        else:
            _threads.hand(self._ended, path, call)  # type: ignore[arg-type]

    def pause(self, path: str, seconds: float, event: Event) -> None:
        """Let `event` come after `seconds`."""
        self.paths[path] = _nothing
        self._pauses[path] = self._clock.monotonic() + seconds, event

    def landed(self, seconds: float = 0.0) -> Event | None:
        """What came of an attempt that has ended, or does within `seconds`; without threads none does unawaited."""
        return None if self._virtual else self._ended_within(seconds)

    def next(self, seconds: float | None) -> Event | None:
        """What comes next: the outcome of an attempt, or the end of a pause; None if nothing does within `seconds`.

        An attempt that raised what no handler may raise (an interruption of the process) raises it here.
        """
        now = self._clock.monotonic
        end = None if seconds is None else now() + seconds
        first = min(self._pauses, key=lambda path: self._pauses[path][0], default=None)
        if first is not None:
            due = self._pauses[first][0]
            end = due if end is None else min(end, due)
        if len(self.paths) > len(self._pauses):
            event = self._ended_within(None if end is None else max(0.0, end - now()))
            if event is not None:
                return event
        elif end is not None and end > now():
            self._clock.sleep(end - now())
        if first is None or self._pauses[first][0] > now():
            return None
        del self.paths[first]
        return self._pauses.pop(first)[1]

    def _ended_within(self, seconds: float | None) -> Event | None:
        if isinstance(self._ended, list):
            outcome = self._ended_virtually(self._ended)
        else:
            try:
                outcome = self._ended.get(timeout=seconds)
            except Empty:
                return None
        path, event, error = outcome
        del self.paths[path]
        if error is not None:
            self.raised = path
            raise error
        return event

    def _ended_virtually(self, ended: list[_Outcome]) -> _Outcome:
        while self._begun:
            self.raised, call = self._begun.pop(0)
            ended.append((self.raised, call(), None))  # what no handler may raise ends the invocation here and now
            self.raised = None
        pick = getattr(self._clock, "pick", None)
        return ended.pop(0 if pick is None else pick(len(ended)))

    def disown(self) -> None:
        """Whatever is still under way does not count any more."""
        for disown in self.paths.values():
            disown()
        self.paths.clear()


def _nothing() -> None:
    """How to disown a pause."""


def _called(path: str, call: _Call) -> _Outcome:
    try:
        return path, call(), None
    except BaseException as error:  # noqa: BLE001 -- it is the invocation's, whatever it is
        return path, None, error


class _Threads:
    """The threads of this process that wait for attempts. There is always one for each attempt handed over."""

    __slots__ = ("_busy", "_jobs", "_lock", "_made")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start from nothing: in a forked child the parent's threads do not exist."""
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = allocate_lock()
        self._busy = 0
        self._made = 0

    def hand(self, ended: SimpleQueue[_Outcome], path: str, call: _Call) -> None:
        """Have a thread call `call` and put what came of it into `ended`."""
        with self._lock:
            self._busy += 1
            more = self._busy > self._made
            self._made += more
        self._jobs.put((ended, path, call, copy_context()))
        if more:
            from threading import Thread

            Thread(target=self._serve, name=f"flux-lane-{self._made}", daemon=True).start()

    def _serve(self) -> None:
        jobs = self._jobs
        while True:
            ended, path, call, context = jobs.get()
            outcome = context.run(_called, path, call)
            del call, context
            with self._lock:
                self._busy -= 1
                spare = self._made > _KEPT and self._made > self._busy
                self._made -= spare
            ended.put(outcome)
            del ended, outcome
            if spare:
                return


_KEPT = 64
"""So many threads are kept for later."""
_threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)
