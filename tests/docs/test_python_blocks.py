"""Every Python block of README and docs/ runs as it stands, in the order of its page; the assertions in it hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.conftest import bash_blocks, documents, name_of, python_blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LANGUAGES = {"python", "bash", "text", "json"}


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_the_python_blocks_of_a_page_run(page: Path, run_document: Callable[[Path], dict[str, object]]) -> None:
    run_document(page)


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_a_block_says_which_language_it_is(page: Path) -> None:
    """So that none escapes the tests by having no name, or another one."""
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("```")]
    assert {fence[3:] for fence in fences[::2]} <= LANGUAGES
    assert set(fences[1::2]) <= {"```"}


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_a_block_of_assertions_is_not_missed(page: Path) -> None:
    """What stands in a Python fence is what is run: as many blocks as fences."""
    text = page.read_text(encoding="utf-8")
    assert len(list(python_blocks(page))) == text.count("```python\n")
    assert len(list(bash_blocks(page))) == text.count("```bash\n")


def test_a_wrong_assertion_in_a_page_is_noticed(
    tmp_path: Path, run_document: Callable[[Path], dict[str, object]]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError):
        run_document(page)


def test_the_example_of_the_readme_prints_what_its_comments_say(
    run_document: Callable[[Path], dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    (readme,) = (page for page in documents() if page.name == "README.md" and page.parent.name != "decisions")
    run_document(readme)
    assert capsys.readouterr().out.splitlines() == ["suspended", "False", "rolled_back {}"]
    shown = [line.split("  # ")[1] for line in readme.read_text().splitlines() if line.startswith("print(")]
    assert [comment.partition(":")[0] for comment in shown] == ["suspended", "False", "rolled_back {}"]
