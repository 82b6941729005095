"""The names that a deployment sets: each is documented, and a wrong value is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_aws import settings
from flux_aws.settings import Settings
from flux_core import DefinitionError, hosting

if TYPE_CHECKING:
    from types import ModuleType

PAGE = Path(__file__).resolve().parents[2] / "docs" / "handlers-aws.md"


def names_in(module: ModuleType) -> set[str]:
    """The variables that a module of settings names."""
    return {value for value in vars(module).values() if isinstance(value, str) and re.fullmatch(r"FLUX_\w+", value)}


def test_the_page_tells_of_every_variable_and_of_no_other() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Settings")[2].partition("\n## ")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"FLUX_\w+", first_cells)) == names_in(settings) | names_in(hosting)


def test_what_is_absent_or_empty_is_the_default() -> None:
    assert Settings.from_mapping({}) == Settings.from_mapping({"FLUX_TABLE": "", "FLUX_HOP_BUDGET": ""})
    assert Settings.from_mapping({}).host == hosting.HostSettings()


def test_each_variable_sets_its_own() -> None:
    found = Settings.from_mapping(
        {
            "FLUX_TABLE": "t",
            "FLUX_QUEUE_URL": "q",
            "FLUX_HOP_BUDGET": "10000",
            "FLUX_CALLBACK_SECRET": "s",
            "FLUX_METRICS": "m",
            "FLUX_TENANT": "acme",
        }
    )
    assert found[1:] == ("t", "q", 10_000, "s", "m")
    assert found.host.tenant == "acme"


@pytest.mark.parametrize("budget", ["0", "-1", "0.3", "1.5", "many", "inf"])
def test_a_hop_budget_that_is_none_is_named(budget: str) -> None:
    with pytest.raises(DefinitionError, match="FLUX_HOP_BUDGET"):
        Settings.from_mapping({"FLUX_HOP_BUDGET": budget})
