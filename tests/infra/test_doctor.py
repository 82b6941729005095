"""`flux doctor aws` on a stack in moto: all is well as it is deployed, and what is not is told with its cure."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from flux_aws.doctor import examined
from flux_aws.doctor_functions import asked, look, of_function, of_part
from flux_aws.doctor_services import Services
from flux_aws.dynamodb_table import DESCRIPTION
from flux_aws.settings import Settings
from flux_cli.program import program
from flux_core.doctor import FAILURE, OK, UNKNOWN, Finding
from tests.infra.deployed import Deployed
from tests.infra.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services.moto import Moto

PARTS = ("api", "worker", "sweeper", "purge")


class Functions:
    """Answers for a stack's functions, by their names."""

    def __init__(self, deployed: Deployed) -> None:
        self.instead: dict[str, Callable[[], tuple[bytes, str]]] = {}
        """By part, what it does instead of handling an event: an answer, and the kind of failure."""
        parts = {deployed.stack.made()[f"{part.title()}Function"]: part for part in PARTS}
        turn = threading.Lock()

        class Answers(BaseHTTPRequestHandler):
            def do_POST(answers) -> None:  # noqa: N805 -- `self` is the functions
                event = json.loads(answers.rfile.read(int(answers.headers["Content-Length"])))
                part = parts[answers.path.strip("/").partition(":")[0]]
                with turn:
                    given = self.instead.get(part)
                    text, failed = given() if given else (json.dumps(deployed.call(part.title(), event)).encode(), "")
                answers.send_response(200)
                if failed:
                    answers.send_header("X-Failed", failed)
                answers.end_headers()
                answers.wfile.write(text)

            def log_message(answers, *_: object) -> None:  # noqa: N805
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class World:
    """A stack, its functions, and the command."""

    def __init__(self, stack: Stack, functions: Functions) -> None:
        self.stack = stack
        self.functions = functions
        self.made = stack.made()
        self.services = Services()

    def name(self, part: str) -> str:
        """The function that plays a part."""
        return self.made[f"{part.title()}Function"]

    def found(self, **functions: str) -> list[tuple[str, Finding]]:
        """The findings, of functions by their parts, or of the environment."""
        return list(examined(os.environ, functions, self.services))

    @contextmanager
    def environment(self, part: str, **settings: str) -> Iterator[None]:
        """Within, a function has other settings."""
        client, name = self.client("lambda"), self.name(part)
        before = client.get_function_configuration(FunctionName=name)["Environment"]
        client.update_function_configuration(
            FunctionName=name, Environment={"Variables": {**before["Variables"], **settings}}
        )
        yield
        client.update_function_configuration(FunctionName=name, Environment=before)

    def unwell(self, *parts: str) -> list[tuple[str, str, str]]:
        """What is not ok of these functions and of what they use, without what is said."""
        found = self.found(**{part: self.name(part) for part in parts})
        return [(where, one.subject, one.standing) for where, one in found if one.standing != OK]

    def of(self, part: str) -> list[tuple[str, Finding]]:
        """The findings of one function alone, without those of what all use."""
        one = look(self.services, part, self.name(part))
        settings = Settings.from_mapping(one.environment)
        found = chain(of_function(one, settings), of_part(one, settings, self.services), asked(one, self.services))
        return [(part, finding) for finding in found]

    def said(self, where: str, subject: str, standing: str) -> str:
        """What is said of a subject, if it stands so."""
        found = self.found(sweeper=self.name("sweeper")) if where == "here" else self.of(where)
        (said,) = (one.said for _, one in found if (one.subject, one.standing) == (subject, standing))
        return said

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    def told(self, part: str, **numbers: float) -> None:
        """Metrics of a function, of a minute ago."""
        dimensions = [{"Name": "FunctionName", "Value": self.name(part)}]
        at = datetime.now(UTC) - timedelta(minutes=1)
        self.client("cloudwatch").put_metric_data(
            Namespace="AWS/Lambda",
            MetricData=[
                {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value}
                for name, value in numbers.items()
            ],
        )


def expire(stack: Stack, *, on: bool) -> None:
    change = {"AttributeName": "expires_at", "Enabled": on}
    stack.client("dynamodb").update_time_to_live(TableName=stack.made()["StateTable"], TimeToLiveSpecification=change)


