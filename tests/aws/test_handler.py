"""The handler in this process, on DynamoDB and SQS as moto plays them: what each event comes to."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws import DynamoDBStorage, lambda_handler
from flux_core import (
    DefinitionError,
    FluxEngine,
    MemoryStorage,
    StorageUnavailable,
    create_workflow,
    sleep,
    wait,
)
from flux_core.testing import VirtualClock
from tests.aws.events import context, recorded, records, request
from tests.services.sqs_pump import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws.handler import LambdaHandler
    from tests.services.moto import Moto

_numbers = count(1)


def order() -> Any:
    """Ships what was ordered; tea only once somebody has approved it, and coffee never."""
    flow = create_workflow("order")

    @flow.step
    def check(ctx: Any) -> object:
        ctx.log.info("checking", sku=ctx.input["sku"])
        if ctx.input["sku"] == "coffee":
            ctx.data["failed"] = ctx.data.get("failed", 0) + 1
            message = "there is no coffee"
            raise ValueError(message)
        return wait("approval") if ctx.input["sku"] == "tea" else "nothing to approve"

    @flow.step
    def ship(ctx: Any) -> str:
        return "shipped"

    return flow


@pytest.fixture
def queue(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """The queue of the function, in its environment."""
    queue = Queue.create(moto, f"handler-{next(_numbers)}")
    monkeypatch.setenv("FLUX_QUEUE_URL", queue.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    return queue


@pytest.fixture
def make(queue: Queue, store: DynamoDBStorage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LambdaHandler]:
    """Make a handler on a new table, with the environment of a deployed function."""
    monkeypatch.setenv("FLUX_TABLE", store.table)
    return lambda *workflows, **options: lambda_handler(*(workflows or (order(),)), **{"default_retries": 0, **options})


@pytest.fixture
def handler(make: Callable[..., LambdaHandler]) -> LambdaHandler:
    return make()


def told(answer: dict[str, Any]) -> Any:
    """The body of an HTTP answer."""
    return json.loads(answer["body"])


def taken(queue: Queue) -> list[Any]:
    """What the queue holds that can be received now; it is gone then."""
    messages = queue.client.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10).get("Messages", ())
    for message in messages:
        queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
    return [json.loads(message["Body"]) for message in messages]


class TestEverySource:
    @pytest.mark.parametrize(
        "name", ["http-api-execute", "http-api-named-stage", "function-url-execute", "rest-api-execute"]
    )
    def test_a_request_starts_an_instance_and_is_told_its_id_and_status(
        self, handler: LambdaHandler, name: str
    ) -> None:
        answer = handler(recorded(name), context())
        assert answer["statusCode"] == 202
        assert told(answer) | {"id": "o-1", "status": "suspended"} == told(answer)

    @pytest.mark.parametrize("name", ["http-api-get", "rest-api-get", "function-url-iam-get"])
    def test_a_request_asks_for_an_instance(self, handler: LambdaHandler, name: str) -> None:
        handler(recorded("http-api-execute"), context())
        assert told(handler(recorded(name), context()))["status"] == "suspended"

    def test_a_request_signals_and_the_same_click_counts_once(self, handler: LambdaHandler) -> None:
        handler(recorded("http-api-execute"), context())
        first = handler(recorded("http-api-signal"), context())
        again = handler(recorded("http-api-signal"), context())
        assert (first["statusCode"], told(first)["status"]) == (200, "completed")
        assert (again["statusCode"], told(again)["status"]) == (200, "completed")

    def test_direct_invocations_execute_signal_and_retry(self, handler: LambdaHandler) -> None:
        assert handler(recorded("direct-execute"), context())["status"] == "suspended"
        assert handler(recorded("direct-signal"), context())["status"] == "completed"
        refused = handler(recorded("direct-retry-step"), context())
        assert refused["status"] == 409, "it has completed, and nothing forces it"

    def test_a_message_starts_an_instance(self, handler: LambdaHandler) -> None:
        assert handler(recorded("sqs-execute"), context()) == {"batchItemFailures": []}
        found = handler({"action": "get", "workflow": "order", "id": "o-3"}, context())
        assert found["status"] == "suspended"

    def test_a_rule_of_eventbridge_starts_an_instance(self, handler: LambdaHandler) -> None:
        assert handler(recorded("eventbridge-rule"), context())["id"] == "o-4"

    @pytest.mark.parametrize("name", ["scheduler-sweep", "eventbridge-scheduled-rule"])
    def test_a_schedule_sweeps(self, make: Callable[..., LambdaHandler], queue: Queue, name: str) -> None:
        napping = create_workflow("nap").step("nap", lambda ctx: sleep(60)).step("wake", lambda ctx: "awake")
        handler = make(napping)
        handler({"action": "execute", "workflow": "nap", "id": "n-1"}, context())
        queue.client.purge_queue(QueueUrl=queue.url)
        assert handler(recorded(name), context()) == {"asked": 1}
        assert queue.depth() == 1, "it sleeps for a minute, and a sweep looks two minutes ahead"

    def test_wake_messages_of_instances_that_are_gone_are_done_with(self, handler: LambdaHandler) -> None:
        for name in ("sqs-wakes", "sqs-fifo", "sqs-redriven"):
            assert handler(recorded(name), context()) == {"batchItemFailures": []}

    def test_records_of_another_service_are_given_back(self, handler: LambdaHandler) -> None:
        assert handler(recorded("s3-notification"), context()) == {"batchItemFailures": [{"itemIdentifier": ""}]}

    def test_a_callback_token_of_nobody_is_forbidden(self, handler: LambdaHandler) -> None:
        assert handler(recorded("rest-api-callback"), context())["statusCode"] == 403


class TestFailures:
    def test_a_failed_workflow_is_an_answer_through_every_door(self, handler: LambdaHandler) -> None:
        start = {"action": "execute", "workflow": "order", "input": {"sku": "coffee"}}
        assert handler({**start, "id": "c-1"}, context())["status"] == "failed"
        assert handler(records({**start, "id": "c-2"}), context()) == {"batchItemFailures": []}
        answer = handler(request("POST", "/workflows/order/executions", {"sku": "coffee"}), context())
        assert (answer["statusCode"], told(answer)["status"]) == (200, "failed")

    def test_a_wrong_request_is_a_problem(self, handler: LambdaHandler) -> None:
        answer = handler(request("POST", "/workflows/nowhere/executions", {}), context())
        assert answer["statusCode"] == 404
        assert answer["headers"]["content-type"] == "application/problem+json"

    def test_an_event_that_cannot_be_read_is_a_problem_too(self, handler: LambdaHandler) -> None:
        event = recorded("http-api-execute") | {"body": "%", "isBase64Encoded": True}
        assert handler(event, context())["statusCode"] == 400
        assert handler([1, 2], context())["status"] == 400

    def test_one_hopeless_message_comes_again_and_its_neighbours_do_not(self, handler: LambdaHandler) -> None:
        good = {"action": "execute", "workflow": "order", "input": {"sku": "salt"}}
        batch = records({**good, "id": "s-1"}, "{", {"action": "dance"}, {**good, "id": "s-2"})
        assert handler(batch, context()) == {
            "batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]
        }
        for id_ in ("s-1", "s-2"):
            assert handler({"action": "get", "workflow": "order", "id": id_}, context())["status"] == "completed"

    def test_messages_for_which_no_time_is_left_come_again(self, handler: LambdaHandler) -> None:
        seconds = iter([60.0, 60.0, 60.0, 2.0])
        late = context()
        late.get_remaining_time_in_millis = lambda: 1000 * next(seconds, 2.0)
        good = {"action": "execute", "workflow": "order", "input": {"sku": "salt"}}
        batch = records({**good, "id": "l-1"}, {**good, "id": "l-2"})
        assert handler(batch, late)["batchItemFailures"] == [{"itemIdentifier": "m-1"}]

    def test_a_store_that_does_not_answer_has_the_platform_try_again(
        self, handler: LambdaHandler, store: DynamoDBStorage
    ) -> None:
        handler.function.host.engine.storage.close()
        with pytest.raises(StorageUnavailable):
            handler(recorded("direct-execute"), context())
        assert handler(recorded("sqs-execute"), context())["batchItemFailures"]
        answer = handler(recorded("http-api-execute"), context())
        assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "1")


class TestHandOver:
    def test_a_request_is_answered_before_the_gateway_gives_up(
        self, make: Callable[..., LambdaHandler], queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_HTTP_BUDGET", "10")
        clock = VirtualClock()
        flow = create_workflow("order")
        for number in range(9):
            flow.step(f"step-{number}", lambda ctx: clock.advance(4))
        answer = make(flow, clock=clock)(recorded("http-api-execute"), context(900))
        assert (answer["statusCode"], told(answer)["status"]) == (202, "running")
        assert [message["id"] for message in taken(queue)] == ["o-1"]

    def test_what_no_time_is_left_for_goes_on_by_a_message(
        self, make: Callable[..., LambdaHandler], queue: Queue
    ) -> None:
        clock = VirtualClock()
        flow = create_workflow("long")
        for number in range(9):
            flow.step(f"step-{number}", lambda ctx: clock.advance(4))
        handler = make(flow, clock=clock)

        def limited() -> Any:
            end = clock.monotonic() + 10
            found = context()
            found.get_remaining_time_in_millis = lambda: 1000 * (end - clock.monotonic())
            return found

        start = {"action": "execute", "workflow": "long", "id": "l-1"}
        assert handler(start, limited())["status"] == "running"
        for hops in (1, 2):
            (message,) = taken(queue)
            assert (message["id"], message["hops"]) == ("l-1", hops)
            assert handler(records(message), limited()) == {"batchItemFailures": []}
        assert handler({"action": "get", "workflow": "long", "id": "l-1"}, limited())["status"] == "completed"

    def test_without_a_sweeper_a_chain_has_no_end(self, make: Callable[..., LambdaHandler], queue: Queue) -> None:
        """Nobody would begin a new one; that Lambda may cut it is the lesser evil."""
        handler = make(create_workflow("nap").sleep("nap", 600))
        handler({"action": "execute", "workflow": "nap", "id": "n-1", "mode": "async"}, context())
        (first,) = taken(queue)
        messages: list[Any] = []
        sqs: Any = handler.function.host.engine._waker.scheduler
        sqs.client.meta.events.register(
            "before-parameter-build.sqs.SendMessage", lambda params, **_: messages.append(params["MessageBody"])
        )
        handler(records(first | {"hops": 40}), context())
        assert [json.loads(body)["hops"] for body in messages] == [41], "the timer, in ten minutes"

    def test_at_the_end_of_the_hop_budget_the_sweeper_begins_a_new_chain(
        self, make: Callable[..., LambdaHandler], queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_SWEEPER", "on")
        monkeypatch.setenv("FLUX_HOP_BUDGET", "3")
        flow = create_workflow("nap").step("nap", lambda ctx: sleep(600)).step("up", lambda ctx: "up")
        handler = make(flow)
        wake = {"action": "execute", "workflow": "nap", "id": "n-1", "mode": "async"}
        handler(wake, context())
        assert [message["hops"] for message in taken(queue)] == [1]
        tick = {"action": "wake", "tenant": "default", "workflow": "nap", "id": "n-1", "hops": 3}
        assert handler(records(tick), context()) == {"batchItemFailures": []}
        assert queue.depth() == 0, "the timer is in the due index only"


class TestOpening:
    def test_nothing_is_opened_before_the_first_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FLUX_TABLE", raising=False)
        handler = lambda_handler(order())
        with pytest.raises(DefinitionError, match="FLUX_TABLE"):
            handler(recorded("direct-execute"), context())

    def test_one_engine_serves_all_events(self, handler: LambdaHandler) -> None:
        handler(recorded("direct-execute"), context())
        engine = handler.function.host.engine
        handler(recorded("direct-signal"), context())
        assert handler.function.host.engine is engine

    def test_a_store_that_forgets_is_refused(self, make: Callable[..., LambdaHandler]) -> None:
        with pytest.raises(DefinitionError, match="forgets everything"):
            make(storage=MemoryStorage())(recorded("direct-execute"), context())

    def test_without_queue_and_sweeper_it_refuses_to_start(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FLUX_QUEUE_URL")
        with pytest.raises(DefinitionError, match="neither FLUX_QUEUE_URL nor FLUX_SWEEPER"):
            make()(recorded("direct-execute"), context())

    def test_two_stores_are_one_too_many(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_STORAGE", "s3://bucket/flux")
        with pytest.raises(DefinitionError, match=r"both of FLUX_TABLE .* and FLUX_STORAGE"):
            make()(recorded("direct-execute"), context())

    def test_the_store_may_be_a_bucket(
        self, make: Callable[..., LambdaHandler], moto: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import boto3

        bucket = f"handler-{next(_numbers)}"
        boto3.client("s3", endpoint_url=moto.endpoint).create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": moto.environment["AWS_REGION"]}
        )
        monkeypatch.delenv("FLUX_TABLE")
        monkeypatch.setenv("FLUX_STORAGE", f"s3://{bucket}/flux")
        handler = make()
        assert handler(recorded("direct-execute"), context())["status"] == "suspended"
        handler.function.host.engine.storage.close()

    def test_large_values_go_where_the_environment_says(
        self, make: Callable[..., LambdaHandler], moto: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import boto3

        bucket, s3 = f"handler-{next(_numbers)}", boto3.client("s3", endpoint_url=moto.endpoint)
        s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": moto.environment["AWS_REGION"]}
        )
        monkeypatch.setenv("FLUX_PAYLOADS", f"s3://{bucket}/large")
        handler = make(create_workflow("large").step("make", lambda ctx: "x" * 500_000))
        assert handler({"action": "execute", "workflow": "large", "id": "l-1"}, context())["status"] == "completed"
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
        handler.function.host.engine.storage.close()

    @pytest.mark.parametrize("name", ["FLUX_STORAGE", "FLUX_PAYLOADS"])
    def test_an_address_that_is_no_bucket_is_named(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        if name == "FLUX_STORAGE":
            monkeypatch.delenv("FLUX_TABLE")
        monkeypatch.setenv(name, "gs://bucket")
        with pytest.raises(DefinitionError, match=f"{name} has to be an address such as s3://"):
            make()(recorded("direct-execute"), context())

    def test_an_engine_that_is_ready_takes_nothing_else(self, store: DynamoDBStorage) -> None:
        with pytest.raises(DefinitionError, match="takes nothing else"):
            lambda_handler(order(), engine=FluxEngine(store))({}, context())

    def test_an_engine_that_is_ready_serves(self, store: DynamoDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_SWEEPER", "on")
        handler = lambda_handler(engine=FluxEngine(store, workflows=[order()]))
        assert handler(recorded("direct-execute"))["status"] == "suspended", "without a context, as a test calls it"

    def test_a_function_for_callbacks_answers_nothing_else(self, make: Callable[..., LambdaHandler]) -> None:
        handler = make(only_callbacks=True)
        assert handler(recorded("http-api-execute"), context())["statusCode"] == 404
        assert handler(recorded("rest-api-callback"), context())["statusCode"] == 403


class TestCallbacks:
    def test_a_link_out_of_a_step_answers_its_wait(
        self, make: Callable[..., LambdaHandler], moto: Moto, monkeypatch: pytest.MonkeyPatch, queue: Queue
    ) -> None:
        import boto3

        name = f"handler-{next(_numbers)}"
        boto3.client("secretsmanager").create_secret(Name=name, SecretString=f"k1:{'a' * 32}")
        monkeypatch.setenv("FLUX_CALLBACK_SECRET", name)
        monkeypatch.setenv("FLUX_PUBLIC_URL", "https://api.example.com/shop")
        links: list[str] = []

        def ask(ctx: Any) -> object:
            links.append(ctx.callback_url("approval"))
            return wait("approval")

        handler = make(create_workflow("ask").step("ask", ask).step("ship", lambda ctx: ctx.results["ask"]))
        handler({"action": "execute", "workflow": "ask", "id": "a-1"}, context())
        path = links[0].removeprefix("https://api.example.com")
        answer = handler(request("POST", path, {"yes": True}), context())
        assert answer["statusCode"] == 202, "whoever holds a link gets no say in how long a function runs"
        (message,) = taken(queue)
        handler(records(message), context())
        assert handler({"action": "get", "workflow": "ask", "id": "a-1"}, context())["status"] == "completed"


class TestTelling:
    @pytest.fixture(autouse=True)
    def service(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """Powertools keeps one logger a service, and the stream that it began with."""
        service = f"shop-{next(_numbers)}"
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
        return service

    def test_lines_are_powertools_and_say_which_request_and_instance(
        self, make: Callable[..., LambdaHandler], service: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FLUX_LOG_LEVEL", "info")
        handler = make()
        handler(recorded("http-api-execute"), context())
        handler(recorded("eventbridge-rule"), context())
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        steps = [line for line in lines if line["message"] == "checking"]
        assert (
            steps[0]
            | {
                "level": "INFO",
                "service": service,
                "workflow": "order",
                "id": "o-1",
                "step": "check",
                "sku": "tea",
                "correlation_id": "JKJaXmPLvHcESHA=",
                "function_request_id": "7f0b1d5c-request",
                "cold_start": True,
            }
            == steps[0]
        )
        assert (steps[1]["correlation_id"], steps[1]["cold_start"]) == ("6a7e8feb-b491-4cf7-a9f1-bf3703467718", False)

    def test_what_was_refused_is_a_line_since_nobody_may_wait_for_the_answer(
        self, handler: LambdaHandler, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler(records({"action": "dance"}), context())
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line) | {"level": "WARNING", "status": 400, "correlation_id": "m-0"} == json.loads(line)

    def test_a_line_is_short_however_much_was_sent(
        self, handler: LambdaHandler, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler({"action": "get", "workflow": "order", "id": "x" * 200_000}, context())
        (line,) = capsys.readouterr().out.splitlines()
        assert len(line) < 3000

    def test_a_field_of_a_name_that_the_standard_library_keeps_does_not_lose_the_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from flux_aws.logging import PowertoolsLogger

        PowertoolsLogger("info").info("a line", name="ada", args=[1], module="m")
        assert {"name_": "ada", "args_": [1], "module_": "m"}.items() <= json.loads(capsys.readouterr().out).items()

    def test_metrics_are_lines_of_the_embedded_format(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FLUX_METRICS", "Shop")
        monkeypatch.setenv("FLUX_LOG_LEVEL", "warn")
        handler = make()
        handler(records({"action": "execute", "workflow": "order", "input": {"sku": "salt"}, "id": "m-1"}), context())
        (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (described,) = line["_aws"]["CloudWatchMetrics"]
        assert described["Namespace"] == "Shop"
        assert set(described["Dimensions"][0]) == {"service", "workflow"}
        assert (line["workflow"], line["WorkflowCompleted"], line["StepCompleted"]) == ("order", [1.0], [2.0])
        assert len(line["StepDuration"]) == 2

    def test_a_metric_that_cannot_be_written_changes_nothing(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_METRICS", "Shop")
        monkeypatch.setattr("aws_lambda_powertools.metrics.EphemeralMetrics", None)
        handler = make()
        assert handler(recorded("direct-execute"), context())["status"] == "suspended"
        assert handler.function.metrics.errors == 1

    def test_metrics_without_powertools_are_refused(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_METRICS", "Shop")
        monkeypatch.setattr("flux_aws.function.find_spec", lambda _: None)
        with pytest.raises(DefinitionError, match=r"pip install 'flux-serverless\[aws\]'"):
            make()(recorded("direct-execute"), context())

    def test_without_powertools_lines_are_plain(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import sys

        from flux_aws.logging import PowertoolsLogger

        monkeypatch.setitem(sys.modules, "aws_lambda_powertools.logging.logger", None)
        logger = PowertoolsLogger("warn")
        logger.info("unheard")
        logger.warn("heard", id="o-1")
        assert capsys.readouterr().err == "[flux] warn  heard id=o-1\n"

    def test_an_invocation_in_which_nothing_happened_writes_no_metric(
        self, make: Callable[..., LambdaHandler], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FLUX_METRICS", "Shop")
        monkeypatch.setenv("FLUX_LOG_LEVEL", "warn")
        make()({"action": "list"}, context())
        assert capsys.readouterr().out == ""
