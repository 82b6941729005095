"""Ten thousand wrong events through each door: a 4xx or a failed record, never a crash, never a poisoned batch."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws import lambda_handler
from flux_core import FluxEngine, MemoryStorage, create_workflow, wait
from tests.aws.events import context, recorded
from tests.aws.hostile import HOSTILE_BODIES, bent, nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_aws.handler import LambdaHandler

EVENTS = 10_000
CONTEXT = context(3600)
DOORS = {
    "http api": ("http-api-execute", "http-api-named-stage", "http-api-get", "http-api-signal"),
    "rest api": ("rest-api-execute", "rest-api-get", "rest-api-callback"),
    "function url": ("function-url-execute", "function-url-iam-get"),
    "rule": ("eventbridge-rule", "eventbridge-scheduled-rule"),
    "direct and schedule": ("direct-execute", "direct-signal", "direct-retry-step", "scheduler-sweep"),
}


@pytest.fixture(scope="module")
def handler() -> Iterator[LambdaHandler]:
    """On a store in memory that does not say so: what is tried is what comes before it, sixty thousand times."""
    order = create_workflow("order").step("check", lambda ctx: wait("approval")).step("ship", lambda ctx: "shipped")
    storage = MemoryStorage()
    storage.ephemeral = False
    engine = FluxEngine(storage, workflows=[order], default_retries=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUX_SWEEPER", "on")
        patch.setenv("FLUX_LOG_LEVEL", "error")
        yield lambda_handler(engine=engine)


def written(answer: Any) -> Any:
    """The answer as the runtime client of Python 3.12 and later writes it, and AWS reads it."""
    return json.loads(json.dumps(answer, ensure_ascii=False).encode())


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_event_is_answered(handler: LambdaHandler, door: str) -> None:
    chance = random.Random(f"{door} 1")
    events = [recorded(name) for name in DOORS[door]]
    statuses: dict[int, int] = {}
    for number in range(EVENTS):
        event = bent(events[number % len(events)], chance)
        answer = written(handler(event, CONTEXT))
        status = answer.get("statusCode", answer.get("status"))
        status = status if isinstance(status, int) else 200
        assert 200 <= status < 500 or "batchItemFailures" in answer, (event, answer)
        statuses[status] = statuses.get(status, 0) + 1
    assert statuses[400] > EVENTS / 20, "the generator bends what it should"


def test_a_wrong_record_is_given_back_alone(handler: LambdaHandler) -> None:
    chance = random.Random("queue 1")
    (wrong,) = recorded("sqs-execute")["Records"]
    (good,) = recorded("sqs-redriven")["Records"]
    fifo = recorded("sqs-fifo")["Records"][0]
    failed = 0
    for number in range(EVENTS):
        record = bent(chance.choice((wrong, fifo)), chance)
        answer = written(handler({"Records": [record, good | {"messageId": f"good-{number}"}]}, CONTEXT))
        items = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        assert f"good-{number}" not in items, (record, answer)
        assert len(items) <= 1
        failed += len(items)
    assert failed > EVENTS / 20


@pytest.mark.parametrize("text", HOSTILE_BODIES)
def test_a_body_that_is_no_json_is_the_callers_error(handler: LambdaHandler, text: str) -> None:
    event = recorded("http-api-named-stage") | {"body": text}
    event["rawPath"] = "/prod/invoke"
    assert 200 <= handler(event, context())["statusCode"] < 500


def test_what_is_too_large_or_too_deep_is_refused_by_its_own_code(handler: LambdaHandler) -> None:
    large = recorded("http-api-execute") | {"body": json.dumps("x" * 300_000)}
    assert handler(large, context())["statusCode"] == 413
    deep = recorded("http-api-execute") | {"body": json.dumps(nested(900))}
    assert handler(deep, context())["statusCode"] in {400, 422}
