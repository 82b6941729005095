"""The benchmark command runs whole, at tiny sizes. What it measures then says nothing, so nothing of it is asserted."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {
    "postgres": "durable step on PostgreSQL",
    "dynamodb": "durable step on DynamoDB",
    "firestore": "durable step on Firestore",
    "blob": "durable step in object storage",
    "cold-aws": "cold start on Lambda",
    "cold-gcp": "cold start on Google Cloud",
    "cold-azure": "cold start on Azure Functions",
}
"""What needs a service that cannot be had is left out, with a word why."""


class Outcome(NamedTuple):
    printed: str
    result: dict[str, Any]
    table: str
    text: str


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("results")
    scratch = tmp_path_factory.mktemp("scratch")
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", str(folder), "--scratch", str(scratch)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert list(scratch.iterdir()) == []
    (kept,) = folder.glob("*.json")
    text = kept.read_text(encoding="utf-8")
    return Outcome(run.stdout, json.loads(text), kept.with_suffix(".md").read_text(encoding="utf-8"), text)


def test_a_run_measures_every_topic(outcome: Outcome) -> None:
    topics = {figure["topic"] for figure in outcome.result["figures"]}
    steps = {"step in memory, by the clock", "step in memory, processor time"}
    stores = {topic for name, topic in SERVICES.items() if f"{name}: left out." not in outcome.printed}
    assert topics == {*steps, *stores, "durable step on SQLite", "map", "resume", "start-up", "test kit"}


def test_with_services_required_none_is_left_out(outcome: Outcome) -> None:
    assert os.environ.get("FLUX_REQUIRE_SERVICES") != "1" or "left out" not in outcome.printed


def test_a_figure_with_a_target_has_a_verdict_by_its_median(outcome: Outcome) -> None:
    judged = [figure for figure in outcome.result["figures"] if figure["target"] is not None]
    assert judged
    for figure in judged:
        assert figure["verdict"] == ("met" if figure["median"] <= figure["target"] else "missed")


def test_the_table_shows_every_figure_and_is_what_was_printed(outcome: Outcome) -> None:
    for figure in outcome.result["figures"]:
        assert all(f"| {part} |" in outcome.table for part in figure["name"].split(": "))
    assert outcome.table in outcome.printed


def test_the_result_says_on_what_it_was_measured(outcome: Outcome) -> None:
    machine = outcome.result["machine"]
    assert machine["cores"] >= 1
    assert platform.python_version() in machine["python"]
    assert machine["cpu"]
    assert machine["commit"]


def test_the_result_names_no_path_and_no_host(outcome: Outcome) -> None:
    for text in (outcome.text, outcome.table):
        assert str(ROOT) not in text
        assert str(Path.home()) not in text
        assert f'"{platform.node()}"' not in text


def test_importing_the_core_loads_nothing_heavy(outcome: Outcome) -> None:
    assert "flux_core" in outcome.result["modules"]["flux_core"]
    assert outcome.result["modules"]["heavy"] == []
