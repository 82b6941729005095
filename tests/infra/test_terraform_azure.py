"""The Terraform module of Azure: valid for the provider's schema, its own tests, and the folders of the store."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from flux_azure import handler
from flux_blob.layout import Layout
from flux_core import trace
from tests.infra.sam import ROOT
from tests.services.terraform import Module, schema_module

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "infra" / "azure" / "terraform"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    return schema_module(SOURCE, tmp_path_factory.mktemp("terraform"))


def test_it_is_valid_for_the_schema(module: Module) -> None:
    assert "The configuration is valid" in module.check("validate")


def test_it_is_formatted(tmp_path: Path) -> None:
    assert Module(SOURCE, tmp_path, [], {}).run("fmt", "-check", "-recursive").code == 0


def test_its_own_tests_pass(module: Module) -> None:
    assert "7 passed, 0 failed" in module.check("test")


def test_the_blobs_that_the_app_may_delete_are_the_markers_of_both_indexes() -> None:
    layout = Layout("instances/")
    folders = {layout.due_folders()[0].split("/")[1], layout.marks("default").split("/")[1]}
    assert folders == {"_due", "_list"}
    assert '["_due", "_list"]' in (SOURCE / "roles.tf").read_text()


def test_the_alarms_wait_for_what_engine_and_app_write() -> None:
    alarms = (SOURCE / "alarms.tf").read_text()
    line = "stuck: an operator is needed"
    assert line in alarms
    assert f'"{line}"' in inspect.getsource(trace)
    for function in ("flux_sweep", "flux_work", "flux_rotate"):
        assert f"'{function}'" in alarms
        assert f'function_name("{function}")' in inspect.getsource(handler)
