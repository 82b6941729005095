"""The Terraform module of AWS: valid for the real provider, its own tests, store's layout and SAM stack's roles."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws.dynamodb_items import EXPIRES
from flux_aws.dynamodb_table import DESCRIPTION
from tests.infra import sam
from tests.infra.sam import ROOT
from tests.services.moto import ENVIRONMENT
from tests.services.terraform import Module, aws_module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SOURCE = ROOT / "infra" / "aws" / "terraform"
FUNCTIONS = ("Api", "Worker", "Sweeper", "Purge", "Rotation")
HERE = "eu-west-1:123456789012"
KEY = f"arn:aws:kms:{HERE}:key/k-1"
LOGS = f"arn:aws:logs:{HERE}:log-group:mock:*"
MOCKS = {
    "StateTable": f"arn:aws:dynamodb:{HERE}:table/mock",
    "PayloadBucket": "arn:aws:s3:::mock",
    "WorkQueue": f"arn:aws:sqs:{HERE}:mock",
    "CallbackSecret": f"arn:aws:secretsmanager:{HERE}:secret:mock",
    "KmsKeyArn": KEY,
    **{f"{function}Logs": LOGS for function in FUNCTIONS},
}
"""By the names of the SAM template: what the mocks of the module's own tests call the same."""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Module:
    made = aws_module(SOURCE, tmp_path_factory.mktemp("terraform"), ENVIRONMENT)
    (made.folder / "tests" / "promises.tftest.hcl").write_text(
        promises((SOURCE / "tests" / "defaults.tftest.hcl").read_text(), [*layout(), *roles()])
    )
    return made


def promises(defaults: str, conditions: Iterable[str]) -> str:
    """A test that all of it holds; providers and variables are those of the others."""
    asserts = "".join(
        f'  assert {{\n    condition = {one}\n    error_message = "not as it is elsewhere"\n  }}\n'
        for one in conditions
    )
    shared = defaults[: defaults.index("\nrun ")]
    given = f'  variables {{\n    purge_after_seconds = 2592000\n    kms_key_arn = "{KEY}"\n  }}\n'
    return (
        f'{shared}\nrun "it_is_as_the_store_and_the_sam_template_have_it" {{\n  command = apply\n{given}{asserts}}}\n'
    )


def roles() -> list[str]:
    """The roles of functions allow, statement by statement, what those of the SAM template do, which are recorded."""
    template = sam.read()
    return [
        f'toset([for one in output.role_policies["{function.lower()}"].Statement : jsonencode({{'
        "Action = sort(one.Action), Condition = try(one.Condition, {}), Effect = one.Effect, Resource = one.Resource"
        f"}})]) == toset({listing(allowed(template, f'{function}Role'))})"
        for function in FUNCTIONS
    ]


def allowed(template: dict[str, Any], role: str) -> list[str]:
    """The statements of a role of the SAM template, as JSON that can stand in quotes."""
    found = [
        {
            "Action": sorted(sam.actions(one)),
            "Condition": one.get("Condition", {}),
            "Effect": one["Effect"],
            "Resource": [name(each) for each in sam.resources(one)],
        }
        for one in sam.statements(template, role)
    ]
    return [json.dumps(one, sort_keys=True, separators=(",", ":")).replace('"', '\\"') for one in found]


def name(resource: Any) -> str:
    """What the module's mocks call a resource of the template."""
    match resource:
        case {"Fn::GetAtt": [logical, "Arn"]} | {"Ref": logical}:
            return MOCKS[logical]
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\.Arn\}", lambda found: MOCKS[found[1]], text)
        case _:
            raise AssertionError(resource)


def layout() -> list[str]:
    """What holds of the table, out of what the store itself would make."""
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
    return conditions


def mapping(given: dict[str, str]) -> str:
    return "{ " + ", ".join(f'{key} = "{value}"' for key, value in given.items()) + " }"


def listing(given: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in given) + "]"


def test_it_is_valid_for_the_real_provider(module: Module) -> None:
    assert "The configuration is valid" in module.check("validate")


def test_it_is_formatted(tmp_path: Path) -> None:
    assert Module(SOURCE, tmp_path, [], {}).run("fmt", "-check", "-recursive").code == 0


def test_its_own_tests_pass_and_so_does_one_of_the_stores_layout_and_the_sam_stacks_roles(module: Module) -> None:
    told = module.check("test")
    assert '"it_is_as_the_store_and_the_sam_template_have_it"... pass' in told
    assert "10 passed, 0 failed" in told
