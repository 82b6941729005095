"""The starter for Terraform on AWS, applied by the real provider to a server that plays AWS, and on Lambda's runtime.

One apply serves all tests: that of the project as `flux init` has written it.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws.dynamodb_table import DESCRIPTION
from flux_aws.rotation import STEPS, rotation_handler
from flux_core.callbacks import parsed_keys
from flux_core.system import SystemClock
from tests.infra import stack
from tests.infra.on_lambda import OnLambda
from tests.infra.orders import KEYS, PATH, Orders
from tests.services.terraform import Module, aws_module
from tests.templates.starter import undefined, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.moto import Moto

pytestmark = pytest.mark.infra

NAME = "parcels"
PROVIDER = """
provider "aws" {
  s3_use_path_style           = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = false
}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter, with a package where `flux build aws` puts it, and with what deletes old instances."""
    folder = written("aws-terraform", tmp_path_factory.mktemp("starter"), NAME)
    shutil.make_archive(str(folder / "build" / "aws"), "zip", folder / "src")
    (folder / "purge_override.tf").write_text('module "flux" {\n  purge_after_seconds = 2592000\n}\n')
    (folder / "provider.tf").write_text(PROVIDER)
    return folder


@pytest.fixture(scope="module")
def applied(moto_cloud: Moto, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Module:
    settings = {
        "TF_VAR_callback_keys": KEYS,
        "TF_VAR_deletion_protection": "false",
        "AWS_ENDPOINT_URL": moto_cloud.endpoint,
    }
    module = aws_module(project, tmp_path_factory.mktemp("terraform"), {**moto_cloud.environment, **settings})
    module.check("apply", "-auto-approve", "-input=false")
    return module


@pytest.fixture(scope="module")
def told(applied: Module) -> dict[str, Any]:
    """The outputs."""
    return dict(json.loads(applied.check("output", "-json"))["stack"]["value"])


@pytest.fixture(scope="module")
def aws(moto_cloud: Moto) -> stack.Stack:
    return stack.Stack("terraform", moto_cloud)


@pytest.fixture(scope="module")
def deployed(
    aws: stack.Stack, told: dict[str, Any], project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnLambda]:
    aws.speak_plain_http(told["payloads"].split("/")[2])
    api = told["api_url"].removeprefix("https://").partition(".")[0]
    platform = OnLambda(aws, api, NAME, project / "src", tmp_path_factory.mktemp("logs"))
    yield platform
    platform.close()


class TestStack:
    def test_its_table_is_the_one_that_the_store_would_make(self, aws: stack.Stack, told: dict[str, Any]) -> None:
        table = aws.client("dynamodb").describe_table(TableName=told["table"])["Table"]
        assert parts(table) == parts({**DESCRIPTION, "BillingModeSummary": {"BillingMode": DESCRIPTION["BillingMode"]}})

    def test_its_functions_have_handlers_that_the_starter_defines(self, aws: stack.Stack, told: dict[str, Any]) -> None:
        assert told["function_aliases"].keys() == {"api", "worker", "sweeper", "purge", "rotation"}
        functions = aws.client("lambda")
        handlers = {
            functions.get_function_configuration(FunctionName=alias)["Handler"]
            for alias in told["function_aliases"].values()
        }
        assert undefined("aws-terraform", handlers) == set()

    def test_the_keys_of_links_are_in_its_secret_and_not_in_its_state(
        self, aws: stack.Stack, told: dict[str, Any], applied: Module
    ) -> None:
        secret = aws.client("secretsmanager").get_secret_value(SecretId=told["callback_secret"])["SecretString"]
        assert parsed_keys(secret) == parsed_keys(KEYS)
        assert KEYS not in (applied.folder / "terraform.tfstate").read_text()

    def test_a_second_plan_finds_it_unchanged_after_rotations(
        self, moto_cloud: Moto, aws: stack.Stack, told: dict[str, Any], applied: Module
    ) -> None:
        for _ in range(3):  # more often than AWS keeps what a rotation has put aside
            rotate(moto_cloud, told["callback_secret"])
        assert "terraform" in stages(aws, told["callback_secret"])
        again = applied.run("plan", "-input=false", "-detailed-exitcode")
        assert again.code == 0, f"2 if something differs: {again.text}"


class TestOrders(Orders):
    """On Lambda, with the resources of that stack."""

    def test_those_that_have_just_ended_are_not_deleted(self, deployed: OnLambda) -> None:
        deployed.call("POST", PATH, {"sku": "tea", "total": 40})
        assert deployed.scheduled("rate(1 day)") == {"deleted": 0, "left": 0, "finished": True}


class TestTheEnd:
    def test_all_of_it_is_removed(self, aws: stack.Stack, told: dict[str, Any], applied: Module) -> None:
        applied.check("destroy", "-auto-approve", "-input=false")
        assert told["table"] not in aws.client("dynamodb").list_tables()["TableNames"]
        assert json.loads((applied.folder / "terraform.tfstate").read_text())["resources"] == []


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
