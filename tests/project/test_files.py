"""What is committed runs on any machine, and every exemption says why."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import flux_core

if TYPE_CHECKING:
    from pathlib import Path

# Put together here so that this file does not hold them either.
FOREIGN = [b"/" + name + b"/" for name in (b"work", b"root")] + [b".".join((b"files", b"pythonhosted", b"org"))]


def test_no_committed_file_names_a_path_of_one_machine_or_a_registry_host(committed: list[Path], root: Path) -> None:
    found = [(str(path.relative_to(root)), word) for path in committed for word in FOREIGN if word in path.read_bytes()]
    assert found == []


def test_no_lock_file_is_committed(committed: list[Path]) -> None:
    assert [path.name for path in committed if path.suffix == ".lock"] == []


def test_the_scan_sees_this_project(committed: list[Path], root: Path) -> None:
    assert {root / "pyproject.toml", root / "Makefile", root / "flux_core" / "ports.py"} <= set(committed)


def ignore_lines(pyproject: str) -> list[str]:
    """The lines of pyproject that exempt something from a ruff rule."""
    lines, inside = [], False
    for line in pyproject.splitlines():
        if line.startswith("["):
            inside = line == "[tool.ruff.lint.per-file-ignores]"
        elif line == "ignore = [":
            inside = True
        elif inside and line.startswith("    "):
            lines.append(line)
    return lines


def test_every_ruff_ignore_has_its_reason_beside_it(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    codes = [*lint["ignore"], *(code for codes in lint["per-file-ignores"].values() for code in codes)]
    matches = [re.fullmatch(r'    "(\w+)", +# (\S.{9,})', line) for line in ignore_lines(text)]
    assert None not in matches
    assert [match[1] for match in matches if match] == codes


def test_the_package_and_the_project_have_one_version(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert getattr(flux_core, "__version__", project["version"]) == project["version"]
