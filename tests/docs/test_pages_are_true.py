"""What the documents list is what the code has: verbs, records, events, modules, import layers, links."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

import flux_core
from flux_core import errors, records
from flux_core.state import STATUSES
from tests.docs.conftest import ROOT, name_of
from tests.docs.tables import TABLES, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one of any level."""
    _, found, rest = read(page).partition(f"# {title}\n")
    assert found, f"{page} has no section {title!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The names in backquotes of each table row's first cell."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(("place", "make"), TABLES.items(), ids=lambda value: "/".join(value) if value else "")
def test_a_table_made_from_code_is_up_to_date(place: tuple[str, str], make: Callable[[], str]) -> None:
    page, name = place
    _, table, _ = split(read(f"docs/{page}"), name)
    assert table == make(), "run python -m tests.docs.tables"


def test_semantics_names_every_status() -> None:
    assert sorted(first_cells(section("docs/semantics.md", "Statuses"))) == sorted(STATUSES)


def test_semantics_names_every_trace_event() -> None:
    assert sorted(first_cells(section("docs/semantics.md", "Trace events"))) == sorted(flux_core.EVENT_TYPES)


def test_protocol_names_every_record_type() -> None:
    types = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert sorted(first_cells(section("docs/protocol.md", "Records"))) == sorted(types)


def test_the_guide_names_every_error() -> None:
    named = set(re.findall(r"`(\w+)`", section("docs/guide.md", "Errors")))
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert kinds - named - {"StepFault"} == set()


def test_architecture_names_every_module_of_the_core_and_no_other() -> None:
    core = ROOT / "flux_core"
    there = {path.stem for path in core.glob("[!_]*.py")} | {path.parent.name for path in core.glob("*/__init__.py")}
    assert set(first_cells(section("docs/architecture.md", "flux_core, from the ground up"))) == there


def test_architecture_shows_the_import_layers_that_are_checked() -> None:
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "core-order"]
    shown = section("docs/architecture.md", "Who may import whom")
    for layer in layers:
        modules = {name.strip() for name in layer.split("|") if not name.strip().startswith("(")}
        modules |= {
            name.strip(" ()")
            for name in layer.split("|")
            if (ROOT / "flux_core" / f"{name.strip(' ()')}.py").exists()
            or (ROOT / "flux_core" / name.strip(" ()")).is_dir()
        }
        lines = [set(re.split(r" \| ", line.strip())) for line in shown.splitlines() if line.startswith("    ")]
        assert not modules or modules in lines, f"docs/architecture.md lacks the layer {' | '.join(sorted(modules))}"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings give it."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists() or (anchor and anchor not in anchors(aim)):
            dead.append(target)
    assert dead == []


def test_every_page_is_reached_from_the_index() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", read("docs/index.md"))}
    assert {page for page in (ROOT / "docs").rglob("*.md") if page.name != "index.md"} <= linked
