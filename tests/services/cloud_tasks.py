"""Cloud Tasks for tests: no emulator of Google's exists, so this speaks the real client's protocol (CreateTask) itself.

What it does as the service does: an unknown queue is NOT_FOUND; a name that is or recently was a task's is
ALREADY_EXISTS; a task waits for its `schedule_time`, at most 30 days; it is a POST with the X-CloudTasks-* headers; an
answer other than 2xx, or none within `dispatch_deadline` (15 s to 30 min), is tried again after a growing pause,
without end, and there is no dead-letter queue. Headers as a real queue was recorded to send them.
"""

from __future__ import annotations

import base64
import heapq
import http.client
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import grpc
import pytest
from google.cloud.tasks_v2.types import CreateTaskRequest, Task

if TYPE_CHECKING:
    from collections.abc import Callable

_METHOD: Final = "/google.cloud.tasks.v2.CloudTasks/CreateTask"
_QUEUE: Final = re.compile(r"projects/[a-z0-9:.-]+/locations/[a-z0-9-]+/queues/[A-Za-z0-9-]{1,100}")
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,500}")
_LATEST: Final = 30 * 86400.0
_LARGEST: Final = 1_048_576
_BRIEFEST, _LONGEST = 15.0, 1800.0
_DEFAULT_DEADLINE: Final = 600.0


class Delivery(NamedTuple):
    """One attempt of a task."""

    task: str
    """The last part of its name."""
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    """0: there was no answer within the dispatch deadline, or no connection."""
    began: float
    """By the monotonic clock."""
    ended: float


class _Entry:
    """A task that waits or is tried again."""

    def __init__(self, name: str, task: Task, at: float) -> None:
        self.name = name
        self.task = task
        self.eta = at
        self.attempts = 0
        self.answered = 0
        self.last: int | None = None


