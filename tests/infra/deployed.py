"""The functions of a stack in moto, each with its own environment and access key, and a workflow to run on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flux_aws import lambda_handler
from flux_aws.rotation import rotation_handler
from flux_core import create_workflow, wait
from flux_core.system import SystemClock
from tests.aws.events import context, records, request
from tests.infra.play import prepare, ship

if TYPE_CHECKING:
    import pytest

    from tests.infra.stack import Stack


def ask(ctx: Any) -> Any:
    ctx.callback_url("approval")
    return wait("approval", timeout=600)


order = create_workflow("order").step("prepare", prepare).step("ask", ask).step("ship", ship)


class Deployed:
    """The functions of a stack, each with its own environment and access key."""

    def __init__(self, stack: Stack, patch: pytest.MonkeyPatch, clock: SystemClock | None = None) -> None:
        """`clock` is that of the function that deletes."""
        self.stack = stack
        self._clock = clock or SystemClock()
        self._patch = patch
        self._handlers: dict[str, Any] = {}

    def call(self, function: str, event: object) -> Any:
        """Invoke it; what it opens, it opens in its own environment."""
        with self._patch.context() as patch:
            for name, value in self._environment(function).items():
                patch.setenv(name, value)
            if function == "Rotation":
                return rotation_handler()(event, context())
            if function not in self._handlers:
                options: dict[str, Any] = {"clock": self._clock} if function == "Purge" else {}
                self._handlers[function] = lambda_handler(order, **options)
            return self._handlers[function](event, context())

    def http(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A request to the API."""
        answer = self.call("Api", request(method, path, body))
        assert answer["statusCode"] < 300, answer
        return dict(json.loads(answer["body"]))

    def pump(self) -> int:
        """Bring the worker what is in the queue; how many messages that were."""
        queue, sqs = self.stack.made()["WorkQueue"], self.stack.client("sqs")
        brought = 0
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0).get(
            "Messages"
        ):
            failed = self.call("Worker", records(*(one["Body"] for one in messages)))
            assert failed == {"batchItemFailures": []}
            for one in messages:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
            brought += len(messages)
        return brought

    def _environment(self, function: str) -> dict[str, str]:
        told = self.stack.client("lambda").get_function_configuration(
            FunctionName=self.stack.made()[f"{function}Function"]
        )
        given = {name: str(value) for name, value in told["Environment"]["Variables"].items()}
        return {
            **given,
            **self.stack.server.environment,
            "AWS_ENDPOINT_URL": self.stack.server.endpoint,
            "AWS_ACCESS_KEY_ID": function,
        }
