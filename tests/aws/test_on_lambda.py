"""Workflows on the real runtime: Lambda's emulator and runtime client, DynamoDB and SQS as moto plays them.

Nothing here knows how the handler works: events go in, answers come out, a file tells which steps have run.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.aws.events import recorded, records, request
from tests.services.sqs_pump import Pump, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws import DynamoDBStorage
    from tests.services.lambda_runtime import Function, Outcome
    from tests.services.moto import Moto

_numbers = count(1)
STEPS = 40
PATIENCE = 240.0
"""Seconds: a machine that runs tests may be busy."""
FUNCTION = """
import os, time
from flux_aws import lambda_handler
from flux_core import create_workflow, wait

def note(ctx, word="ran"):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{word} {ctx.id} {ctx.step}\\n")

def work(ctx):
    note(ctx)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    return ctx.step

long = create_workflow("long")
for number in range(40):
    long.step(f"step-{number}", work)

def check(ctx):
    note(ctx)
    return wait("approval")

def ship(ctx):
    note(ctx)
    if not os.path.exists(os.environ["NOTES"] + ".depot"):
        raise RuntimeError("the depot is closed")
    return "shipped"

order = create_workflow("order").step("check", check).step("ship", ship, retries=0)

def slow(ctx):
    note(ctx)
    if not os.path.exists(os.environ["NOTES"] + ".seen"):
        open(os.environ["NOTES"] + ".seen", "w").close()
        time.sleep(600)
    return "done"

fragile = create_workflow("fragile").step("before", work).step("slow", slow, timeout=1200).step("after", work)

def charge(ctx):
    note(ctx)
    time.sleep(0.05)
    return ctx.idempotency_key

busy = create_workflow("busy").commit("charge", charge).sleep("nap", 0.2).commit("mail", charge).step("end", work)

handler = lambda_handler(long, order, fragile, busy)
"""


class Deployed(NamedTuple):
    """A function with its queue, and what its steps have noted."""

    function: Function
    queue: Queue
    notes: Path
    again: Callable[..., Function]
    """Another function with the same code, table and queue: `again(timeout=5, SECONDS="1")`."""

    def pump(self, **options: Any) -> Pump:
        return Pump(self.queue, self.function.invoke, **options)

    def ask(self, action: str, **fields: object) -> Any:
        """A direct invocation; its answer."""
        outcome = self.function.invoke({"action": action, **fields})
        assert outcome.error is None, outcome
        return outcome.payload

    def status(self, workflow: str, id_: str) -> str:
        return str(self.ask("get", workflow=workflow, id=id_)["status"])

    def ran(self, word: str = "ran") -> list[str]:
        """`id step`, in the order in which the steps began."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


@pytest.fixture
def deploy(
    moto: Moto, store: DynamoDBStorage, lambda_function: Callable[..., Function], tmp_path: Path
) -> Callable[..., Deployed]:
    """Deploy the function; `seconds` is what a step takes, `timeout` the function's own."""

    def deploy(*, timeout: int = 120, seconds: float = 0.0, **variables: str) -> Deployed:
        queue = Queue.create(moto, f"lambda-{next(_numbers)}-{time.monotonic_ns()}")
        notes = tmp_path / "notes"
        environment = {
            **moto.environment,
            "AWS_ENDPOINT_URL": moto.endpoint,
            "FLUX_TABLE": store.table,
            "FLUX_QUEUE_URL": queue.url,
            "FLUX_SWEEPER": "on",
            "NOTES": str(notes),
            "SECONDS": str(seconds),
            **variables,
        }

        def again(*, timeout: int = timeout, **others: str) -> Function:
            return lambda_function(FUNCTION, environment | others, timeout=timeout)

        return Deployed(again(), queue, notes, again)

    return deploy


class TestLongerThanAFunction:
    def outlives(self, door: Deployed, limit: int, seconds: float, invocations: int) -> None:
        """40 steps on a worker with that limit; a step that the end of an invocation cuts begins again in the next."""
        worker = door.again(timeout=limit, SECONDS=str(seconds))
        assert door.ask("execute", workflow="long", id="l-1", mode="async")["status"] in {"pending", "running"}
        pump = Pump(door.queue, worker.invoke)

        def swept() -> bool:
            if door.status("long", "l-1") == "completed":
                return True
            if door.queue.depth() == 0:  # the chain is at the end of its hops, or the platform ended it
                door.ask("sweep")
            return False

        pump.until(swept, PATIENCE)
        assert len(pump.outcomes) >= invocations
        assert set(door.ran()) == {f"l-1 step-{number}" for number in range(STEPS)}
        assert len(door.ran()) <= STEPS + len(pump.outcomes)

    def test_forty_steps_go_through_many_invocations(self, deploy: Callable[..., Deployed]) -> None:
        door = deploy()
        cold = door.function.invoke({"action": "list"}).seconds  # the emulator counts it; a busy machine takes long
        limit = max(4, math.ceil(2 * cold))
        self.outlives(door, limit, limit * 3 / STEPS, 4)

    @pytest.mark.soak
    def test_forty_seconds_of_work_go_through_invocations_of_five(self, deploy: Callable[..., Deployed]) -> None:
        self.outlives(deploy(), 5, 1.0, 10)


