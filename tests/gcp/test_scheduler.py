"""Wakes through Cloud Tasks: what is asked of the service, how often, and what is said when it does not answer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from flux_core.errors import DefinitionError, SchedulerUnavailable
from flux_core.invocation import wake_message
from flux_core.ports import InstanceRef
from flux_gcp import scheduler as module
from flux_gcp import settings as names
from flux_gcp.scheduler import HORIZON, CloudTasksScheduler
from tests.gcp.conftest import loaded_of_googles
from tests.services.functions import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flux_core.ports import Scheduler
    from tests.services.cloud_tasks import CloudTasks

ORDER = InstanceRef("acme", "order", "1")
OTHER = InstanceRef("acme", "order", "2")
WORKER = "https://flux-abc123-ew.a.run.app"
Code = grpc.StatusCode


@pytest.fixture
def make(cloud_tasks: CloudTasks) -> Iterator[Callable[..., CloudTasksScheduler]]:
    """Schedulers on a queue of their own; nothing is delivered."""
    cloud_tasks.hold()
    made: list[CloudTasksScheduler] = []

    def scheduler(**options: object) -> CloudTasksScheduler:
        given: dict[str, object] = {"emulator": cloud_tasks.address, "timeout": 20.0, **options}
        queue = given.pop("queue", None) or cloud_tasks.queue()
        made.append(CloudTasksScheduler(str(queue), WORKER, **given))  # type: ignore[arg-type]
        return made[-1]

    yield scheduler
    for one in made:
        one.close()


class TestTask:
    def test_a_wake_is_a_post_of_the_wake_message_to_the_worker(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler: Scheduler = make()
        scheduler.wake(ORDER, 0)
        (task,) = cloud_tasks.created
        request = task.http_request
        assert (request.url, request.http_method.name) == (f"{WORKER}/invoke", "POST")
        assert request.body.decode() == wake_message(ORDER)
        assert request.headers["Content-Type"] == "application/json"

    def test_with_an_account_it_carries_an_identity_for_the_worker(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        make(account="flux@my-project.iam.gserviceaccount.com").wake(ORDER, 0)
        token = cloud_tasks.created[0].http_request.oidc_token
        assert (token.service_account_email, token.audience) == ("flux@my-project.iam.gserviceaccount.com", WORKER)

    def test_without_one_it_carries_none(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        make().wake(ORDER, 0)
        assert "oidc_token" not in cloud_tasks.created[0].http_request

    @pytest.mark.parametrize(
        ("budget", "deadline"), [(540.0, 550), (0.5, 15), (4.0, 15), (100.5, 111), (1795.0, 1800), (3500.0, 1800)]
    )
    def test_cloud_tasks_waits_longer_than_an_invocation_may_take_within_its_limits(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks, budget: float, deadline: int
    ) -> None:
        make(budget=budget).wake(ORDER, 0)
        assert cloud_tasks.created[0].dispatch_deadline.total_seconds() == deadline


class TestDelay:
    def test_none_is_at_once(self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks) -> None:
        make().wake(ORDER, 0)
        assert "schedule_time" not in cloud_tasks.created[0]

    def test_a_short_one_is_exact_and_has_no_name(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        before = time.time()
        make().wake(ORDER, 2.5)
        assert before + 2.499 < cloud_tasks.created[0].schedule_time.timestamp() < time.time() + 2.501
        assert cloud_tasks.created[0].name.rpartition("/")[2].isdigit()  # the fake has given it one

    def test_a_long_one_ends_with_its_second_and_never_before(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = float(int(time.time())) + 0.3
        monkeypatch.setattr(module, "time", lambda: start)
        make().wake(ORDER, 60.5)
        assert cloud_tasks.created[0].schedule_time.timestamp() == start + 60.7

    def test_the_longest_one_is_taken_and_longer_ones_are_the_sweepers(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        scheduler.wake(ORDER, scheduler.horizon)
        assert cloud_tasks.created[0].schedule_time.timestamp() > time.time() + HORIZON - 60


class TestNames:
    """Time is the scheduler's own here: it stands still, or goes on by as much as the delay is less."""

    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(int(time.time())) + 0.25
        monkeypatch.setattr(module, "time", lambda: self.now)

    def test_the_wake_at_suspension_and_those_of_the_sweeper_are_one(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        for delay in (3600.0, 110.0, 50.0):
            scheduler.wake(ORDER, delay)
            self.now += {3600.0: 3490.0, 110.0: 60.0, 50.0: 0.0}[delay]
        assert (cloud_tasks.calls, len(cloud_tasks.created)) == (3, 1)

    def test_another_second_is_another_wake(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        scheduler.wake(ORDER, 50.0)
        scheduler.wake(ORDER, 51.0)
        assert len(cloud_tasks.created) == 2

    @pytest.mark.parametrize("other", [OTHER, ORDER._replace(tenant="b"), InstanceRef("acme", "order1", "")])
    def test_another_instance_is_another_wake(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks, other: InstanceRef
    ) -> None:
        scheduler = make()
        scheduler.wake(ORDER, 50.0)
        scheduler.wake(other, 50.0)
        assert len(cloud_tasks.created) == 2

    def test_near_wakes_are_never_refused_for_a_name_that_has_just_run(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        for delay in (0.0, 0.0, 5.0, 5.0):
            scheduler.wake(ORDER, delay)
        assert len(cloud_tasks.created) == 4

    def test_of_two_due_in_one_second_the_task_that_runs_is_late_enough_for_both(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        scheduler.wake(ORDER, 50.1)
        scheduler.wake(ORDER, 50.7)
        assert [task.schedule_time.timestamp() for task in cloud_tasks.created] == [self.now + 50.75]


class TestFaults:
    def test_a_call_that_is_not_answered_is_made_once_more(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        cloud_tasks.fail(Code.UNAVAILABLE)
        make().wake(ORDER, 0)
        assert (cloud_tasks.calls, len(cloud_tasks.created)) == (2, 1)

    def test_a_named_task_whose_answer_was_lost_is_not_made_twice(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        cloud_tasks.fail(Code.UNAVAILABLE, done=True)
        make().wake(ORDER, 50.0)
        assert (cloud_tasks.calls, len(cloud_tasks.created)) == (2, 1)

    def test_then_it_is_unavailable_and_says_who_wakes_the_instance(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        cloud_tasks.fail(Code.UNAVAILABLE, times=2)
        with pytest.raises(SchedulerUnavailable, match=r"id '1' is in the due index: the sweeper will wake it"):
            make().wake(ORDER, 0)
        assert cloud_tasks.calls == 2

    def test_a_call_takes_no_longer_than_it_may(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make(timeout=30.0)
        scheduler.wake(OTHER, 0)  # the library is loaded now
        scheduler.timeout = 0.2
        cloud_tasks.fail(Code.UNAVAILABLE, times=2, after=5.0)
        began = time.monotonic()
        with pytest.raises(SchedulerUnavailable, match=r"did not answer within 0\.2 s"):
            scheduler.wake(ORDER, 0)
        assert time.monotonic() - began < 5.0
        assert cloud_tasks.calls == 3

    def test_nobody_listening_is_unavailable(self, make: Callable[..., CloudTasksScheduler]) -> None:
        scheduler = make(emulator=f"127.0.0.1:{free_port()}", timeout=2.0)
        with pytest.raises(SchedulerUnavailable, match="did not answer"):
            scheduler.wake(ORDER, 0)

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (Code.PERMISSION_DENIED, "roles/cloudtasks.enqueuer"),
            (Code.UNAUTHENTICATED, "does not accept the credentials"),
            (Code.INVALID_ARGUMENT, names.WORKER_URL),
            (Code.RESOURCE_EXHAUSTED, "quota"),
            (Code.ALREADY_EXISTS, "ALREADY_EXISTS"),
        ],
    )
    def test_what_does_not_pass_by_itself_is_told_at_once_with_what_to_do(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks, code: Code, words: str
    ) -> None:
        cloud_tasks.fail(code)
        with pytest.raises(SchedulerUnavailable, match=words):
            make().wake(ORDER, 0)
        assert cloud_tasks.calls == 1

    def test_a_queue_that_does_not_exist_is_told_with_the_command_that_creates_it(
        self, make: Callable[..., CloudTasksScheduler]
    ) -> None:
        scheduler = make(queue="projects/my-project/locations/europe-west1/queues/missing")
        with pytest.raises(
            SchedulerUnavailable,
            match="gcloud tasks queues create missing --location=europe-west1 --project=my-project",
        ):
            scheduler.wake(ORDER, 0)

    def test_without_credentials_the_message_says_how_to_get_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        def none(*_arguments: object, **_options: object) -> None:
            raise DefaultCredentialsError("none were found")

        monkeypatch.setattr(google.auth, "default", none)
        with pytest.raises(SchedulerUnavailable, match="gcloud auth application-default login"):
            CloudTasksScheduler("projects/p/locations/l/queues/q", WORKER).wake(ORDER, 0)

    def test_without_googles_library_the_message_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "google.cloud.tasks_v2", None)
        with pytest.raises(SchedulerUnavailable, match=r"pip install '\.\[gcp\]'"):
            CloudTasksScheduler("projects/p/locations/l/queues/q", WORKER, emulator="127.0.0.1:1").wake(ORDER, 0)


class TestMaking:
    @pytest.mark.parametrize("queue", ["", "wakes", "projects/p/queues/q", "projects//locations/l/queues/q"])
    def test_a_name_that_is_no_queues_is_refused_at_once(self, queue: str) -> None:
        with pytest.raises(DefinitionError, match=f"{names.QUEUE} must be projects/PROJECT"):
            CloudTasksScheduler(queue, WORKER)

    @pytest.mark.parametrize("url", ["", "flux.run.app", "ftp://x"])
    def test_an_address_that_is_none_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(DefinitionError, match=f"{names.WORKER_URL} must be the address"):
            CloudTasksScheduler("projects/p/locations/l/queues/q", url)

    def test_limits_that_are_none_are_refused_at_once(self) -> None:
        with pytest.raises(DefinitionError, match="positive seconds"):
            CloudTasksScheduler("projects/p/locations/l/queues/q", WORKER, budget=0)

    def test_it_loads_nothing_of_googles(self, root: Path) -> None:
        program = (
            f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'adapters')!r}]\n"
            "from flux_gcp.scheduler import CloudTasksScheduler\n"
            f"CloudTasksScheduler('projects/p/locations/l/queues/q', {WORKER!r})\n"
            f"print({loaded_of_googles()})"
        )
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert told.stdout == "[]\n"

    def test_all_threads_use_one_client(self, make: Callable[..., CloudTasksScheduler]) -> None:
        scheduler = make()
        used = []

        def wake() -> None:
            scheduler.wake(ORDER, 0)
            used.append(id(scheduler._client))

        threads = [threading.Thread(target=wake) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(used) == 8
        assert len(set(used)) == 1

    def test_after_closing_the_next_wake_connects_again(
        self, make: Callable[..., CloudTasksScheduler], cloud_tasks: CloudTasks
    ) -> None:
        scheduler = make()
        scheduler.wake(ORDER, 0)
        scheduler.close()
        scheduler.wake(ORDER, 0)
        assert len(cloud_tasks.created) == 2
