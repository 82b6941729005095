"""What `flux doctor azure` looks at: settings, the accounts that they name, the queue, the timer, and host.json.

It runs on an operator's machine, with what lets the operator into the accounts; what the app itself may do, the app is
asked by its address (the action `doctor`). It must not change anything but what that action leaves, and raises
nothing: what it may not look at is `UNKNOWN`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flux_azure.account import ACCOUNT_NAME, CONNECTION, QUEUE_SERVICE, account, blob_account
from flux_azure.application import engine_of, timekeeper
from flux_azure.doctor_host_json import of_host_json
from flux_azure.doctor_resources import of_container, of_deletion, of_queue, of_timer
from flux_azure.doctor_services import LOG_IN, Services
from flux_azure.scheduler import QueueScheduler
from flux_azure.settings import POSTGRES, PURGE_SCHEDULE, QUEUE, AzureSettings
from flux_core.doctor import FAILURE, HERE, OK, UNKNOWN, Finding, clock_finding, examine
from flux_core.errors import DefinitionError
from flux_core.hosting import STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from flux_core.engine import FluxEngine

_OWN: Final = (CONNECTION, ACCOUNT_NAME, QUEUE_SERVICE)
_NAMED_BY: Final = (STORAGE, POSTGRES, QUEUE, *_OWN)
_WAYS_OF_OBSTORE: Final = (
    "AZURE_USE_AZURE_CLI",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_MSI_ENDPOINT",
)
"""Ways in that only the client of the blobs has."""
_FILES: Final = ("src/host.json", "host.json")


def examined(
    environment: Mapping[str, str], functions: Mapping[str, str], folder: Path | None = None
) -> Iterator[tuple[str, Finding]]:
    """Where it was found (`HERE`), and what.

    `functions`: by the part, the address where its routes begin; whoever calls asks them. `folder`: that of the
    project, whose host.json is looked at; the current one if it is not given.
    """
    if functions and not any(environment.get(name, "").strip() for name in _NAMED_BY):
        said = (
            f"this environment has none of the app's settings, so only the app is asked. With {STORAGE}, {QUEUE} and "
            f"{ACCOUNT_NAME} as the app has them, queue and timer are looked at, too"
        )
        yield HERE, Finding("settings", UNKNOWN, said)
        return
    for finding in _of_settings(environment, folder or Path()):
        yield HERE, finding


def _of_settings(environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    try:
        settings = AzureSettings.from_env(environment)
        own = _own(settings, environment)
        blobs = _blobs(settings, environment)
        engine = engine_of(settings, environment, **_left_out(settings, environment, own, blobs))
    except DefinitionError as error:
        yield Finding("settings", FAILURE, str(error))
        return
    yield Finding("settings", OK, _shown(settings))
    yield from _of_uses(settings, environment, engine, blobs)
    if blobs is not None:
        addresses = filter(None, (settings.host.storage, settings.host.payloads))
        for container in dict.fromkeys(address.split("/")[2] for address in addresses):
            yield of_container(blobs, container)
        yield of_deletion(blobs)
    if own is None:
        yield Finding(
            "timer", UNKNOWN, f"no account is named here: set {CONNECTION} or {ACCOUNT_NAME} as the app has it"
        )
    else:
        if settings.triggers.queue is not None:
            yield from of_queue(own, settings.triggers.queue)
        function, schedule = _timer(settings)
        yield of_timer(own, function, schedule, datetime.fromtimestamp(engine.clock.now() / 1000, UTC))
    yield from _of_project(settings, environment, folder)


def _own(settings: AzureSettings, environment: Mapping[str, str]) -> Services | None:
    """The account that the Functions host works in; it has the queue."""
    if settings.triggers.queue is None and not any(environment.get(name, "").strip() for name in _OWN):
        return None
    return Services(account(environment), environment)


def _blobs(settings: AzureSettings, environment: Mapping[str, str]) -> Services | None:
    if settings.host.storage is None and settings.host.payloads is None:
        return None
    return Services(blob_account(environment), environment)


def _left_out(
    settings: AzureSettings, environment: Mapping[str, str], own: Services | None, blobs: Services | None
) -> dict[str, Any]:
    """What the engine has to do without, since this machine cannot enter it: that is no fault of the deployment."""
    options: dict[str, Any] = {}
    if own is None or not own.can_enter:
        options["scheduler"] = None
    if settings.postgres is not None and not _can_open(blobs, environment):
        options["payloads"] = None
    return options


def _can_open(blobs: Services | None, environment: Mapping[str, str]) -> bool:
    return blobs is None or blobs.can_enter or any(environment.get(name) for name in _WAYS_OF_OBSTORE)


def _of_uses(
    settings: AzureSettings, environment: Mapping[str, str], engine: FluxEngine, blobs: Services | None
) -> Iterator[Finding]:
    address = timekeeper(environment)
    if settings.postgres is not None or _can_open(blobs, environment):
        yield from examine(engine, "operator", address)
    else:
        if address is not None:
            yield clock_finding(address, engine.clock.now)
        said = f"the app's identity enters it, and this machine has none. Enter it as yourself: {LOG_IN}"
        yield Finding("store", UNKNOWN, said)
    engine.storage.close()
    if isinstance(engine.scheduler, QueueScheduler):
        engine.scheduler.close()


def _timer(settings: AzureSettings) -> tuple[str, str]:
    """The function that a timer invokes, and when."""
    return ("flux_purge", PURGE_SCHEDULE) if settings.triggers.purges else ("flux_sweep", settings.triggers.schedule)


def _of_project(settings: AzureSettings, environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    subject = "host.json"
    found = next((path for name in _FILES if (path := folder / name).is_file()), None)
    if found is None:
        yield Finding(subject, UNKNOWN, f"there is none here ({' or '.join(_FILES)}): run this in the project's folder")
        return
    try:
        text = found.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        yield Finding(subject, UNKNOWN, f"{found} cannot be read ({error})")
        return
    yield from of_host_json(text, settings.host, environment)


def _shown(settings: AzureSettings) -> str:
    told = (
        ("store", settings.host.storage or "PostgreSQL"),
        ("payloads", settings.host.payloads),
        ("queue", settings.triggers.queue),
    )
    return ", ".join(f"{name} {value}" for name, value in told if value)
