"""A function that Pub/Sub triggers: Google's emulator pushes to the real runtime until it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from flux_core.ports import InstanceRef
from flux_gcp import settings as names
from tests.gcp.deployment import Deployment, logged, until
from tests.gcp.relay import Relay, Trouble
from tests.gcp.requests import recorded
from tests.services.cloud_tasks import CloudTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flux_gcp import FirestoreStorage
    from tests.services.functions import Function, Functions
    from tests.services.pubsub import PubSub

ORDER = {"action": "execute", "workflow": "order"}
APPROVED = {"action": "signal", "workflow": "order", "name": "approved", "dedupe_id": "1"}


@pytest.fixture
def relay(firestore_emulator: str) -> Iterator[Relay]:
    """Between the function and Firestore."""
    relay = Relay(firestore_emulator)
    yield relay
    relay.close()


@pytest.fixture
def deployment(functions: Functions, cloud_tasks: CloudTasks, relay: Relay, tmp_path: Path) -> Deployment:
    """Nobody serves tasks here: what a message starts goes as far as one event takes it."""
    return Deployment(functions, cloud_tasks, relay.address, tmp_path)


class TestPush:
    def test_a_message_is_carried_out_and_a_hopeless_one_given_up(
        self,
        deployment: Deployment,
        pubsub: PubSub,
        relay: Relay,
        open_store: Callable[..., FirestoreStorage],
    ) -> None:
        store = open_store(relay.address, deployment.environment[names.PROJECT])
        function = deployment.events()
        topic = pubsub.topic(function.url)
        pubsub.publish(topic, {**ORDER, "workflow": "nothing", "id": "o-1"}, b"no json", {"action": "explode"})
        until(lambda: len(logged(function, "a message was given up")) == 3)
        pubsub.publish(topic, {**ORDER, "id": "o-1"})
        order = InstanceRef("default", "order", "o-1")
        until(lambda: (header := store.header(order)) is not None and header.status == "suspended")
        pubsub.publish(topic, {**APPROVED, "id": "o-1"})
        until(lambda: deployment.effects() == ["ship o-1"])
        lines = logged(function, "a message was given up")
        assert len(lines) == 3
        assert any("'nothing'" in line["detail"] for line in lines)
        assert all(line["severity"] == "ERROR" and line["event"] for line in lines)

    def test_what_the_store_did_not_answer_comes_again_until_it_does(
        self, deployment: Deployment, pubsub: PubSub, relay: Relay
    ) -> None:
        down = [True]
        denied = Trouble(code=grpc.StatusCode.PERMISSION_DENIED)
        relay.trouble = lambda method, number: denied if down[0] else None
        function = deployment.events()
        topic = pubsub.topic(function.url)
        pubsub.publish(topic, {**ORDER, "workflow": "slow", "id": "s-1"})
        until(lambda: len(logged(function, "an invocation failed")) >= 2)
        assert deployment.effects() == []
        down[0] = False
        until(lambda: deployment.effects() == ["busy s-1"])

    def test_a_message_delivered_twice_starts_one_instance(self, deployment: Deployment, pubsub: PubSub) -> None:
        function = deployment.events()
        first, second = pubsub.topic(function.url), pubsub.topic(function.url)
        for topic in (first, second):
            pubsub.publish(topic, *[{**ORDER, "workflow": "slow", "id": "s-1"}] * 3)
        pubsub.publish(first, {**ORDER, "workflow": "slow", "id": "s-2"})
        until(lambda: {"busy s-1", "busy s-2"} <= set(deployment.effects()))
        assert sorted(deployment.effects()) == ["busy s-1", "busy s-2"]


class TestEventarc:
    """What Eventarc sends, posted as it was recorded."""

    @pytest.mark.parametrize(
        "name", ["pubsub_execute", "pubsub_wake", "pubsub_structured", "pubsub_attributes_only", "storage_finalized"]
    )
    def test_every_recorded_event_is_acknowledged(self, name: str, eventarc: Function) -> None:
        event = recorded(name)
        assert eventarc.call(event.path, event.body.encode(), event.headers)[0] == 200


@pytest.fixture(scope="module")
def eventarc(
    module_functions: Functions, firestore_emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Function]:
    tasks = CloudTasks()
    deployment = Deployment(module_functions, tasks, firestore_emulator, tmp_path_factory.mktemp("eventarc"))
    yield deployment.events(**{names.QUEUE: ""})
    tasks.stop()