def recover(stack: Stack, *, on: bool) -> None:
    stack.client("dynamodb").update_continuous_backups(
        TableName=stack.made()["StateTable"], PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": on}
    )


def protect(stack: Stack, *, on: bool) -> None:
    stack.client("dynamodb").update_table(TableName=stack.made()["StateTable"], DeletionProtectionEnabled=on)


@pytest.fixture(scope="module")
def stack(moto_cloud: Moto, translated: dict[str, Any]) -> Stack:
    stack = Stack.create(moto_cloud, "flux-doctor", translated, PurgeAfterSeconds=3600)
    stack.speak_plain_http(stack.made()["PayloadBucket"])
    for turn in (expire, recover, protect):  # as the template says, which moto leaves out
        turn(stack, on=True)
    stack.client("lambda").put_function_recursion_config(
        FunctionName=stack.made()["WorkerFunction"], RecursiveLoop="Allow"
    )
    return stack


@pytest.fixture(scope="module")
def deployed(stack: Stack, moto_cloud: Moto) -> Iterator[World]:
    """Clients and handlers are made once: that takes longer than all that they are asked."""
    with pytest.MonkeyPatch.context() as patch:
        functions = Functions(Deployed(stack, patch))
        request = urllib.request.Request(  # noqa: S310 -- a server of our own
            f"{moto_cloud.endpoint}/functions", functions.address.encode(), method="PUT"
        )
        urllib.request.urlopen(request).close()  # noqa: S310
        yield World(stack, functions)
        functions.end()


