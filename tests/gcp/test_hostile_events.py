"""Ten thousand wrong events through each trigger: an answer or a line of the log, and the next event is served."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from cloudevents.http import CloudEvent

from flux_core import FluxEngine, MemoryStorage, create_workflow, wait
from flux_core.hosting import CALLBACK_KEYS, PUBLIC_URL, SWEEPER
from flux_gcp import callback_function, cloud_event_function, http_function
from flux_gcp.events import PUBLISHED
from tests.gcp.deployment import KEY
from tests.gcp.hostile import BODIES, NAMES, VALUES, bent, bent_value
from tests.gcp.requests import Recorded, as_flask, flask_request, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import flask

    Handler = Callable[[flask.Request], tuple[bytes, int, dict[str, str]]]

EVENTS = 10_000
HTTP = ("http_execute", "http_get", "http_signal", "http_callback", "http_direct")
TASKS = ("cloud_tasks_wake", "cloud_tasks_retry")
SWEEPS = ("cloud_scheduler_sweep",)


class Lasting(MemoryStorage):
    """What gets as far as the store is little, and there are many thousands of events."""

    ephemeral = False


class Lines:
    """A logger that counts."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()

    def debug(self, message: str, **fields: object) -> None:
        self.said[message] += 1

    info = warn = error = debug


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def engine(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> Iterator[FluxEngine]:
    for name, value in ((SWEEPER, "on"), (PUBLIC_URL, "https://flux.example.com"), (CALLBACK_KEYS, KEY)):
        monkeypatch.setenv(name, value)
    order = create_workflow("order").step("approval", lambda ctx: wait("approved")).step("ship", lambda ctx: "shipped")
    engine = FluxEngine(Lasting(), workflows=[order], logger=lines)
    engine.execute(order, {"total": 42}, id="order-17")
    yield engine
    engine.storage.close()


def good(handler: Handler, number: int) -> None:
    """What is right is served, whatever has come before."""
    event = recorded("http_execute")._replace(headers={"Idempotency-Key": f"good-{number}"})
    body, status, _ = handler(as_flask(event))
    assert (status, json.loads(body)["status"]) == (202, "suspended")


def answers(handler: Handler, names: tuple[str, ...], seed: str, count: int = EVENTS) -> Counter[int]:
    """How often each status was answered; every one of them with a body that is JSON."""
    chance = random.Random(seed)
    events = [recorded(name) for name in names]
    statuses: Counter[int] = Counter()
    for number in range(count):
        event, body, announced = bent(events[number % len(events)], chance)
        request = flask_request(event.method, event.path, event.query, event.headers, body, announced=announced)
        answer, status, headers = handler(request)
        assert not any("\n" in value or "\r" in value for value in headers.values())
        if headers["content-type"] != "text/plain":
            json.loads(answer)
        statuses[status] += 1
    return statuses


class TestRequests:
    def test_wrong_ones_are_answered_with_what_is_wrong(self, engine: FluxEngine, lines: Lines) -> None:
        handler = http_function(engine=engine)
        statuses = answers(handler, HTTP, "http")
        assert all(200 <= status < 500 for status in statuses), statuses
        assert {200, 202, 400, 404, 405, 413} <= set(statuses)
        assert lines.said["an invocation failed"] == 0
        good(handler, 1)

    def test_wrong_ones_to_the_public_function_too(self, engine: FluxEngine) -> None:
        handler = callback_function(engine=engine)
        statuses = answers(handler, (*HTTP, *TASKS, *SWEEPS), "public")
        assert set(statuses) <= {400, 403, 404, 405, 413}, statuses
        assert [item.id for item in engine.list("order").items] == ["order-17"]


class TestTasks:
    def test_wrong_ones_are_given_up(self, engine: FluxEngine, lines: Lines) -> None:
        handler = http_function(engine=engine)
        statuses = answers(handler, TASKS, "tasks")
        assert all(200 <= status < 500 for status in statuses), statuses
        assert lines.said["a message was given up"] > EVENTS / 20
        good(handler, 1)

    @pytest.mark.parametrize("body", BODIES)
    def test_one_that_arrives_whole_is_never_brought_again(self, engine: FluxEngine, body: bytes) -> None:
        task = recorded("cloud_tasks_wake")
        request = flask_request(task.method, task.path, task.query, task.headers, body)
        assert 200 <= http_function(engine=engine)(request)[1] < 300


class TestSweeps:
    def test_wrong_ones_are_answered_with_what_is_wrong(self, engine: FluxEngine, lines: Lines) -> None:
        handler = http_function(engine=engine)
        statuses = answers(handler, SWEEPS, "sweeps")
        assert all(200 <= status < 500 for status in statuses), statuses
        assert statuses[200] > 0
        assert lines.said["an invocation failed"] == 0
        good(handler, 1)


class TestCloudEvents:
    def test_wrong_ones_are_given_up(self, engine: FluxEngine, lines: Lines) -> None:
        """Nothing is raised: else Pub/Sub would bring it for days, and those behind it later."""
        handler = cloud_event_function(engine=engine)
        chance = random.Random("events")
        recordings = [recorded(name) for name in ("pubsub_execute", "pubsub_wake", "pubsub_attributes_only")]
        for number in range(EVENTS):
            handler(_event(recordings[number % 3], chance))
        assert lines.said["a message was given up"] > EVENTS / 4
        assert lines.said["an invocation failed"] == 0
        handler(_published(b'{"action": "execute", "workflow": "order", "id": "good"}'))
        assert engine.get("order", "good").status == "suspended"

    @pytest.mark.parametrize("body", BODIES)
    def test_whatever_a_message_holds_it_is_never_brought_again(self, engine: FluxEngine, body: bytes) -> None:
        cloud_event_function(engine=engine)(_published(body))


def _event(recording: Recorded, chance: random.Random) -> CloudEvent:
    data = json.loads(recording.body)
    held = data["message"]
    match chance.randrange(4):
        case 0 if "data" in held:
            inner = bent_value(json.loads(base64.b64decode(held["data"])), chance)
            held["data"] = base64.b64encode(json.dumps(inner).encode()).decode()
        case 1:
            held["data"] = base64.b64encode(chance.choice(BODIES)).decode()
        case 2:
            held["data"] = chance.choice([*NAMES, *VALUES])
        case _:
            data = bent_value(data, chance)
    kind = PUBLISHED if chance.random() < 0.95 else chance.choice(NAMES) or "x"
    return CloudEvent({"type": kind, "source": chance.choice(NAMES) or "x", "id": chance.choice(NAMES) or "x"}, data)


def _published(body: bytes) -> CloudEvent:
    data = {"message": {"data": base64.b64encode(body).decode()}}
    return CloudEvent({"type": PUBLISHED, "source": "//pubsub.googleapis.com/projects/p/topics/t", "id": "1"}, data)
