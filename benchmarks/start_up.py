"""What `import flux_core` costs a cold start: fresh processes with and without it, in turn.

The bytecode is compiled beforehand into a folder of its own, as an installer does it. Bare Python means the same
command line with `pass` in place of the import.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter

import flux_core
from benchmarks.figure import Figure, Samples

TOPIC = "start-up"
TARGET = 15.0
HEAVY = frozenset(
    {
        *("asyncio", "inspect", "dataclasses", "sqlite3", "threading", "concurrent", "logging", "uuid", "datetime"),
        *("decimal", "hashlib", "pydantic", "msgspec", "rich", "typer"),
        *("boto3", "botocore", "google", "azure"),
    }
)
"""What the core must not bring in."""


def measure(cache: Path, pairs: int) -> tuple[list[Figure], dict[str, list[str]]]:
    """`pairs` pairs of processes; and the modules that the import loads, by whose they are."""
    place = f"import sys; sys.path.insert(0, {str(Path(flux_core.__file__).parents[1])!r})\n"
    bare, with_core = place + "pass", place + "import flux_core"
    inside = (
        place + "from time import perf_counter as now\nbegun = now()\nimport flux_core\nprint((now() - begun) * 1e3)"
    )
    _run(cache, with_core, write=True)
    wall: dict[str, list[float]] = {bare: [], with_core: []}
    cpu: dict[str, list[float]] = {bare: [], with_core: []}
    own: list[float] = []
    for number in range(pairs):
        for script in (bare, with_core) if number % 2 else (with_core, bare):
            seconds, busy = _time(cache, script)
            wall[script].append(seconds * 1e3)
            cpu[script].append(busy * 1e3)
        own.append(float(_run(cache, inside)))
    above = [one - other for one, other in zip(wall[with_core], wall[bare], strict=True)]
    busier = [one - other for one, other in zip(cpu[with_core], cpu[bare], strict=True)]
    figures = [
        Figure.of(TOPIC, "bare Python, whole process", "ms", Samples.of(wall[bare])),
        Figure.of(TOPIC, "with import flux_core, whole process", "ms", Samples.of(wall[with_core])),
        Figure.of(TOPIC, "import flux_core above bare Python, paired", "ms", Samples.of(above), TARGET),
        Figure.of(TOPIC, "processor time of the same pairs", "ms", Samples.of(busier)),
        Figure.of(TOPIC, "the import statement alone", "ms", Samples.of(own)),
    ]
    return figures, _modules(cache, bare, with_core)


def _modules(cache: Path, bare: str, with_core: str) -> dict[str, list[str]]:
    names = "\nimport sys; print(*sys.modules)"
    new = set(_run(cache, with_core + names).split()) - set(_run(cache, bare + names).split())
    ours = {name for name in new if name.partition(".")[0] == "flux_core"}
    return {
        "flux_core": sorted(ours),
        "standard library": sorted(new - ours),
        "heavy": sorted(name for name in new if name.partition(".")[0] in HEAVY),
    }


def _command(cache: Path, script: str) -> list[str]:
    return [sys.executable, "-I", "-X", f"pycache_prefix={cache}", "-c", script]


def _run(cache: Path, script: str, *, write: bool = False) -> str:
    command = _command(cache, script)
    if not write:
        command.insert(1, "-B")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _time(cache: Path, script: str) -> tuple[float, float]:
    """Seconds from start to end of a process, and seconds of processor time."""
    command = _command(cache, script)
    command.insert(1, "-B")
    before = getrusage(RUSAGE_CHILDREN)
    begun = perf_counter()
    subprocess.run(command, check=True)  # without a timeout: waiting with one polls, in steps of 16 ms
    seconds = perf_counter() - begun
    after = getrusage(RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
