"""What Flux counts on of functions: settings, recursion, their queue, their schedule, and what they say themselves.

What a function may do shows only from within it, so it is asked: the action `doctor`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_aws.doctor_services import Refused, bare, unqualified
from flux_aws.scheduler import HOP_BUDGET
from flux_aws.settings import Settings
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flux_aws.doctor_services import Services

_WORKER, _SWEEPER, _PURGE = "worker", "sweeper", "purge"
_LAMBDA_CUTS_AT: Final = 16
"""Invocations of a chain, unless recursive-loop detection is set to Allow."""
_ROOM: Final = 6
"""Times the function's time-out that AWS wants a message to be hidden for, throttled tries included."""
_LATELY: Final = timedelta(minutes=10)
_PERIOD: Final = 300
_SHARED: Final[dict[str, Callable[[Settings], object]]] = {
    "table": lambda one: one.table,
    "store": lambda one: one.host.storage,
    "payload store": lambda one: one.host.payloads,
    "queue": lambda one: one.queue_url,
    "secret of callback keys": lambda one: one.callback_secret,
    "tenant": lambda one: one.host.tenant,
}
"""What all functions of a deployment have to have in common."""


class Deployed(NamedTuple):
    """A function as Lambda has it."""

    part: str
    arn: str
    name: str
    timeout: float
    environment: Mapping[str, str]
    state: str


def look(services: Services, part: str, name: str) -> Deployed:
    """The function as Lambda tells it; `Refused` says why it does not."""
    told = services.ask("lambda", "get_function_configuration", FunctionName=name)
    return Deployed(
        part,
        str(told["FunctionArn"]),
        name,
        float(told["Timeout"]),
        told.get("Environment", {}).get("Variables", {}),
        str(told.get("State", "Active")),
    )


def of_function(one: Deployed, first: Settings) -> Iterator[Finding]:
    """What is wrong with its settings, beside the first function's."""
    subject = "function"
    if one.state not in {"Active", "Inactive"}:
        yield Finding(subject, FAILURE, f"{one.name} is {one.state}: deploy it again")
    try:
        settings = Settings.from_mapping(one.environment)
    except DefinitionError as error:
        yield Finding("settings", FAILURE, f"{one.name}: {error}")
        return
    other = [what for what, of in _SHARED.items() if of(settings) != of(first)]
    if other:
        said = f"{one.name} has another {' and another '.join(other)} than the others: deploy all alike"
        yield Finding("settings", FAILURE, said)
    if one.timeout > settings.host.longest_invocation:
        yield Finding(
            "time-out", FAILURE,
            f"{one.name} may run for {one.timeout:.0f} s, but FLUX_LONGEST_INVOCATION says "
            f"{settings.host.longest_invocation:.0f} s: deleting could meet one that still runs. Raise that setting",
        )  # fmt: skip


def of_part(one: Deployed, settings: Settings, services: Services) -> Iterator[Finding]:
    """What its part in the deployment needs of AWS."""
    if one.part == _WORKER:
        yield _recursion(one, settings, services)
        if settings.queue_url is not None:
            yield from _consuming(one, settings.queue_url, services)
    elif one.part == _SWEEPER:
        yield _schedule(one, services)
        yield _runs(one, services)
    elif one.part == _PURGE:
        yield _schedule(one, services)


def _recursion(one: Deployed, settings: Settings, services: Services) -> Finding:
    subject = "recursion"
    try:
        told = services.ask("lambda", "get_function_recursion_config", FunctionName=unqualified(one.name))
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    if told["RecursiveLoop"] == "Allow":
        return Finding(subject, OK, "a long workflow may be a long chain of invocations")
    budget = (settings.hop_budget or HOP_BUDGET) if settings.host.sweeper else None
    if budget is not None and budget < _LAMBDA_CUTS_AT:
        return Finding(
            subject, OK, f"Lambda cuts chains of {_LAMBDA_CUTS_AT}, and Flux ends them at {budget}; the sweeper goes on"
        )
    return Finding(
        subject, FAILURE,
        f"Lambda drops the message that makes a chain of {_LAMBDA_CUTS_AT} invocations, and Flux makes longer ones: "
        f"aws lambda put-function-recursion-config --function-name {unqualified(one.name)} --recursive-loop Allow",
    )  # fmt: skip


