"""The Terraform module of AWS, applied by the real provider to a server that plays AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws.dynamodb_table import DESCRIPTION
from flux_aws.rotation import STEPS, rotation_handler
from flux_core.callbacks import parsed_keys
from flux_core.system import SystemClock
from tests.infra import stack
from tests.infra.sam import ROOT
from tests.services.terraform import Module, aws_module

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.moto import Moto

pytestmark = pytest.mark.infra

SOURCE = ROOT / "infra" / "aws" / "terraform"
PROVIDER = """
provider "aws" {
  s3_use_path_style           = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = false
}
"""
KEYS = "k1:0123456789abcdef0123456789abcdef"


def test_it_is_made_found_unchanged_and_removed(moto_cloud: Moto, tmp_path: Path) -> None:
    package = tmp_path / "app.zip"
    package.write_bytes(stack.package())
    settings = {
        "TF_VAR_package_path": str(package),
        "TF_VAR_callback_keys": KEYS,
        "TF_VAR_purge_after_seconds": "2592000",
        "TF_VAR_deletion_protection": "false",
        "AWS_ENDPOINT_URL": moto_cloud.endpoint,
    }
    module = aws_module(SOURCE, tmp_path, {**moto_cloud.environment, **settings})
    (module.folder / "provider.tf").write_text(PROVIDER)

    module.check("apply", "-auto-approve", "-input=false")
    told = outputs(module)
    aws = stack.Stack("terraform", moto_cloud)
    table = aws.client("dynamodb").describe_table(TableName=told["table"])["Table"]
    assert parts(table) == parts({**DESCRIPTION, "BillingModeSummary": {"BillingMode": DESCRIPTION["BillingMode"]}})
    assert told["function_aliases"].keys() == {"api", "worker", "sweeper", "purge", "rotation"}
    secret = aws.client("secretsmanager").get_secret_value(SecretId=told["callback_secret"])["SecretString"]
    assert parsed_keys(secret) == parsed_keys(KEYS)
    assert KEYS not in (module.folder / "terraform.tfstate").read_text()

    for _ in range(3):  # more often than AWS keeps what a rotation has put aside
        rotate(moto_cloud, told["callback_secret"])
    assert "terraform" in stages(aws, told["callback_secret"])
    again = module.run("plan", "-input=false", "-detailed-exitcode")
    assert again.code == 0, f"2 if something differs: {again.text}"

    module.check("destroy", "-auto-approve", "-input=false")
    assert told["table"] not in aws.client("dynamodb").list_tables()["TableNames"]
    assert json.loads((module.folder / "terraform.tfstate").read_text())["resources"] == []


class Later(SystemClock):
    """So long after now that no link lives any more."""

    def now(self) -> int:
        return super().now() + 30 * 86_400_000


def rotate(server: Moto, secret: str) -> None:
    """What Secrets Manager does after as many days as the module says."""
    manager = stack.Stack("terraform", server).client("secretsmanager")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        handler = rotation_handler(environment={}, endpoint=server.endpoint, clock=Later())
        token = manager.rotate_secret(SecretId=secret)["VersionId"]
        for step in STEPS:
            handler({"SecretId": secret, "ClientRequestToken": token, "Step": step})


def stages(aws: stack.Stack, secret: str) -> set[str]:
    """The labels that versions of the secret have, without which AWS would delete them."""
    held = aws.client("secretsmanager").describe_secret(SecretId=secret)["VersionIdsToStages"]
    return {label for labels in held.values() for label in labels}


def outputs(module: Module) -> dict[str, Any]:
    return {name: one["value"] for name, one in json.loads(module.check("output", "-json")).items()}


def parts(table: dict[str, Any]) -> dict[str, Any]:
    """What of a table the module decides, in an order of its own."""
    return {
        "attributes": {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]},
        "keys": table["KeySchema"],
        "indexes": {
            one["IndexName"]: (one["KeySchema"], one["Projection"]["ProjectionType"],
                               sorted(one["Projection"].get("NonKeyAttributes", [])))
            for one in table["GlobalSecondaryIndexes"]
        },
        "billing": table["BillingModeSummary"]["BillingMode"],
    }  # fmt: skip
