"""`python -m benchmarks.run`: measures every speed claim, prints a table, keeps the result.

A missed target does not end it with an error: a busy machine is no fault of the code.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from benchmarks import (
    cold_start_aws,
    cold_start_azure,
    cold_start_gcp,
    durable_steps,
    durable_steps_blob,
    durable_steps_dynamodb,
    durable_steps_firestore,
    durable_steps_postgres,
    kit,
    machine,
    maps,
    report,
    resuming,
    start_up,
    steps_in_memory,
)
from tests.services.missing import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
SERVICES: Final[Mapping[str, Callable[[Path, int], list[Figure]]]] = {
    "postgres": durable_steps_postgres.measure,
    "dynamodb": durable_steps_dynamodb.measure,
    "firestore": durable_steps_firestore.measure,
    "blob": durable_steps_blob.measure,
    "cold-aws": lambda folder, pairs: cold_start_aws.measure(folder, min(pairs, 20)),
    "cold-gcp": cold_start_gcp.measure,
    "cold-azure": cold_start_azure.measure,
}
"""Topics whose other side is a process of its own, which may be missing here."""
TOPICS: Final = ("memory", "map", "sqlite", *SERVICES, "resume", "startup", "kit")


def main() -> None:
    """Parse the command line, measure, report."""
    options = _options()
    scratch: Path = options.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    if not options.quick:
        machine.await_quiet(options.wait)
    with TemporaryDirectory(dir=scratch) as folder:
        result: dict[str, object] = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine.describe(ROOT, Path(folder)),
            "quick": options.quick,
        }
        before = machine.load()
        figures, modules = _measure(Path(folder), options.only, quick=options.quick)
        result["load"] = {"before": before, "after": machine.load()}
    if modules:
        result["modules"] = modules
    print(report.markdown(result, figures))
    if options.out is not None:
        found = result["machine"]
        assert isinstance(found, dict)
        for path in report.write(options.out, f"{result['date']}-{machine.slug(found)}", result, figures):
            print(f"wrote {path.name}")


def _measure(folder: Path, topics: list[str], *, quick: bool) -> tuple[list[Figure], dict[str, list[str]]]:
    figures: list[Figure] = []
    modules: dict[str, list[str]] = {}
    if "memory" in topics:
        sizes, rounds, block = ((5, 20), 2, 20) if quick else ((10, 100, 1_000, 10_000), 15, 2_000)
        figures += steps_in_memory.measure(sizes, rounds, block)
    if "map" in topics:
        figures += maps.measure((5, 20), 2) if quick else maps.measure((100, 1_000, 10_000), 9)
    if "sqlite" in topics:
        figures += durable_steps.measure(folder, 2 if quick else 100)
    for topic, measure in SERVICES.items():
        if topic in topics:
            try:
                figures += measure(folder, 2 if quick else 100)
            except Missing as why:
                print(f"{topic}: left out. {why}")
    if "resume" in topics:
        figures += resuming.measure(folder / "resume", (5,) if quick else (10, 1_000, 10_000), 2 if quick else 15)
    if "startup" in topics:
        timed, modules = start_up.measure(folder / "bytecode", 2 if quick else 40)
        figures += timed
    if "kit" in topics:
        figures += kit.measure(2 if quick else 50)
    return figures, modules


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure every speed claim.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, says nothing of speed")
    parser.add_argument("--only", action="append", choices=TOPICS, help="this topic only; may be given again")
    parser.add_argument("--out", type=Path, help="the folder for the result (default: benchmarks/results)")
    parser.add_argument("--dry", action="store_true", help="print the result and write no file")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build", help="where the database files go for the run")
    parser.add_argument("--wait", type=float, default=120.0, help="seconds to wait for a quiet machine (default: 120)")
    options = parser.parse_args()
    options.only = options.only or list(TOPICS)
    partial = options.quick or options.only != list(TOPICS)
    if options.dry or (options.out is None and partial):
        options.out = None  # only a whole run is worth keeping
    elif options.out is None:
        options.out = ROOT / "benchmarks" / "results"
    return options


if __name__ == "__main__":
    main()
