"""`SqsScheduler` on SQS as moto plays it: what is sent, when, how far a chain may go, and what errors say."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws import SqsScheduler
from flux_aws.scheduler import after
from flux_core import DefinitionError, SchedulerUnavailable
from flux_core.ports import InstanceRef
from tests.services.sqs_pump import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto

_numbers = count(1)
REF = InstanceRef("default", "order", "o-1")
NOBODY = "http://127.0.0.1:9"
"""Where nothing listens."""


@pytest.fixture
def queue(moto: Moto) -> Queue:
    return Queue.create(moto, f"scheduler-{next(_numbers)}")


@pytest.fixture
def scheduler(queue: Queue, moto: Moto) -> Iterator[SqsScheduler]:
    scheduler = SqsScheduler(queue.url, endpoint=moto.endpoint)
    yield scheduler
    scheduler.close()


def sent(scheduler: SqsScheduler) -> list[dict[str, Any]]:
    """The parameters of the messages, as they are sent from now on."""
    found: list[dict[str, Any]] = []
    scheduler.client.meta.events.register(
        "before-parameter-build.sqs.SendMessage", lambda params, **_: found.append(dict(params))
    )
    return found


class TestWaking:
    def test_puts_a_message_that_says_whom_to_tick(self, scheduler: SqsScheduler, queue: Queue) -> None:
        scheduler.wake(REF, 0)
        (message,) = queue.client.receive_message(QueueUrl=queue.url)["Messages"]
        assert json.loads(message["Body"]) == {
            "action": "wake", "tenant": "default", "workflow": "order", "id": "o-1", "hops": 1,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("delay", "seconds"), [(0, 0), (0.001, 1), (0.5, 1), (1, 1), (1.2, 2), (900, 900), (901, 900), (-3, 0)]
    )
    def test_a_message_is_never_early(self, scheduler: SqsScheduler, delay: float, seconds: int) -> None:
        messages = sent(scheduler)
        scheduler.wake(REF, delay)
        assert [message["DelaySeconds"] for message in messages] == [seconds]

    def test_its_horizon_is_what_sqs_can_delay(self, scheduler: SqsScheduler) -> None:
        assert scheduler.horizon == 900


class TestHops:
    def test_each_message_counts_those_before_it(self, scheduler: SqsScheduler) -> None:
        messages = sent(scheduler)
        with after(5):
            scheduler.wake(REF, 0)
        scheduler.wake(REF, 0)
        assert [json.loads(message["MessageBody"])["hops"] for message in messages] == [6, 1]

    def test_at_the_end_of_the_budget_the_instance_is_left_to_the_sweeper(self, scheduler: SqsScheduler) -> None:
        messages = sent(scheduler)
        for hops in (11, 12, 13):
            with after(hops):
                scheduler.wake(REF, 0)
        assert [json.loads(message["MessageBody"])["hops"] for message in messages] == [12]

    def test_the_budget_may_be_another_or_none(self, queue: Queue, moto: Moto) -> None:
        short = SqsScheduler(queue.url, endpoint=moto.endpoint, hop_budget=1)
        endless = SqsScheduler(queue.url, endpoint=moto.endpoint, hop_budget=None)
        with after(1):
            short.wake(REF, 0)
        assert queue.depth() == 0
        with after(10_000):
            endless.wake(REF, 0)
        assert queue.depth() == 1
        short.close()
        endless.close()


class TestErrors:
    def test_a_queue_that_is_not_there(self, moto: Moto) -> None:
        scheduler = SqsScheduler(f"{moto.endpoint}/123456789012/nowhere", endpoint=moto.endpoint)
        with pytest.raises(SchedulerUnavailable, match=r"nowhere\) does not exist\. Check FLUX_QUEUE_URL and"):
            scheduler.wake(REF, 0)

    def test_a_queue_that_does_not_answer(self) -> None:
        scheduler = SqsScheduler(f"{NOBODY}/1/work", endpoint=NOBODY)
        with pytest.raises(SchedulerUnavailable, match="Nothing is lost: the due index has the instance"):
            scheduler.wake(REF, 0)

    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch, moto: Moto) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        scheduler = SqsScheduler(f"{moto.endpoint}/1/work", endpoint=moto.endpoint)
        with pytest.raises(SchedulerUnavailable, match="AWS has no valid credentials from here"):
            scheduler.wake(REF, 0)

    def test_no_region(self, monkeypatch: pytest.MonkeyPatch, moto: Moto) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        scheduler = SqsScheduler(f"{moto.endpoint}/1/work")
        with pytest.raises(SchedulerUnavailable, match=r"no region is set\. Set AWS_REGION"):
            scheduler.wake(REF, 0)

    def test_no_permission(self, scheduler: SqsScheduler) -> None:
        from botocore.exceptions import ClientError

        def refuse(**_: object) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "SendMessage")

        scheduler.client.meta.events.register("before-call.sqs.SendMessage", refuse)
        with pytest.raises(SchedulerUnavailable, match="role lacks sqs:SendMessage"):
            scheduler.wake(REF, 0)

    @pytest.mark.parametrize(
        ("url", "budget", "why"),
        [
            ("work", 12, "needs the URL of a queue"),
            ("https://sqs.eu-central-1.amazonaws.com/1/work.fifo", 12, "cannot use the FIFO queue"),
            ("https://sqs.eu-central-1.amazonaws.com/1/work", 0, "hop_budget"),
        ],
    )
    def test_what_cannot_work_is_refused_at_once(self, url: str, budget: int, why: str) -> None:
        with pytest.raises(DefinitionError, match=why):
            SqsScheduler(url, hop_budget=budget)


def test_importing_it_loads_no_sdk_and_neither_does_making_one() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from flux_aws import SqsScheduler, lambda_handler; SqsScheduler('https://q/1/w');"
        "lambda_handler();"
        "print({'boto3', 'botocore', 'aws_lambda_powertools', 'obstore', 'logging'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
