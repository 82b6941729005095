"""The documents, and how their code blocks are run: one document after the other, its blocks in one namespace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from flux_core import FluxEngine
from flux_core.doctor import examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from sybil.document import Document

ROOT = Path(__file__).resolve().parents[2]


def documents() -> list[Path]:
    """README and every page of docs/ that holds a code block to run or to check."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if "```" in page.read_text(encoding="utf-8")]


def name_of(page: Path) -> str:
    """How a test names a document."""
    return page.relative_to(ROOT).as_posix()


def python_blocks(page: Path) -> Document:
    """The Python blocks of `page`, ready to be run."""
    return Sybil(parsers=[PythonCodeBlockParser()], path=str(ROOT)).parse(page)


def bash_blocks(page: Path) -> Document:
    """The bash blocks of `page`; nobody runs them."""
    return Sybil(parsers=[CodeBlockParser(language="bash", evaluator=lambda _: None)], path=str(ROOT)).parse(page)


EMULATORS = {
    "PostgresStorage": ("postgres_url", "DATABASE_URL"),
    "flux_gcp": ("firestore_emulator", "FIRESTORE_EMULATOR_HOST"),
}
"""By what a page imports: the fixture that starts what it needs, and the variable that tells where it is."""


def warm_up() -> None:
    """Have the emulator load what it answers with: on a busy machine that takes longer than a call may on a page."""
    from flux_gcp import FirestoreStorage

    storage = FirestoreStorage(project="warm-up", timeout=60)
    list(examine(FluxEngine(storage), "operator"))
    storage.close()


@pytest.fixture
def run_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[Path], dict[str, object]]:
    """Run the Python blocks of a document in an empty folder; what they defined comes back."""
    monkeypatch.chdir(tmp_path)

    def run(page: Path) -> dict[str, object]:
        document = python_blocks(page)
        code = "".join(str(example.parsed) for example in document)
        for package, (fixture, variable) in EMULATORS.items():
            if package in code:
                monkeypatch.setenv(variable, request.getfixturevalue(fixture))
                if package == "flux_gcp":
                    warm_up()
        document.namespace["__name__"] = page.stem.replace("-", "_")
        before = dict(os.environ)
        try:
            for example in document:
                example.evaluate()
        finally:
            os.environ.clear()
            os.environ.update(before)
            for value in document.namespace.values():
                if isinstance(value, FluxEngine):
                    value.storage.close()
        return document.namespace

    return run