@pytest.fixture
def world(deployed: World, moto_cloud: Moto, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in {**moto_cloud.environment, "AWS_ENDPOINT_URL": moto_cloud.endpoint}.items():
        monkeypatch.setenv(name, value)
    deployed.functions.instead.clear()
    deployed.told("sweeper", Invocations=2, Errors=0)
    return deployed


def test_a_stack_as_it_is_deployed_is_well(world: World) -> None:
    functions = [word for part in PARTS for word in (f"--{part}", world.name(part))]
    told = CliRunner().invoke(program, ["doctor", "aws", *functions, "--json"])
    *found, summary = (json.loads(line) for line in told.stdout.splitlines())
    assert (told.exit_code, summary["exit_code"]) == (0, 0)
    assert [one for one in found if one["standing"] != "ok"] == [], found
    assert {(one["where"], one["subject"]) for one in found} >= {
        ("here", "settings"), ("here", "identity"), ("here", "clock"), ("here", "indexes"), ("here", "redelivery"),
        ("here", "dead letters"), ("here", "sweeper"), ("worker", "recursion"), ("worker", "queue to worker"),
        ("worker", "visibility"), ("sweeper", "schedule"), ("sweeper", "runs"), ("purge", "schedule"),
        ("purge", "store, deleting"), ("api", "store, list index"), ("api", "callback keys"), ("worker", "clock"),
    }  # fmt: skip


def test_its_settings_may_be_those_of_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_TABLE", world.made["StateTable"])
    monkeypatch.setenv("FLUX_SWEEPER", "on")
    told = CliRunner().invoke(program, ["doctor", "aws"])
    assert told.exit_code == 0, told.output
    assert "table flux-doctor" in told.stdout or world.made["StateTable"] in told.stdout


class TestTheTable:
    def test_marks_that_never_expire_are_worth_a_look(self, world: World) -> None:
        expire(world.stack, on=False)
        assert world.unwell("sweeper") == [("here", "expiry", "warning")]
        expire(world.stack, on=True)

    def test_so_is_one_that_cannot_be_restored(self, world: World) -> None:
        recover(world.stack, on=False)
        assert world.unwell("sweeper") == [("here", "recovery", "warning")]
        recover(world.stack, on=True)

    def test_and_one_that_anybody_can_delete(self, world: World) -> None:
        protect(world.stack, on=False)
        assert world.unwell("sweeper") == [("here", "protection", "warning")]
        protect(world.stack, on=True)

    def test_one_without_an_index_fails_by_its_form_and_by_its_use(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without = {**DESCRIPTION, "GlobalSecondaryIndexes": DESCRIPTION["GlobalSecondaryIndexes"][:1]}
        named = {"LP", "LS", "PK", "SK"}
        without["AttributeDefinitions"] = [
            one for one in DESCRIPTION["AttributeDefinitions"] if one["AttributeName"] in named
        ]
        world.client("dynamodb").create_table(TableName="without", **without)
        monkeypatch.setenv("FLUX_TABLE", "without")
        monkeypatch.setenv("FLUX_SWEEPER", "on")
        found = {one.subject: one for _, one in world.found()}
        assert found["indexes"].standing == found["store, due index"].standing == FAILURE
        assert "the index GSI2" in found["indexes"].said
        world.client("dynamodb").delete_table(TableName="without")

    def test_one_that_is_not_there_is_told_by_every_use(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_TABLE", "nowhere")
        monkeypatch.setenv("FLUX_SWEEPER", "on")
        found = {one.subject: one for _, one in world.found()}
        assert found["store, reading"].standing == FAILURE
        assert "FLUX_TABLE" in found["store, reading"].said
        assert found["table"].standing == UNKNOWN


class TestTheQueue:
    @pytest.fixture
    def attributes(self, world: World) -> Iterator[dict[str, str]]:
        """What is put here is set, and set back."""
        client, url = world.client("sqs"), world.made["WorkQueue"]
        before = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        changed: dict[str, str] = {}

        class Setting(dict[str, str]):
            def __setitem__(self, name: str, value: str) -> None:
                changed[name] = before[name]
                client.set_queue_attributes(QueueUrl=url, Attributes={name: value})

        yield Setting(before)
        client.set_queue_attributes(QueueUrl=url, Attributes=changed)

    def test_too_few_tries_for_the_engine_to_see_a_poisonous_instance(
        self, world: World, attributes: dict[str, str]
    ) -> None:
        policy = json.loads(attributes["RedrivePolicy"])
        attributes["RedrivePolicy"] = json.dumps({**policy, "maxReceiveCount": 5})
        assert "set maxReceiveCount to 12" in world.said("here", "redelivery", "failure")

    def test_a_message_that_comes_again_while_it_is_handled(self, world: World, attributes: dict[str, str]) -> None:
        attributes["VisibilityTimeout"] = "299"
        assert "VisibilityTimeout to 1800" in world.said("worker", "visibility", "failure")

    def test_or_might_when_tries_are_throttled(self, world: World, attributes: dict[str, str]) -> None:
        attributes["VisibilityTimeout"] = "300"
        assert "6 times" in world.said("worker", "visibility", "warning")

    def test_dead_letters_are_counted_with_how_to_bring_them_back(self, world: World) -> None:
        client, url = world.client("sqs"), world.made["DeadLetterQueue"]
        client.send_message(QueueUrl=url, MessageBody="{}")
        assert "aws sqs start-message-move-task" in world.said("here", "dead letters", "warning")
        client.purge_queue(QueueUrl=url)

    def test_none_without_a_queue_for_them(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        bare = world.client("sqs").create_queue(QueueName="bare")["QueueUrl"]
        monkeypatch.setenv("FLUX_TABLE", world.made["StateTable"])
        monkeypatch.setenv("FLUX_QUEUE_URL", bare)
        (found,) = (one for _, one in world.found() if one.subject == "redelivery")
        assert (found.standing, "no dead-letter queue" in found.said) == ("warning", True)


class TestTheWorker:
    def test_chains_that_lambda_cuts(self, world: World) -> None:
        client, name = world.client("lambda"), world.name("worker")
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Terminate")
        assert "put-function-recursion-config" in world.said("worker", "recursion", "failure")
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")

    def test_chains_that_flux_ends_before(self, world: World) -> None:
        client, name = world.client("lambda"), world.name("worker")
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Terminate")
        with world.environment("worker", FLUX_HOP_BUDGET="12"):
            assert [one for _, one in world.of("worker") if one.standing != OK] == []
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")

    @pytest.fixture
    def mapping(self, world: World) -> Iterator[Callable[..., None]]:
        """Changes the mapping of the queue, and sets it back."""
        client = world.client("lambda")
        (found,) = (
            one
            for one in client.list_event_source_mappings()["EventSourceMappings"]
            if world.name("worker") in one["FunctionArn"]
        )
        yield lambda **change: client.update_event_source_mapping(UUID=found["UUID"], **change)
        client.update_event_source_mapping(
            UUID=found["UUID"], Enabled=True, BatchSize=1, FunctionResponseTypes=["ReportBatchItemFailures"]
        )

    @pytest.mark.parametrize(
        ("change", "standing", "cure"),
        [
            ({"Enabled": False}, "failure", "enable it"),
            ({"FunctionResponseTypes": []}, "failure", "ReportBatchItemFailures"),
            ({"BatchSize": 10}, "warning", "set BatchSize to 1"),
        ],
    )
    def test_a_mapping_that_loses_messages_or_holds_them_up(
        self, world: World, mapping: Callable[..., None], change: dict[str, Any], standing: str, cure: str
    ) -> None:
        mapping(**change)
        assert cure in world.said("worker", "queue to worker", standing)

    def test_a_function_that_does_not_consume_the_queue(self, world: World) -> None:
        found = world.found(worker=world.name("api"))
        (one,) = (one for _, one in found if one.subject == "queue to worker")
        assert (one.standing, "map the queue to it" in one.said) == ("failure", True)


class TestTheSweeper:
    def test_one_that_nobody_invokes(self, world: World) -> None:
        client = world.client("scheduler")
        schedule = next(
            one for one in client.list_schedules()["Schedules"] if world.name("sweeper") in one["Target"]["Arn"]
        )
        whole = client.get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])
        given = {
            name: whole[name] for name in ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
        }
        client.update_schedule(**given, State="DISABLED")
        assert "enable it" in world.said("sweeper", "schedule", "failure")
        client.update_schedule(**given, State="ENABLED")

    def test_one_whose_runs_fail(self, world: World) -> None:
        world.told("sweeper", Errors=1000)
        assert "look at its log" in world.said("sweeper", "runs", "failure")
        world.told("sweeper", Invocations=5000)

    def test_one_that_has_not_run(self, world: World) -> None:
        found = world.found(sweeper=world.name("purge"))
        (one,) = (one for _, one in found if one.subject == "runs")
        assert (one.standing, "not run in the last 10 minutes" in one.said) == ("failure", True)


class TestFunctions:
    def test_one_that_there_is_not(self, world: World) -> None:
        ((where, one),) = world.found(worker="nobody")
        assert (where, one.subject, one.standing) == ("worker", "function", FAILURE)

    def test_one_with_settings_of_its_own(self, world: World) -> None:
        with world.environment("api", FLUX_TENANT="other"):
            found = world.found(worker=world.name("worker"), api=world.name("api"))
        (one,) = (one for where, one in found if (where, one.subject) == ("api", "settings"))
        assert (one.standing, "another tenant than the others" in one.said) == (FAILURE, True)

    def test_one_with_settings_that_cannot_work(self, world: World) -> None:
        with world.environment("worker", FLUX_SWEEPER="maybe"):
            ((where, one),) = world.found(worker=world.name("worker"))
        assert (where, one.subject, one.standing) == ("worker", "settings", FAILURE)
        assert "FLUX_SWEEPER must be" in one.said

    def test_one_that_may_run_for_longer_than_deleting_believes(self, world: World) -> None:
        with world.environment("worker", FLUX_LONGEST_INVOCATION="60"):
            assert "Raise that setting" in world.said("worker", "time-out", "failure")

    def test_one_that_fails(self, world: World) -> None:
        world.functions.instead["worker"] = lambda: (b'{"errorMessage": "no module named app"}', "Unhandled")
        assert "no module named app" in world.said("worker", "asked itself", "failure")

    def test_one_that_is_older_than_the_doctor(self, world: World) -> None:
        world.functions.instead["worker"] = lambda: (b'{"detail": "the action of an invocation is one of execute"}', "")
        said = world.said("worker", "asked itself", "failure")
        assert "the action of an invocation is one of execute" in said
        assert "Deploy this version" in said

    def test_one_that_is_none_of_fluxs(self, world: World) -> None:
        world.functions.instead["worker"] = lambda: (b"hello", "")
        assert "no JSON" in world.said("worker", "asked itself", "failure")

    def test_what_one_may_not_do_is_what_it_says_itself(self, world: World) -> None:
        told = {"part": "worker", "healthy": False, "findings": [
            {"subject": "queue", "standing": "failure", "said": "the role lacks sqs:SendMessage"},
        ]}  # fmt: skip
        world.functions.instead["worker"] = lambda: (json.dumps(told).encode(), "")
        assert world.said("worker", "queue", "failure") == "the role lacks sqs:SendMessage"
