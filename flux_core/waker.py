"""Asks the queue, if there is one, to bring a tick. It must not decide who needs one, and nothing may depend on it.

Whatever is asked for here stands in the due index already (PROTOCOL rules 7 and 8), so a queue that does not answer
costs time and loses nothing: the sweeper comes by.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.ports import Clock, InstanceRef, Logger, Scheduler


class Waker:
    """Over one scheduler, or none."""

    __slots__ = ("_clock", "_logger", "scheduler")

    def __init__(self, scheduler: Scheduler | None, clock: Clock, logger: Logger) -> None:
        self.scheduler = scheduler
        self._clock = clock
        self._logger = logger

    def at(self, ref: InstanceRef, due: int) -> None:
        """Have the instance ticked at `due` (ms since the epoch); what is past the queue's horizon is the sweeper's."""
        scheduler = self.scheduler
        if scheduler is None:
            return
        delay = max(0, due - self._clock.now()) / 1000
        if delay > scheduler.horizon:
            return
        try:
            scheduler.wake(ref, delay)
        except Exception as error:  # noqa: BLE001 -- the instance is saved, and the due index leads the sweeper to it
            self._logger.warn(
                "the queue was not told; the sweeper will find it", workflow=ref.workflow, id=ref.id, error=repr(error)
            )

    def now(self, ref: InstanceRef) -> None:
        """Have the instance ticked as soon as possible."""
        self.at(ref, 0)
