"""Every call that a handler makes is one that its role allows, and every permission of a role is used by some call.

The handlers run on the SAM stack's own resources, in moto: a workflow is started, waits, is signalled, fails, is
retried, ends and is deleted. Each function has an access key of its own, by which the server tells who asked.
"""

from __future__ import annotations

import ast
import json
import urllib.request
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from flux_aws.rotation import STEPS
from flux_core.callbacks import parsed_keys
from tests.infra import sam
from tests.infra.deployed import Deployed
from tests.infra.play import Tomorrow
from tests.infra.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto

FUNCTIONS = ("Api", "Worker", "Sweeper", "Purge", "Rotation")
UNUSED = {
    "s3:ListBucket": "S3 asks for it when an object is absent, to say so; only Purge calls it",
    "dynamodb:GetItem": "where an answer was lost or a log has several pages; the worker also looks at children",
    "dynamodb:ConditionCheckItem": "where an id is used again after its instance was deleted (test_dynamodb_purge)",
}
"""What no call here needs, and why it is allowed nevertheless."""
OF_THE_PLATFORM = ("logs:", "kms:", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
"""What Lambda itself does by a function's role."""


class Call(NamedTuple):
    """An action on a resource, as policies have them."""

    who: str
    action: str
    resource: str


@pytest.fixture(scope="module")
def deployed(moto_cloud: Moto, translated: dict[str, Any]) -> Iterator[Deployed]:
    stack = Stack.create(moto_cloud, "flux-permissions", translated, PurgeAfterSeconds=3600)
    stack.speak_plain_http(stack.made()["PayloadBucket"])
    with pytest.MonkeyPatch.context() as patch:
        yield Deployed(stack, patch, Tomorrow())


@pytest.fixture(scope="module")
def calls(moto_cloud: Moto, deployed: Deployed) -> list[Call]:
    """What functions ask for at work."""
    asked(moto_cloud)  # what others have asked before does not count
    play(deployed)
    return asked(moto_cloud)


@pytest.fixture(scope="module")
def examined(moto_cloud: Moto, deployed: Deployed, calls: list[Call]) -> list[Call]:
    """What they ask for at an examination, which tries every permission: so it comes after their work."""
    assert calls
    for function in ("Api", "Worker", "Sweeper", "Purge"):
        told = deployed.call(function, {"action": "doctor", "part": function.lower()})
        failed = {one["subject"] for one in told["findings"] if one["standing"] == "failure"}
        assert failed == ({"clock"} if function == "Purge" else set()), told
    assert deployed.pump() >= 1
    return asked(moto_cloud)


def asked(server: Moto) -> list[Call]:
    """What functions have asked the server for since the last time."""
    with urllib.request.urlopen(f"{server.endpoint}/asked") as answer:  # noqa: S310 -- a server of our own
        return [call for one in json.load(answer) if one["who"] in FUNCTIONS for call in called(one)]


def play(deployed: Deployed) -> None:
    """Start, wait, signal, fail, retry, end, rotate, delete."""
    started = deployed.http("POST", "/workflows/order/executions?mode=async", {"fails": True})
    id_ = started["id"]
    assert deployed.call("Sweeper", {"action": "sweep"})["asked"] == 1
    assert deployed.pump() == 2
    assert deployed.http("GET", f"/workflows/order/executions/{id_}")["status"] == "suspended"
    deployed.http("POST", f"/workflows/order/executions/{id_}/signals/approval?mode=async", {"by": "ann"})
    assert deployed.pump() >= 1
    assert deployed.http("GET", f"/workflows/order/executions/{id_}")["status"] == "failed"
    mended = deployed.http("POST", f"/workflows/order/executions/{id_}/steps/ship/retry", {"data": {"mended": True}})
    assert mended["status"] == "completed"

    here = deployed.http("POST", "/workflows/order/executions", {})["id"]
    signalled = deployed.http("POST", f"/workflows/order/executions/{here}/signals/approval", {"by": "ann"})
    assert signalled["status"] == "completed"
    assert len(deployed.http("GET", "/workflows/order/executions")["items"]) == 2

    manager = deployed.stack.client("secretsmanager")
    secret = deployed.stack.made()["CallbackSecret"]
    token = manager.rotate_secret(SecretId=secret)["VersionId"]
    for step in STEPS:
        deployed.call("Rotation", {"SecretId": secret, "ClientRequestToken": token, "Step": step})
    assert list(parsed_keys(manager.get_secret_value(SecretId=secret)["SecretString"])) == ["k1", "k2"]

    assert deployed.call("Purge", {"action": "purge"}) == {"deleted": 2, "left": 0, "finished": True}
    assert deployed.http("GET", "/workflows/order/executions")["items"] == []


def called(one: dict[str, Any]) -> list[Call]:
    """What a request to AWS comes to in policies."""
    who, service, body, path = one["who"], one["service"], one["body"], one["path"].strip("/")
    if service == "dynamodb":
        table = f"arn:aws:dynamodb:eu-central-1:123456789012:table/{body.get('TableName')}"
        if one["operation"] == "TransactWriteItems":
            parts = [(kind, part) for item in body["TransactItems"] for kind, part in item.items()]
            kinds = {
                "Put": "PutItem",
                "Update": "UpdateItem",
                "Delete": "DeleteItem",
                "ConditionCheck": "ConditionCheckItem",
            }
            return [
                Call(who, f"dynamodb:{kinds[kind]}", f"{table.rpartition('/')[0]}/{part['TableName']}")
                for kind, part in parts
            ]
        index = f"/index/{body['IndexName']}" if "IndexName" in body else ""
        return [Call(who, f"dynamodb:{one['operation']}", table + index)]
    if service == "sqs":
        queue = body["QueueUrl"].rpartition("/")[2]
        return [Call(who, f"sqs:{one['operation']}", f"arn:aws:sqs:eu-central-1:123456789012:{queue}")]
    if service == "secretsmanager":
        return [Call(who, f"secretsmanager:{one['operation']}", body["SecretId"])]
    assert service == "s3", one
    bucket, _, key = path.partition("/")
    verb = {
        "GET": "GetObject",
        "HEAD": "GetObject",
        "PUT": "PutObject",
        "DELETE": "DeleteObject",
        "POST": "DeleteObject",
    }
    if "list-type=2" in one["query"]:
        return [Call(who, "s3:ListBucket", f"arn:aws:s3:::{bucket}")]
    return [Call(who, f"s3:{verb[one['operation']]}", f"arn:aws:s3:::{bucket}/{key or 'payloads/of-a-list'}")]


@pytest.fixture(scope="module")
def policies(moto_cloud: Moto, calls: list[Call]) -> dict[str, list[dict[str, Any]]]:
    """By function, the statements of its role, with the names of the stack."""
    iam = Stack("flux-permissions", moto_cloud).client("iam")
    made = Stack("flux-permissions", moto_cloud).made()
    found = {}
    for function in FUNCTIONS:
        document = iam.get_role_policy(RoleName=made[f"{function}Role"], PolicyName="flux")["PolicyDocument"]
        if isinstance(document, str):  # moto keeps what CloudFormation hands it as Python writes it
            document = ast.literal_eval(document)
        found[function] = [one for one in document["Statement"] if one]
    return found


def test_every_call_is_allowed(
    calls: list[Call], examined: list[Call], policies: dict[str, list[dict[str, Any]]]
) -> None:
    refused = {
        call
        for call in (*calls, *examined)
        if not any(
            call.action in sam.actions(one) and any(fnmatchcase(call.resource, each) for each in sam.resources(one))
            for one in policies[call.who]
        )
    }
    assert refused == set()
    assert {call.who for call in calls} == {*FUNCTIONS}


def test_every_permission_is_used_or_there_is_a_reason_for_it(
    calls: list[Call], policies: dict[str, list[dict[str, Any]]]
) -> None:
    used = {(call.who, call.action) for call in calls}
    idle = {
        (function, action)
        for function in FUNCTIONS
        for one in policies[function]
        for action in sam.actions(one)
        if (function, action) not in used and action not in UNUSED and not action.startswith(OF_THE_PLATFORM)
    }
    assert idle == set()
