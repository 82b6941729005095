"""The Terraform module of AWS: valid for the real provider, its own tests, and the layout of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_aws.dynamodb_items import EXPIRES
from flux_aws.dynamodb_table import DESCRIPTION
from tests.infra.sam import ROOT
from tests.services.moto import ENVIRONMENT
from tests.services.terraform import Module, aws_module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SOURCE = ROOT / "infra" / "aws" / "terraform"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    made = aws_module(SOURCE, tmp_path_factory.mktemp("terraform"), ENVIRONMENT)
    (made.folder / "tests" / "layout.tftest.hcl").write_text(
        layout((SOURCE / "tests" / "defaults.tftest.hcl").read_text())
    )
    return made


def layout(defaults: str) -> str:
    """A test of the table, out of what the store itself would make; providers and variables are those of the others."""
    attributes = {one["AttributeName"]: one["AttributeType"] for one in DESCRIPTION["AttributeDefinitions"]}
    primary = {one["KeyType"]: one["AttributeName"] for one in DESCRIPTION["KeySchema"]}
    table = "aws_dynamodb_table.state"
    conditions = [
        f"{{ for one in {table}.attribute : one.name => one.type }} == {mapping(attributes)}",
        f'{table}.hash_key == "{primary["HASH"]}" && {table}.range_key == "{primary["RANGE"]}"',
        f'{table}.billing_mode == "{DESCRIPTION["BillingMode"]}"',
        f'{table}.ttl[0].attribute_name == "{EXPIRES}"',
        f"length({table}.global_secondary_index) == {len(DESCRIPTION['GlobalSecondaryIndexes'])}",
    ]
    for index in DESCRIPTION["GlobalSecondaryIndexes"]:
        keys = {one["KeyType"]: one["AttributeName"] for one in index["KeySchema"]}
        projected = index["Projection"].get("NonKeyAttributes", [])
        conditions.append(
            f"[for one in {table}.global_secondary_index : "
            f'"${{one.hash_key}} ${{one.range_key}} ${{one.projection_type}}"'
            f' if one.name == "{index["IndexName"]}"] == ["{keys["HASH"]} {keys["RANGE"]} '
            f'{index["Projection"]["ProjectionType"]}"]'
        )
        conditions.append(
            f"toset(flatten([for one in {table}.global_secondary_index : one.non_key_attributes == null ? [] : "
            f'tolist(one.non_key_attributes) if one.name == "{index["IndexName"]}"])) == toset({listing(projected)})'
        )
    asserts = "".join(
        f'  assert {{\n    condition = {one}\n    error_message = "not as DESCRIPTION has it"\n  }}\n'
        for one in conditions
    )
    shared = defaults[: defaults.index("\nrun ")]
    return f'{shared}\nrun "the_table_is_the_one_that_the_store_would_make" {{\n  command = apply\n{asserts}}}\n'


def mapping(given: dict[str, str]) -> str:
    return "{ " + ", ".join(f'{key} = "{value}"' for key, value in given.items()) + " }"


def listing(given: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in given) + "]"


def test_it_is_valid_for_the_real_provider(module: Module) -> None:
    assert "The configuration is valid" in module.check("validate")


def test_it_is_formatted(tmp_path: Path) -> None:
    assert Module(SOURCE, tmp_path, [], {}).run("fmt", "-check", "-recursive").code == 0


def test_its_own_tests_pass_and_so_does_one_of_the_stores_layout(module: Module) -> None:
    told = module.check("test")
    assert '"the_table_is_the_one_that_the_store_would_make"... pass' in told
    assert "10 passed, 0 failed" in told
