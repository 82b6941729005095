"""The tables of the documents that are made from the code. `python -m tests.docs.tables` writes them anew.

A table stands between `<!-- name: begin -->` and `<!-- name: end -->`; a test compares it with what this module makes.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from flux_core.machine import VERBS
from flux_core.state import STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def verbs_table() -> str:
    """What each verb does in each status, the statuses that behave alike in one column."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for status in STATUSES:
        columns.setdefault(tuple(VERBS[verb][status] for verb in VERBS), []).append(status)
    head = ["", *(", ".join(statuses) for statuses in columns.values())]
    rows = [[f"`{verb}`", *(cells[index] for cells in columns)] for index, verb in enumerate(VERBS)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def import_layers() -> str:
    """The layers of flux_core as import-linter is told them; modules that are still to come are left out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "core-order"]
    lines = []
    for layer in layers:
        names = [name.strip(" ()") for name in layer.split("|")]
        there = [name for name in names if (ROOT / "flux_core" / name).is_dir() or _module(name).exists()]
        lines += ["    " + " | ".join(there)] if there else []
    return "\n" + "\n".join(lines) + "\n"


def decision_pages() -> str:
    """A line for each decision: its file and its title."""
    pages = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for page in pages]
    return "\n".join(f"- [{title}]({page.name})" for page, title in zip(pages, titles, strict=True))


def _module(name: str) -> Path:
    return ROOT / "flux_core" / f"{name}.py"


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("semantics.md", "verbs"): verbs_table,
    ("architecture.md", "layers"): import_layers,
    ("decisions/README.md", "pages"): decision_pages,
}
"""Page and marker of each table, and what makes it."""


def split(text: str, name: str) -> tuple[str, str, str]:
    """What stands before, between and after the markers of the table `name`."""
    before, begin, rest = text.partition(f"<!-- {name}: begin -->")
    table, end, after = rest.partition(f"<!-- {name}: end -->")
    if not begin or not end:
        message = f"the page has no markers <!-- {name}: begin --> and <!-- {name}: end -->"
        raise ValueError(message)
    return before + begin, table.removeprefix("\n").removesuffix("\n"), end + after


def main() -> None:
    """Write every table into its page."""
    for (page, name), make in TABLES.items():
        path = DOCS / page
        before, _, after = split(path.read_text(encoding="utf-8"), name)
        path.write_text(f"{before}\n{make()}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
