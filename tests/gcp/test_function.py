"""Functions in the real functions-framework, on Google's Firestore emulator, with Cloud Tasks bringing the wakes."""

from __future__ import annotations

import json
import random
import threading
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from flux_core.hosting import BUDGET, LEASE
from flux_gcp import settings as names
from tests.gcp.deployment import Deployment, get, logged, post, sweep, until
from tests.gcp.hostile import bent
from tests.gcp.requests import recorded
from tests.services.cloud_tasks import CloudTasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.functions import Function, Functions


@pytest.fixture
def deployment(functions: Functions, cloud_tasks: CloudTasks, firestore_emulator: str, tmp_path: Path) -> Deployment:
    """Of one test."""
    return Deployment(functions, cloud_tasks, firestore_emulator, tmp_path)


@pytest.fixture(scope="module")
def shared(
    module_functions: Functions, firestore_emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Of all tests that leave it as it is."""
    tasks = CloudTasks()
    yield Deployment(module_functions, tasks, firestore_emulator, tmp_path_factory.mktemp("shared"))
    tasks.stop()


@pytest.fixture(scope="module")
def worker(shared: Deployment) -> Function:
    """One that is not ended."""
    return shared.worker()


class TestVerbs:
    def test_execute_on_one_process_signal_on_another_and_retry_step_on_a_third(self, deployment: Deployment) -> None:
        one = deployment.worker()
        assert post(one, "/workflows/repair/executions", {}, "r-1")[1]["status"] == "failed"
        status, order = post(one, "/workflows/order/executions", {"total": 42}, "o-1")
        assert (status, order["status"], order["id"]) == (202, "suspended", "o-1")
        one.kill()
        two = deployment.worker()
        status, order = post(two, "/workflows/order/executions/o-1/signals/approved", {"by": "ann"}, "click")
        assert (status, order["status"]) == (200, "completed")
        two.kill()
        three = deployment.worker()
        status, repaired = post(
            three, "/workflows/repair/executions/r-1/steps/second/retry", {"data": {"repaired": True}}
        )
        assert (status, repaired["status"]) == (200, "completed")
        assert deployment.effects() == ["first", "ship o-1"]

    def test_a_direct_invocation_never_fails_for_a_workflow_that_did(self, worker: Function) -> None:
        status, answer = post(worker, "/invoke", {"action": "execute", "workflow": "repair", "id": "direct"})
        assert (status, answer["status"], answer["error"]["message"]) == (200, "failed", "broken")

    def test_what_is_wrong_with_a_request_is_a_problem_that_says_so(self, worker: Function) -> None:
        status, problem = post(worker, "/workflows/nothing/executions", {})
        assert (status, problem["title"]) == (404, "Unknown workflow")
        assert "'nothing'" in problem["detail"]

    def test_wrong_requests_end_nothing(self, worker: Function) -> None:
        chance = random.Random("runtime")
        for name in ("http_execute", "http_signal", "cloud_tasks_wake", "cloud_scheduler_sweep") * 20:
            event, body, _ = bent(recorded(name), chance)
            path = quote(event.path, safe="/%")
            headers = {key: quote(value) for key, value in event.headers.items() if key}
            assert worker.call(path, body, headers)[0] < 500
        assert post(worker, "/workflows/order/executions", {}, "after-all")[0] == 202

    def test_lines_of_a_request_carry_its_trace_those_of_its_steps_too(
        self, worker: Function, shared: Deployment
    ) -> None:
        post(worker, "/workflows/order/executions", {}, "traced")
        trace = "105445aa7843bc8bf206b12000100000"
        headers = {"X-Cloud-Trace-Context": f"{trace}/1;o=1"}
        assert worker.call("/workflows/order/executions/traced/signals/approved", b"{}", headers)[0] == 200
        (line,) = [line for line in logged(worker, "shipping") if line["id"] == "traced"]
        project = shared.environment[names.PROJECT]
        assert line["logging.googleapis.com/trace"] == f"projects/{project}/traces/{trace}"
        assert (line["severity"], line["workflow"], line["step"]) == ("WARNING", "order", "ship")


class TestTasks:
    def test_forty_steps_go_over_many_short_invocations(self, deployment: Deployment) -> None:
        """40 steps of 0.25 s, 1.5 s an invocation: about the proportions of 40 steps of 1 s and 5 s."""
        forty_steps(deployment, step=0.25, budget=1.5)

    @pytest.mark.soak
    def test_forty_steps_of_a_second_go_over_invocations_of_five(self, deployment: Deployment) -> None:
        forty_steps(deployment, step=1.0, budget=5.0)

    def test_a_timer_rings_when_it_is_due(self, worker: Function, shared: Deployment) -> None:
        status, started = post(worker, "/workflows/timer/executions", {"seconds": 1}, "t-1")
        assert (status, started["status"]) == (202, "suspended")
        until(lambda: shared.effects("t-1") == ["rang t-1"])

    def test_each_task_delivered_twice_and_out_of_order_runs_every_step_once(self, deployment: Deployment) -> None:
        worker = deployment.worker()
        deployment.tasks.copies = 2
        deployment.tasks.hold()
        ids = [f"o-{number}" for number in range(8)]
        for id_ in ids:
            post(worker, "/workflows/order/executions", {}, id_)
            post(worker, f"/workflows/order/executions/{id_}/signals/approved?mode=async", {})
        assert deployment.effects() == []
        deployment.tasks.release(lambda task: task.http_request.body[::-1])
        until(lambda: len(deployment.effects()) == 8)
        deployment.tasks.settle()
        assert sorted(deployment.effects()) == sorted(f"ship {id_}" for id_ in ids)
        assert {get(worker, f"/workflows/order/executions/{id_}")["status"] for id_ in ids} == {"completed"}

    def test_a_task_that_cloud_tasks_gives_up_while_it_runs_is_not_run_twice(
        self, functions: Functions, firestore_emulator: str, tmp_path: Path
    ) -> None:
        """Neither Cloud Run nor Cloud Tasks stops the code: the second delivery meets the lease of the first."""
        tasks = CloudTasks(hurry=140.0)  # gives up after half a second; the step takes a whole one
        deployment = Deployment(functions, tasks, firestore_emulator, tmp_path)
        worker = deployment.worker()
        post(worker, "/workflows/slow/executions?mode=async", None, "s-1")
        until(lambda: get(worker, "/workflows/slow/executions/s-1")["status"] == "completed")
        tasks.settle()
        tasks.stop()
        assert 0 in {delivery.status for delivery in tasks.deliveries}
        assert deployment.effects() == ["busy s-1"]

    def test_one_that_can_never_be_done_is_not_brought_again(self, worker: Function) -> None:
        headers = {"X-CloudTasks-QueueName": "q", "X-CloudTasks-TaskName": "7"}
        gone = json.dumps({"action": "wake", "workflow": "order", "id": "gone"}).encode()
        unknown = json.dumps({"action": "wake", "workflow": "elsewhere", "id": "1"}).encode()
        assert [worker.call("/invoke", body, headers)[0] for body in (gone, unknown, b"{", b"", b"[]")] == [200] * 5
        lines = [line for line in logged(worker, "a message was given up") if line["task"] == "7"]
        assert [line["severity"] for line in lines] == ["ERROR"] * 3, "a tick for nobody is done with"
        assert "is not JSON" in lines[0]["detail"]

    def test_one_that_the_store_did_not_answer_is_brought_again(self, deployment: Deployment) -> None:
        nowhere = {names.EMULATOR: "127.0.0.1:1", names.TIMEOUT: "0.5"}
        worker = deployment.worker(**nowhere)
        body = json.dumps({"action": "wake", "workflow": "order", "id": "1"}).encode()
        status, headers, answer = worker.call("/invoke", body, {"X-CloudTasks-QueueName": "q"})
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(answer)["title"] == "Storage unavailable"


class TestDeath:
    def test_a_killed_function_is_recovered_by_the_sweeper(self, deployment: Deployment) -> None:
        worker = deployment.worker(**{LEASE: "2"})
        post(worker, "/workflows/dying/executions?mode=async", None, "d-1")
        until(lambda: deployment.effects() == ["hang d-1"])
        deployment.tasks.hold()
        worker.kill()
        deployment.tasks.drop()  # Cloud Tasks would bring it again; here the sweeper must do without
        deployment.tasks.release()
        worker.start()

        def recovered() -> bool:
            assert sweep(worker)[0] == 200
            return "after d-1" in deployment.effects()

        until(recovered, every=1.0)
        assert deployment.effects() == ["hang d-1", "hang d-1", "after d-1"]

    def test_the_sweeper_without_a_queue_runs_what_is_due_itself(self, deployment: Deployment) -> None:
        alone = {names.QUEUE: "", names.WORKER_URL: ""}
        worker = deployment.worker(**alone)
        post(worker, "/workflows/order/executions", {}, "o-1")
        assert post(worker, "/workflows/order/executions/o-1/signals/approved?mode=async", {})[0] == 202
        assert deployment.effects() == []
        status, answer = sweep(worker)
        assert (status, answer) == (200, {"asked": 1})
        assert deployment.effects() == ["ship o-1"]
        assert deployment.tasks.calls == 0


class TestConcurrency:
    def test_two_invocations_of_one_instance_at_once_run_its_step_once(
        self, worker: Function, shared: Deployment
    ) -> None:
        statuses = together(8, lambda number: post(worker, "/workflows/slow/executions", None, "same")[0])
        assert set(statuses) <= {200, 202}
        until(lambda: get(worker, "/workflows/slow/executions/same")["status"] == "completed")
        assert shared.effects("busy same") == ["busy same"]

    def test_requests_on_the_threads_of_one_process_share_its_engine(
        self, worker: Function, shared: Deployment
    ) -> None:
        """None of the eight can go on before all eight are in their step: they run at once, in one process."""
        answers = together(8, lambda number: post(worker, "/workflows/meeting/executions", {"of": 8}, f"m-{number}"))
        assert [(status, answer["status"]) for status, answer in answers] == [(200, "completed")] * 8
        lines = shared.effects("meets m-")
        assert sorted(line.split()[1] for line in lines) == [f"m-{number}" for number in range(8)]
        assert len({line.split()[2] for line in lines}) == 1

    def test_first_events_at_once_are_all_served(self, deployment: Deployment) -> None:
        worker = deployment.worker()
        worker.kill()
        worker.start()
        answers = together(8, lambda number: post(worker, "/workflows/order/executions", {}, f"o-{number}"))
        assert [(status, answer["status"]) for status, answer in answers] == [(202, "suspended")] * 8

    def test_the_time_limit_of_a_step_holds_on_the_threads_of_the_server(self, worker: Function) -> None:
        assert failure(worker) == "StepTimeout"

    def test_and_where_the_server_has_one_thread_the_main_one(self, deployment: Deployment) -> None:
        assert failure(deployment.worker(THREADS="1")) == "StepTimeout"


class TestCallbacks:
    def test_a_link_goes_to_the_public_function_and_the_worker_runs_what_follows(
        self, worker: Function, shared: Deployment
    ) -> None:
        public = shared.public()
        post(worker, "/workflows/asking/executions", None, "a-1")
        (line,) = shared.effects("link ")
        path = line.removeprefix("link ").removeprefix(public.url)
        assert path.startswith("/callbacks/")
        status, answer = post(public, path, {"yes": True})
        assert (status, answer["id"]) == (202, "a-1")
        until(lambda: shared.effects("answered") == ["answered {'yes': True}"])
        assert public.call(path + "x", b"{}")[0] == 403
        others = [("/workflows/order/executions", b"{}"), ("/invoke", b'{"action": "sweep"}'), ("/", b"")]
        assert [public.call(path, body)[0] for path, body in others] == [404] * 3
        forged = {"X-CloudTasks-QueueName": "q", "X-CloudScheduler": "true"}
        assert public.call("/invoke", b'{"action": "execute", "workflow": "slow", "id": "forged"}', forged)[0] == 404
        assert get(worker, "/workflows/slow/executions/forged")["status"] == 404


class TestSettings:
    def test_one_that_is_missing_is_named_in_the_answer_and_in_the_log(self, deployment: Deployment) -> None:
        worker = deployment.worker(**{names.WORKER_URL: ""})
        status, problem = post(worker, "/workflows/order/executions", {})
        assert (status, problem["title"]) == (500, "Definition error")
        assert names.WORKER_URL in problem["detail"]
        lines = logged(worker, "the function cannot serve")
        assert len(lines) == 2, "each event has its line, that with which the worker was tried out, too"
        assert {(line["severity"], names.WORKER_URL in line["error"]) for line in lines} == {("ERROR", True)}
        assert "Traceback" in lines[0]["stack_trace"]


def failure(worker: Function) -> object:
    """What ended the instance whose step does not end by itself."""
    status, answer = post(worker, "/workflows/stubborn/executions", None)
    assert (status, answer["status"]) == (200, "failed")
    return answer["error"]["type"]


def forty_steps(deployment: Deployment, step: float, budget: float) -> None:
    worker = deployment.worker(**{BUDGET: str(budget), LEASE: str(budget), "FLUX_TEST_STEP": str(step)})
    status, started = post(worker, "/workflows/long/executions?mode=async", None, "l-1")
    assert (status, started["status"]) == (202, "pending")
    until(lambda: get(worker, "/workflows/long/executions/l-1")["status"] == "completed", 180)
    deployment.tasks.settle()
    # A step that the end of an invocation has cut begins anew in the next one; one that succeeded does not.
    assert [line for line, _ in groupby(deployment.effects())] == [f"l-1 s{number}" for number in range(40)]
    history = get(worker, "/workflows/long/executions/l-1?include=history")["history"]
    assert {(step["status"], step["attempts"]) for step in history} == {("completed", 1)}
    assert len(deployment.tasks.deliveries) >= 40 * step / budget
    assert {delivery.status for delivery in deployment.tasks.deliveries} <= {200, 202}
    assert deployment.tasks.deliveries[0].headers["Authorization"].startswith("Bearer ")


def together(count: int, call: object) -> list:
    """What calls from so many threads at once gave."""
    begin = threading.Barrier(count)
    answers: dict[int, object] = {}

    def run(number: int) -> None:
        begin.wait(60)
        answers[number] = call(number)  # type: ignore[operator]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(count)]
