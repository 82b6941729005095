"""Azure Functions for tests: Microsoft's engine in worker processes, and around it what the Functions host does.

The engine is `azure-functions-runtime` in an environment of its own, since it needs Python 3.13; `make test` makes it
in the user's cache (`python -m tests.services.azure_functions`). The host itself cannot be had, so its part is written
here, from its documentation: routes and keys, the queue listener with its poison queue, timers, time-outs.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.services.environment import Environment
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Environment(
    "azure-functions", ("azure-functions==2.3.0", "azure-functions-runtime==1.3.0", "obstore==0.12.1")
)
INSTALL = "python -m tests.services.azure_functions (make test does it; needs Python 3.13, by pyenv for example)"
OLDEST = (3, 13)
KEY = "function-key"
"""The key of the functions whose level is FUNCTION."""
PATIENCE = 180.0
"""Seconds that a busy machine may need to start a worker, or to answer."""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def interpreter() -> Path | None:
    """The Python of the environment that has the engine, if it is whole."""
    return ENVIRONMENT.program("python")


def python() -> str | None:
    """A Python that the engine runs on."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    names = [f"python3.{minor}" for minor in range(13, 16)]
    places = [sys.executable, *(found for name in names if (found := shutil.which(name)))]
    places += [str(path) for path in sorted(versions.glob("3.1[3-9]*/bin/python"))]
    for place in places:
        told = subprocess.run(
            [place, "-c", "import sys, venv; print(sys.version_info[0], sys.version_info[1])"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode == 0 and tuple(map(int, told.stdout.split())) >= OLDEST:
            return place
    return None


def make() -> None:
    """Make the environment anew, unless it is there."""
    if interpreter() is not None:
        return
    base = python()
    if base is None:
        sys.exit(f"no Python from {OLDEST[0]}.{OLDEST[1]} on was found")
    ENVIRONMENT.make(base)


class Failed(Exception):
    """A worker did not come up, or an invocation did not end well."""


class Died(Failed):
    """The worker's process ended while it was at work."""


class Outcome(NamedTuple):
    """How one invocation ended."""

    invocation: str
    error: str | None
    stack: str | None
    value: dict[str, Any] | None
    """What it returned, as `TypedData`."""


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Worker:
    """One process of the engine. Threads may share it: it runs their invocations at the same time."""

    def __init__(self, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        """Start it and index the functions in `folder`; `Failed` says why it could not."""
        place = interpreter()
        if place is None:
            missing("Azure's Functions runtime", INSTALL)
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(place), str(Path(__file__).with_name("azure_worker.py")), str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**keep, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "adapters")]), **environment},
            )  # fmt: skip
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[threading.Event, list[dict[str, Any]]]] = {}
        self._calls = 0
        self._listener: threading.Thread | None = None
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        told: dict[str, Any] = json.loads(first) if first else {"failed": log.read_text(errors="replace")[-2000:]}
        if "failed" in told:
            self.kill()
            raise Failed(told["failed"])
        self.functions: dict[str, list[dict[str, Any]]] = told["functions"]
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    def invoke(
        self,
        function: str,
        inputs: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        limit: float = PATIENCE,
    ) -> Outcome:
        """Run a function; `Died` if the process ended first. After `limit` seconds it is ended."""
        arrived = threading.Event()
        box: list[dict[str, Any]] = []
        with self._lock:
            self._calls += 1
            number = self._calls
            self._waiting[number] = arrived, box
        line = {"call": number, "function": function, "inputs": inputs, "metadata": metadata or {}, "trace": TRACE}
        try:
            with self._lock:
                assert self.process.stdin is not None
                self.process.stdin.write(json.dumps(line) + "\n")
                self.process.stdin.flush()
        except OSError:
            raise Died(function) from None
        if not self.alive or not arrived.wait(limit) or not box:
            self.kill()
            raise Died(function)
        told = box[0]
        return Outcome(told["invocation"], told["error"], told["stack"], told["return"])

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):  # what was not sent is lost
            self.process.stdin.close()
        if self._listener is not None:
            self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            with self._lock:
                arrived, box = self._waiting.pop(told["call"])
            box.append(told)
            arrived.set()
        with self._lock:
            left = list(self._waiting.values())
        for arrived, _ in left:
            arrived.set()


