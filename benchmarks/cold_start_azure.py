"""What Flux adds to a cold start on Azure Functions: two apps on Microsoft's engine, in turn, each in a fresh worker.

One serves a workflow, the other only makes the SDK's client of the same store; both are indexed with the same triggers
and answer one request that looks for something which is not there. Measured is from the start of the process to that
answer. Bytecode is compiled beforehand into a folder of its own, as an installer does it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.figure import Figure, Samples
from flux_azure import host_json
from tests.services import azure_functions, azurite
from tests.services.azure_functions import Host
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC = "cold start on Azure Functions"
MOST_MS = 40.0
MOST_MB = 15.0
MOST_PAIRS = 20
_CONTAINER = "benchmark"

_WITH_FLUX: Final = """
import azure.functions as func

from flux_azure import blueprint
from flux_core import create_workflow

order = create_workflow("order").step("charge", lambda ctx: "paid").step("ship", lambda ctx: "shipped")

app = func.FunctionApp()
app.register_functions(blueprint(order))
"""
_WITH_THE_CLIENT_ALONE: Final = """
import json
import os

import azure.functions as func
import obstore
from obstore.store import AzureStore

app = func.FunctionApp()
client = None

@app.function_name("flux_workflows")
@app.route("workflows/{*rest}", "event", methods=["GET", "POST"])
def workflows(event: func.HttpRequest) -> func.HttpResponse:
    global client
    if client is None:
        client = AzureStore("benchmark", config=json.loads(os.environ["CLIENT"]), client_options={"allow_http": True})
    for prefix in ("S/", "L/"):
        obstore.list(client, prefix).collect()
    return func.HttpResponse("{}", status_code=404)

@app.function_name("flux_work")
@app.queue_trigger("message", "flux-work", "AzureWebJobsStorage")
def work(message: func.QueueMessage) -> None:
    pass

@app.function_name("flux_sweep")
@app.timer_trigger("timer", "0 * * * * *")
def sweep(timer: func.TimerRequest) -> None:
    pass
"""


class Cold(NamedTuple):
    """One start."""

    wall: float
    """Milliseconds."""
    busy: float
    """Milliseconds of processor time."""
    memory: float
    """The most that was resident, in MB."""


def measure(folder: Path, pairs: int) -> list[Figure]:
    """Up to 20 pairs of workers; Azurite is started and ended here."""
    if azure_functions.interpreter() is None:
        missing("Azure's Functions runtime", azure_functions.INSTALL)
    process, service = azurite.start(folder / "azurite.log")
    with process:
        try:
            service.create_container(_CONTAINER)
            return _figures(folder, service.endpoint, min(pairs, MOST_PAIRS))
        finally:
            process.kill()


def _figures(folder: Path, endpoint: str, pairs: int) -> list[Figure]:
    options = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY, "endpoint": endpoint}
    environment = {
        "AzureWebJobsStorage": f"AccountName={azurite.ACCOUNT};AccountKey={azurite.KEY};BlobEndpoint={endpoint};"
        f"QueueEndpoint={endpoint}",
        "FLUX_STORAGE": f"az://{_CONTAINER}",
        "FLUX_QUEUE": "flux-work",
        "CLIENT": json.dumps(options),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    apps = {"flux": _WITH_FLUX, "bare": _WITH_THE_CLIENT_ALONE}
    for name, text in apps.items():
        (folder / name).mkdir()
        (folder / name / "function_app.py").write_text(text)
        (folder / name / "host.json").write_text(json.dumps(host_json()))
        _start(folder / name, environment)  # compiles
    starts: dict[str, list[Cold]] = {name: [] for name in apps}
    for number in range(pairs):
        for name in apps if number % 2 else reversed(apps):
            starts[name].append(_start(folder / name, environment))
    flux, bare = starts["flux"], starts["bare"]
    above = [
        Cold(*(mine - other for mine, other in zip(one, two, strict=True))) for one, two in zip(flux, bare, strict=True)
    ]
    return [
        Figure.of(TOPIC, "with the SDK's client alone", "ms", Samples.of([one.wall for one in bare])),
        Figure.of(TOPIC, "with Flux", "ms", Samples.of([one.wall for one in flux])),
        Figure.of(TOPIC, "Flux above the client, paired", "ms", Samples.of([one.wall for one in above]), MOST_MS),
        Figure.of(TOPIC, "processor time of the same pairs", "ms", Samples.of([one.busy for one in above])),
        Figure.of(TOPIC, "resident memory above the client", "MB", Samples.of([one.memory for one in above]), MOST_MB),
    ]


def _start(folder: Path, environment: Mapping[str, str]) -> Cold:
    begun = perf_counter()
    host = Host(folder, environment)
    try:
        answer = host.http("GET", "/workflows/order/executions/none")
        wall = (perf_counter() - begun) * 1e3
        assert answer.status == 404, answer
        return Cold(wall, *_used(host.workers[0].process.pid))
    finally:
        host.close()


def _used(process: int) -> tuple[float, float]:
    """Milliseconds of processor time, and the most MB that were resident."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    busy = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3
    status = Path(f"/proc/{process}/status").read_text()
    return busy, int(status.partition("VmHWM:")[2].split()[0]) / 1024
