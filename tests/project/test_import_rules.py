"""The import rules of docs/architecture.md hold, and breaking one is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    search_path = os.pathsep.join([str(tree), str(tree / "adapters")])
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": search_path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The shipped packages and their rules, free to be broken."""
    shutil.copy(root / "pyproject.toml", tmp_path)
    for package in ("flux_core", "adapters"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_import_rules_hold(root: Path) -> None:
    outcome = lint_imports(root)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("flux_core/machine.py", "import flux_core.engine", "imports only what is below it"),
        ("flux_core/state.py", "from flux_core import machine", "imports only what is below it"),
        ("flux_core/newcomer.py", "", "imports only what is below it"),
        ("flux_core/machine.py", "import flux_core.ports", "know no port"),
        ("flux_core/engine.py", "import flux_local", "The core imports no adapter"),
        ("adapters/flux_local/__init__.py", "import flux_cli", "The core imports no adapter"),
        ("flux_core/engine.py", "def later():\n    import tests", "Nothing that is shipped imports tests"),
    ],
)
def test_a_forbidden_import_is_caught(copy: Path, module: str, line: str, rule: str) -> None:
    with (copy / module).open("a") as source:
        source.write(f"\n{line}\n")
    outcome = lint_imports(copy)
    broken = [report for report in outcome.stdout.splitlines() if report.endswith("BROKEN")]
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert any(rule in report for report in broken), outcome.stdout
