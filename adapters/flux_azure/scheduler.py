"""How an instance is woken on Azure: by a message in a storage queue, invisible until its time. It must not decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_azure.storage_queue import LONGEST
from flux_core.invocation import wake_message

if TYPE_CHECKING:
    from flux_azure.storage_queue import StorageQueue
    from flux_core.ports import InstanceRef

_SPARE = 3600
"""Seconds between the horizon and the service's limit, so that clocks may differ."""


class QueueScheduler:
    """The port `Scheduler` over a storage queue. Azure has no limit on chains of messages, so none is counted."""

    horizon = float(LONGEST - _SPARE)
    """Seconds: what is later than a week stays in the due index until the sweep comes near it."""

    def __init__(self, queue: StorageQueue) -> None:
        """`queue`: the one that the app's queue function is bound to."""
        self._queue = queue

    def wake(self, ref: InstanceRef, delay: float) -> None:
        """Have the instance ticked in `delay` seconds, at least once; `SchedulerUnavailable` if nobody took it."""
        self._queue.put(wake_message(ref), delay)

    def close(self) -> None:
        """Close the connections to the queue."""
        self._queue.close()
