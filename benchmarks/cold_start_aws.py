"""What the engine and a handler add to the first call of a function: fresh processes of both, in turn.

Each platform is a real runtime with two functions: one that makes the client of the cloud's SDK and answers, and one
that opens the whole handler with its store's client and answers an invocation without a request to the store. Both say
what processor time and memory their process has taken by then. A platform is one entry of `PLATFORMS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks.figure import Figure, Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TOPIC = "cold start on Lambda"
TARGET_MS = 40.0
TARGET_MB = 15.0
BARE = "only the SDK's client"
FLUX = "engine and handler"


class Start(NamedTuple):
    """A first call."""

    wall: float
    """Milliseconds from the call to its answer, the start of the process included."""
    busy: float
    """Milliseconds of processor time of the process until the answer."""
    memory: float
    """Its peak, in MB."""


class Platform(NamedTuple):
    """A runtime, and the functions that are started on it."""

    name: str
    sources: Mapping[str, str]
    """The function's file, by what it does: `BARE`, `FLUX`, and what it costs to do more than `FLUX`."""
    start: Callable[[Path, str], Start]
    """Start the function of such a file, kept in a folder of its own, call it once and end it."""


def measure(folder: Path, pairs: int) -> list[Figure]:
    """`pairs` starts of each function, in turn, on each platform."""
    return [figure for platform in PLATFORMS for figure in _measure(platform, folder, pairs)]


def _measure(platform: Platform, folder: Path, pairs: int) -> list[Figure]:
    starts: dict[str, list[Start]] = {side: [] for side in platform.sources}
    folders = {side: folder / f"cold-start-{platform.name}-{number}" for number, side in enumerate(starts)}
    for side, source in platform.sources.items():
        folders[side].mkdir(parents=True)
        platform.start(folders[side], source)  # compiles what is imported, as an installer does
    for number in range(pairs):
        sides = [*starts] if number % 2 else [*reversed(starts)]
        for side in sides:
            starts[side].append(platform.start(folders[side], platform.sources[side]))

    def figure(name: str, unit: str, values: list[float], target: float | None = None) -> Figure:
        return Figure.of(TOPIC, f"{platform.name}: {name}", unit, Samples.of(values), target)

    def above(side: str, field: int) -> list[float]:
        return [one[field] - other[field] for one, other in zip(starts[side], starts[BARE], strict=True)]

    figures = [figure(f"first call, {BARE}", "ms", [start.wall for start in starts[BARE]])]
    for side in starts:
        if side != BARE:
            target = TARGET_MS if side == FLUX else None
            figures += [
                figure(f"{side} above that", "ms", above(side, 0), target),
                figure(f"{side} above that, processor time", "ms", above(side, 1)),
                figure(f"{side} above that, memory", "MB", above(side, 2), TARGET_MB if side == FLUX else None),
            ]
    return figures


# --- AWS Lambda, under its own emulator and runtime client -----------------------------------------------------------

_TOLD = """
def told():
    import resource, time
    return {"busy": time.process_time() * 1e3, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
"""
_LAMBDA_BARE = (
    _TOLD
    + """
import boto3
client = None

def handler(event, context):
    global client
    client = boto3.client("dynamodb")
    return told()
"""
)
_LAMBDA_FLUX = (
    _TOLD
    + """
from flux_aws import lambda_handler
from flux_core import create_workflow

order = create_workflow("order").step("ship", lambda ctx: "shipped")
flux = lambda_handler(order)

def handler(event, context):
    assert flux(event, context)["status"] == 404
    flux.function.host.engine.storage.client
    return told()
"""
)
_LAMBDA_LINE = _LAMBDA_FLUX.replace("    return told()", '    flux.function.logger.error("a line")\n    return told()')
_LAMBDA_METRIC = _LAMBDA_FLUX.replace(
    "    return told()",
    '    flux.function.metrics.emit({"type": "workflow:start", "workflow_name": "order"})\n'
    "    flux.function.metrics.flush()\n    return told()",
)


def _start_lambda(folder: Path, source: str) -> Start:
    from tests.services.lambda_runtime import function
    from tests.services.moto import ENVIRONMENT

    (folder / "app.py").write_text(source, encoding="utf-8")
    settings = {
        **ENVIRONMENT,
        "FLUX_TABLE": "flux",
        "FLUX_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/flux-work",
        "FLUX_LOG_LEVEL": "error",
        "FLUX_METRICS": "Flux",
        "POWERTOOLS_SERVICE_NAME": "flux",
    }
    started = function("app.handler", folder, settings)
    try:
        outcome = started.invoke({"action": "get", "workflow": "nowhere", "id": "o-1"})
    finally:
        started.close()
    assert outcome.error is None, outcome
    return Start(outcome.seconds * 1e3, outcome.payload["busy"], outcome.payload["memory"])


PLATFORMS = (
    Platform(
        "AWS Lambda",
        {BARE: _LAMBDA_BARE, FLUX: _LAMBDA_FLUX, "with a log line": _LAMBDA_LINE, "with a metric": _LAMBDA_METRIC},
        _start_lambda,
    ),
)
