"""What a function makes of its environment and of its arguments, and what becomes of an event that goes wrong."""

from __future__ import annotations

import json
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.http import CloudEvent

from flux_blob import BlobPayloads, BlobStorage
from flux_core import FluxEngine, MemoryStorage, create_workflow, hosting, wait
from flux_core.errors import CorruptRecord, DefinitionError, StorageUnavailable
from flux_core.hosting import BUDGET, HTTP_BUDGET, MOST_BYTES, PAYLOADS, STORAGE, SWEEPER, TENANT
from flux_core.testing import RecordingStorage
from flux_gcp import FirestoreStorage, FunctionSettings, callback_function, cloud_event_function, http_function
from flux_gcp import settings as names
from flux_gcp.function import LONGEST_TASK, Function, Parts
from flux_gcp.scheduler import CloudTasksScheduler
from flux_local import SQLiteStorage
from tests.gcp.requests import as_cloud_event, as_flask, flask_request, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from flux_core.ports import InstanceRef

QUEUE = "projects/my-project/locations/europe-west1/queues/flux"
WORKER = "https://flux-abc123-ew.a.run.app"

order = create_workflow("order").step("approval", lambda ctx: wait("approved")).step("ship", lambda ctx: "shipped")


@pytest.fixture(autouse=True)
def _sweeper(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*names.FUNCTION_VARIABLES, BUDGET, HTTP_BUDGET, MOST_BYTES, PAYLOADS, STORAGE, TENANT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(SWEEPER, "on")


@pytest.fixture
def storage(tmp_path: Path) -> SQLiteStorage:
    return SQLiteStorage(tmp_path / "flux.db")


def answered(handler: Any, name: str) -> tuple[int, Any]:
    """Status and body of what a handler makes of a recorded request."""
    body, status, _ = handler(as_flask(recorded(name)))
    return status, json.loads(body)


class TestArguments:
    def test_a_store_that_is_given_wins_over_the_environment(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(STORAGE, "gs://elsewhere")
        handler = http_function(order, storage=storage)
        assert answered(handler, "http_execute") == (
            202,
            {
                "id": "order-17",
                "workflow": "order",
                "status": "suspended",
                "waiting_for": ["approved"],
                "created": True,
            },
        )
        assert [item.id for item in FluxEngine(storage, workflows=[order]).list("order").items] == ["order-17"]

    def test_an_engine_that_is_given_is_used_as_it_is(self, storage: SQLiteStorage) -> None:
        engine = FluxEngine(storage, workflows=[order], tenant="acme")
        assert answered(http_function(engine=engine), "http_execute")[0] == 202
        assert engine.get(order, "order-17").status == "suspended"

    def test_further_options_are_the_engines(self, storage: SQLiteStorage) -> None:
        function = Function(Parts((order,), storage, options={"tenant": "acme"}))
        assert function.host().engine.tenant == "acme"

    @pytest.mark.parametrize("given", [{"storage": MemoryStorage()}, {"engine": FluxEngine()}])
    def test_a_store_that_forgets_is_refused(self, given: dict[str, Any]) -> None:
        status, problem = answered(http_function(order, **given), "http_execute")
        assert (status, problem["title"]) == (500, "Definition error")
        assert "forgets everything when the function's process ends" in problem["detail"]


class TestEnvironment:
    def test_the_store_is_firestore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(names.PROJECT, "my-project")
        monkeypatch.setenv(names.PREFIX, "acme_")
        store = Function(Parts((order,))).host().engine.storage
        assert isinstance(store, FirestoreStorage)
        assert (store.settings.project, store.settings.prefix) == ("my-project", "acme_")

    def test_or_object_storage_where_it_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(STORAGE, "gs://my-bucket/flux")
        store = Function(Parts((order,))).host().engine.storage
        assert isinstance(store, BlobStorage)
        assert store.address == "gs://my-bucket/flux"

    def test_payloads_are_kept_where_they_are_named(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(PAYLOADS, "gs://my-bucket/large")
        kept = Function(Parts((order,), storage)).host().engine.storage.payloads  # type: ignore[attr-defined]
        assert (type(kept), kept.address) == (BlobPayloads, "gs://my-bucket/large")

    @pytest.mark.parametrize("name", [STORAGE, PAYLOADS])
    @pytest.mark.parametrize("address", ["/workspace/flux", "file:///flux", "s3://bucket", "memory://"])
    def test_a_store_that_ends_with_the_instance_is_refused(self, name: str, address: str) -> None:
        with pytest.raises(DefinitionError, match=f"{name} must be an address such as gs://bucket/root"):
            FunctionSettings.from_env({name: address})

    def test_payloads_that_are_given_are_used(
        self, storage: SQLiteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(MOST_BYTES, "1000000")
        handler = http_function(order, storage=storage, payloads=BlobPayloads(tmp_path / "payloads"))
        event = recorded("http_execute")._replace(body=json.dumps({"text": "x" * 200_000}))
        assert handler(as_flask(event))[1] == 202
        assert any(path.stat().st_size > 200_000 for path in (tmp_path / "payloads").rglob("*") if path.is_file())

    def test_the_queue_wakes_through_cloud_tasks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(names.QUEUE, QUEUE)
        monkeypatch.setenv(names.WORKER_URL, f"{WORKER}/")
        monkeypatch.setenv(names.ACCOUNT, "flux@my-project.iam.gserviceaccount.com")
        monkeypatch.setenv(BUDGET, "100")
        engine = Function(Parts((order,))).host().engine
        scheduler = engine._waker.scheduler
        assert isinstance(scheduler, CloudTasksScheduler)
        assert (scheduler.queue, scheduler.worker_url, scheduler.dispatch_deadline) == (QUEUE, WORKER, 110.0)

    def test_without_queue_and_without_sweeper_nothing_is_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(SWEEPER)
        status, problem = answered(http_function(order), "http_execute")
        assert status == 500
        assert f"neither {names.QUEUE} nor {SWEEPER} is set" in problem["detail"]

    def test_what_was_wrong_is_read_again_by_the_next_event(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler = http_function(order, storage=storage)
        monkeypatch.setenv(BUDGET, "soon")
        assert answered(handler, "http_execute")[0] == 500
        monkeypatch.setenv(BUDGET, "20")
        assert answered(handler, "http_execute")[0] == 202

    def test_an_event_that_meets_a_wrong_setting_comes_again(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(BUDGET, "soon")
        with pytest.raises(DefinitionError, match=BUDGET):
            cloud_event_function(order)(as_cloud_event(recorded("pubsub_execute")))
        assert json.loads(capsys.readouterr().out)["message"] == "the function cannot serve"

    def test_threads_that_come_first_at_once_get_one_host(self, storage: SQLiteStorage) -> None:
        function = Function(Parts((order,), storage))
        begin, found = threading.Barrier(16), []

        def first() -> None:
            begin.wait(60)
            found.append(function.host())

        threads = [threading.Thread(target=first) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 16
        assert len({id(host) for host in found}) == 1


class TestBudgets:
    @pytest.mark.parametrize(
        ("given", "budget"),
        [
            ({}, 50.0),
            ({BUDGET: "200"}, 200.0),
            ({names.CLOUD_RUN_TIMEOUT: "60"}, 54.0),
            ({names.CLOUD_RUN_TIMEOUT: "3600"}, 3240.0),
            ({names.CLOUD_RUN_TIMEOUT: "20"}, 15.0),
            ({names.CLOUD_RUN_TIMEOUT: "4"}, 2.0),
            ({names.CLOUD_RUN_TIMEOUT: "60", BUDGET: "50"}, 50.0),
        ],
    )
    def test_one_ends_before_cloud_run_answers_for_the_function(self, given: dict[str, str], budget: float) -> None:
        assert FunctionSettings.from_env(given).host.budget == budget

    def test_one_that_does_not_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"FLUX_BUDGET is 60 s, but Cloud Run ends a request after 60 s"):
            FunctionSettings.from_env({names.CLOUD_RUN_TIMEOUT: "60", BUDGET: "60"})

    @pytest.mark.parametrize("budget", [1.0, 50.0, 1795.0, 3500.0])
    def test_that_of_a_task_ends_before_cloud_tasks_tries_again(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch, budget: float
    ) -> None:
        monkeypatch.setenv(BUDGET, str(budget))
        function = Function(Parts((order,), storage))
        remaining = function.remaining(function.host(), monotonic(), task=True)
        deadline = CloudTasksScheduler(QUEUE, WORKER, budget=budget).dispatch_deadline
        assert remaining() <= min(budget, LONGEST_TASK) < deadline

    def test_it_counts_from_the_arrival(self, storage: SQLiteStorage) -> None:
        function = Function(Parts((order,), storage))
        assert function.remaining(function.host(), monotonic() - 49.0)() <= 1.0


class TestSettings:
    def test_each_comes_from_its_variable(self) -> None:
        given = {
            names.PROJECT: "my-project",
            names.QUEUE: QUEUE,
            names.WORKER_URL: WORKER,
            names.ACCOUNT: "a@b",
            names.TASKS_EMULATOR: "127.0.0.1:8123",
            TENANT: "acme",
        }
        settings = FunctionSettings.from_env(given)
        assert settings[2:] == (QUEUE, WORKER, "a@b", "127.0.0.1:8123", "my-project")
        assert (settings.host.tenant, settings.store.project) == ("acme", "my-project")

    def test_every_variable_is_told_on_the_page(self, root: Path) -> None:
        page = (root / "docs" / "handlers-gcp.md").read_text(encoding="utf-8")
        shared = [value for value in vars(hosting).values() if isinstance(value, str) and value.startswith("FLUX_")]
        assert len(shared) > 10
        assert [name for name in (*shared, *names.FUNCTION_VARIABLES) if f"`{name}`" not in page] == []

    def test_a_queue_needs_a_worker(self) -> None:
        with pytest.raises(DefinitionError, match=f"{names.QUEUE} is set, but not {names.WORKER_URL}"):
            FunctionSettings.from_env({names.QUEUE: QUEUE})

    @pytest.mark.parametrize(
        ("given", "project"),
        [
            ({names.GOOGLE_PROJECT: "g"}, "g"),
            ({names.QUEUE: QUEUE, names.WORKER_URL: WORKER}, "my-project"),
            ({}, None),
        ],
    )
    def test_traces_are_in_the_project_that_anything_names(self, given: dict[str, str], project: str | None) -> None:
        assert FunctionSettings.from_env(given).project == project


class TestThePublicFunction:
    def test_says_nothing_of_its_settings_but_to_the_log(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(names.QUEUE, QUEUE)
        status, problem = answered(callback_function(order), "http_callback")
        assert (status, problem["title"]) == (500, "Internal error")
        assert names.WORKER_URL not in json.dumps(problem)
        assert names.WORKER_URL in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


class TestCloudScheduler:
    @pytest.mark.parametrize(("name", "nudged"), [("cloud_scheduler_sweep", True), ("cloud_tasks_wake", False)])
    def test_does_not_bring_a_signal_again_so_the_due_index_has_to_know(
        self, storage: SQLiteStorage, name: str, nudged: bool
    ) -> None:
        """PROTOCOL rule 11. Cloud Tasks does bring it again."""
        engine = FluxEngine(storage, workflows=[order])
        engine.execute(order, {}, id="1")
        seen = RecordingStorage(storage)
        handler = http_function(engine=FluxEngine(seen, workflows=[order]))
        body = json.dumps({"action": "signal", "workflow": "order", "id": "1", "name": "approved"})
        assert handler(as_flask(recorded(name)._replace(body=body)))[1] == 200
        assert ("nudge" in [call.method for call in seen.calls]) == nudged


class Broken(MemoryStorage):
    """A store whose reads raise what it was made with."""

    ephemeral = False

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        raise self.error

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        raise self.error

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        raise self.error


class TestFailures:
    """A task is answered so that it comes again, or does not; an event is raised, or not."""

    @pytest.mark.parametrize(
        ("error", "status"),
        [(StorageUnavailable("down"), 503), (ZeroDivisionError("a bug"), 500), (CorruptRecord("damaged"), 200)],
    )
    def test_of_a_task(self, error: Exception, status: int) -> None:
        handler = http_function(order, storage=Broken(error))
        assert handler(as_flask(recorded("cloud_tasks_wake")))[1] == status

    @pytest.mark.parametrize("error", [StorageUnavailable("down"), ZeroDivisionError("a bug")])
    def test_of_an_event_that_may_go_well_another_time(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            cloud_event_function(order, storage=Broken(error))(as_cloud_event(recorded("pubsub_wake")))

    def test_of_an_event_that_cannot(self, capsys: pytest.CaptureFixture[str]) -> None:
        storage = Broken(CorruptRecord("record 3 of order/order-17 is damaged"))
        cloud_event_function(order, storage=storage)(as_cloud_event(recorded("pubsub_wake")))
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (line["severity"], line["message"]) == ("ERROR", "a message was given up")
        assert line["event"] == "2070443601311540"
        assert "is damaged" in line["detail"]

    def test_a_message_that_is_too_large_is_given_up(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(MOST_BYTES, "10")
        cloud_event_function(order, storage=storage)(as_cloud_event(recorded("pubsub_execute")))
        assert MOST_BYTES in json.loads(capsys.readouterr().out.splitlines()[-1])["detail"]

    def test_what_nobody_expected_is_a_problem_and_a_line_with_its_traceback(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler = http_function(order, storage=Broken(ZeroDivisionError("a bug")))
        status, problem = answered(handler, "http_get")
        assert (status, problem["title"]) == (500, "Internal error")
        assert "a bug" not in json.dumps(problem)
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (line["severity"], "a bug" in line["stack_trace"]) == ("ERROR", True)
        assert line["logging.googleapis.com/trace"].endswith("105445aa7843bc8bf206b12000100000")

    def test_an_event_without_an_id_is_given_up_like_any_other(self, storage: SQLiteStorage) -> None:
        event = CloudEvent({"type": "x", "source": "y"}, None)
        cloud_event_function(order, storage=storage)(event)


class TestRecorded:
    def test_every_recorded_request_is_served(self, storage: SQLiteStorage) -> None:
        handler = http_function(order, storage=storage)
        told = ["http_execute", "http_get", "http_signal", "cloud_tasks_wake", "http_get", "cloud_scheduler_sweep"]
        statuses = [answered(handler, name)[0] for name in told]
        assert statuses == [202, 200, 202, 200, 200, 200]
        assert answered(handler, "http_get")[1]["status"] == "completed"
        assert answered(handler, "http_direct")[1]["status"] == "completed"

    def test_every_recorded_message_is_carried_out(self, storage: SQLiteStorage) -> None:
        deliver = cloud_event_function(order, storage=storage)
        for name in ("pubsub_execute", "pubsub_structured", "pubsub_wake", "pubsub_push"):
            deliver(as_cloud_event(recorded(name)))
        assert FluxEngine(storage, workflows=[order]).get(order, "order-17").status == "completed"

    def test_a_sweep_by_cloud_scheduler_has_the_whole_budget(
        self, storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not that of an HTTP request, which somebody waits for."""
        monkeypatch.setenv(HTTP_BUDGET, "0.000001")
        engine = FluxEngine(storage, workflows=[order])
        engine.execute(order, {}, id="1")
        engine.signal(order, "1", "approved", advance=False)
        handler = http_function(order, storage=storage)
        scheduled = recorded("cloud_scheduler_sweep")
        asked = flask_request("POST", "/invoke", headers={}, body=scheduled.body.encode())
        assert json.loads(handler(asked)[0]) == {"asked": 0}
        assert answered(handler, "cloud_scheduler_sweep") == (200, {"asked": 1})
        assert engine.get(order, "1").status == "completed"
