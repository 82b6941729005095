"""What stands between an SQS queue and a function: Lambda's event source mapping, as its documentation has it.

A mapping receives up to a batch of messages, invokes the function with them and deletes what was handled. Of a partial
answer the failed ones stay; of a function that failed, or answered what is no answer, all do. What stays is visible
again after the queue's time-out, and goes to its dead-letter queue after as many receptions as its policy has: both
are the queue's own matter. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.services.lambda_runtime import Outcome
    from tests.services.moto import Moto

PAUSE: Final = 0.05
"""Seconds between two looks at an empty queue."""


@cache
def _client(endpoint: str, region: str) -> Any:
    """One client for all queues of a server: making one takes as long as a hundred requests."""
    import boto3

    return boto3.client("sqs", endpoint_url=endpoint, region_name=region)


class Queue(NamedTuple):
    """A queue with a dead-letter queue, on a moto server."""

    client: Any
    url: str
    dead: str
    arn: str

    @classmethod
    def create(cls, moto: Moto, name: str, *, visibility: int = 2, receptions: int = 20, fifo: bool = False) -> Queue:
        """`visibility`: seconds until what was received and not deleted comes again."""
        client = _client(moto.endpoint, moto.environment["AWS_REGION"])
        end, more = (".fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"}) if fifo else ("", {})
        dead = client.create_queue(QueueName=f"{name}-dead{end}", Attributes=more)["QueueUrl"]
        dead_arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": receptions})
        attributes = {"VisibilityTimeout": str(visibility), "RedrivePolicy": policy, **more}
        url = client.create_queue(QueueName=f"{name}{end}", Attributes=attributes)["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return cls(client, url, dead, arn)

    @classmethod
    def at(cls, client: Any, url: str) -> Queue:
        """One that is there, with the dead-letter queue that its policy names."""
        told = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy"])["Attributes"]
        dead = json.loads(told["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        return cls(client, url, client.get_queue_url(QueueName=dead)["QueueUrl"], told["QueueArn"])

    def send(self, body: object, **options: Any) -> None:
        """Put a message into it; what is no text is written as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.client.send_message(QueueUrl=self.url, MessageBody=text, **options)

    def depth(self) -> int:
        """Messages in it: visible, delayed and in flight."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "Delayed", "NotVisible")]
        counts = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)

    def dead_bodies(self) -> list[str]:
        """What lies in the dead-letter queue."""
        answer = self.client.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in answer.get("Messages", ())]


class Pump:
    """Polls `queue` and invokes `function`, as the one thread that calls it goes on.

    `copies`: how often each batch is delivered before it is deleted. `disorder`: a generator that shuffles what is in
    the queue, so that the order of sending means nothing. `partial`: whether the mapping has ReportBatchItemFailures;
    without it every answer is taken to mean that all went well.
    """

    def __init__(
        self,
        queue: Queue,
        function: Callable[[object], Outcome],
        *,
        batch: int = 10,
        copies: int = 1,
        disorder: random.Random | None = None,
        partial: bool = True,
    ) -> None:
        self.queue = queue
        self.batch = batch
        self.copies = copies
        self.disorder = disorder
        self.partial = partial
        self.outcomes: list[Outcome] = []
        self._function = function

    def once(self) -> int:
        """Deliver what is in the queue now; how many messages that were."""
        messages = self._receive()
        if self.disorder is not None:
            found: dict[str, dict[str, Any]] = {}
            while {message["MessageId"] for message in messages} - found.keys():
                found |= {message["MessageId"]: message for message in messages}
                messages = self._receive()  # on a slow machine, what was received first may be visible again by now
            messages = list(found.values())
            self.disorder.shuffle(messages)
        for start in range(0, len(messages), self.batch):
            self._deliver(messages[start : start + self.batch])
        return len(messages)

    def until(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Go on until `done`; `AssertionError` with what the function last said if it takes longer."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not done after {seconds} s; {self.outcomes[-3:]}"
            if not self.once():
                time.sleep(PAUSE)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self.queue.client.receive_message(
            QueueUrl=self.queue.url,
            MaxNumberOfMessages=min(self.batch, 10),
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", ()))

    def _deliver(self, messages: Sequence[dict[str, Any]]) -> None:
        event = {"Records": [self._record(message) for message in messages]}
        outcomes = [self._function(event) for _ in range(self.copies)]
        self.outcomes += outcomes
        failed = failed_items(outcomes[-1], partial=self.partial)
        for message in messages:
            if failed is not None and message["MessageId"] not in failed:
                with suppress(self.queue.client.exceptions.ReceiptHandleIsInvalid):
                    self.queue.client.delete_message(
                        QueueUrl=self.queue.url, ReceiptHandle=message["ReceiptHandle"]
                    )  # fmt: skip

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.queue.arn,
            "awsRegion": self.queue.arn.split(":")[3],
        }


def failed_items(outcome: Outcome, *, partial: bool = True) -> set[str] | None:
    """The messages that stay; None: all of them."""
    if outcome.error is not None:
        return None
    if not partial:
        return set()
    answer = outcome.payload
    if answer is None or answer == {}:
        return set()
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if failures is None:
        return set()
    items = {failure.get("itemIdentifier") for failure in failures}
    return None if items & {"", None} else items
