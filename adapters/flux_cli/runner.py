"""Executes lines on a few threads and stays with their instances while they can go on by themselves.

A local run is its instances' only scheduler: it wakes those whose back-off, sleep or (after a crash) lease ends within
`patience`. It must not print, and decides nothing about an instance: `engine.wake` does.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Condition, Thread
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from flux_cli.outcomes import BROKEN, REJECTED, Outcome, Summary
from flux_core import CallerError, FluxResult, InstanceRef, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flux_cli.lines import Line
    from flux_core import FluxEngine

_GOES_ON: Final = frozenset({"pending", "running", "rolling_back", "suspended"})
_OWNED: Final = frozenset({"pending", "running", "rolling_back"})
_POLL: Final = 0.25
"""Seconds before the second look at an instance that another invocation owns; the pauses double from there."""

_LONGEST_POLL: Final = 2.0
"""Seconds between two looks at most: the owner may be done long before its lease ends."""

GRACE: Final = 5.0
"""Seconds that running lines get to end after Ctrl-C."""


class _Followed:
    """An instance that may go on by itself."""

    __slots__ = ("begun", "first_seen", "outcome", "pause")

    def __init__(self, outcome: Outcome, begun: float) -> None:
        self.outcome = outcome
        self.begun = begun
        self.first_seen = monotonic()
        self.pause = _POLL


class Runner:
    """One run of one workflow. `settled` is told each outcome, one at a time, once nothing more comes of it here."""

    def __init__(
        self,
        engine: FluxEngine,
        workflow: str,
        *,
        id_field: str | None,
        concurrency: int,
        patience: float,
        settled: Callable[[Outcome], None],
    ) -> None:
        """`patience` is in seconds; `id_field` names the input's field that is the instance's id."""
        self._engine = engine
        self._workflow = workflow
        self._id_field = id_field
        self._concurrency = concurrency
        self._patience = patience
        self._settled = settled
        self._changed = Condition()
        self._backlog: deque[Line] = deque()
        self._timers: list[tuple[float, int, _Followed]] = []
        self._attached: dict[str, list[Line]] = {}
        """Each id that is in flight in this run, and the later lines with it: they wait for the first one's end."""
        self._busy = 0
        self._all_read = False
        self._stopped = False
        self._fatal: BaseException | None = None
        self._serial = 0
        self.summary = Summary()

    @property
    def unfinished(self) -> int:
        """Lines that were begun and have not settled; told after an interruption."""
        return self._busy + len(self._timers)

    def run(self, lines: Iterable[Line]) -> Summary:
        """Execute every line.

        Raises what makes going on pointless: `StorageUnavailable`, or `KeyboardInterrupt` after the running lines had
        `GRACE` seconds to end.
        """
        begun = monotonic()
        threads = [Thread(target=self._work, name=f"flux-run-{n}", daemon=True) for n in range(self._concurrency)]
        for thread in threads:
            thread.start()
        try:
            for line in lines:
                if not self._offer(line):
                    break
            with self._changed:
                self._all_read = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped or self._idle)
        finally:
            self._stop()
            self.summary.seconds = monotonic() - begun
            limit = monotonic() + GRACE
            for thread in threads:
                thread.join(max(0.0, limit - monotonic()))
        if self._fatal is not None:
            raise self._fatal
        return self.summary

    @property
    def _idle(self) -> bool:
        return self._all_read and not (self._backlog or self._timers or self._busy)

    def _offer(self, line: Line) -> bool:
        """Put a line to the backlog, waiting while that is full; False if the run was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._backlog) < 4 * self._concurrency)
            if not self._stopped:
                self._backlog.append(line)
                self._changed.notify_all()
            return not self._stopped

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # --- on the threads ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._take()) is not None:
            try:
                if isinstance(task, _Followed):
                    self._wake(task.outcome)
                    self._look_after(task)
                elif (followed := self._begin(task)) is not None:
                    self._look_after(followed)
            except BaseException as error:  # noqa: BLE001 -- raised again on the main thread
                with self._changed:
                    self._fatal = self._fatal or error
                self._stop()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _take(self) -> Line | _Followed | None:
        with self._changed:
            while not (self._stopped or self._idle):
                pause = None
                if self._timers:
                    pause = self._timers[0][0] - time()
                    if pause <= 0:
                        self._busy += 1
                        return heappop(self._timers)[2]
                if self._backlog:
                    self._busy += 1
                    self._changed.notify_all()
                    return self._backlog.popleft()
                self._changed.wait(pause)
            return None

    def _begin(self, line: Line) -> _Followed | None:
        """Execute the line; None if it waits for an earlier one with its id."""
        begun = monotonic()
        outcome = Outcome(line.number, None, REJECTED)
        if line.problem is not None:
            return _Followed(outcome.failed_with("NotJson", line.problem), begun)
        try:
            id_ = self._id_of(line.value)
        except CallerError as error:
            return _Followed(outcome.failed_with(type(error).__name__, str(error)), begun)
        with self._changed:
            if id_ in self._attached:
                self._attached[id_].append(line)
                return None
            self._attached[id_] = []
        outcome.id = id_
        self._advance(outcome, lambda: self._engine.execute(self._workflow, line.value, id_))
        return _Followed(outcome, begun)

    def _wake(self, outcome: Outcome) -> None:
        id_ = outcome.id
        assert id_ is not None  # noqa: S101 -- only an instance is followed
        self._advance(outcome, lambda: self._engine.wake(self._workflow, id_))

    def _advance(self, outcome: Outcome, call: Callable[[], FluxResult]) -> None:
        """Put down how the instance stands after `call`; one line's error is that line's outcome."""
        try:
            outcome.stands(call())
        except CallerError as error:
            outcome.status = REJECTED
            outcome.failed_with(type(error).__name__, str(error))
        except StorageUnavailable:
            raise
        except SystemExit as left:
            # Taken for what it says it would end the whole run, in silence and with the handler's exit code.
            outcome.status = BROKEN
            code = "" if left.code is None else repr(left.code)
            outcome.failed_with("SystemExit", f"the handler called sys.exit({code}); raise an exception instead")
        except Exception as error:  # noqa: BLE001 -- see above
            outcome.status = BROKEN
            outcome.failed_with(type(error).__name__, str(error))

    def _id_of(self, value: object) -> str:
        if self._id_field is None:
            return self._engine.entropy.token()
        found = value.get(self._id_field) if isinstance(value, dict) else None
        if isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool)):
            return str(found)
        raise CallerError(
            f"it has no field {self._id_field!r} with a text or whole number, which --id-field makes the instance's id"
        )

    def _look_after(self, followed: _Followed) -> None:
        due = self._goes_on_at(followed)
        with self._changed:
            if due is None:
                self._settle(followed)
            else:
                self._serial += 1
                heappush(self._timers, (due, self._serial, followed))

    def _settle(self, followed: _Followed) -> None:
        outcome = followed.outcome
        if outcome.id is not None:
            # They come next, one after the other: the instance there is answers them, or refuses another input.
            self._backlog.extendleft(reversed(self._attached.pop(outcome.id)))
        if outcome.status == REJECTED and self._id_field is None:
            outcome.id = None  # a name that nothing was started under
        outcome.seconds = monotonic() - followed.begun
        self.summary.outcomes.append(outcome)
        self._settled(outcome)

    def _goes_on_at(self, followed: _Followed) -> float | None:
        """When to wake the instance, in seconds since the epoch; None if nothing comes of it within `patience`."""
        outcome = followed.outcome
        if outcome.status not in _GOES_ON or outcome.id is None:
            return None
        header = self._engine.storage.header(InstanceRef(self._engine.tenant, self._workflow, outcome.id))
        due = None if header is None or header.due is None else header.due / 1000
        outcome.goes_on_at = due
        now = time()
        if outcome.status in _OWNED:
            # Its owner may be done any moment (no `due` says that it is), or dead and its lease over at `due`.
            again = max(now + _POLL, min(due or now, now + followed.pause))
            followed.pause = min(2 * followed.pause, _LONGEST_POLL)
            waited = monotonic() - followed.first_seen
            return again if again - now + waited <= self._patience else None
        if due is None:
            return None
        due = max(due, now + _POLL)
        return due if due - now <= self._patience else None