class Host:
    """An application on so many workers. A worker that died is replaced by the next call, as the real host does it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], workers: int = 1) -> None:
        """`folder` holds function_app.py and host.json; `environment` is all that the application finds set."""
        self.folder = folder
        self.settings: dict[str, Any] = json.loads((folder / "host.json").read_text())
        self.environment = dict(environment)
        self.log = folder / "worker.log"
        self.workers = [self._start() for _ in range(workers)]
        self.limit = _seconds(self.settings.get("functionTimeout", "00:05:00"))
        self._turn = 0

    @property
    def functions(self) -> dict[str, list[dict[str, Any]]]:
        """The bindings of each function."""
        return self.workers[0].functions

    def invoke(
        self,
        function: str,
        inputs: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        worker: int | None = None,
    ) -> Outcome:
        """On that worker, or on each in turn."""
        if worker is None:
            self._turn += 1
            worker = self._turn % len(self.workers)
        if not self.workers[worker].alive:
            self.workers[worker] = self._start()
        return self.workers[worker].invoke(function, inputs, metadata, self.limit)

    def http(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = KEY,
        worker: int | None = None,
    ) -> Answer:
        """A request to `target`, path and query. `body`: bytes as they are, anything else as JSON."""
        parts = urlsplit(target)
        found = self._route(method, parts.path)
        if found is None:
            return Answer(404, {}, b"")
        function, binding, params = found
        if binding["authLevel"] != "ANONYMOUS" and key != KEY:
            return Answer(401, {}, b"")
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "host": "flux.azurewebsites.net",
            **({} if key is None else {"x-functions-key": key}),
            **(headers or {}),
        }
        request = {
            "method": method,
            "url": f"https://flux.azurewebsites.net{target}",
            "headers": sent,
            "params": params,
            "query": dict(parse_qsl(parts.query, keep_blank_values=True)),
            "body": {"bytes": base64.b64encode(content).decode()} if content else None,
        }
        try:
            outcome = self.invoke(function, {binding["name"]: {"http": request}}, worker=worker)
        except Died:
            return Answer(502, {}, b"")
        if outcome.error is not None:
            return Answer(500, {}, outcome.error.encode())
        assert outcome.value is not None
        answer = outcome.value["http"]
        return Answer(int(answer["status_code"]), answer["headers"], base64.b64decode(answer["body"]["bytes"]))

    def tick(self, worker: int | None = None) -> Outcome:
        """The timer fires."""
        function, binding = self._one("timerTrigger")
        now = datetime.now(UTC).isoformat()
        status = {"Last": now, "LastUpdated": now, "Next": now}
        timer = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": False}
        return self.invoke(function, {binding["name"]: {"json": json.dumps(timer)}}, worker=worker)

    def queue(self, connection: str) -> Listener:
        """The listener of the queue that a function is bound to."""
        return Listener(self, connection, *self._one("queueTrigger"))

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.kill()

    def _start(self) -> Worker:
        return Worker(self.folder, self.environment, self.log)

    def _one(self, kind: str) -> tuple[str, dict[str, Any]]:
        ((function, binding),) = self._bound(kind)
        return function, binding

    def _bound(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(name, one) for name, bindings in self.functions.items() for one in bindings if one["type"] == kind]

    def _route(self, method: str, path: str) -> tuple[str, dict[str, Any], dict[str, str]] | None:
        """As ASP.NET matches: literals, `{name}`, and `{*name}` for the rest."""
        prefix = self.settings.get("extensions", {}).get("http", {}).get("routePrefix", "api")
        given = [part for part in path.split("/") if part]
        for function, binding in self._bound("httpTrigger"):
            wanted = [part for part in f"{prefix}/{binding['route']}".split("/") if part]
            methods = [str(one).upper() for one in binding.get("methods") or [method]]
            params = _matched(wanted, given)
            if params is not None and method in methods:
                return function, binding, params
        return None


class Listener:
    """What the host does with a storage queue: take, invoke, delete; after too many tries, to the poison queue."""

    def __init__(self, host: Host, connection: str, function: str, binding: dict[str, Any]) -> None:
        from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy

        self._host, self._function, self._binding = host, function, binding
        settings = host.settings.get("extensions", {}).get("queues", {})
        base64_ = settings.get("messageEncoding", "base64") == "base64"
        self.most = settings.get("maxDequeueCount", 5)
        self._again = _seconds(settings.get("visibilityTimeout", "00:00:00"))

        def client(name: str) -> QueueClient:
            return QueueClient.from_connection_string(
                connection,
                name,
                message_decode_policy=TextBase64DecodePolicy() if base64_ else None,
                message_encode_policy=TextBase64EncodePolicy() if base64_ else None,
            )

        self.client = client(binding["queueName"])
        self.poison = client(f"{binding['queueName']}-poison")

    def take(self, most: int = 32) -> Sequence[Any]:
        """The messages that are visible now, with ten minutes for each."""
        return list(self.client.receive_messages(max_messages=most, visibility_timeout=600))

    def deliver(self, message: Any, worker: int | None = None) -> Outcome:
        """Hand a message to the function, and do nothing about it afterwards."""
        metadata = {
            "Id": {"string": message.id},
            "DequeueCount": {"json": json.dumps(message.dequeue_count)},
            "PopReceipt": {"string": message.pop_receipt},
            **{
                name: {"json": json.dumps(moment.isoformat())}
                for name, moment in (
                    ("InsertionTime", message.inserted_on),
                    ("ExpirationTime", message.expires_on),
                    ("NextVisibleTime", message.next_visible_on),
                )
            },
        }
        inputs = {self._binding["name"]: {"string": message.content}}
        return self._host.invoke(self._function, inputs, metadata, worker=worker)

    def settle(self, message: Any, *, done: bool) -> None:
        """Delete what is done; the rest comes again, or goes to the poison queue."""
        from azure.core.exceptions import ResourceExistsError

        if not done and message.dequeue_count < self.most:
            self.client.update_message(message, visibility_timeout=int(self._again))
            return
        if not done:
            with suppress(ResourceExistsError):
                self.poison.create_queue()
            self.poison.send_message(message.content)
        self.client.delete_message(message)

    def pump(self, worker: int | None = None) -> int:
        """One look at the queue: how many messages there were."""
        messages = self.take()
        for message in messages:
            try:
                done = self.deliver(message, worker).error is None
            except Died:
                continue  # nobody settles it: it comes again when its ten minutes are over
            self.settle(message, done=done)
        return len(messages)


def _matched(wanted: list[str], given: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for index, part in enumerate(wanted):
        if part.startswith("{*"):
            params[part[2:-1]] = "/".join(given[index:])
            return params
        if index >= len(given) or (not part.startswith("{") and part.lower() != given[index].lower()):
            return None
        if part.startswith("{"):
            params[part[1:-1]] = given[index]
    return params if len(given) == len(wanted) else None


def _seconds(span: str) -> float:
    hours, minutes, seconds = span.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.fixture(scope="session")
def azure_runtime() -> Path:
    """The interpreter that has the engine."""
    place = interpreter()
    if place is None:
        missing("Azure's Functions runtime", INSTALL)
    return place


if __name__ == "__main__":
    make()
