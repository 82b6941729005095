"""What Flux adds to the cold start of a function on Google Cloud: fresh processes with it and without it, in turn.

Both are functions of the functions-framework, called once through its application, on Firestore's emulator. The one
without makes the SDK's client and reads a document; the one with it starts an instance, which writes three times: so
all of the engine is loaded, and what it writes is counted against it. Bytecode is there beforehand, as an installer
compiles it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import flux_core
import flux_gcp
from benchmarks.figure import Figure, Samples
from flux_gcp.settings import EMULATOR, PROJECT
from tests.services.firestore import start

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC: Final = "cold start on Google Cloud"
TARGET_MS, TARGET_MB = 40.0, 15.0

_WITHOUT: Final = """
def handler(request):
    from google.cloud.firestore import Client
    Client(project="flux-benchmark").document("any/thing").get()
    return "", 200
"""
_WITH: Final = """
from flux_core import create_workflow, wait
from flux_gcp import http_function
order = create_workflow("order").step("approval", lambda ctx: wait("approved"))
handler = http_function(order)
"""
_PROGRAM: Final = """
import sys
from time import process_time
from functions_framework import create_app
application = create_app("handler", sys.argv[1], "http")
answer = application.test_client().post("/workflows/order/executions", json={})
spent = process_time()
assert answer.status_code < 300, answer.text
with open("/proc/self/status") as status:
    (most,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
print(spent * 1e3, int(most) / 1024)
sys.stdout.flush()
import os
os._exit(0)  # neither waits for gRPC's threads
"""


def measure(folder: Path, pairs: int) -> list[Figure]:
    """`pairs` pairs of processes, on an emulator of its own."""
    process, host = start(folder / "firestore-cold.log")
    with process:
        try:
            return _figures(folder, pairs, host)
        finally:
            process.kill()


def _figures(folder: Path, pairs: int, host: str) -> list[Figure]:
    sources = {}
    for name, text in (("without", _WITHOUT), ("with", _WITH)):
        sources[name] = folder / f"{name}.py"
        sources[name].write_text(text, encoding="utf-8")
    places = {str(Path(package.__file__ or "").parents[1]) for package in (flux_core, flux_gcp)}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sorted(places)),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
        EMULATOR: host,
        PROJECT: "flux-benchmark",
        "FLUX_SWEEPER": "on",
        "FLUX_STORE_TIMEOUT": "60",
    }
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    for name, source in sources.items():
        _run(source, environment)  # compiles, and is not counted
        assert found[name] == []
    for number in range(pairs):
        for name in ("with", "without") if number % 2 else ("without", "with"):
            found[name].append(_run(sources[name], environment))
    both = list(zip(found["with"], found["without"], strict=True))
    figures = []
    for place, unit, target in ((0, "ms", TARGET_MS), (1, "MB", TARGET_MB)):
        what = "processor time" if unit == "ms" else "memory at most"
        figures += [
            Figure.of(TOPIC, f"{what}: the SDK's client alone", unit, Samples.of([one[place] for _, one in both])),
            Figure.of(TOPIC, f"{what}: with Flux", unit, Samples.of([one[place] for one, _ in both])),
            Figure.of(
                TOPIC,
                f"{what}: with Flux above without, paired",
                unit,
                Samples.of([one[place] - other[place] for one, other in both]),
                target,
            ),
        ]
    return figures


def _run(source: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Milliseconds of processor time from the process' start to its first answer, and megabytes of memory at most."""
    command = [sys.executable, "-c", _PROGRAM, str(source)]
    told = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    spent, most = told.stdout.split()[-2:]
    return float(spent), float(most)
