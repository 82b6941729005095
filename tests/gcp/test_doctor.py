"""`flux doctor gcp` says what a deployment on Google Cloud lacks, and what to do about it.

Store and queue are the emulator and the fake of the functions' tests; what administers them is a server of our own.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from flux_cli.program import program
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_core.hosting import BUDGET, PURGE_AFTER, STORAGE, SWEEPER
from flux_gcp import settings as names
from flux_gcp.doctor import examined
from flux_gcp.doctor_database import of_database
from flux_gcp.doctor_jobs import of_jobs
from flux_gcp.doctor_queue import of_queue
from flux_gcp.doctor_services import ADDRESSES, Services
from flux_gcp.function import Function, Parts, timekeeper
from flux_gcp.settings import FUNCTION_VARIABLES, FunctionSettings
from tests.gcp.conftest import new_project
from tests.gcp.deployment import Deployment
from tests.services.google_admin import ACCOUNT, PROJECT, GoogleAdmin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.services.cloud_tasks import CloudTasks
    from tests.services.functions import Functions

DATABASE = f"projects/{PROJECT}/databases/flux"
PLACE = f"projects/{PROJECT}/locations/europe-west1"
QUEUE = f"{PLACE}/queues/flux-work"
INVOKER = "flux-invoker@flux-test.iam.gserviceaccount.com"
SWEEPER_URL = "https://flux-sweeper-123.europe-west1.run.app"
RUN = "roles/run.invoker"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FUNCTION_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleAdmin]:
    """Nothing is deployed; this machine has a key."""
    served = GoogleAdmin()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", served.key_file(tmp_path))
    monkeypatch.delenv(names.GOOGLE_PROJECT, raising=False)
    # Google's library asks where a service account may be used, beside what it is to do: to a port of nobody's.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served
    served.stop()


@pytest.fixture
def services(admin: GoogleAdmin) -> Services:
    return Services({}, dict.fromkeys(ADDRESSES, admin.address))


def one(found: Iterable[Finding], subject: str) -> Finding:
    """The only one of that subject."""
    (finding,) = (each for each in found if each.subject == subject)
    return finding


class TestTheDatabase:
    @pytest.fixture(autouse=True)
    def _deployed(self, admin: GoogleAdmin) -> None:
        admin.deploy_database(DATABASE)

    def look(self, services: Services, prefix: str = "flux_") -> list[Finding]:
        return list(of_database(PROJECT, "flux", prefix, services))

    def indexes(self, admin: GoogleAdmin) -> list[dict[str, Any]]:
        return admin.lists[f"{DATABASE}/collectionGroups/-/indexes"]

    def fields(self, admin: GoogleAdmin) -> list[dict[str, Any]]:
        return admin.lists[f"{DATABASE}/collectionGroups/-/fields"]

    def test_one_as_infra_deploys_it_is_well(self, services: Services) -> None:
        assert self.look(services) == [
            Finding("database", OK, "in native mode, at eur3"),
            Finding("indexes", OK, "the 5 of flux_inst are there"),
            Finding("exemptions", OK, "no field is indexed by itself"),
        ]

    def test_each_index_that_is_not_there_is_named(self, admin: GoogleAdmin, services: Services) -> None:
        for number in range(5):
            removed = self.indexes(admin).pop(number)
            found = one(self.look(services), "indexes")
            assert found.standing == FAILURE
            assert f"not there: flux_inst ({', '.join(field['fieldPath'] for field in removed['fields'][:-1])})." in (
                found.said
            )
            assert "`python -m flux_gcp.firestore_indexes flux_`" in found.said
            self.indexes(admin).insert(number, removed)

    def test_one_in_another_order_is_not_it(self, admin: GoogleAdmin, services: Services) -> None:
        self.indexes(admin)[1]["fields"][2]["order"] = "ASCENDING"
        found = one(self.look(services), "indexes")
        assert (found.standing, "flux_inst (tenant, shard, created_at, id, workflow)" in found.said) == (FAILURE, True)

    def test_those_of_another_prefix_are_not_either(self, services: Services) -> None:
        found = one(self.look(services, "shop_"), "indexes")
        assert found.standing == FAILURE
        assert found.said.count("shop_inst (") == 5

    @pytest.mark.parametrize(
        ("state", "said"), [("CREATING", "still being made: flux_inst (shard, due)"), ("NEEDS_REPAIR", "need repair")]
    )
    def test_one_that_is_not_ready_is_a_failure(
        self, state: str, said: str, admin: GoogleAdmin, services: Services
    ) -> None:
        self.indexes(admin)[0]["state"] = state
        found = one(self.look(services), "indexes")
        assert found.standing == FAILURE
        assert said in found.said

    def test_collections_whose_fields_are_all_indexed_are_to_be_looked_at(
        self, admin: GoogleAdmin, services: Services
    ) -> None:
        fields = self.fields(admin)
        fields[:] = [field for field in fields if "/flux_mail/" not in field["name"]]
        (log,) = (field for field in fields if field["name"].endswith("/flux_log/fields/*"))
        log["indexConfig"] = {"indexes": [{"queryScope": "COLLECTION"}]}
        found = one(self.look(services), "exemptions")
        assert found.standing == WARNING
        assert found.said.startswith("every field of flux_log, flux_mail is indexed")

    @pytest.mark.parametrize(("state", "standing"), [("CREATING", None), ("NEEDS_REPAIR", WARNING), ("", WARNING)])
    def test_marks_of_deleted_instances_have_to_expire(
        self, state: str, standing: str | None, admin: GoogleAdmin, services: Services
    ) -> None:
        self.fields(admin)[-1]["ttlConfig"] = {"state": state} if state else {}
        found = [each for each in self.look(services) if each.subject == "expiry"]
        assert [each.standing for each in found] == ([] if standing is None else [standing])
        assert all("expire_at of flux_log has no TTL policy" in each.said for each in found)

    @pytest.mark.parametrize(
        ("setting", "subject", "option"),
        [
            ("pointInTimeRecoveryEnablement", "recovery", "--enable-pitr"),
            ("deleteProtectionState", "protection", "--delete-protection"),
        ],
    )
    def test_one_that_can_be_lost_is_to_be_looked_at(
        self, setting: str, subject: str, option: str, admin: GoogleAdmin, services: Services
    ) -> None:
        del admin.one[DATABASE][setting]
        found = one(self.look(services), subject)
        assert found.standing == WARNING
        assert f"gcloud firestore databases update --project=flux-test --database='flux' {option}" in found.said

    def test_one_in_datastore_mode_is_a_failure(self, admin: GoogleAdmin, services: Services) -> None:
        admin.one[DATABASE]["type"] = "DATASTORE_MODE"
        found = one(self.look(services), "database")
        assert (found.standing, "native mode" in found.said) == (FAILURE, True)

    def test_one_that_is_not_there_is_a_failure(self, admin: GoogleAdmin, services: Services) -> None:
        del admin.one[DATABASE]
        assert self.look(services) == [
            Finding(
                "database",
                FAILURE,
                f"there is no {DATABASE}: look at FLUX_PROJECT and FLUX_DATABASE, or deploy it",
            )
        ]

    def test_what_may_not_be_looked_at_is_not_known_and_the_permission_is_named(
        self, admin: GoogleAdmin, services: Services
    ) -> None:
        admin.refuse("/databases/", 403, "Missing or insufficient permissions.")
        found = self.look(services)
        assert [(each.subject, each.standing) for each in found] == [("database", UNKNOWN), ("indexes", UNKNOWN)]
        assert "need datastore.databases.getMetadata" in found[0].said
        assert "need datastore.indexes.list" in found[1].said


class TestTheQueue:
    @pytest.fixture(autouse=True)
    def _deployed(self, admin: GoogleAdmin) -> None:
        admin.deploy_queue(QUEUE)

    def look(self, services: Services, *, account: str | None = INVOKER, sweeper: bool = True) -> list[Finding]:
        return list(of_queue(QUEUE, account, services, sweeper=sweeper))

    def test_one_as_infra_deploys_it_is_well(self, services: Services) -> None:
        assert self.look(services) == [
            Finding("delivery", OK, "runs, with up to 160 tasks at once and 500 a second"),
            Finding("redelivery", OK, "a task is tried up to 30 times"),
            Finding("tasks", OK, "none waits"),
        ]

    @pytest.mark.parametrize("state", ["PAUSED", "DISABLED"])
    def test_one_that_does_not_run_is_a_failure(self, state: str, admin: GoogleAdmin, services: Services) -> None:
        admin.one[QUEUE]["state"] = state
        found = one(self.look(services), "delivery")
        assert found.standing == FAILURE
        assert found.said == (
            f"it is {state}, so nothing is delivered: gcloud tasks queues resume flux-work --location=europe-west1 "
            "--project=flux-test"
        )

    @pytest.mark.parametrize("limit", ["maxDispatchesPerSecond", "maxConcurrentDispatches"])
    def test_one_that_may_deliver_nothing_is_a_failure(
        self, limit: str, admin: GoogleAdmin, services: Services
    ) -> None:
        del admin.one[QUEUE]["rateLimits"][limit]  # as JSON has a zero
        found = one(self.look(services), "delivery")
        assert (found.standing, "may deliver nothing" in found.said) == (FAILURE, True)

    @pytest.mark.parametrize(
        ("retry", "expected", "said"),
        [
            ({"maxAttempts": -1}, OK, "without end"),
            ({"maxAttempts": 6, "minBackoff": "60s"}, OK, "up to 6 times"),
            ({"maxAttempts": 5}, WARNING, "dropped after 5 tries"),
            ({"maxAttempts": 5, "maxRetryDuration": "3600s"}, OK, "up to 5 times"),
            ({"maxAttempts": -1, "maxRetryDuration": "60s"}, WARNING, "dropped 60 s after its first try"),
            # 1 + 2 + 4 + 8 + 16 + 32 + 64 + 128 seconds are not five minutes, and with one more they are
            ({"maxAttempts": 9}, WARNING, "dropped 255 s after"),
            ({"maxAttempts": 10}, OK, "up to 10 times"),
            # doubled twice, then longer by as much: 1 + 2 + 4 + 8 + 12 + 16
            ({"maxAttempts": 7, "maxDoublings": 2}, WARNING, "dropped 43 s after"),
            ({"maxAttempts": 9, "maxBackoff": "5s"}, WARNING, "dropped 32 s after"),
            ({"maxAttempts": 0, "maxRetryDuration": "60s"}, WARNING, "dropped 60 s after"),
            ({"minBackoff": "61s"}, WARNING, "waits for 61 s"),
        ],
    )
    def test_a_task_has_to_come_again_often_and_long_enough(
        self, retry: dict[str, Any], expected: str, said: str, admin: GoogleAdmin, services: Services
    ) -> None:
        admin.one[QUEUE]["retryConfig"] |= retry
        found = one(self.look(services), "redelivery")
        assert found.standing == expected
        assert said in found.said
        if expected != OK:
            assert "Change it: gcloud tasks queues update flux-work --location=europe-west1 --project=flux-test" in (
                found.said
            )

    @pytest.mark.parametrize("attempts", [5, 8])
    def test_without_a_sweeper_what_is_dropped_is_lost(
        self, attempts: int, admin: GoogleAdmin, services: Services
    ) -> None:
        admin.one[QUEUE]["retryConfig"]["maxAttempts"] = attempts
        found = one(self.look(services, sweeper=False), "redelivery")
        assert (found.standing, "no sweeper would find its instance" in found.said) == (FAILURE, True)

    def attempted(self, code: int, message: str) -> dict[str, Any]:
        status = {"code": code, "message": message} if code else {}
        return {"lastAttempt": {"responseTime": "2026-11-21T12:00:00Z", "responseStatus": status}}

    @pytest.mark.parametrize(
        ("code", "message", "expected", "advice"),
        [
            (7, "PERMISSION_DENIED(7): HTTP status code 403", FAILURE, f"Give {RUN} on the function to {INVOKER}"),
            (16, "UNAUTHENTICATED(16): HTTP status code 401", FAILURE, f"Give {RUN} on the function to {INVOKER}"),
            (
                5,
                "NOT_FOUND(5): HTTP status code 404",
                FAILURE,
                "There is no Flux at that address: look at FLUX_WORKER_URL",
            ),
            (14, "UNAVAILABLE(14): HTTP status code 503", WARNING, "Look at the function's log"),
        ],
    )
    def test_what_the_worker_answered_is_told_with_what_to_do(
        self, code: int, message: str, expected: str, advice: str, admin: GoogleAdmin, services: Services
    ) -> None:
        waiting = {"lastAttempt": {"dispatchTime": "2026-11-21T12:00:00Z"}}
        admin.lists[f"{QUEUE}/tasks"] = [self.attempted(code, message), waiting]
        found = one(self.look(services), "tasks")
        assert found == Finding("tasks", expected, f"1 of 2 tasks that wait failed: {message}. {advice}")

    def test_tasks_without_an_identity_that_are_refused_need_one(self, admin: GoogleAdmin, services: Services) -> None:
        admin.lists[f"{QUEUE}/tasks"] = [self.attempted(7, "PERMISSION_DENIED(7): HTTP status code 403")]
        found = one(self.look(services, account=None), "tasks")
        assert found.said.endswith("to an account, and name it in FLUX_TASKS_ACCOUNT")

    def test_of_many_tasks_some_are_looked_at(self, admin: GoogleAdmin, services: Services) -> None:
        admin.lists[f"{QUEUE}/tasks"] = [self.attempted(0, "")] * 3
        assert one(self.look(services), "tasks").said == "none of 2 tasks that were looked at has failed"

    def test_one_that_is_not_there_is_a_failure(self, admin: GoogleAdmin, services: Services) -> None:
        del admin.one[QUEUE]
        said = f"there is no {QUEUE}: look at FLUX_TASKS_QUEUE, or deploy it"
        assert self.look(services) == [Finding("delivery", FAILURE, said)]

    @pytest.mark.parametrize(
        ("path", "subject", "permission"),
        [("/v2/", "delivery", "cloudtasks.queues.get"), ("/tasks", "tasks", "cloudtasks.tasks.list")],
    )
    def test_what_may_not_be_looked_at_is_not_known(
        self, path: str, subject: str, permission: str, admin: GoogleAdmin, services: Services
    ) -> None:
        admin.refuse(path, 403, f"lacks {permission}")
        found = one(self.look(services), subject)
        assert (found.standing, f"they need {permission} (Google: lacks {permission})" in found.said) == (UNKNOWN, True)


def job(name: str = "flux-sweeper", action: str = "sweep", *, ago: float | None = 40, **other: Any) -> dict[str, Any]:
    """One as `infra/` deploys it, that ran so many seconds ago."""
    ran = datetime.now(UTC) - timedelta(seconds=ago or 0)
    return {
        "name": f"{PLACE}/jobs/{name}",
        "state": "ENABLED",
        "schedule": "* * * * *",
        "httpTarget": {
            "uri": f"{SWEEPER_URL}/invoke",
            "body": b64encode(json.dumps({"action": action}).encode()).decode(),
            "oidcToken": {"serviceAccountEmail": INVOKER},
        },
        **({} if ago is None else {"lastAttemptTime": ran.isoformat().replace("+00:00", "Z"), "status": {}}),
        **other,
    }


class TestTheJobs:
    @pytest.fixture
    def jobs(self, admin: GoogleAdmin) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = [job("nightly-report", "report"), job()]
        admin.lists[f"{PLACE}/jobs"] = listed
        return listed

    def look(self, services: Services, part: str = "sweeper", address: str | None = None, **told: str) -> list[Finding]:
        given = {names.QUEUE: QUEUE, names.WORKER_URL: "https://w.example.com", names.ACCOUNT: INVOKER} | told
        return list(of_jobs(part, FunctionSettings.from_env(given), address, PROJECT, services))

    @pytest.mark.usefixtures("jobs")
    def test_one_that_ran_lately_is_well(self, services: Services) -> None:
        assert self.look(services) == [Finding("sweeper job", OK, "flux-sweeper ran just now")]

    def test_one_may_ask_through_pubsub(self, jobs: list[dict[str, Any]], services: Services) -> None:
        target = jobs[1].pop("httpTarget")
        jobs[1]["pubsubTarget"] = {"topicName": "t", "data": target["body"]}
        assert self.look(services) == [Finding("sweeper job", OK, "flux-sweeper ran just now")]

    @pytest.mark.parametrize("state", ["PAUSED", "DISABLED", "UPDATE_FAILED"])
    def test_one_that_is_off_is_a_failure(self, state: str, jobs: list[dict[str, Any]], services: Services) -> None:
        jobs[1]["state"] = state
        (found,) = self.look(services)
        assert found.standing == FAILURE
        assert found.said == (
            f"flux-sweeper is {state}: gcloud scheduler jobs resume flux-sweeper --location=europe-west1 "
            "--project=flux-test, or deploy it anew"
        )

    def test_one_that_ran_long_ago_is_a_failure_and_its_schedule_is_shown(
        self, jobs: list[dict[str, Any]], services: Services
    ) -> None:
        jobs[1] = job(ago=1860, schedule="0 * * * *")
        (found,) = self.look(services)
        assert found == Finding(
            "sweeper job", FAILURE, "flux-sweeper ran 31 min ago, by the schedule 0 * * * *: it should be * * * * *"
        )

    def test_one_that_has_not_run_yet_is_to_be_looked_at_again(
        self, jobs: list[dict[str, Any]], services: Services
    ) -> None:
        jobs[1] = job(ago=None)
        (found,) = self.look(services)
        assert (found.standing, "has not run yet" in found.said) == (WARNING, True)

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            (7, f"PERMISSION_DENIED. Give {RUN} on the function to {INVOKER}"),
            (5, "PERMISSION_DENIED. There is no Flux at that address: look at the URI of the job"),
            (13, "PERMISSION_DENIED. Look at the function's log"),
        ],
    )
    def test_one_whose_last_run_failed_is_a_failure(
        self, code: int, advice: str, jobs: list[dict[str, Any]], services: Services
    ) -> None:
        jobs[1]["status"] = {"code": code, "message": "PERMISSION_DENIED"}
        (found,) = self.look(services)
        assert found == Finding("sweeper job", FAILURE, f"flux-sweeper ran just now and failed: {advice}")

    @pytest.mark.usefixtures("jobs")
    def test_where_no_job_asks_something_else_has_to(self, services: Services) -> None:
        (found,) = self.look(services, "purge")
        assert found.standing == WARNING
        assert f'no job of Cloud Scheduler in {PLACE} asks for {{"action": "purge"}}' in found.said

    def test_one_that_calls_the_function_with_another_body_is_a_failure(
        self, jobs: list[dict[str, Any]], services: Services
    ) -> None:
        del jobs[1]
        (found,) = self.look(services, address=SWEEPER_URL)
        assert (found.standing, found.said.startswith("nightly-report calls it, but with another body")) == (
            FAILURE,
            True,
        )

    def test_a_purge_runs_once_a_day(self, jobs: list[dict[str, Any]], services: Services) -> None:
        jobs.append(job("flux-purge", "purge", ago=86_000))
        assert self.look(services, "purge") == [Finding("purge job", OK, "flux-purge ran 24 h ago")]

    def test_that_of_another_deployment_is_left_out_by_the_address_or_the_account(
        self, jobs: list[dict[str, Any]], services: Services
    ) -> None:
        other = job("other-sweeper", state="PAUSED")
        other["httpTarget"] |= {"uri": "https://other.example.com/invoke", "oidcToken": {"serviceAccountEmail": "o"}}
        jobs.append(other)
        for found in (self.look(services), self.look(services, address=SWEEPER_URL, **{names.ACCOUNT: ""})):
            assert [each.standing for each in found] == [OK]

    def test_where_nothing_tells_them_apart_each_is_told(self, jobs: list[dict[str, Any]], services: Services) -> None:
        jobs.append(job("other-sweeper", state="PAUSED"))
        found = self.look(services, **{names.ACCOUNT: ""})
        assert [each.standing for each in found] == [OK, FAILURE]

    @pytest.mark.usefixtures("jobs")
    def test_without_a_queue_the_functions_address_tells_where_it_is(self, services: Services) -> None:
        (found,) = self.look(services, address=SWEEPER_URL, **{names.QUEUE: ""})
        assert found.standing == OK

    @pytest.mark.parametrize("address", [None, "https://flux-sweeper-abc-ew.a.run.app", "https://sweeper.example.com"])
    def test_else_nothing_does(self, address: str | None, services: Services) -> None:
        (found,) = self.look(services, address=address, **{names.QUEUE: ""})
        assert (found.standing, "set FLUX_TASKS_QUEUE" in found.said) == (UNKNOWN, True)

    def test_what_may_not_be_looked_at_is_not_known(self, admin: GoogleAdmin, services: Services) -> None:
        admin.refuse("/jobs", 403, "denied")
        (found,) = self.look(services)
        assert (found.standing, "they need cloudscheduler.jobs.list" in found.said) == (UNKNOWN, True)


class TestWhatGoogleDoesNotTell:
    def said(self, services: Services) -> str:
        (found,) = of_queue(QUEUE, None, services, sweeper=True)
        assert found.standing == UNKNOWN
        return found.said

    def test_an_api_that_is_off_is_to_be_turned_on(self, admin: GoogleAdmin, services: Services) -> None:
        admin.refuse("/v2/", 403, "Cloud Tasks API has not been used", "SERVICE_DISABLED")
        assert "gcloud services enable cloudtasks.googleapis.com" in self.said(services)

    def test_an_error_of_googles_own_is_passed_on(self, admin: GoogleAdmin, services: Services) -> None:
        admin.refuse("/v2/", 503, "The service is currently unavailable.")
        assert self.said(services) == "Google did not tell: The service is currently unavailable."

    def test_credentials_that_are_not_accepted_need_a_login(self, admin: GoogleAdmin, services: Services) -> None:
        admin.refuse("/v2/", 401, "Request had invalid authentication credentials.")
        assert "gcloud auth application-default login" in self.said(services)

    @pytest.mark.usefixtures("admin")
    def test_an_address_where_nobody_answers_is_named(self, free: int) -> None:
        said = self.said(Services({}, dict.fromkeys(ADDRESSES, f"http://127.0.0.1:{free}")))
        assert said.startswith("http://127.0.0.1:")

    @pytest.fixture
    def free(self) -> int:
        from tests.services.functions import free_port

        return free_port()

    def test_an_emulator_has_nothing_to_look_at(self) -> None:
        said = self.said(Services({names.TASKS_EMULATOR: "127.0.0.1:8123"}))
        assert said.startswith("CLOUD_TASKS_EMULATOR_HOST names an emulator (127.0.0.1:8123), which has none of this")


class TestAllOfIt:
    @pytest.fixture
    def environment(
        self, admin: GoogleAdmin, cloud_tasks: CloudTasks, firestore_emulator: str, monkeypatch: pytest.MonkeyPatch
    ) -> dict[str, str]:
        """Deployed as `infra/` does; the store is the emulator, which only the store is told of."""
        monkeypatch.setenv(names.EMULATOR, firestore_emulator)
        queue, project = cloud_tasks.queue(), new_project()
        admin.deploy_database(f"projects/{project}/databases/flux")
        admin.deploy_queue(queue)
        admin.lists[f"{queue.partition('/queues/')[0]}/jobs"] = [job(), job("flux-purge", "purge")]
        return {
            names.PROJECT: project,
            names.DATABASE: "flux",
            names.TIMEOUT: "20",
            names.QUEUE: queue,
            names.WORKER_URL: "http://127.0.0.1:9",
            names.TASKS_EMULATOR: cloud_tasks.address,
            SWEEPER: "on",
        }

    def test_a_deployment_with_nothing_wrong_is_well(
        self, environment: dict[str, str], services: Services, cloud_tasks: CloudTasks
    ) -> None:
        found = list(examined({**environment, PURGE_AFTER: "86400"}, {"sweeper": SWEEPER_URL}, services))
        assert {finding.standing for _, finding in found} == {OK}
        assert [(where, finding.subject) for where, finding in found] == [
            ("here", "settings"),
            ("here", "identity"),
            ("here", "store, reading"),
            ("here", "store, writing"),
            ("here", "queue"),
            ("here", "store, list index"),
            ("here", "store, due index"),
            ("here", "sweeper"),
            ("here", "database"),
            ("here", "indexes"),
            ("here", "exemptions"),
            ("here", "delivery"),
            ("here", "redelivery"),
            ("here", "tasks"),
            ("sweeper", "sweeper job"),
            ("here", "purge job"),
        ]
        assert found[0][1].said == (
            f"database flux, queue {environment[names.QUEUE]}, worker http://127.0.0.1:9, sweeper on"
        )
        assert found[1][1].said == f"this machine asks as {ACCOUNT}"
        assert len(cloud_tasks.created) == 1

    def test_settings_that_are_wrong_are_a_failure_and_nothing_else_is_tried(
        self, environment: dict[str, str], admin: GoogleAdmin, services: Services
    ) -> None:
        for wrong in ({BUDGET: "soon"}, {names.QUEUE: "", SWEEPER: "off"}, {names.QUEUE: "flux"}, {STORAGE: "/srv/x"}):
            ((where, found),) = examined(environment | wrong, {}, services)
            assert (where, found.subject, found.standing) == ("here", "settings", FAILURE)
            assert found.said.startswith(("FLUX_", "neither FLUX_"))
            assert found.said.endswith("Settings are those of the environment here: set what the functions have")
        assert not admin.asked

    def test_without_credentials_that_is_said_and_the_rest_is_not_tried(
        self,
        environment: dict[str, str],
        services: Services,
        cloud_tasks: CloudTasks,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        (_, settings), (_, found) = examined(environment, {}, services)
        assert (settings.standing, found.subject, found.standing) == (OK, "identity", FAILURE)
        assert found.said.startswith("there are no Google credentials here: log in (gcloud auth")
        assert not cloud_tasks.created

    def test_nor_with_some_that_are_not_valid_any_more(
        self, environment: dict[str, str], admin: GoogleAdmin, services: Services
    ) -> None:
        admin.refusals["/token"] = (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        (*_, (_, found)) = examined(environment, {}, services)
        assert (found.subject, found.standing) == ("identity", FAILURE)
        assert found.said.startswith("your Google credentials are not valid any more: log in")

    def test_a_queue_that_refuses_is_a_failure(
        self, environment: dict[str, str], admin: GoogleAdmin, services: Services
    ) -> None:
        gone = environment[names.QUEUE] + "-gone"
        found = [finding for _, finding in examined({**environment, names.QUEUE: gone}, {}, services)]
        assert [each.standing for each in found if each.subject in {"queue", "delivery"}] == [FAILURE, FAILURE]
        assert admin.asked[-1].endswith("/jobs")

    def test_where_it_is_on_emulators_they_have_nothing_that_could_be_looked_at(
        self, environment: dict[str, str], firestore_emulator: str
    ) -> None:
        found = list(examined({**environment, names.EMULATOR: firestore_emulator}, {}))
        standings = {finding.subject: finding.standing for _, finding in found}
        assert {subject for subject, standing in standings.items() if standing != OK} == {
            "database", "indexes", "delivery", "sweeper job",
        }  # fmt: skip
        assert {finding.standing for _, finding in found} == {OK, UNKNOWN}


class TestTheClock:
    def test_it_is_that_of_firestore(self) -> None:
        assert timekeeper() == "https://firestore.googleapis.com"

    def test_a_function_compares_its_own_with_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SWEEPER, "on")
        assert Function(Parts()).host().timekeeper == timekeeper()

    def test_an_emulator_has_this_machines_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(names.EMULATOR, "127.0.0.1:8080")
        assert timekeeper() is None


class TestTheCommand:
    def test_it_asks_deployed_functions_by_their_addresses(
        self,
        functions: Functions,
        cloud_tasks: CloudTasks,
        firestore_emulator: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        deployment = Deployment(functions, cloud_tasks, firestore_emulator, tmp_path)
        worker = deployment.worker()
        for name, value in deployment.environment.items():
            monkeypatch.setenv(name, value)
        asked = ["doctor", "gcp", "--api", worker.url, "--worker", f"{worker.url}/", "--sweeper", worker.url, "--json"]
        monkeypatch.setattr("typer.testing._get_command", typer.main.get_command)
        done = CliRunner().invoke(program, asked)
        *found, summary = map(json.loads, done.output.splitlines())
        assert done.exit_code == 0, done.output
        assert summary["by_standing"].keys() == {"ok", "unknown"}
        assert [each["subject"] for each in found if each["where"] == "worker"] == [
            "store, reading", "store, writing", "queue", "callback keys",
        ]  # fmt: skip
        of_api = {each["subject"]: each["standing"] for each in found if each["where"] == "api"}
        assert of_api["store, list index"] == "ok"
        of_sweeper = {each["subject"]: each["standing"] for each in found if each["where"] == "sweeper"}
        assert of_sweeper["store, due index"] == "ok"
        cloud_tasks.settle()
        assert {each.status for each in cloud_tasks.deliveries} == {200}
