"""The story that docs/testing.md shows is the one that its blocks tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.docs.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_story_on_the_page_is_what_the_assertion_says(run_document: Callable[[Path], dict[str, object]]) -> None:
    page = ROOT / "docs" / "testing.md"
    told = run_document(page)["told"]
    assert f"```text\n{told}\n```\n" in page.read_text(encoding="utf-8")
