"""The engine of a function app, made out of settings at the first event and kept. It must not know an event."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

from flux_azure.account import OBSTORE_ACCOUNT, account, blob_account
from flux_azure.logger import AzureLogger
from flux_azure.settings import POSTGRES, QUEUE, AzureSettings
from flux_core.errors import DefinitionError
from flux_core.host import Host
from flux_core.hosting import STORAGE, checked, hosted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flux_core import FluxEngine
    from flux_core.engine import Workflow
    from flux_core.ports import PayloadStorage, Scheduler, WorkflowStorage


class Application:
    """What is built once in a worker's process. Threads may ask for it at the same time."""

    def __init__(self, workflows: tuple[Workflow, ...], engine: FluxEngine | None, options: dict[str, Any]) -> None:
        """`engine`, or the `options` to make one with: what is given there wins over the environment."""
        self._given = workflows, engine, options
        self._lock = Lock()
        self._hosts: tuple[Host, Host] | None = None

    @property
    def host(self) -> Host:
        """The one that serves everything. `DefinitionError` says which setting is missing or wrong."""
        return self._built()[0]

    @property
    def callbacks(self) -> Host:
        """The one behind the public route."""
        return self._built()[1]

    def _built(self) -> tuple[Host, Host]:
        if self._hosts is None:
            with self._lock:
                if self._hosts is None:
                    self._hosts = self._build(os.environ)
        return self._hosts

    def _build(self, environment: Mapping[str, str]) -> tuple[Host, Host]:
        workflows, engine, options = self._given
        settings = AzureSettings.from_env(environment)
        if engine is None:
            engine = engine_of(settings, environment, workflows, **options)
        else:
            checked(engine, settings.host, queue=QUEUE)
        host = Host(engine, settings.host, timekeeper=timekeeper(environment))
        return host, Host(engine, settings.host, only_callbacks=True)


def timekeeper(environment: Mapping[str, str]) -> str | None:
    """An address whose clock is compared with this machine's; None if the settings name no account."""
    try:
        return blob_account(environment).blobs
    except DefinitionError:
        return None


def engine_of(
    settings: AzureSettings, environment: Mapping[str, str], workflows: Sequence[Workflow] = (), **options: Any
) -> FluxEngine:
    """The engine that the settings describe; `options` (`storage` and those of `FluxEngine`) win over them."""
    storage = options.pop("storage", None)
    if storage is None:
        storage = _storage(settings, environment)
    if "scheduler" not in options:
        options["scheduler"] = _scheduler(settings, environment)
    if "payloads" not in options and settings.host.payloads is not None:
        options["payloads"] = _payloads(settings.host.payloads, environment)
    options.setdefault("logger", AzureLogger(settings.host.log_level))
    return hosted(settings.host, workflows, storage, options.pop("scheduler"), queue=QUEUE, **options)


def _storage(settings: AzureSettings, environment: Mapping[str, str]) -> WorkflowStorage:
    if settings.postgres is not None:
        from flux_local.postgres import PostgresStorage

        return PostgresStorage(settings.postgres)
    if settings.host.storage is not None:
        from flux_blob import BlobStorage

        return BlobStorage(settings.host.storage, options=_blob_options(environment))
    raise DefinitionError(
        f"No store is named: set {STORAGE} to az://container/prefix, or {POSTGRES} to the connection string of a "
        f"PostgreSQL database; or give blueprint(storage=...) a store."
    )


def _payloads(address: str, environment: Mapping[str, str]) -> PayloadStorage:
    from flux_blob import BlobPayloads

    return BlobPayloads(address, options=_blob_options(environment))


def _blob_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Of the app's own account, unless obstore's settings name another one."""
    return {} if environment.get(OBSTORE_ACCOUNT) else account(environment).blob_options()


def _scheduler(settings: AzureSettings, environment: Mapping[str, str]) -> Scheduler | None:
    if settings.triggers.queue is None:
        return None
    from flux_azure.scheduler import QueueScheduler
    from flux_azure.storage_queue import StorageQueue

    return QueueScheduler(StorageQueue(account(environment), settings.triggers.queue))
