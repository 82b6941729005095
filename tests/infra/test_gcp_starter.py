"""The starter for Google Cloud in the real functions-framework, with what its own stack would tell the functions.

Terraform plans the project as `flux init` has written it. Every function of the plan is served, with the entry point
and the settings that the plan gives it; all that is added are the addresses of what plays the services.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from flux_core.hosting import CALLBACK_KEYS, PAYLOADS
from flux_gcp import settings as names
from tests.gcp.conftest import new_project
from tests.gcp.deployment import until
from tests.infra.orders import KEYS, UNAVAILABLE, Answer, Orders, patiently
from tests.services.cloud_tasks import CloudTasks
from tests.services.terraform import Resource, by_key, schema_module
from tests.templates.starter import NAME, defined, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.functions import Function, Functions

NUMBER = "123456789012"
ACCOUNT = "sa@p.iam.gserviceaccount.com"
EVERYBODY = "allUsers"
PLAN = """
mock_provider "google" {
  override_during = plan
  mock_data "google_project" {
    defaults = { number = "NUMBER" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "ACCOUNT" }
  }
  mock_resource "google_cloudfunctions2_function" {
    defaults = { service_config = { uri = "https://one-of-them.a.run.app" } }
  }
}

run "planned" {
  command = plan
  variables {
    project_id    = "PROJECT"
    callback_keys = "KEYS"
  }
}
"""


class Planned:
    """What the project's own `terraform apply` would make."""

    def __init__(self, resources: list[Resource]) -> None:
        self._resources = resources

    def of(self, type_: str, name: str) -> dict[str, dict[str, Any]]:
        """By key, the values of a resource."""
        return by_key(self._resources, type_, name)

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """Those that serve HTTP, by their names in the module."""
        return self.of("google_cloudfunctions2_function", "function")

    def entry_points(self) -> set[str]:
        """What all functions that there are run."""
        functions = [one.values for one in self._resources if one.type == "google_cloudfunctions2_function"]
        return {one["build_config"][0]["entry_point"] for one in functions}

    def host(self, function: str) -> str:
        """The name that Cloud Run gives its service: it is made of the function's, the project's and the region's."""
        values = self.functions[function]
        return f"{values['name']}-{NUMBER}.{values['location']}.run.app"

    def environment(self, function: str) -> dict[str, str]:
        """What it is told, secrets too."""
        service = self.functions[function]["service_config"][0]
        secrets = self.of("google_secret_manager_secret", "callbacks").values()
        texts = {one["secret_id"]: KEYS for one in secrets}
        hidden = {one["key"]: texts[one["secret"]] for one in service["secret_environment_variables"]}
        return {**service["environment_variables"], **hidden, names.CLOUD_RUN_TIMEOUT: str(service["timeout_seconds"])}


