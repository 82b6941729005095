"""What the documents list is what the code has: verbs, records, events, modules, import layers, links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import flux_core
from flux_core import errors, records
from flux_core.state import STATUSES
from tests.docs.conftest import ROOT, name_of
from tests.docs.tables import TABLES, split

if TYPE_CHECKING:
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


@pytest.mark.parametrize(("page", "name"), TABLES)
def test_a_table_made_from_code_is_up_to_date(page: str, name: str) -> None:
    _, table, _ = split(read(f"docs/{page}"), name)
    assert table == TABLES[page, name](), "run python -m tests.docs.tables"


def test_semantics_names_every_status() -> None:
    assert sorted(first_cells(section("docs/semantics.md", "Statuses"))) == sorted(STATUSES)


def test_semantics_names_every_trace_event() -> None:
    assert sorted(first_cells(section("docs/semantics.md", "Trace events"))) == sorted(flux_core.EVENT_TYPES)


def test_protocol_names_every_record_type() -> None:
    types = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert sorted(first_cells(section("docs/protocol.md", "Records"))) == sorted(types)


def test_operating_names_every_key_that_is_redacted() -> None:
    (line,) = (line for line in section("docs/operating.md", "What is not shown").splitlines() if "default is" in line)
    assert tuple(re.findall(r"`(\w+)`", line.partition(". Names given")[0])[1:]) == flux_core.DEFAULT_REDACTED


def test_the_guide_names_every_error() -> None:
    named = set(re.findall(r"`(\w+)`", section("docs/guide.md", "Errors")))
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert kinds - named - {"StepFault"} == set()


def test_architecture_names_every_module_of_the_core_and_no_other() -> None:
    core = ROOT / "flux_core"
    there = {path.stem for path in core.glob("[!_]*.py")} | {path.parent.name for path in core.glob("*/__init__.py")}
    assert set(first_cells(section("docs/architecture.md", "flux_core, from the ground up"))) == there


def test_a_record_of_an_unknown_type_is_refused() -> None:
    """As protocol.md and decision 0010 promise to those who read what a later version wrote."""
    store = flux_core.MemoryStorage()
    flow = flux_core.create_workflow("flow").step("ask", lambda ctx: flux_core.wait("answer"))
    engine = flux_core.FluxEngine(store, workflows=[flow])
    engine.execute(flow, id="1")
    later = b'{"v":1,"t":"of-a-later-version","ep":1,"n":["x",1],"at":5}'
    assert store.append(flux_core.InstanceRef("default", "flow", "1"), 3, later) is None
    with pytest.raises(flux_core.CorruptRecord, match=r"record 3 of default/flow/1 .*of-a-later-version"):
        engine.get(flow, "1")


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
    docs = ROOT / "docs"
    linked = {
        (index.parent / target).resolve()
        for index in (docs / "index.md", docs / "decisions" / "README.md")
        for target in re.findall(r"\]\(([^)#\s]+)", index.read_text(encoding="utf-8"))
    }
    assert set(docs.rglob("*.md")) - {docs / "index.md"} <= linked
