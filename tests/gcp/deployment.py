"""What is deployed in the tests of the functions: workers on the real runtime, a project and a queue of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_core.hosting import BUDGET, CALLBACK_KEYS, HTTP_BUDGET, LEASE, PUBLIC_URL, SWEEPER
from flux_gcp import settings as names
from tests.gcp.conftest import new_project
from tests.services.functions import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.cloud_tasks import CloudTasks
    from tests.services.functions import Function, Functions

SOURCE = Path(__file__).resolve().parent / "functions" / "main.py"
KEY = "k1:0123456789abcdef0123456789abcdef"


class Deployment:
    """Functions over one database and one queue, and what their workflows have done outside."""

    def __init__(self, functions: Functions, tasks: CloudTasks, firestore: str, folder: Path) -> None:
        self._functions = functions
        self.tasks = tasks
        self._effects = folder / "effects.txt"
        self._effects.touch()
        self._port, self._public_port = free_port(), free_port()
        self.environment = {
            names.EMULATOR: firestore,
            names.PROJECT: new_project(),
            names.TASKS_EMULATOR: tasks.address,
            names.QUEUE: tasks.queue(),
            names.WORKER_URL: f"http://127.0.0.1:{self._port}",
            names.ACCOUNT: "flux@flux-test.iam.gserviceaccount.com",
            LEASE: "60",
            BUDGET: "60",
            HTTP_BUDGET: "60",
            SWEEPER: "on",
            names.TIMEOUT: "20",  # this machine is busy, and the emulator with it
            PUBLIC_URL: f"http://127.0.0.1:{self._public_port}",
            CALLBACK_KEYS: KEY,
            "FLUX_TEST_EFFECTS": str(self._effects),
        }

    def worker(self, **changes: str) -> Function:
        """Deploy the function that runs workflows; it has served an event when this returns."""
        function = self._functions.deploy(SOURCE, "handler", {**self.environment, **changes}, port=self._port)
        function.call("/workflows/order/executions/none")  # loads Google's libraries
        return function

    def public(self) -> Function:
        """Deploy the function that takes callback links."""
        return self._functions.deploy(SOURCE, "callbacks", self.environment, port=self._public_port)

    def events(self, **changes: str) -> Function:
        """Deploy the function that Pub/Sub triggers."""
        return self._functions.deploy(SOURCE, "events", {**self.environment, **changes}, signature="cloudevent")

    def effects(self, about: str = "") -> list[str]:
        """Lines of the workflows, those with `about` in them."""
        return [line for line in self._effects.read_text(encoding="utf-8").splitlines() if about in line]


def post(function: Function, path: str, tree: object = None, key: str | None = None) -> tuple[int, Any]:
    """Status and body of a POST."""
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    status, _, answer = function.call(path, b"" if tree is None else json.dumps(tree).encode(), headers)
    return status, json.loads(answer)


def get(function: Function, path: str) -> Any:
    """Body of a GET."""
    return json.loads(function.call(path)[2])


def sweep(function: Function) -> tuple[int, Any]:
    """As Cloud Scheduler asks for it."""
    headers = {"X-CloudScheduler": "true", "Content-Type": "application/octet-stream"}
    status, _, body = function.call("/invoke", b'{"action": "sweep"}', headers)
    return status, json.loads(body)


def until(condition: Callable[[], bool], patience: float = 120.0, every: float = 0.05) -> None:
    """Wait for what happens in another process; it is looked for every so many seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(every)


def logged(function: Function, words: str) -> list[dict[str, Any]]:
    """The structured lines of its log that have `words` as their message."""
    lines = [json.loads(line) for line in function.text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == words]