class OnFunctions:
    """The functions of the plan, and what brings them events."""

    def __init__(
        self, planned: Planned, source: Path, functions: Functions, tasks: CloudTasks, firestore: str, storage: str
    ) -> None:
        self.planned, self._tasks, self._storage = planned, tasks, storage
        added = {
            names.EMULATOR: firestore,
            names.TASKS_EMULATOR: tasks.address,
            "STORAGE_EMULATOR_HOST": storage,
            names.TIMEOUT: "20",  # the machine is busy, and the emulators with it
        }

        def deploy(name: str) -> Function:
            entry = planned.functions[name]["build_config"][0]["entry_point"]
            function = functions.deploy(source / "main.py", entry, {**planned.environment(name), **added})
            function.call("/workflows/order/executions/none")  # loads Google's libraries
            return function

        with ThreadPoolExecutor() as threads:
            self._functions = dict(zip(planned.functions, threads.map(deploy, planned.functions), strict=True))
        for name, function in self._functions.items():
            tasks.hosts[planned.host(name)] = urlsplit(function.url).netloc
        for queue in planned.of("google_cloud_tasks_queue", "work").values():
            tasks.queue("projects/{project}/locations/{location}/queues/{name}".format(**queue))
        for bucket in planned.of("google_storage_bucket", "payloads").values():
            self._ask("/storage/v1/b", {"name": bucket["name"]})
        self.settings = planned.environment("api")
        self.keys = self.settings[CALLBACK_KEYS]

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """To the function that serves the routes."""
        return self._call("api", method, path, body)

    def call_unknown(self, method: str, path: str, body: object = None) -> Answer:
        """To the one whose service everybody may invoke."""
        (open_,) = [
            one["name"]
            for key in ("api", "callbacks")
            for one in self.planned.of("google_cloud_run_v2_service_iam_member", key).values()
            if one["member"] == EVERYBODY
        ]
        (name,) = [key for key, one in self.planned.functions.items() if one["name"] == open_]
        return self._call(name, method, path, body)

    def bring(self, done: Callable[[], bool]) -> None:
        """Cloud Tasks delivers by itself."""
        until(done)
        assert {one.status for one in self._tasks.deliveries} <= {200, 202, UNAVAILABLE}

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Nothing is delivered meanwhile; then all is gone."""
        self._tasks.settle()
        self._tasks.hold()
        yield
        assert self._tasks.waiting()
        self._tasks.drop()
        self._tasks.release()

    def sweep(self) -> Any:
        """What the schedule sends."""
        (target,) = self.planned.of("google_cloud_scheduler_job", "this")["sweeper"]["http_target"]
        headers = {**target["headers"], "X-CloudScheduler": "true"}
        status, _, body = self._functions["sweeper"].call(
            urlsplit(target["uri"]).path, base64.b64decode(target["body"]), headers, method="POST"
        )
        assert status == 200
        return json.loads(body)

    def objects(self, folder: str) -> int:
        """By a listing."""
        bucket, _, prefix = folder.removeprefix("gs://").partition("/")
        return len(self._ask(f"/storage/v1/b/{bucket}/o?prefix={quote(f'{prefix}/', safe='')}").get("items", []))

    def _call(self, function: str, method: str, path: str, body: object) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}

        def ask() -> Answer:
            status, _, answer = self._functions[function].call(path, content, headers, method=method)
            return Answer(status, json.loads(answer))

        return patiently(ask)

    def _ask(self, path: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._storage + path, content, headers)  # noqa: S310 -- a server of our own
        with urllib.request.urlopen(request) as answer:  # noqa: S310 -- as above
            return json.load(answer)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with a package where `flux build gcp` puts it."""
    folder = written("gcp", tmp_path_factory.mktemp("starter"))
    (folder / "build").mkdir()
    (folder / "build" / "gcp.zip").write_bytes(b"a package")
    return folder


@pytest.fixture(scope="module")
def planned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    module = schema_module(project, tmp_path_factory.mktemp("terraform"))
    told = {"NUMBER": NUMBER, "ACCOUNT": ACCOUNT, "PROJECT": new_project(), "KEYS": KEYS}
    text = PLAN
    for name, value in told.items():
        text = text.replace(name, value)
    return Planned(module.planned(text))


@pytest.fixture(scope="module")
def deployed(
    planned: Planned, project: Path, module_functions: Functions, firestore_emulator: str, fake_gcs: str
) -> Iterator[OnFunctions]:
    tasks = CloudTasks()
    yield OnFunctions(planned, project / "src", module_functions, tasks, firestore_emulator, fake_gcs)
    tasks.stop()


class TestOrders(Orders):
    """On Cloud Run functions."""


def test_every_entry_point_is_one_that_main_defines(planned: Planned) -> None:
    assert {f"main.{entry}" for entry in planned.entry_points()} == defined("gcp")
    assert planned.functions.keys() >= {"api", "worker", "sweeper", "callbacks"}


def test_its_functions_are_told_of_what_the_stack_has(planned: Planned) -> None:
    settings = planned.environment("worker")
    (database,) = planned.of("google_firestore_database", "state").values()
    (bucket,) = planned.of("google_storage_bucket", "payloads").values()
    assert settings[names.DATABASE] == database["name"] == NAME
    assert settings[PAYLOADS].startswith(f"gs://{bucket['name']}/")
    assert settings[names.WORKER_URL] == f"https://{planned.host('worker')}"
    assert settings[names.ACCOUNT] == ACCOUNT
