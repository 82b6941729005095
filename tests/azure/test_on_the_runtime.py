"""The app on Microsoft's own engine: indexed, invoked over HTTP, by queue and by timer, killed and recovered."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.azure.deployment import PUBLIC, TRIES
from tests.azure.hostile import Hostile
from tests.azure.in_process import EVENTS, recorded
from tests.azure.workflows import NAPS, STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.azure.deployment import Deployment

    Deploy = Callable[..., Deployment]

ALL_STEPS = [f"step-{number}" for number in range(STEPS)]


def first_of_each(steps: list[str]) -> list[str]:
    """Without what ran again: a step that the deadline cuts does, and a busy machine makes that happen."""
    return list(dict.fromkeys(steps))


def status_of(app: Deployment, function: str, name: str, data: dict[str, Any]) -> int:
    """Of the answer to an event over HTTP, as `Deployment.http` asks for it."""
    status = 503
    for _ in range(TRIES):
        outcome = app.host.invoke(function, {name: data})
        assert outcome.value is not None, outcome
        status = int(outcome.value["http"]["status_code"])
        if status != 503:
            break
    return status


class TestTheApp:
    def test_is_indexed_with_routes_a_queue_and_a_timer(self, deploy: Deploy) -> None:
        app = deploy()
        bound = {name: bindings[0] for name, bindings in app.host.functions.items()}
        assert {name: one["type"] for name, one in bound.items()} == {
            "flux_workflows": "httpTrigger",
            "flux_invoke": "httpTrigger",
            "flux_callbacks": "httpTrigger",
            "flux_sweep": "timerTrigger",
            "flux_work": "queueTrigger",
        }
        levels = {name: one["authLevel"] for name, one in bound.items() if one["type"] == "httpTrigger"}
        assert levels == {"flux_workflows": "FUNCTION", "flux_invoke": "FUNCTION", "flux_callbacks": "ANONYMOUS"}
        assert bound["flux_work"]["queueName"] == app.environment["FLUX_QUEUE"]
        assert bound["flux_work"]["connection"] == "AzureWebJobsStorage"
        assert bound["flux_sweep"]["schedule"] == "0 * * * * *"

    def test_serves_the_routes(self, deploy: Deploy) -> None:
        app = deploy()
        begun = app.execute("order", "o-1")
        assert (begun.status, begun.json()["status"], begun.json()["created"]) == (202, "suspended", True)
        assert begun.headers["location"] == "../../workflows/order/executions/o-1"
        assert app.execute("order", "o-1").json()["created"] is False
        assert app.get("order", "o-1")["waiting_for"] == ["approved"]
        signalled = app.post("order/executions/o-1/signals/approved", {"by": "ann"})
        assert (signalled.status, signalled.json()["status"]) == (200, "completed")
        listed = app.http("GET", "/workflows/order/executions").json()["items"]
        assert [(one["id"], one["status"]) for one in listed] == [("o-1", "completed")]

    def test_answers_with_problems(self, deploy: Deploy) -> None:
        app = deploy()
        unknown = app.execute("nothing", "n-1")
        assert (unknown.status, unknown.headers["content-type"]) == (404, "application/problem+json")
        assert unknown.json()["type"] == "urn:flux:problem:UnknownWorkflow"
        assert app.post("order/executions", b"{").status == 400
        assert app.http("GET", "/workflows/order/executions/none").status == 404

    def test_leaves_nobody_in_without_a_key_but_who_holds_a_link(self, deploy: Deploy) -> None:
        app = deploy()
        assert app.http("POST", "/workflows/order/executions", key=None).status == 401
        app.execute("link", "l-1")
        url = app.get("link", "l-1", "data")["data"]["link"]
        path = url.removeprefix(PUBLIC)
        assert app.http("POST", f"{path}x", {"ok": True}, key=None).status == 403
        assert app.http("POST", path, {"ok": True}, key=None).status == 202, "the queue goes on with it"
        assert app.until_ended("link", "l-1")["history"][1]["output"] == {"ok": True}

    def test_takes_direct_invocations(self, deploy: Deploy) -> None:
        app = deploy()
        (app.folder / "broken").touch()
        begun = app.http("POST", "/invoke", {"action": "execute", "workflow": "order", "id": "o-1"})
        assert (begun.status, begun.json()["status"]) == (202, "suspended")
        signal = {"action": "signal", "workflow": "order", "id": "o-1", "name": "approved"}
        failed = app.http("POST", "/invoke", signal)
        assert (failed.status, failed.json()["status"]) == (200, "failed"), "a failed workflow is an answer, no error"
        retry = {"action": "retry_step", "workflow": "order", "id": "o-1", "step": "charge"}
        (app.folder / "broken").unlink()
        assert app.http("POST", "/invoke", retry).json()["status"] == "completed"

    def test_takes_invocations_from_the_queue_in_base64_and_as_they_are(self, deploy: Deploy) -> None:
        import base64

        app = deploy()
        text = '{"action": "execute", "workflow": "approval", "id": "%s"}'
        app.listener.client.send_message(text % "plain")
        app.listener.client.send_message(base64.b64encode((text % "encoded").encode()).decode())
        app.until(lambda: len(app.ledger()) >= 4)
        assert app.noted("plain", "done") == app.noted("encoded", "done") == ["ask"]

    def test_logs_lines_that_can_be_searched(self, deploy: Deploy) -> None:
        app = deploy(FLUX_STORAGE="az://no-such-container/flux", FLUX_LOG_LEVEL="info")
        answer = app.http("POST", "/workflows/order/executions")
        assert answer.status == 503
        assert "az storage container create --name no-such-container" in answer.json()["detail"]
        line = next(line for line in app.log().splitlines() if "an invocation failed" in line)
        assert line.startswith("ERROR flux {")
        assert '"trace": "0af7651916cd43dd8448eb211c80319c"' in line
        assert '"invocation": "' in line


class TestALongWorkflow:
    def test_outlives_many_short_invocations(self, deploy: Deploy) -> None:
        app = deploy(FLUX_BUDGET="1.5", FLUX_HTTP_BUDGET="1.5", timeout="00:00:10")
        begun = app.execute("long", "l-1")
        assert (begun.status, begun.json()["status"]) == (202, "running")
        told = app.until_ended("long", "l-1")
        assert [step["status"] for step in told["history"]] == ["completed"] * STEPS
        assert first_of_each(app.noted("l-1", "begun")) == first_of_each(app.noted("l-1", "done")) == ALL_STEPS
        assert app.log().count("Function name: flux_work") >= 6, "an invocation has time for some of its steps only"

    @pytest.mark.soak
    def test_of_forty_seconds_in_invocations_of_five(self, deploy: Deploy) -> None:
        app = deploy(FLUX_BUDGET="5", FLUX_HTTP_BUDGET="5", TEST_SECONDS="1", timeout="00:00:10")
        assert app.execute("long", "l-1").status == 202
        app.until_ended("long", "l-1")
        assert first_of_each(app.noted("l-1", "begun")) == first_of_each(app.noted("l-1", "done")) == ALL_STEPS
        assert app.log().count("Function name: flux_work") >= 8

    def test_goes_on_after_a_death_in_the_middle_of_a_step(self, deploy: Deploy) -> None:
        app = deploy(workers=2)
        (app.folder / "hold").touch()
        calling = threading.Thread(target=app.execute, args=("order", "o-1"), kwargs={"worker": 0})
        calling.start()
        app.until(lambda: app.noted("o-1", "begun") == ["reserve", "pack"], lambda: False)
        app.host.workers[0].kill()
        calling.join()
        (app.folder / "hold").unlink()
        assert app.get("order", "o-1")["status"] == "running"
        assert app.listener.pump() == 0, "it died before anything was enqueued"
        app.host.tick(worker=1)
        app.until(lambda: app.get("order", "o-1")["status"] == "suspended")
        assert app.noted("o-1", "begun") == ["reserve", "pack", "pack"]
        assert app.noted("o-1", "done") == ["reserve", "pack"]

    def test_goes_on_after_an_invocation_that_the_platform_cut(self, deploy: Deploy) -> None:
        app = deploy(FLUX_BUDGET="30", FLUX_HTTP_BUDGET="30", timeout="00:00:06")
        (app.folder / "hold").touch()
        assert app.execute("stubborn", "s-1").status == 502, "the host has ended the worker"
        (app.folder / "hold").unlink()
        app.until_ended("stubborn", "s-1", swept=True)
        assert app.noted("s-1", "begun") == ["pack", "pack", "ship"]

    def test_goes_on_by_the_timer_alone_where_there_is_no_queue(self, deploy: Deploy) -> None:
        app = deploy(FLUX_BUDGET="1.5", FLUX_HTTP_BUDGET="1.5", TEST_SECONDS="0.1")
        app.host.close()
        app.host.environment["FLUX_QUEUE"] = ""
        app.host.workers[0] = app.host._start()
        assert "flux_work" not in app.host.functions
        assert app.execute("long", "l-1", mode="async").status == 202
        app.until(lambda: app.get("long", "l-1", "")["status"] == "completed", lambda: app.host.tick().error is None)
        assert first_of_each(app.noted("l-1", "done")) == ALL_STEPS

    def test_wakes_when_its_wait_is_over(self, deploy: Deploy) -> None:
        app = deploy()
        assert app.execute("approval", "a-1").json()["status"] == "suspended"
        told = app.until_ended("approval", "a-1", "failed")
        assert told["error"]["type"].endswith("WaitTimeout")


class TestMessages:
    def test_may_come_twice_and_in_any_order(self, deploy: Deploy) -> None:
        app = deploy(workers=2, FLUX_LEASE="30")
        ids = [f"n-{number}" for number in range(4)]
        for id_ in ids:
            assert app.execute("naps", id_, mode="async").status == 202
        chance = random.Random(6)
        held: list[object] = []

        def deliver() -> bool:
            held.extend(app.listener.take())
            chance.shuffle(held)
            batch, held[:] = held[:4], held[4:]
            with ThreadPoolExecutor(4) as threads:
                both = [threads.submit(app.listener.deliver, one, worker) for one in batch for worker in (0, 1)]
                errors = [one.result().error or "" for one in both]
            assert all(not one or "unavailable" in one for one in errors), errors
            for message, *failed in zip(batch, errors[::2], errors[1::2], strict=True):
                if any(failed):
                    held.append(message)
                else:
                    app.listener.settle(message, done=True)
            return bool(batch)

        app.until(lambda: all(app.get("naps", id_, "")["status"] == "completed" for id_ in ids), deliver)
        counts = Counter((id_, step) for id_, step, what, _ in app.ledger() if what == "begun")
        assert counts == {(id_, f"step-{number}"): 1 for id_ in ids for number in range(NAPS)}

    def test_that_nobody_can_read_go_to_the_poison_queue_and_hold_up_no_other(self, deploy: Deploy) -> None:
        app = deploy()
        bad = ["nonsense", '{"action": "explode"}', '{"action": "execute", "workflow": "nothing"}', "[" * 1000]
        for text in bad:
            app.listener.client.send_message(text)
        app.execute("stubborn", "s-1", mode="async")
        app.until(lambda: not app.listener.client.peek_messages(1), None)
        assert app.get("stubborn", "s-1")["status"] == "completed"
        assert sorted(one.content for one in app.listener.poison.peek_messages(32)) == sorted(bad)

    def test_of_an_instance_that_is_gone_are_done_with(self, deploy: Deploy) -> None:
        app = deploy()
        app.listener.client.send_message('{"action":"wake","tenant":"default","workflow":"order","id":"gone"}')
        assert app.listener.pump() == 1
        assert not app.listener.client.peek_messages(1)


class TestAtTheSameTime:
    def test_two_that_start_the_same_instance_start_it_once(self, deploy: Deploy) -> None:
        app = deploy(workers=2)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda n: app.execute("order", "o-1", worker=n % 2), range(4)))
        assert sorted(one.status for one in answers) == [202] * 4
        assert sorted(one.json()["created"] for one in answers) == [False, False, False, True]
        app.until(lambda: app.get("order", "o-1")["status"] == "suspended")
        assert app.noted("o-1", "begun") == ["reserve", "pack"]

    def test_two_that_wake_the_same_instance_run_each_step_once(self, deploy: Deploy) -> None:
        app = deploy(workers=2)
        app.execute("stubborn", "s-1", mode="async")
        (message,) = app.listener.take()
        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(lambda n: app.listener.deliver(message, n), (0, 1)))
        assert [one.error for one in outcomes] == [None, None]
        app.listener.settle(message, done=True)
        app.until_ended("stubborn", "s-1")
        assert app.noted("s-1", "begun") == ["pack", "ship"]

    def test_threads_of_one_worker_run_instances_side_by_side(self, deploy: Deploy) -> None:
        app = deploy()
        (app.folder / "hold").touch()
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(app.execute, "stubborn", id_) for id_ in ("s-1", "s-2")]
            app.until(lambda: len(app.ledger()) == 2, lambda: False)
            (app.folder / "hold").unlink()
            assert [one.result().json()["status"] for one in calls] == ["completed"] * 2

    def test_execute_signal_and_retry_step_may_be_three_workers(self, deploy: Deploy) -> None:
        app = deploy(workers=3)
        (app.folder / "broken").touch()
        assert app.execute("order", "o-1", worker=0).json()["status"] == "suspended"
        signalled = app.post("order/executions/o-1/signals/approved", {"by": "ann"}, worker=1)
        assert signalled.json()["status"] == "failed"
        (app.folder / "broken").unlink()
        retried = app.post("order/executions/o-1/steps/charge/retry", {"who": "bob"}, worker=2)
        assert (retried.status, retried.json()["status"]) == (200, "completed")
        assert len({process for _, _, _, process in app.ledger("o-1")}) == 3
        assert app.noted("o-1", "done") == ["reserve", "pack", "charge", "ship"]


class TestAWorker:
    def test_takes_every_recorded_event(self, deploy: Deploy) -> None:
        app = deploy()
        app.execute("order", "order-1")
        for name in recorded():
            event = json.loads((EVENTS / f"{name}.json").read_text())
            (given,) = event["inputData"]
            if name.startswith("http"):
                assert status_of(app, event["function"], given["name"], given["data"]) < 500, name
            else:
                inputs = {given["name"]: given["data"]}
                outcome = app.host.invoke(event["function"], inputs, event["triggerMetadata"])
                refused = outcome.error is not None and "unavailable" not in outcome.error
                assert refused == (name == "queue_unreadable"), (name, outcome)

    def test_outlives_hostile_events(self, deploy: Deploy) -> None:
        app = deploy()
        hostile = Hostile(606)
        process = app.host.workers[0].process.pid
        for _ in range(150):
            function, data = hostile.http()
            assert status_of(app, function, "event", data) < 500, data
            message, metadata = hostile.queue()
            given_back = app.host.invoke("flux_work", {"message": message}, metadata).error
            assert given_back is None or given_back.startswith("NotDone: ")
            swept = app.host.invoke("flux_sweep", {"timer": hostile.timer()}).error
            assert swept is None or "unavailable" in swept
        assert app.host.workers[0].process.pid == process
        assert app.execute("order", "o-1").json()["status"] == "suspended"

    def test_that_lacks_a_setting_says_which(self, deploy: Deploy) -> None:
        app = deploy(FLUX_STORAGE="")
        outcome = app.host.tick()
        assert "FLUX_STORAGE" in (outcome.error or "")
