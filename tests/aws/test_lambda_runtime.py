"""The two components that the handler's tests stand on: Lambda's own emulator, and the pump between SQS and it."""

from __future__ import annotations

import json
import random
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.lambda_runtime import Outcome
from tests.services.sqs_pump import Pump, Queue, failed_items

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.lambda_runtime import Function
    from tests.services.moto import Moto

_numbers = count(1)
FUNCTION = """
import os, time

def handler(event, context):
    if "sleep" in event:
        print("asleep", flush=True)
        time.sleep(event["sleep"])
    if "raise" in event:
        raise RuntimeError(event["raise"])
    return {"pid": os.getpid(), "left": context.get_remaining_time_in_millis(), "colour": os.environ["COLOUR"]}
"""


@pytest.fixture
def function(lambda_function: Callable[..., Function]) -> Function:
    return lambda_function(FUNCTION, {"COLOUR": "blue"}, timeout=20)


class TestTheRuntime:
    def test_answers_and_keeps_its_process_for_the_next_call(self, function: Function) -> None:
        first, second = function.invoke({}), function.invoke({})
        assert first.payload["pid"] == second.payload["pid"]
        assert 0 < second.payload["left"] <= 20_000
        assert second.payload["colour"] == "blue"

    def test_tells_what_a_handler_raises(self, function: Function) -> None:
        assert function.invoke({"raise": "no tea"}).error == "RuntimeError: no tea"

    def test_ends_a_call_that_outlasts_the_limit_and_starts_anew(
        self, lambda_function: Callable[..., Function]
    ) -> None:
        function = lambda_function(FUNCTION, {"COLOUR": "blue"}, timeout=3)
        assert function.invoke({"sleep": 60}).error == "Task timed out after 3.00 seconds"
        assert function.invoke({"raise": "no tea"}).error == "RuntimeError: no tea"

    def test_survives_the_death_of_its_process(self, function: Function) -> None:
        before = function.invoke({}).payload["pid"]
        outcomes: list[Outcome] = []
        call = threading.Thread(target=lambda: outcomes.append(function.invoke({"sleep": 15})))
        call.start()
        function.await_log("asleep")
        assert function.kill() == 1
        call.join()
        assert "Runtime.ExitError" in str(outcomes[0].error)
        assert function.invoke({}).payload["pid"] != before

    def test_calls_at_the_same_time_have_environments_of_their_own(self, function: Function) -> None:
        outcomes: list[Outcome] = []
        calls = [threading.Thread(target=lambda: outcomes.append(function.invoke({"sleep": 0.5}))) for _ in range(2)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert function.environments == 2
        assert len({outcome.payload["pid"] for outcome in outcomes}) == 2


class Consumer:
    """What a pump invokes: keeps the bodies that it was given, answers as it is told."""

    def __init__(self, answer: Callable[[dict[str, Any]], Outcome] = lambda _: Outcome(None)) -> None:
        self.batches: list[list[str]] = []
        self.answer = answer

    def __call__(self, event: Any) -> Outcome:
        self.batches.append([record["body"] for record in event["Records"]])
        return self.answer(event)


def fails(*bodies: str) -> Callable[[dict[str, Any]], Outcome]:
    """A partial answer that names the messages of these bodies."""
    return lambda event: Outcome(
        {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]} for record in event["Records"] if record["body"] in bodies
            ]
        }
    )


class TestThePump:
    @pytest.fixture
    def open_queue(self, moto: Moto) -> Callable[..., Queue]:
        return lambda **options: Queue.create(moto, f"pump-{next(_numbers)}", **options)

    def test_deletes_what_was_handled(self, open_queue: Callable[..., Queue]) -> None:
        queue, consumer = open_queue(), Consumer()
        for body in ("a", "b"):
            queue.send(body)
        assert Pump(queue, consumer).once() == 2
        assert queue.depth() == 0

    def test_brings_what_failed_again_and_at_last_to_the_dead_letter_queue(
        self, open_queue: Callable[..., Queue]
    ) -> None:
        queue, consumer = open_queue(visibility=0, receptions=3), Consumer(fails("b"))
        for body in ("a", "b"):
            queue.send(body)
        pump = Pump(queue, consumer)
        pump.until(lambda: queue.dead_bodies() == ["b"], 20)
        assert [batch.count("b") for batch in consumer.batches].count(1) == 3
        assert sum(batch.count("a") for batch in consumer.batches) == 1
        assert queue.depth() == 0

    @pytest.mark.parametrize(
        "outcome",
        [
            Outcome(None, "RuntimeError: x"),
            Outcome({"batchItemFailures": [{"itemIdentifier": ""}]}),
        ],
    )
    def test_keeps_the_whole_batch_of_a_function_that_failed(
        self, open_queue: Callable[..., Queue], outcome: Outcome
    ) -> None:
        queue = open_queue(visibility=60)
        for body in ("a", "b"):
            queue.send(body)
        Pump(queue, Consumer(lambda _: outcome)).once()
        assert queue.depth() == 2

    def test_an_answer_without_failures_is_a_success(self) -> None:
        assert failed_items(Outcome(None)) == failed_items(Outcome({})) == set()
        assert failed_items(Outcome({"batchItemFailures": []})) == set()

    def test_takes_every_answer_for_a_success_where_the_mapping_has_no_partial_ones(
        self, open_queue: Callable[..., Queue]
    ) -> None:
        queue = open_queue(visibility=60)
        queue.send("a")
        Pump(queue, Consumer(fails("a")), partial=False).once()
        assert queue.depth() == 0

    def test_finds_a_queue_that_is_there_with_its_dead_letter_queue(self, open_queue: Callable[..., Queue]) -> None:
        queue = open_queue()
        assert Queue.at(queue.client, queue.url) == queue

    def test_delivers_twice_and_out_of_order_on_demand(self, open_queue: Callable[..., Queue]) -> None:
        queue, consumer = open_queue(visibility=600), Consumer()
        sent = [f"{number:02}" for number in range(20)]
        for body in sent:
            queue.send(body)
        Pump(queue, consumer, batch=1, copies=2, disorder=random.Random(1)).once()
        came = [body for batch in consumer.batches for body in batch]
        assert sorted(came) == sorted(sent * 2)
        assert came != sorted(came)

    def test_a_delayed_message_comes_when_it_is_time(self, open_queue: Callable[..., Queue]) -> None:
        queue, consumer = open_queue(), Consumer()
        queue.send({"a": 1}, DelaySeconds=1)
        pump = Pump(queue, consumer)
        assert (pump.once(), queue.depth()) == (0, 1)
        pump.until(lambda: bool(consumer.batches), 20)
        assert json.loads(consumer.batches[0][0]) == {"a": 1}

    def test_a_fifo_group_waits_for_its_first_message(self, open_queue: Callable[..., Queue]) -> None:
        queue, consumer = open_queue(fifo=True, visibility=60), Consumer(fails("1"))
        for body, group in (("1", "a"), ("2", "a"), ("3", "b")):
            queue.send(body, MessageGroupId=group)
        pump = Pump(queue, consumer, batch=1)
        pump.once()
        pump.once()
        pump.once()
        assert consumer.batches == [["1"], ["3"]], "2 waits until 1 is handled or dead"
