"""What is due, found in the due index and ticked, or given to the queue. It must not decide what a tick does."""

from __future__ import annotations

from flux_core.errors import CallerError, CorruptRecord, ImportUnfinished
from flux_core.load import load
from flux_core.result import FluxResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_core.deadline import Deadline
    from flux_core.loop import EngineLoop
    from flux_core.ports import Clock, Due, InstanceRef, Logger, Scheduler, WorkflowStorage
    from flux_core.workflow import WorkflowDefinition


class Sweeper:
    """For one sweep, over one engine's store. `known` tells the definition of a name, None if there is none."""

    def __init__(
        self,
        storage: WorkflowStorage,
        clock: Clock,
        logger: Logger,
        loop: EngineLoop,
        known: Callable[[str], WorkflowDefinition | None],
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._logger = logger
        self._loop = loop
        self._known = known

    def ask(self, scheduler: Scheduler, limit: int, ahead: float, end: Deadline | None) -> int:
        """Have the queue tick what is due, or will be in `ahead` seconds, with the delay that is left; how many."""
        now = self._clock.now()
        asked = 0
        for entry in self._due(now + round(ahead * 1000), limit):
            if asked >= limit or (end is not None and end.budget() <= 0):
                break
            if self._definition(entry.ref) is not None:
                scheduler.wake(entry.ref, min(max(0, entry.due - now) / 1000, scheduler.horizon))
                asked += 1
        return asked

    def recover(
        self, limit: int, end: Deadline | None, on_result: Callable[[FluxResult], object] | None = None
    ) -> list[FluxResult]:
        """Tick what is due, here and now. `CallerError` for a limit below 1."""
        if type(limit) is not int or limit < 1:
            message = f"recover() needs a limit of at least 1, not {limit!r}"
            raise CallerError(message)
        ticked: list[FluxResult] = []
        for entry in self._due(None, limit):
            if len(ticked) >= limit or (end is not None and end.budget() <= 0):
                break
            result = self._ticked(entry, end)
            if result is not None:
                ticked.append(result)
                if on_result is not None:
                    on_result(result)
        return ticked

    def _due(self, until: int | None, window: int) -> Iterator[Due]:
        """The entries of the due index up to `until` (None: now, at each look), earliest first, each instance once.

        However many of them nobody can do anything about, the others come after them.
        """
        seen: set[InstanceRef] = set()
        while True:
            entries = self._storage.due(self._clock.now() if until is None else until, window)
            for entry in entries:
                if entry.ref not in seen:
                    seen.add(entry.ref)
                    yield entry
            if len(entries) < window:
                return
            window *= 2

    def _definition(self, ref: InstanceRef) -> WorkflowDefinition | None:
        known = self._known(ref.workflow)
        if known is None:
            self._logger.warn("due, but its workflow is not registered", workflow=ref.workflow, id=ref.id)
        return known

    def _ticked(self, entry: Due, end: Deadline | None) -> FluxResult | None:
        ref = entry.ref
        definition = self._definition(ref)
        if definition is None:
            return None
        begun = self._clock.monotonic()
        try:
            state = self._loop.tick(ref, definition, load(self._storage, ref), end, swept=entry.due)
        except (CallerError, CorruptRecord, ImportUnfinished) as error:
            self._logger.error("due, but cannot be ticked", workflow=ref.workflow, id=ref.id, error=repr(error))
            return None
        return FluxResult(state, definition, self._clock.monotonic() - begun)
