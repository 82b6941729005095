"""What `flux doctor gcp` looks at: the settings here, and what Flux counts on of Google Cloud's services.

It runs on an operator's machine with the operator's credentials; what a function itself may do, the function is asked
(the action `doctor`). It must not change anything but what that action leaves, and raises nothing: what it may not look
at is `UNKNOWN`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.doctor import FAILURE, HERE, OK, Finding, examine
from flux_core.errors import DefinitionError
from flux_gcp.doctor_database import of_database
from flux_gcp.doctor_jobs import of_jobs
from flux_gcp.doctor_queue import of_queue
from flux_gcp.doctor_services import Refused, Services
from flux_gcp.function import engine_of, timekeeper
from flux_gcp.settings import EMULATOR, FunctionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def examined(
    environment: Mapping[str, str], functions: Mapping[str, str], services: Services | None = None
) -> Iterator[tuple[str, Finding]]:
    """Where it was found (`HERE`, or the part of a function), and what.

    `functions`: by the part that a function plays, the address where its routes begin. It is not asked here.
    """
    services = services or Services(environment)
    try:
        settings = FunctionSettings.from_env(environment)
        engine = engine_of(settings)
    except DefinitionError as error:
        said = f"{str(error).rstrip('.')}. Settings are those of the environment here: set what the functions have"
        yield HERE, Finding("settings", FAILURE, said)
        return
    yield HERE, Finding("settings", OK, _shown(settings))
    try:
        if not environment.get(EMULATOR):
            yield HERE, Finding("identity", OK, f"this machine asks as {services.identity()}")
        project = settings.store.project or services.project()
    except Refused as error:
        yield HERE, Finding("identity", FAILURE, str(error))
        return
    for finding in examine(engine, "operator", timekeeper()):
        yield HERE, finding
    engine.storage.close()
    yield from _services(project, settings, functions, services)


def _services(
    project: str | None, settings: FunctionSettings, functions: Mapping[str, str], services: Services
) -> Iterator[tuple[str, Finding]]:
    if project is not None and not settings.host.storage:
        for finding in of_database(project, settings.store.database, settings.store.prefix, services):
            yield HERE, finding
    sweeper = settings.host.sweeper
    if settings.queue:
        for finding in of_queue(settings.queue, settings.account, services, sweeper=sweeper):
            yield HERE, finding
    there = {"sweeper": sweeper, "purge": settings.host.purge_after is not None}
    for part, expected in there.items():
        if expected or part in functions:
            for finding in of_jobs(part, settings, functions.get(part), project, services):
                yield part if part in functions else HERE, finding


def _shown(settings: FunctionSettings) -> str:
    told = (
        ("database", None if settings.host.storage else settings.store.database),
        ("store", settings.host.storage),
        ("payloads", settings.host.payloads),
        ("queue", settings.queue),
        ("worker", settings.worker_url),
        ("sweeper", "on" if settings.host.sweeper else "off"),
    )
    return ", ".join(f"{name} {value}" for name, value in told if value)
