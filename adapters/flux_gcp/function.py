"""One deployed function: its settings, store, queue and engine, made by the first event and kept while it is warm.

It must not look at an event. Nothing is made at import: the functions-framework imports a function before it forks its
worker, and gRPC does not survive a fork.
"""

from __future__ import annotations

import os
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core.host import Host
from flux_core.hosting import checked, hosted
from flux_gcp.firestore import FirestoreStorage
from flux_gcp.logger import GoogleLogger
from flux_gcp.settings import EMULATOR, QUEUE, FunctionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.engine import FluxEngine, Workflow
    from flux_core.ports import Codec, PayloadStorage, Scheduler, WorkflowStorage

LONGEST_TASK = 1790.0
"""Seconds: Cloud Tasks waits 1,800 for an answer and then tries again, while the first one still runs."""


class Parts(NamedTuple):
    """What a user's file gives; it wins over the environment."""

    workflows: tuple[Workflow, ...] = ()
    storage: WorkflowStorage | None = None
    payloads: PayloadStorage | None = None
    codec: Codec | None = None
    engine: FluxEngine | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 -- never changed
    """Of `FluxEngine`."""


class Function:
    """Makes its `host` once for all threads; a failure is not kept, the next event tries again."""

    def __init__(self, parts: Parts, *, only_callbacks: bool = False) -> None:
        """With `only_callbacks` it serves callback links and nothing else."""
        self.only_callbacks = only_callbacks
        self._parts = parts
        self._making = Lock()
        self._host: Host | None = None

    def host(self) -> Host:
        """It, made at need. `DefinitionError` names the setting that is wrong or missing."""
        if self._host is None:
            with self._making:
                if self._host is None:
                    self._host = self._made()
        return self._host

    def remaining(self, host: Host, arrived: float, *, task: bool = False) -> Callable[[], float]:
        """Tells the seconds that are left to an event that `arrived` at that time of the monotonic clock."""
        budget = host.settings.budget or LONGEST_TASK
        end = arrived + (min(budget, LONGEST_TASK) if task else budget)
        return lambda: end - monotonic()

    def _made(self) -> Host:
        settings = FunctionSettings.from_env()
        given = self._parts.engine
        engine = engine_of(settings, self._parts) if given is None else checked(given, settings.host, queue=QUEUE)
        return Host(engine, settings.host, only_callbacks=self.only_callbacks, timekeeper=timekeeper())


def engine_of(settings: FunctionSettings, parts: Parts = Parts()) -> FluxEngine:  # noqa: B008 -- it is a constant
    """The engine that the settings describe; what a user's file gives wins. `DefinitionError` says what is missing."""
    payloads = parts.payloads
    if payloads is None and settings.host.payloads:
        from flux_blob import BlobPayloads

        payloads = BlobPayloads(settings.host.payloads)
    storage = _storage(settings) if parts.storage is None else parts.storage
    options = {"payloads": payloads, "codec": parts.codec, **parts.options}
    options.setdefault("logger", GoogleLogger(settings.project, settings.host.log_level))
    scheduler = options.pop("scheduler", None) or _scheduler(settings)
    return hosted(settings.host, parts.workflows, storage, scheduler, queue=QUEUE, **options)


def timekeeper() -> str | None:
    """The address of Google's whose clock is compared with this machine's; an emulator has this machine's own."""
    return None if os.environ.get(EMULATOR) else "https://firestore.googleapis.com"


def _storage(settings: FunctionSettings) -> WorkflowStorage:
    if settings.host.storage:
        from flux_blob import BlobStorage

        return BlobStorage(settings.host.storage)
    store = settings.store
    return FirestoreStorage(store.project, store.database, prefix=store.prefix, timeout=store.timeout)


def _scheduler(settings: FunctionSettings) -> Scheduler | None:
    if not (settings.queue and settings.worker_url):
        return None
    from flux_gcp.scheduler import CloudTasksScheduler

    return CloudTasksScheduler(
        settings.queue,
        settings.worker_url,
        account=settings.account,
        budget=settings.host.budget or LONGEST_TASK,
        emulator=settings.tasks_emulator,
    )
