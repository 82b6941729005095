"""What docs/handlers-azure.md says is what the code has: host.json, settings, functions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import azure.functions as func

from flux_azure import blueprint, host_json
from flux_azure.settings import BUDGET, VARIABLES
from flux_core import create_workflow, hosting
from flux_core.hosting import HostSettings

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "handlers-azure.md").read_text(encoding="utf-8")


def table(title: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    text = re.split(r"^## ", PAGE.partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


def test_the_host_json_of_the_page_is_the_one_that_is_made() -> None:
    block = PAGE.partition("```json\n")[2].partition("```")[0]
    assert json.loads(block) == host_json() == host_json(BUDGET)


def test_the_page_names_every_setting() -> None:
    shared = {
        value
        for name, value in vars(hosting).items()
        if name.isupper() and isinstance(value, str) and value.startswith("FLUX_")
    }
    assert set(table("Settings")) == (shared | set(VARIABLES)) - {hosting.SWEEPER}


def test_the_page_knows_the_defaults() -> None:
    said = {name: row[0].strip("`") for name, row in table("Settings").items()}
    usual = HostSettings()
    numbers = {
        "FLUX_BUDGET": BUDGET,
        "FLUX_HTTP_BUDGET": usual.http_budget,
        "FLUX_MOST_BYTES": usual.most_bytes,
        "FLUX_LEASE": usual.lease,
        "FLUX_LONGEST_INVOCATION": usual.longest_invocation,
        "FLUX_SWEEP_AHEAD": usual.sweep_ahead,
        "FLUX_SWEEP_LIMIT": usual.sweep_limit,
        "FLUX_CALLBACK_EXPIRES": usual.callback_expires,
    }
    assert {name: float(said[name]) for name in numbers} == numbers
    assert (said["FLUX_TENANT"], said["FLUX_LOG_LEVEL"]) == (usual.tenant, usual.log_level)


def test_the_page_names_every_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_QUEUE", "flux-work")
    app = func.FunctionApp()
    app.register_functions(blueprint(create_workflow("nothing").step("step", lambda ctx: None)))
    assert set(table("Functions")) == {one.get_function_name() for one in app.get_functions()}