def _consuming(one: Deployed, queue: str, services: Services) -> Iterator[Finding]:
    subject = "queue to worker"
    try:
        told = services.ask("sqs", "get_queue_attributes", QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        found = services.ask("lambda", "list_event_source_mappings", EventSourceArn=told["QueueArn"])
    except Refused as error:
        yield Finding(subject, UNKNOWN, str(error))
        return
    mappings = [each for each in found["EventSourceMappings"] if bare(each["FunctionArn"]) == bare(one.arn)]
    if not mappings:
        yield Finding(subject, FAILURE, f"{one.name} does not consume {queue}: map the queue to it")
    for each in mappings:
        if each.get("State", "Enabled") not in {"Enabled", "Enabling", "Creating", "Updating"}:
            yield Finding(subject, FAILURE, f"its mapping is {each['State']}, so no message arrives: enable it")
        elif "ReportBatchItemFailures" not in (each.get("FunctionResponseTypes") or ()):
            yield Finding(
                subject, FAILURE,
                "its mapping does not take partial answers, so a message that failed is taken for done: set "
                "FunctionResponseTypes to ReportBatchItemFailures",
            )  # fmt: skip
        elif each.get("BatchSize", 10) > 1:
            yield Finding(
                subject, WARNING,
                f"{each.get('BatchSize', 10)} messages are brought at once, and a long workflow holds up those behind "
                f"it: set BatchSize to 1",
            )  # fmt: skip
        else:
            yield Finding(subject, OK, "messages arrive one at a time, and what fails comes again")
    hidden = float(told["VisibilityTimeout"])
    if hidden < one.timeout:
        yield Finding(
            "visibility", FAILURE,
            f"a message is hidden for {hidden:.0f} s, and the worker may run for {one.timeout:.0f} s, so it comes "
            f"again meanwhile: set the queue's VisibilityTimeout to {_ROOM * one.timeout:.0f}",
        )  # fmt: skip
    elif hidden < _ROOM * one.timeout:
        yield Finding(
            "visibility", WARNING,
            f"a message is hidden for {hidden:.0f} s; AWS advises {_ROOM} times the worker's time-out "
            f"({_ROOM * one.timeout:.0f} s), for tries that are throttled",
        )  # fmt: skip
    else:
        yield Finding("visibility", OK, f"a message is hidden for {hidden:.0f} s")


def _schedule(one: Deployed, services: Services) -> Finding:
    subject = "schedule"
    after: dict[str, str] = {}
    try:
        while True:
            page = services.ask("scheduler", "list_schedules", **after)
            for each in page["Schedules"]:
                if bare(each["Target"]["Arn"]) == bare(one.arn):
                    if each["State"] == "ENABLED":
                        return Finding(subject, OK, f"{each['Name']} invokes it")
                    return Finding(subject, FAILURE, f"{each['Name']} is {each['State'].lower()}: enable it")
            if not page.get("NextToken"):
                break
            after = {"NextToken": page["NextToken"]}
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    return Finding(subject, WARNING, "no schedule of EventBridge Scheduler invokes it: see that something else does")


def _runs(one: Deployed, services: Services) -> Finding:
    """Whether it has run lately: the only sign of life where nothing is due."""
    subject, now = "runs", datetime.now(UTC)
    told: dict[str, float] = {}
    try:
        for metric in ("Invocations", "Errors"):
            answer = services.ask(
                "cloudwatch",
                "get_metric_statistics",
                Namespace="AWS/Lambda",
                MetricName=metric,
                Dimensions=[{"Name": "FunctionName", "Value": unqualified(one.name)}],
                StartTime=now - _LATELY,
                EndTime=now,
                Period=_PERIOD,
                Statistics=["Sum"],
            )
            told[metric] = sum(point["Sum"] for point in answer["Datapoints"])
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    minutes = f"in the last {_LATELY.seconds // 60} minutes"
    if not told["Invocations"]:
        return Finding(subject, FAILURE, f"it has not run {minutes}: see that its schedule is on")
    if told["Errors"] >= told["Invocations"]:
        return Finding(subject, FAILURE, f"each of its {told['Errors']:.0f} runs {minutes} failed: look at its log")
    return Finding(subject, OK, f"{told['Invocations']:.0f} {minutes}, {told['Errors']:.0f} of them failed")


def asked(one: Deployed, services: Services) -> Iterator[Finding]:
    """What the function finds with its own permissions."""
    event = json.dumps({"action": "doctor", "part": one.part}).encode()
    try:
        answer = services.ask("lambda", "invoke", FunctionName=one.name, Payload=event)
        told = json.loads(answer["Payload"].read())
    except Refused as error:
        yield Finding("asked itself", UNKNOWN, str(error))
        return
    except ValueError as error:
        yield Finding("asked itself", FAILURE, f"{one.name} answered what is no JSON ({error})")
        return
    if answer.get("FunctionError"):
        said = told.get("errorMessage") if isinstance(told, dict) else told
        yield Finding("asked itself", FAILURE, f"{one.name} failed: {said}")
        return
    try:
        yield from map(Finding.from_tree, told["findings"])
    except (KeyError, TypeError):
        said = told.get("detail", told) if isinstance(told, dict) else told
        yield Finding(
            "asked itself", FAILURE, f"{one.name} does not know the doctor: {said}. Deploy this version of Flux"
        )
