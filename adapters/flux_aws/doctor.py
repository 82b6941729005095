"""What `flux doctor aws` looks at: the settings of functions, and what Flux counts on of AWS's services.

It runs on an operator's machine with the operator's credentials; what a function itself may do, the function is asked
(the action `doctor`). It must not change anything but what that action leaves, and raises nothing: what it may not look
at is `UNKNOWN`.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from flux_aws.doctor_functions import asked, look, of_function, of_part
from flux_aws.doctor_resources import of_queue, of_table
from flux_aws.doctor_services import Refused, Services
from flux_aws.function import engine_of, timekeeper
from flux_aws.settings import Settings
from flux_core.doctor import FAILURE, HERE, OK, Finding, examine
from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flux_aws.doctor_functions import Deployed


def examined(
    environment: Mapping[str, str], functions: Mapping[str, str], services: Services | None = None
) -> Iterator[tuple[str, Finding]]:
    """Where it was found (`HERE`, or the part of a function), and what.

    `functions`: by the part that a function plays, its name or ARN; the settings are then those that the first of them
    has, else those of `environment`.
    """
    services = services or Services()
    deployed: list[Deployed] = []
    for part, name in functions.items():
        try:
            deployed.append(look(services, part, name))
        except Refused as error:
            yield part, Finding("function", FAILURE, f"{name}: {error}")
    if functions and not deployed:
        return
    try:
        settings = Settings.from_mapping(deployed[0].environment if deployed else environment)
    except DefinitionError as error:
        yield deployed[0].part if deployed else HERE, _unusable(error, settings_here=not deployed)
        return
    for finding in _of_settings(settings, services, settings_here=not deployed):
        yield HERE, finding
    for one in deployed:
        for finding in chain(of_function(one, settings), of_part(one, settings, services), asked(one, services)):
            yield one.part, finding


# --- what settings name ---------------------------------------------------------------------------------------------


def _of_settings(settings: Settings, services: Services, *, settings_here: bool) -> Iterator[Finding]:
    try:
        engine = engine_of(settings, sessions=services.sessions)
    except DefinitionError as error:
        yield _unusable(error, settings_here=settings_here)
        return
    yield Finding("settings", OK, _shown(settings))
    try:
        who = services.ask("sts", "get_caller_identity")["Arn"]
    except Refused as error:
        yield Finding("identity", FAILURE, str(error))
        return
    yield Finding("identity", OK, f"this machine asks as {who}")
    yield from examine(engine, "operator", timekeeper())
    engine.storage.close()
    if settings.table is not None:
        yield from of_table(settings.table, services)
    if settings.queue_url is not None:
        yield from of_queue(settings.queue_url, services)


def _unusable(error: DefinitionError, *, settings_here: bool) -> Finding:
    said = str(error)
    if settings_here:
        said = (
            f"{said.rstrip('.')}. Settings are those of the environment here: name the functions instead "
            f"(--worker NAME), or set what they have"
        )
    return Finding("settings", FAILURE, said)


def _shown(settings: Settings) -> str:
    told = (
        ("table", settings.table),
        ("store", settings.host.storage),
        ("payloads", settings.host.payloads),
        ("queue", settings.queue_url),
        ("sweeper", "on" if settings.host.sweeper else "off"),
    )
    return ", ".join(f"{name} {value}" for name, value in told if value)
