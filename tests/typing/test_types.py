"""Type checkers know what handlers are given and what comes out of them.

The files beside this one are held by every run of mypy. Here mypy runs as it would for a user: what must be reported
in `wrong.py` is, each error on its line, and the rest of the files, and the guide's section about types, is accepted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MARK = re.compile(r"  # type: ignore\[([a-z-]+)\]$")
HELD = ("contexts.py", "inputs.py", "outputs.py")


def section(page: Path, heading: str) -> str:
    """The Python of one section of a page, each block where it stands, so that lines keep their numbers."""
    lines: list[str] = []
    inside = python = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            inside = line == heading
        python = line == "```python" if line.startswith("```") else python
        lines.append(line if inside and python and not line.startswith("```") else "")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """What mypy says of each file: the error code by line."""
    folder = tmp_path_factory.mktemp("checked")
    wrong = (HERE / "wrong.py").read_text(encoding="utf-8")
    (folder / "unmarked.py").write_text("\n".join(MARK.sub("", line) for line in wrong.splitlines()) + "\n")
    (folder / "guide.py").write_text(section(ROOT / "docs" / "guide.md", "## Types"))
    files = [folder / "unmarked.py", folder / "guide.py", *(HERE / name for name in HELD)]
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert outcome.stderr == ""
    found: dict[str, dict[int, str]] = {file.name: {} for file in files}
    for line in outcome.stdout.splitlines():
        match = re.fullmatch(r"(.*?):(\d+): error: .*  \[([a-z-]+)\]", line)
        if match is not None:
            found[Path(match[1]).name][int(match[2])] = match[3]
    return found


def test_each_wrong_line_is_reported_and_no_other(reported: dict[str, dict[int, str]]) -> None:
    wrong = (HERE / "wrong.py").read_text(encoding="utf-8")
    marked = {number: mark[1] for number, line in enumerate(wrong.splitlines(), 1) if (mark := MARK.search(line))}
    assert len(marked) > 40
    assert reported["unmarked.py"] == marked


@pytest.mark.parametrize("name", HELD)
def test_what_is_right_is_accepted(reported: dict[str, dict[int, str]], name: str) -> None:
    assert "assert_type(" in (HERE / name).read_text(encoding="utf-8")
    assert reported[name] == {}


def test_the_guides_section_about_types_is_accepted(reported: dict[str, dict[int, str]]) -> None:
    assert "Context[" in section(ROOT / "docs" / "guide.md", "## Types")
    assert reported["guide.py"] == {}
