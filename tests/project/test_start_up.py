"""Importing the core costs little: a function pays for it at every cold start."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {
    *("asyncio", "concurrent", "dataclasses", "datetime", "decimal", "hashlib", "inspect", "logging"),
    *("sqlite3", "threading", "uuid"),
    *("msgspec", "pydantic", "rich", "typer"),
}
SDKS = {"azure", "boto3", "botocore", "google", "grpc", "obstore", "psycopg"}


def modules(root: Path, program: str, *flags: str) -> set[str]:
    """The modules loaded after `program`, with no environment (-I), and with -S no site-packages, to load any."""
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n{program}\nprint(*sys.modules)"
    outcome = subprocess.run(
        [sys.executable, "-I", *flags, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert outcome.returncode == 0, outcome.stderr
    return set(outcome.stdout.split())


def run(root: Path, program: str, *flags: str) -> set[str]:
    """The packages of which `program` loads a module; namespaces that an installed package declares do not count."""
    return {name.partition(".")[0] for name in modules(root, program, *flags) - modules(root, "", *flags)}


def test_importing_the_core_and_all_it_exports_loads_no_heavy_module(root: Path) -> None:
    everything = "import flux_core\nfor name in getattr(flux_core, '__all__', ()): getattr(flux_core, name)"
    loaded = run(root, everything, "-S")
    assert "flux_core" in loaded
    assert loaded & (HEAVY | SDKS) == set()


@pytest.mark.parametrize("package", ["flux_local", "flux_aws", "flux_gcp", "flux_blob"])
def test_importing_a_store_loads_no_client_of_its_service(root: Path, package: str) -> None:
    loaded = run(root, f"sys.path.insert(0, {str(root / 'adapters')!r})\nimport {package}\n{package}.__all__")
    assert package in loaded
    assert loaded & SDKS == set()


def test_every_module_of_the_core_imports_with_the_standard_library_alone(root: Path) -> None:
    modules = sorted(f"flux_core.{path.stem}" for path in (root / "flux_core").glob("[!_]*.py"))
    loaded = run(root, f"import {', '.join(modules)}", "-S")
    assert loaded - sys.stdlib_module_names == {"flux_core"}


DECLARED = """
import sys
from flux_core import Context, create_workflow, flow
{model}
def charge(ctx{context}){returned}:
    return 1
body = flow().step("b", charge)
create_workflow("w").step("a", charge, compensate=charge).if_("i", lambda ctx: True, body).build()
"""
READERS = {"typing", "inspect", "flux_core.storable", "flux_core.hints", "flux_core.validation"}


def read_by(root: Path, context: str = "", returned: str = "", model: str = "") -> set[str]:
    """Which of the modules that read annotations a declaration has loaded."""
    program = DECLARED.format(context=context, returned=returned, model=model)
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n{program}\nprint(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", script]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(outcome.stdout.split()) & READERS


def test_declaring_a_workflow_reads_no_annotations_where_there_are_none(root: Path) -> None:
    assert read_by(root) == set()


def test_annotations_that_name_no_class_to_be_stored_load_nothing(root: Path) -> None:
    assert read_by(root, ": Context", " -> int") == read_by(root, ': "Context"', ' -> "None"') == set()


def test_a_class_with_plain_fields_is_found_without_typing(root: Path) -> None:
    model = "from dataclasses import dataclass\n@dataclass\nclass Money:\n    amount: int\n"
    loaded = read_by(root, ': "Context[Money, Money]"', " -> Money", model)
    assert loaded == {"flux_core.storable", "inspect"}  # dataclasses itself loads inspect


def test_the_check_would_see_a_heavy_module(root: Path) -> None:
    assert "sqlite3" in run(root, "import sqlite3", "-S") & HEAVY