class _Refusal(Exception):
    """What CreateTask answers instead of a task."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class CloudTasks(grpc.GenericRpcHandler):
    """Queues, and threads that deliver what is in them. `hurry` divides the dispatch deadlines (at least 15 s)."""

    def __init__(self, hurry: float = 1.0, workers: int = 16) -> None:
        self.hurry = hurry
        self.copies = 1
        """How often each task is delivered: the service promises at least once."""
        self.deliveries: list[Delivery] = []
        self.created: list[Task] = []
        """Requests that were taken, in their order."""
        self.calls = 0
        self.hosts: dict[str, str] = {}
        """Where servers are whose names nobody else resolves: `host:port` by the name in a task's address."""
        self.pause_first, self.pause_most = 0.05, 0.4
        """The queue's min_backoff and max_backoff, seconds."""
        self._queues: set[str] = set()
        self._known: set[str] = set()
        self._waiting: list[tuple[float, int, _Entry]] = []
        self._faults: list[tuple[grpc.StatusCode, bool, float]] = []
        self._numbers = count(1)
        self._stopped = False
        self._held = False
        self._under_way = 0
        self._change = threading.Condition()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud-tasks")
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._pump = threading.Thread(target=self._run, name="cloud-tasks-pump", daemon=True)
        self._pump.start()

    # --- what a test asks for --------------------------------------------------------------------------------

    def queue(self, name: str | None = None) -> str:
        """A queue, of a name that was never used where none is given."""
        name = name or f"projects/flux-test/locations/europe-west1/queues/wakes-{next(self._numbers)}"
        self._queues.add(name)
        return name

    def fail(self, code: grpc.StatusCode, *, times: int = 1, done: bool = False, after: float = 0.0) -> None:
        """Answer the next `times` calls with `code` after so many seconds; `done`: the task was taken all the same."""
        self._faults += [(code, done, after)] * times

    def hold(self) -> None:
        """Deliver nothing until `release`."""
        with self._change:
            self._held = True

    def release(self, order: Callable[[Task], object] | None = None) -> None:
        """Go on; with `order`, all that waits, timers too, begins at once and in that order."""
        with self._change:
            if order is not None:
                waiting = sorted(self._waiting, key=lambda entry: order(entry[2].task))  # type: ignore[arg-type,return-value]
                self._waiting = [(at, number, entry) for number, (at, _, entry) in enumerate(waiting, -len(waiting))]
                heapq.heapify(self._waiting)
            self._held = False
            self._change.notify_all()

    def drop(self) -> None:
        """Purge the queues."""
        with self._change:
            self._waiting.clear()

    def waiting(self) -> list[Task]:
        """Tasks that are not done."""
        with self._change:
            return [entry.task for _, _, entry in sorted(self._waiting)]

    def settle(self, patience: float = 60.0, until: float = 5.0) -> None:
        """Wait until nothing is under way, and nothing is due within `until` seconds."""
        end = time.monotonic() + patience
        with self._change:
            while self._under_way or (self._waiting and self._waiting[0][0] < time.time() + until):
                if time.monotonic() > end:
                    left = [entry.name for _, _, entry in self._waiting]
                    pytest.fail(f"tasks are left after {patience} s: {left}, {self._under_way} under way")
                self._change.wait(0.05)

    def stop(self) -> None:
        """End all threads; what waits is dropped."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        self._server.stop(0).wait()
        self._pump.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- the service's side ----------------------------------------------------------------------------------

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The one method that there is."""
        if handler_call_details.method != _METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._create, request_deserializer=CreateTaskRequest.deserialize, response_serializer=Task.serialize
        )

    def _create(self, request: CreateTaskRequest, context: grpc.ServicerContext) -> Task:
        self.calls += 1
        code, done, after = self._faults.pop(0) if self._faults else (None, True, 0.0)
        time.sleep(after)
        if code is not None and not done:
            context.abort(code, "as the test has asked")
        try:
            answer = self._take(request)
        except _Refusal as refusal:
            context.abort(refusal.code, str(refusal))
        if code is not None:
            context.abort(code, "the answer was lost")
        return answer

    def _take(self, request: CreateTaskRequest) -> Task:
        task, now = request.task, time.time()
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        if not _QUEUE.fullmatch(request.parent):
            raise _Refusal(invalid, f"{request.parent!r} is no name of a queue")
        if request.parent not in self._queues:
            raise _Refusal(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")
        short = task.name.removeprefix(f"{request.parent}/tasks/") if task.name else f"{next(self._numbers):020d}"
        if not _TASK.fullmatch(short):
            raise _Refusal(invalid, f"{task.name!r} is no name of a task in {request.parent}")
        at = task.schedule_time.timestamp() if "schedule_time" in task else now
        if at > now + _LATEST:
            raise _Refusal(invalid, "The task's schedule_time is more than 30 days in the future")
        if "dispatch_deadline" in task and not _BRIEFEST <= task.dispatch_deadline.total_seconds() <= _LONGEST:
            raise _Refusal(invalid, "dispatch_deadline must be between 15 seconds and 30 minutes")
        url = urlsplit(task.http_request.url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise _Refusal(invalid, "HttpRequest.url must begin with http:// or https://")
        if len(Task.serialize(task)) > _LARGEST:
            raise _Refusal(invalid, "Task size too large")
        full = f"{request.parent}/tasks/{short}"
        with self._change:
            if full in self._known:
                raise _Refusal(grpc.StatusCode.ALREADY_EXISTS, "Requested entity already exists")
            self._known.add(full)
            task.name = full
            self.created.append(task)
            for _ in range(self.copies):
                heapq.heappush(self._waiting, (at, next(self._numbers), _Entry(short, task, at)))
            self._change.notify_all()
        return task

    def _run(self) -> None:
        with self._change:
            while not self._stopped:
                ready = not self._held and self._waiting and self._waiting[0][0] <= time.time()
                if ready:
                    entry = heapq.heappop(self._waiting)[2]
                    self._under_way += 1
                    self._pool.submit(self._attempt, entry)
                else:
                    late = self._waiting[0][0] - time.time() if self._waiting and not self._held else 1.0
                    self._change.wait(min(max(late, 0.001), 1.0))

    def _attempt(self, entry: _Entry) -> None:
        began = time.monotonic()
        headers = _headers(entry)
        request = entry.task.http_request
        status = 0
        if "dispatch_deadline" in entry.task:
            limit = entry.task.dispatch_deadline.total_seconds() / self.hurry
        else:
            limit = _DEFAULT_DEADLINE / self.hurry
        url = urlsplit(request.url)
        host = self.hosts.get(url.netloc, url.netloc)
        connection = http.client.HTTPConnection(host, timeout=limit)
        try:
            connection.request("POST", url.path or "/", request.body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            pass  # nobody is there, or too slow: the attempt failed
        finally:
            connection.close()
        ended = time.monotonic()
        with self._change:
            self.deliveries.append(Delivery(entry.name, url.path, headers, request.body, status, began, ended))
            self._under_way -= 1
            if not 200 <= status < 300 and not self._stopped:
                entry.last = status
                entry.answered += 0 < status < 500
                pause = min(self.pause_first * 2**entry.attempts, self.pause_most)
                entry.attempts += 1
                heapq.heappush(self._waiting, (time.time() + pause, next(self._numbers), entry))
            self._change.notify_all()


def _headers(entry: _Entry) -> dict[str, str]:
    request = entry.task.http_request
    queue = entry.task.name.split("/")[5]
    headers = {
        **request.headers,
        "User-Agent": "Google-Cloud-Tasks",
        "X-Cloudtasks-Queuename": queue,
        "X-Cloudtasks-Taskname": entry.name,
        "X-Cloudtasks-Taskretrycount": str(entry.attempts),
        "X-Cloudtasks-Taskexecutioncount": str(entry.answered),
        "X-Cloudtasks-Tasketa": f"{entry.eta:.6f}",
    }
    if entry.last is not None:
        headers["X-Cloudtasks-Taskpreviousresponse"] = str(entry.last)
        headers["X-Cloudtasks-Taskretryreason"] = ""
    if "oidc_token" in request:
        claims = {"email": request.oidc_token.service_account_email, "aud": request.oidc_token.audience}
        headers["Authorization"] = f"Bearer e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}."
    return headers
