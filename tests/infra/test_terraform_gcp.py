"""The Terraform module of Google Cloud: valid for the schema, its own tests, and the store's indexes."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import pytest

from flux_core import trace
from flux_gcp.firestore_indexes import definitions
from tests.infra.sam import ROOT
from tests.services.terraform import Module, schema_module

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "infra" / "gcp" / "terraform"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    return schema_module(SOURCE, tmp_path_factory.mktemp("terraform"))


def test_it_is_valid_for_the_schema(module: Module) -> None:
    assert "The configuration is valid" in module.check("validate")


def test_an_argument_that_there_is_not_would_be_found(module: Module) -> None:
    file = module.folder / "wrong.tf"
    file.write_text('resource "google_storage_bucket" "wrong" {\n  name = "a"\n  location = "b"\n  colour = "c"\n}\n')
    assert 'An argument named "colour" is not expected here' in module.run("validate").text
    file.unlink()


def test_it_is_formatted(tmp_path: Path) -> None:
    assert Module(SOURCE, tmp_path, [], {}).run("fmt", "-check", "-recursive").code == 0


def test_its_own_tests_pass(module: Module) -> None:
    assert "7 passed, 0 failed" in module.check("test")


def test_the_indexes_are_those_that_the_store_would_make() -> None:
    assert json.loads((SOURCE / "firestore.indexes.json").read_text()) == definitions()


def test_the_alarm_waits_for_what_the_engine_writes_of_a_stuck_instance() -> None:
    line = "stuck: an operator is needed"
    assert line in (SOURCE / "alarms.tf").read_text()
    assert f'"{line}"' in inspect.getsource(trace)
