"""`CloudTasksScheduler`: how an instance is woken later, or handed over now, on Google Cloud: a task a wake.

It must not decide when an instance is due, and not import Google's library before the first wake.

A wake that is at least `NAMED_FROM` seconds away is a named task, so that the engine's own and those of the sweeper's
rounds are one: Cloud Tasks refuses a name that it has, or recently had. The name is of the instance and the second:

    due 12:00:41.3   engine   11:00:00   name(order/1, 12:00:42)  created, runs at 12:00:42
                     sweeper  11:58:50   name(order/1, 12:00:42)  is there already: one wake
                     sweeper  11:59:50   name(order/1, 12:00:42)  is there already: one wake

It runs at the end of its second, not before: else a wake that was refused for its name could be due after the one that
runs. Nearer wakes have no name: that one could be of a task that has just run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import ceil
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError, SchedulerUnavailable
from flux_core.invocation import wake_message
from flux_gcp import settings as names
from flux_gcp.events import WAKES

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.credentials import Credentials
    from google.cloud.tasks_v2 import CloudTasksClient, Task

    from flux_core.ports import InstanceRef

HORIZON: Final = 30 * 86400.0 - 3600.0
"""Seconds: Cloud Tasks keeps a task for up to 30 days; an hour is left for clocks that differ."""
NAMED_FROM: Final = 10.0
"""Seconds of delay from which a task has a name; clocks here and there must not differ by more."""
GRACE: Final = 10.0
"""Seconds between the end of an invocation's budget and the end of Cloud Tasks' patience."""
_BRIEFEST, _LONGEST = 15.0, 1800.0
"""Seconds that a dispatch deadline may be."""
_SHARES: Final = (2 / 3, 1.0)
"""Of the time that is left, for the first try and for the second."""
_PASSING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN"})
_LOG_IN: Final = (
    "On a machine of your own run `gcloud auth application-default login`; on Google Cloud give the function a service "
    f"account. For a fake of Cloud Tasks set {names.TASKS_EMULATOR}."
)


class CloudTasksScheduler:
    """Wakes through the queue `queue` (`projects/P/locations/L/queues/Q`), delivered to `worker_url`/invoke.

    `account`: the service account whose identity the tasks have; without it they have none, and the function must be
    public. `budget`: seconds that an invocation may take; a task is given up `GRACE` later, so two never overlap.
    `timeout`: seconds that a wake may take, a second try included. `emulator`: host and port of a fake. Threads may
    share it; a process makes its own after a fork. `DefinitionError` for arguments that cannot work.
    """

    horizon = HORIZON

    def __init__(
        self,
        queue: str,
        worker_url: str,
        *,
        account: str | None = None,
        budget: float = 540.0,
        timeout: float = MARGIN,
        emulator: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Check the arguments; nothing of Google's is imported and nothing connected before the first wake."""
        parts = queue.split("/")
        if parts[::2] != ["projects", "locations", "queues"] or not all(parts[1::2]):
            raise DefinitionError(
                f"{names.QUEUE} must be projects/PROJECT/locations/LOCATION/queues/QUEUE, not {queue!r}; "
                "`gcloud tasks queues describe QUEUE --location=LOCATION` shows it."
            )
        if not worker_url.startswith(("https://", "http://")):
            raise DefinitionError(
                f"{names.WORKER_URL} must be the address of the function that runs the workflows, such as "
                f"https://flux-abc123-ew.a.run.app, not {worker_url!r}."
            )
        if not (budget > 0 and timeout > 0):
            raise DefinitionError(f"budget and timeout must be positive seconds, not {budget!r} and {timeout!r}.")
        self.queue = queue
        self.worker_url = worker_url.rstrip("/")
        self.account = account
        self.timeout = timeout
        self.dispatch_deadline = min(max(budget + GRACE, _BRIEFEST), _LONGEST)
        """Seconds after which Cloud Tasks tries again."""
        self._emulator = emulator
        self._credentials = credentials
        self._opening = Lock()
        self._client: CloudTasksClient | None = None

    def wake(self, ref: InstanceRef, delay: float) -> None:
        """Have the instance ticked in `delay` seconds, at least once; `SchedulerUnavailable` if that is not sure."""
        client = self._client or self._open()
        task = self._task(ref, delay)
        from google.api_core.exceptions import GoogleAPICallError

        end = monotonic() + self.timeout
        for share in _SHARES:
            try:
                limit = (end - monotonic()) * share
                client.create_task(parent=self.queue, task=task, retry=None, timeout=limit)
            except GoogleAPICallError as error:
                code = _code(error)
                if task.name and code == "ALREADY_EXISTS":
                    return
                if share == _SHARES[-1] or code not in _PASSING:
                    raise self._unavailable(ref, code, error) from error
            except Exception as error:
                # Credentials that cannot be renewed, a closed channel: the library has no common class for them.
                raise SchedulerUnavailable(
                    f"Cloud Tasks could not be asked to wake workflow {ref.workflow!r}, id {ref.id!r}: {error!r}. "
                    f"The sweeper will do it. {_LOG_IN}"
                ) from error
            else:
                return

    def close(self) -> None:
        """Release the connection; a later wake makes another."""
        with self._opening:
            client, self._client = self._client, None
        if client is not None:
            client.transport.close()

    def _task(self, ref: InstanceRef, delay: float) -> Task:
        from google.cloud.tasks_v2 import HttpMethod, HttpRequest, OidcToken, Task

        target = HttpRequest(
            url=self.worker_url + WAKES,
            http_method=HttpMethod.POST,
            headers={"Content-Type": "application/json"},
            body=wake_message(ref).encode(),
        )
        if self.account:
            target.oidc_token = OidcToken(service_account_email=self.account, audience=self.worker_url)
        task = Task(http_request=target, dispatch_deadline=timedelta(seconds=ceil(self.dispatch_deadline)))
        if delay > 0:
            at = time() + min(delay, HORIZON)
            if delay >= NAMED_FROM:
                at = float(ceil(at))
                task.name = f"{self.queue}/tasks/{_name(ref, int(at))}"
            task.schedule_time = datetime.fromtimestamp(at, UTC)
        return task

    def _open(self) -> CloudTasksClient:
        """Import Google's library and make the client, once for all threads."""
        with self._opening:
            if self._client is None:
                try:
                    self._client = _connect(self._emulator, self._credentials)
                except ImportError as error:
                    raise SchedulerUnavailable(
                        f"CloudTasksScheduler needs google-cloud-tasks: pip install '.[gcp]'. ({error})"
                    ) from error
                except Exception as error:
                    # Google's library has a class of errors for each way of having no credentials.
                    raise SchedulerUnavailable(
                        f"There are no Google credentials to use Cloud Tasks with. {_LOG_IN} ({error})"
                    ) from error
            return self._client

    def _unavailable(self, ref: InstanceRef, code: str, error: GoogleAPICallError) -> SchedulerUnavailable:
        return SchedulerUnavailable(
            f"Cloud Tasks ({self.queue}) {self._advice(code)} Workflow {ref.workflow!r}, id {ref.id!r} is in the due "
            f"index: the sweeper will wake it. ({code}: {error.message})"
        )

    def _advice(self, code: str) -> str:
        queue = self.queue.split("/")
        match code:
            case "NOT_FOUND":
                return (
                    f"has no such queue. Look at {names.QUEUE}, or create it: `gcloud tasks queues create {queue[5]} "
                    f"--location={queue[3]} --project={queue[1]}`."
                )
            case "PERMISSION_DENIED":
                return (
                    "refuses access. Give the function's service account roles/cloudtasks.enqueuer on the queue, and "
                    f"roles/iam.serviceAccountUser on {self.account or 'the account of ' + names.ACCOUNT}; enable the "
                    "API (`gcloud services enable cloudtasks.googleapis.com`)."
                )
            case "UNAUTHENTICATED":
                return f"does not accept the credentials. {_LOG_IN}"
            case "INVALID_ARGUMENT" | "FAILED_PRECONDITION":
                return f"does not take the task. Look at {names.WORKER_URL} and {names.ACCOUNT}."
            case "RESOURCE_EXHAUSTED":
                return "has no quota left. Look at the quotas of Cloud Tasks in the console."
            case _:
                return f"did not answer within {self.timeout:g} s."


def _name(ref: InstanceRef, second: int) -> str:
    """Hashed, so that names spread evenly over Cloud Tasks' servers, as Google asks for."""
    return sha256("\0".join((*ref, str(second))).encode()).hexdigest()


def _code(error: GoogleAPICallError) -> str:
    status = error.grpc_status_code
    return "UNKNOWN" if status is None else str(status.name)


def _connect(emulator: str | None, credentials: Credentials | None) -> CloudTasksClient:
    from google.cloud.tasks_v2 import CloudTasksClient

    if not emulator:
        return CloudTasksClient(credentials=credentials)
    import grpc
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    return CloudTasksClient(transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(emulator)))
