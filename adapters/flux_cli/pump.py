"""Wakes what is due: a loop around `engine.recover` that sleeps until the next timer. It must not print.

What happens is told as values (`Advanced`, `PassedOver`, ...) to whoever made the pump. Two pumps over one store do no
harm: one wins each claim. Stopping lets the step that runs end, and hands its instance over to whoever comes next.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core import FluxError, InvocationError
from flux_core.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import FluxEngine, FluxResult, InstanceRef
    from flux_core.ports import Due

BATCH: Final = 100
"""Instances ticked before the index is looked at again."""

_LONGEST_BACK_OFF: Final = 30.0
_PASSED_AGAIN: Final = 30.0
"""Seconds until an entry that could not be ticked is tried again: it costs a line of log each time."""

_FOREVER: Final = 30 * 86400.0
"""Seconds an invocation may take as long as nobody stops the pump; a month, which every platform's timers can hold."""


class Advanced(NamedTuple):
    """An instance was ticked and went on."""

    result: FluxResult


class PassedOver(NamedTuple):
    """An instance is due, and this engine can do nothing about it; told once, and tried again now and then."""

    ref: InstanceRef
    why: str


class Exited(NamedTuple):
    """A handler called `sys.exit`, which would have ended the pump."""

    code: object


class StoreSilent(NamedTuple):
    """The store did not answer; it is asked again in `pause` seconds."""

    why: str
    pause: float


class StoreBack(NamedTuple):
    """The store answers again."""


class Looked(NamedTuple):
    """One look is over, with so many instances advanced; the next comes in `pause` seconds."""

    advanced: int
    pause: float


Told = Advanced | PassedOver | Exited | StoreSilent | StoreBack | Looked


class Pump:
    """One loop over one engine. `stop` and `wake` may be called from signal handlers and other threads."""

    def __init__(
        self,
        engine: FluxEngine,
        told: Callable[[Told], object],
        *,
        interval: float = 1.0,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """`interval`: seconds between two looks at most, since other processes write too.

        `wait` sleeps so many seconds; the default can be woken. What `told` raises ends the loop.
        """
        self.engine = engine
        self._told = told
        self._interval = interval
        self._wait = self._rest if wait is None else wait
        self._bell: SimpleQueue[None] = SimpleQueue()  # the one queue whose `put` a signal handler may call
        self._stopping = False
        self._busy = False
        self._ticked = 0
        self._advanced = 0
        self._begun = 0
        self._back_off = 0.0
        self._passed: dict[InstanceRef, int] = {}
        self._passed_until = 0.0
        self._known: set[InstanceRef] = set()
        """Told as passed over, and due ever since."""

    # --- from outside -----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the loop once the step that is running has ended."""
        self._stopping = True
        self._bell.put(None)

    def wake(self) -> None:
        """Look now: something has just been written."""
        self._bell.put(None)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    @property
    def busy(self) -> bool:
        """Whether an instance may be at work right now."""
        return self._busy

    def run(self) -> None:
        """Look, and look again, until `stop`."""
        while not self._stopping:
            pause = self._look()
            if pause > 0 and not self._stopping:
                self._wait(pause)

    def once(self) -> int:
        """Tick everything that is due now; how many went on. `StorageUnavailable` if the store does not answer."""
        total = 0
        while not self._stopping:
            total += self._sweep()
            if self._ticked < BATCH:
                break
        return total

    def ahead(self, limit: int) -> list[Due]:
        """The next entries of the due index, earliest first, the ones that are due already among them."""
        return self.engine.storage.due(self.engine.clock.now() + 10 * 365 * 86_400_000, limit)

    # --- one look ---------------------------------------------------------------------------------------------

    def _look(self) -> float:
        """Tick what is due; the seconds until the next look."""
        try:
            advanced = self._sweep()
            pause = 0.0 if advanced else self._pause()
        except InvocationError as error:
            pause = self._back_off = min(max(1.0, 2 * self._back_off), _LONGEST_BACK_OFF)
            self._told(StoreSilent(str(error), pause))
            return pause
        if self._back_off:
            self._back_off = 0.0
            self._told(StoreBack())
        self._told(Looked(advanced, pause))
        return pause

    def _sweep(self) -> int:
        """Tick up to `BATCH` entries; how many instances went on."""
        engine = self.engine
        self._begun = now = engine.clock.now()
        self._ticked = self._advanced = 0
        if engine.clock.monotonic() >= self._passed_until:
            self._passed.clear()
        before = self._due(now)
        if all(self._passed.get(entry.ref) == entry.due for entry in before):
            return 0
        self._busy = True
        try:
            self._ticked = len(engine.recover(BATCH, deadline=self._left, on_result=self._result))
        except SystemExit as left:
            self._told(Exited(left.code))
        finally:
            self._busy = False
        if not self._stopping:
            self._pass_over(before)
        return self._advanced

    def _due(self, until: int) -> list[Due]:
        """The entries up to then; those that were passed over must not hide the others."""
        return self.engine.storage.due(until, BATCH + len(self._known))

    def _left(self) -> float:
        """The invocation's seconds: once they are none, no further step starts, and the instance is handed over."""
        return 0.0 if self._stopping else _FOREVER

    def _result(self, result: FluxResult) -> None:
        if result.state.updated_at < self._begun:
            return  # a tick that found nothing to do: the entry came too early, or somebody else owns it
        self._advanced += 1
        self._told(Advanced(result))

    def _pass_over(self, before: list[Due]) -> None:
        """Tell of the entries that are exactly as they were, and leave them alone for a while."""
        still = {entry.ref: entry.due for entry in self._due(self._begun)}
        self._known.intersection_update(still)
        for entry in before:
            if still.get(entry.ref) == entry.due and entry.ref not in self._passed:
                if not self._passed:
                    self._passed_until = self.engine.clock.monotonic() + _PASSED_AGAIN
                self._passed[entry.ref] = entry.due
                if entry.ref not in self._known:
                    self._known.add(entry.ref)
                    self._told(PassedOver(entry.ref, self._why(entry.ref)))

    def _why(self, ref: InstanceRef) -> str:
        if ref.workflow not in self.engine.workflows:
            return "this engine does not know its workflow"
        try:
            load(self.engine.storage, ref)
        except FluxError as error:
            return str(error)
        return "nothing came of it"

    # --- between two looks ------------------------------------------------------------------------------------

    def _pause(self) -> float:
        """Seconds until the next timer, at most `interval`."""
        now = self.engine.clock.now()
        entries = self._due(now + round(self._interval * 1000))
        times = [entry.due for entry in entries if self._passed.get(entry.ref) != entry.due]
        return min([self._interval, *((max(0, due - now) + 1) / 1000 for due in times[:1])])

    def _rest(self, seconds: float) -> None:
        with suppress(Empty):
            self._bell.get(timeout=seconds)