class TestAnythingMayHappen:
    def test_a_function_killed_in_a_step_is_recovered_by_the_sweeper(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(timeout=900, FLUX_LEASE="1")
        outcomes: list[Outcome] = []
        start = {"action": "execute", "workflow": "fragile", "id": "f-1"}
        call = threading.Thread(target=lambda: outcomes.append(deployed.function.invoke(start)))
        call.start()
        end = time.monotonic() + PATIENCE
        while "f-1 slow" not in deployed.ran():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert deployed.function.kill() == 1
        call.join()
        assert "Runtime.ExitError" in str(outcomes[0].error)
        assert deployed.queue.depth() == 0, "nobody but the due index knows of it"

        def swept() -> bool:
            if deployed.queue.depth() == 0:
                deployed.ask("sweep")
            return deployed.status("fragile", "f-1") == "completed"

        deployed.pump().until(swept, PATIENCE)
        assert deployed.ran() == ["f-1 before", "f-1 slow", "f-1 slow", "f-1 after"]

    def test_messages_that_come_twice_and_out_of_order_change_nothing(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy()
        ids = [f"b-{number}" for number in range(12)]
        for id_ in ids:
            deployed.queue.send({"action": "execute", "workflow": "busy", "id": id_})
        pump = deployed.pump(batch=3, copies=2, disorder=random.Random(1))

        def ended() -> bool:
            listed = deployed.ask("list", workflow="busy", status="completed", limit=100)
            return len(listed["items"]) == len(ids)

        pump.until(ended, PATIENCE)
        assert sorted(deployed.ran()) == sorted(f"{id_} {step}" for id_ in ids for step in ("charge", "mail", "end"))
        assert not any(outcome.error for outcome in pump.outcomes)

    def test_two_invocations_at_once_run_an_instance_once(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(seconds=0.05)
        outcomes: list[Outcome] = []
        start = {"action": "execute", "workflow": "long", "id": "t-1"}
        calls = [threading.Thread(target=lambda: outcomes.append(deployed.function.invoke(start))) for _ in range(2)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert deployed.function.environments == 2
        assert [outcome.error for outcome in outcomes] == [None, None]
        assert [outcome.payload["created"] for outcome in outcomes].count(True) == 1
        deployed.pump().until(lambda: deployed.status("long", "t-1") == "completed", PATIENCE)
        assert deployed.ran() == [f"t-1 step-{number}" for number in range(STEPS)]


class TestEveryDoor:
    def test_execute_here_signal_there_and_retry_at_a_third(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy()
        one, two, three = deployed.function, deployed.again(), deployed.again()
        begun = one.invoke(recorded("http-api-execute")).payload
        assert (begun["statusCode"], json.loads(begun["body"])["status"]) == (202, "suspended")
        signalled = two.invoke(
            records({"action": "signal", "workflow": "order", "id": "o-1", "name": "approval", "dedupe_id": "c-1"})
        )
        assert signalled.payload == {"batchItemFailures": []}
        assert deployed.status("order", "o-1") == "failed", "the depot is closed"
        Path(f"{deployed.notes}.depot").touch()
        retried = three.invoke(
            request("POST", "/workflows/order/executions/o-1/steps/ship/retry", {"who": "ada", "why": "it is open"})
        ).payload
        assert (retried["statusCode"], json.loads(retried["body"])["status"]) == (200, "completed")
        assert deployed.ran() == ["o-1 check", "o-1 ship", "o-1 ship"]

    @pytest.mark.parametrize("python", ["3.11", "3.12"])
    def test_hostile_events_leave_the_process_as_it_was(self, deploy: Callable[..., Deployed], python: str) -> None:
        """From 3.12 on, the runtime client writes answers without escapes."""
        deployed = deploy(AWS_EXECUTION_ENV=f"AWS_Lambda_python{python}")
        event = recorded("http-api-execute")
        hostile: list[object] = [
            {"action": "\ud800"},
            {"action": "get", "workflow": "order", "id": "\udfff"},
            event | {"body": "\ud800"},
            event | {"rawPath": "/workflows/\ud800/executions"},
            {"Records": [{"messageId": "\ud800", "eventSource": "aws:sqs", "body": "\ud800"}]},
            [],
            None,
            "text",
            5,
            {"a": "x" * 1_000_000},
        ]
        for each in hostile:
            assert deployed.function.invoke(each).error is None, str(each)[:200]
        deep = deployed.function.invoke(b'{"a":' * 1_000 + b"1" + b"}" * 1_000)
        assert "UnmarshalError" in str(deep.error), "the runtime client itself reads nothing so deep"
        assert deployed.ask("list") is not None
        assert "Runtime.ExitError" not in deployed.function.log()
        assert deployed.function.log().count("INIT START") == 1
