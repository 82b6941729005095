"""The wheel holds the packages, under the names that users import, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_string
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PACKAGES = {"flux_core", "flux_local", "flux_aws", "flux_azure", "flux_blob", "flux_gcp", "flux_cli", "flux_pytest"}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of this tree, built by the installed hatchling: nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (entry,) = (entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))
    return wheel.read(entry).decode()


def test_the_packages_stand_at_the_top(wheel: zipfile.ZipFile) -> None:
    tops = {entry.partition("/")[0] for entry in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_source_file_of_the_packages_is_there(wheel: zipfile.ZipFile, root: Path) -> None:
    sources = {
        path.relative_to(base).as_posix()
        for package in PACKAGES
        for base in (root if package == "flux_core" else root / "adapters",)
        for path in (base / package).rglob("*.py")
    }
    assert {entry for entry in wheel.namelist() if entry.endswith(".py") and not of_a_project(entry)} == sources


def of_a_project(entry: str) -> bool:
    """Whether it is data of the command line: a file of a starter, or of what deploys it."""
    return entry.startswith(("flux_cli/templates/", "flux_cli/infra/"))


def test_starters_and_infrastructure_come_along(wheel: zipfile.ZipFile, root: Path) -> None:
    there = {
        f"flux_cli/{path.relative_to(root).as_posix()}"
        for folder in ("templates", "infra")
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {entry for entry in wheel.namelist() if of_a_project(entry)} == there


def test_type_checkers_are_told_that_the_package_is_typed(wheel: zipfile.ZipFile) -> None:
    assert "flux_core/py.typed" in wheel.namelist()


def test_no_byte_code_is_shipped(wheel: zipfile.ZipFile) -> None:
    assert [entry for entry in wheel.namelist() if entry.endswith(".pyc")] == []


def test_the_core_has_no_runtime_dependency(wheel: zipfile.ZipFile) -> None:
    required = message_from_string(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    assert [requirement for requirement in required if "extra ==" not in requirement] == []


def test_the_command_and_the_licence_come_along(wheel: zipfile.ZipFile) -> None:
    assert "flux = flux_cli.main:run" in metadata(wheel, "entry_points.txt")
    assert "MIT License" in metadata(wheel, "licenses/LICENSE")


def test_pytest_is_told_of_the_plugin(wheel: zipfile.ZipFile) -> None:
    assert "[pytest11]\nflux_pytest = flux_pytest.plugin\n" in metadata(wheel, "entry_points.txt") + "\n"
