"""A starter deployed on AWS: its functions on Lambda's own runtime, between the API, queue and schedule of its stack.

The stack is on a moto server. What API Gateway, SQS and EventBridge Scheduler invoke, and with what, is read from the
server; each function has the handler, the settings and the time limit that Lambda has of it there.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from flux_aws.rotation import STEPS
from flux_aws.settings import CALLBACK_SECRET, QUEUE_URL
from tests.aws.events import request
from tests.infra.orders import Answer, patiently
from tests.services import lambda_runtime
from tests.services.sqs_pump import Pump, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.infra.stack import Stack

PATIENCE: Final = 120.0
"""Seconds: a machine that runs tests may be busy."""
_FUNCTION: Final = re.compile(r":function:([^:/]+)(?::([^:/]+))?")


class OnLambda:
    """The functions of one stack, which begin when they are first invoked."""

    def __init__(self, stack: Stack, api: str, schedules: str, source: Path, logs: Path) -> None:
        """`api` and `schedules` name the HTTP API and the group of schedules; `source` is the folder of the code."""
        self._stack = stack
        self._source, self._logs = source, logs
        self._functions: dict[str, lambda_runtime.Function] = {}
        self._gateway, self._lambda = stack.client("apigatewayv2"), stack.client("lambda")
        self._routes = {one["RouteKey"]: one for one in self._gateway.get_routes(ApiId=api)["Items"]}
        self._targets = {
            f"integrations/{one['IntegrationId']}": one["IntegrationUri"]
            for one in self._gateway.get_integrations(ApiId=api)["Items"]
        }
        names = [one["Name"] for one in stack.client("scheduler").list_schedules(GroupName=schedules)["Schedules"]]
        told = [stack.client("scheduler").get_schedule(Name=name, GroupName=schedules) for name in names]
        self._schedules = {one["ScheduleExpression"]: one["Target"] for one in told}
        front = next(iter(self._targets.values()))
        self.settings = self.told(front)["Environment"]["Variables"]
        self._secrets = stack.client("secretsmanager")
        self.queue = Queue.at(stack.client("sqs"), self.settings[QUEUE_URL])
        (mapping,) = self._lambda.list_event_source_mappings(EventSourceArn=self.queue.arn)["EventSourceMappings"]
        self.pump = Pump(
            self.queue,
            lambda event: self.invoke(mapping["FunctionArn"], event),
            batch=mapping["BatchSize"],
            partial="ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", ()),
        )

    @property
    def keys(self) -> str:
        """As the secret has them now."""
        return str(self._secrets.get_secret_value(SecretId=self.settings[CALLBACK_SECRET])["SecretString"])

    # --- what Lambda does ------------------------------------------------------------------------------------------

    def told(self, target: str) -> dict[str, Any]:
        """What Lambda has of a function, by an address with its alias, or the version that moto makes of that."""
        found = _FUNCTION.search(target)
        assert found is not None, f"{target} names no function"
        name, version = found.groups()
        if version is None:
            return dict(self._lambda.get_function_configuration(FunctionName=name))
        if not version.isdigit():
            version = self._lambda.get_alias(FunctionName=name, Name=version)["FunctionVersion"]
        return dict(self._lambda.get_function_configuration(FunctionName=name, Qualifier=version))

    def invoke(self, target: str, event: object) -> lambda_runtime.Outcome:
        """Invoke it as it is configured."""
        told = self.told(target)
        name = told["FunctionName"]
        if name not in self._functions:
            server = self._stack.server
            variables = {
                **{key: str(value) for key, value in told["Environment"]["Variables"].items()},
                **server.environment,
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{told['Runtime']}",
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(told["MemorySize"]),
            }
            logs = self._logs / name
            logs.mkdir()
            self._functions[name] = lambda_runtime.function(
                told["Handler"], self._source, variables, timeout=told["Timeout"], logs=logs
            )
        return self._functions[name].invoke(event)

    def close(self) -> None:
        """End the functions."""
        for function in self._functions.values():
            function.close()

    # --- what everybody else does ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """A request that is signed."""
        return self._request(method, path, body, signed=True)

    def call_unknown(self, method: str, path: str, body: object = None) -> Answer:
        """A request that is not."""
        return self._request(method, path, body, signed=False)

    def bring(self, done: Callable[[], bool]) -> None:
        """By the mapping of queue and worker."""
        self.pump.until(done, PATIENCE)
        assert not any(outcome.error for outcome in self.pump.outcomes)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Nobody receives meanwhile; then all is gone."""
        yield
        assert self.queue.depth() > 0
        self.queue.client.purge_queue(QueueUrl=self.queue.url)
        assert self.queue.depth() == 0

    def sweep(self) -> Any:
        """By its schedule."""
        return self.scheduled("rate(1 minute)")

    def scheduled(self, every: str) -> Any:
        """What a schedule sends, to where it sends it; the answer."""
        target = self._schedules[every]
        outcome = self.invoke(target["Arn"], json.loads(target["Input"]))
        assert outcome.error is None, outcome
        return outcome.payload

    def rotate(self) -> None:
        """What Secrets Manager does after as many days as the secret's rotation has."""
        secret = self.settings[CALLBACK_SECRET]
        function = self._secrets.describe_secret(SecretId=secret)["RotationLambdaARN"]
        token = self._secrets.rotate_secret(SecretId=secret)["VersionId"]
        for step in STEPS:
            event = {"SecretId": secret, "ClientRequestToken": token, "Step": step}
            outcome = self.invoke(function, event)
            assert outcome.error is None, outcome

    def objects(self, folder: str) -> int:
        """By a listing."""
        bucket, _, prefix = folder.removeprefix("s3://").partition("/")
        return int(self._stack.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["KeyCount"])

    def _request(self, method: str, path: str, body: object, *, signed: bool) -> Answer:
        """What API Gateway makes of it: a route, who may use it, an event, and an answer."""
        route = self._route(method, path.partition("?")[0])
        if route is None:
            return Answer(404, {"message": "Not Found"})
        if route["AuthorizationType"] != "NONE" and not signed:
            return Answer(403, {"message": "Forbidden"})
        event = request(method, path, body, {"content-type": "application/json"}) | {"routeKey": route["RouteKey"]}
        target = self._targets[route["Target"]]

        def ask() -> Answer:
            outcome = self.invoke(target, event)
            assert outcome.error is None, outcome
            return Answer(outcome.payload["statusCode"], json.loads(outcome.payload["body"]))

        return patiently(ask)

    def _route(self, method: str, path: str) -> dict[str, Any] | None:
        """The first whose key matches: `POST /invoke`, `ANY /workflows/{proxy+}`."""
        for key, route in self._routes.items():
            verb, _, pattern = key.partition(" ")
            expression = re.sub(r"\{\w+\\\+\}", ".+", re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}"))
            expression = re.sub(r"\{\w+\}", "[^/]+", expression)
            if verb in {method, "ANY"} and re.fullmatch(expression, path):
                return dict(route)
        return None
