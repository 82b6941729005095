"""What `flux doctor azure` finds: on Azurite where it can be brought about there, else from a service that is told."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import azure.functions as func
import pytest
from azure.storage.queue import AccountSasPermissions, QueueClient, ResourceTypes, generate_account_sas
from typer.testing import CliRunner

from flux_azure import blueprint, host_json
from flux_azure.account import Account
from flux_azure.doctor import examined
from flux_azure.doctor_host_json import of_host_json
from flux_azure.doctor_resources import of_container, of_deletion, of_queue, of_timer
from flux_azure.doctor_services import Services
from flux_azure.settings import AzureSettings
from flux_cli.program import program
from flux_core import create_workflow
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from tests.services.azurite import ACCOUNT, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.azure.deployment import Deployment
    from tests.services.azurite import Azurite, AzuriteQueue

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TOKEN = "of-whoever-works-here"  # noqa: S105 -- made up
TIMERS = "timers/func-orders/Host.Functions.flux_sweep/status"


class Stack:
    """What the settings of an app name, in Azurite: a container and a queue of its own."""

    def __init__(self, blobs: Azurite, queues: AzuriteQueue) -> None:
        self.name = f"doctor-{uuid.uuid4().hex[:12]}"
        self.blobs = blobs
        self.connection = queues.connection(blobs.endpoint)
        self.account = Account(ACCOUNT, queues.endpoint, blobs.endpoint, KEY)
        self.environment = {
            "AzureWebJobsStorage": self.connection,
            "FLUX_STORAGE": f"az://{self.name}/instances",
            "FLUX_PAYLOADS": f"az://{self.name}/payloads",
            "FLUX_QUEUE": self.name,
        }
        blobs.create_container(self.name)
        self.queue = self.client(self.name)
        self.queue.create_queue()

    @property
    def services(self) -> Services:
        return Services(self.account, {})

    def client(self, name: str) -> QueueClient:
        return QueueClient.from_connection_string(self.connection, name)

    def send(self, method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> None:
        """A request to the blob service that the doctor does not make."""
        signature = generate_account_sas(
            ACCOUNT, KEY, ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            datetime.now(UTC) + timedelta(hours=1), services="b",
        )  # fmt: skip
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.blobs.endpoint}/{path}?{query}&{signature}"
        request = urllib.request.Request(url, body, {"x-ms-version": "2021-12-02", **given}, method=method)  # noqa: S310 -- our own
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 -- as above
            pass

    def keep(self, name: str, text: str) -> None:
        """Put a blob where the Functions host keeps its own."""
        with suppress(HTTPError):  # it is there
            self.send("PUT", "azure-webjobs-hosts", "restype=container")
        self.send("PUT", f"azure-webjobs-hosts/{name}", "", text.encode(), x_ms_blob_type="BlockBlob")

    def fires(self, last: datetime, due: datetime, name: str = TIMERS) -> None:
        """The host has noted that of a timer, with the digits that .NET writes."""
        moments = {"Last": last, "Next": due, "LastUpdated": last}
        shown = {key: f"{one:%Y-%m-%dT%H:%M:%S}.1075034+00:00" for key, one in moments.items()}
        self.keep(name, json.dumps(shown))


@pytest.fixture
def stack(azurite: Azurite, azurite_queue: AzuriteQueue) -> Iterator[Stack]:
    made = Stack(azurite, azurite_queue)
    yield made
    with made.queue:
        made.queue.delete_queue()
    with suppress(HTTPError):  # it was never made
        made.send("DELETE", "azure-webjobs-hosts", "restype=container")


class Service:
    """A storage account that answers what it is told, and notes who asked."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b""
        self.bodies: list[bytes] = []
        """One for each request, before `body`."""
        self.seen: list[tuple[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.seen.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(service.status)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(service.bodies.pop(0) if service.bodies else service.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def says(self, status: int, code: str = "", **headers: str) -> None:
        self.status = status
        self.body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode() if code else b""
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def services(self, **way_in: str) -> Services:
        """The doctor's, of an account that is here."""
        return Services(Account("orders", self.address, self.address, **(way_in or {"token": TOKEN})), {})

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a host.json that fits."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "host.json").write_text(json.dumps(host_json()))
    return tmp_path


def found(environment: Mapping[str, str], folder: Path, **functions: str) -> dict[str, Finding]:
    """By subject."""
    told = list(examined(environment, functions, folder))
    assert {where for where, _ in told} == {"here"}
    by_subject = {finding.subject: finding for _, finding in told}
    assert len(by_subject) == len(told)
    return by_subject


def standings(environment: Mapping[str, str], folder: Path, **functions: str) -> dict[str, str]:
    return {subject: finding.standing for subject, finding in found(environment, folder, **functions).items()}


class TestADeployment:
    def test_that_has_all_it_needs_is_well(self, stack: Stack, project: Path) -> None:
        now = datetime.now(UTC)
        stack.fires(now - timedelta(seconds=30), now + timedelta(seconds=30))
        kept = b"<DeleteRetentionPolicy><Enabled>true</Enabled><Days>8</Days></DeleteRetentionPolicy>"
        stack.send("PUT", "", "restype=service&comp=properties", _properties(kept))
        for _ in range(2):
            assert standings(stack.environment, project) == dict.fromkeys(
                (
                    "settings", "clock", "store, reading", "store, writing", "payloads", "queue", "store, list index",
                    "store, due index", "sweeper", "container", "soft delete", "queue, waiting", "poison queue",
                    "timer", "host.json",
                ),
                OK,
            )  # fmt: skip

    def test_shows_what_its_settings_name_and_no_secret(self, stack: Stack, project: Path) -> None:
        told = found(stack.environment, project)
        assert told["settings"].said == (
            f"store az://{stack.name}/instances, payloads az://{stack.name}/payloads, queue {stack.name}"
        )
        assert KEY not in str(told)

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("FLUX_STORAGE", "", "No store is named: set FLUX_STORAGE"),
            ("FLUX_QUEUE", "Flux_Work", "FLUX_QUEUE must be the name of a storage queue"),
            ("AzureWebJobsStorage", "nonsense", "is not the connection string of a storage account"),
            ("FLUX_BUDGET", "soon", "FLUX_BUDGET must be a number above 0"),
        ],
    )
    def test_with_a_wrong_setting_fails_with_its_name(
        self, stack: Stack, project: Path, name: str, value: str, said: str
    ) -> None:
        told = found({**stack.environment, name: value}, project)
        assert list(told) == ["settings"]
        assert told["settings"].standing == FAILURE
        assert said in told["settings"].said

    def test_whose_container_and_queue_are_missing_fails_with_the_commands_that_make_them(
        self, stack: Stack, project: Path
    ) -> None:
        gone = {"FLUX_STORAGE": "az://nowhere/instances", "FLUX_PAYLOADS": "", "FLUX_QUEUE": "no-such-queue"}
        told = found({**stack.environment, **gone}, project)
        for subject in ("store, reading", "container"):
            assert told[subject].standing == FAILURE
            assert "az storage container create --name nowhere --account-name" in told[subject].said
        for subject in ("queue", "queue, waiting"):
            assert told[subject].standing == FAILURE
            assert "az storage queue create --name no-such-queue --account-name" in told[subject].said

    def test_whose_settings_are_not_here_is_only_asked(self, project: Path) -> None:
        told = found({}, project, worker="https://orders.azurewebsites.net")
        assert {subject: one.standing for subject, one in told.items()} == {"settings": UNKNOWN}
        assert "only the app is asked" in told["settings"].said

    def test_that_only_deletes_has_another_timer(self, stack: Stack, project: Path) -> None:
        environment = {**stack.environment, "FLUX_QUEUE": "", "FLUX_PURGE_AFTER": "86400"}
        assert "flux_purge" in found(environment, project)["timer"].said

    def test_whose_blobs_are_in_another_account_is_found_there(self, stack: Stack, project: Path) -> None:
        named = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": stack.blobs.endpoint,
        }
        told = found({"FLUX_STORAGE": stack.environment["FLUX_STORAGE"], **named}, project)
        assert told["container"].standing == told["clock"].standing == OK
        assert told["store, reading"].standing == FAILURE, "obstore reads the process's own environment"
        assert told["timer"] == Finding(
            "timer", UNKNOWN,
            "no account is named here: set AzureWebJobsStorage or AzureWebJobsStorage__accountName as the app has it",
        )  # fmt: skip


class TestAMachineWithoutTheAppsIdentity:
    ENVIRONMENT = {  # noqa: RUF012 -- nobody changes it
        "AzureWebJobsStorage__accountName": "orders",
        "FLUX_STORAGE": "az://flux/instances",
        "FLUX_QUEUE": "flux-work",
    }

    def test_is_told_how_to_enter_as_whoever_works_there(self, service: Service, project: Path) -> None:
        here = {"AzureWebJobsStorage__blobServiceUri": service.address}
        told = found({**self.ENVIRONMENT, **here}, project)
        assert {subject: one.standing for subject, one in told.items()} == {
            "settings": OK, "clock": OK, "store": UNKNOWN, "container": UNKNOWN, "soft delete": UNKNOWN,
            "queue, waiting": UNKNOWN, "poison queue": UNKNOWN, "timer": UNKNOWN, "host.json": OK,
        }  # fmt: skip
        for subject in ("store", "container", "soft delete", "queue, waiting", "poison queue", "timer"):
            assert "Enter it as yourself: export AZURE_STORAGE_TOKEN=$(az account get-access-token" in (
                told[subject].said
            )
        assert service.seen == []

    def test_enters_with_a_token(self, service: Service) -> None:
        service.says(200, x_ms_approximate_messages_count="0")
        assert [one.standing for one in of_queue(service.services(token=TOKEN), "flux-work")] == [OK, OK]
        assert service.seen == [
            (f"/{queue}?comp=metadata", f"Bearer {TOKEN}") for queue in ("flux-work", "flux-work-poison")
        ]

    def test_enters_with_a_signature(self, service: Service) -> None:
        service.says(200)
        assert of_container(service.services(signature="sv=1&sig=s"), "flux").standing == OK
        assert service.seen == [("/flux?restype=container&sv=1&sig=s", "")]

    def test_needs_no_account_for_postgresql_and_says_what_it_left_out(self, project: Path) -> None:
        database = {"FLUX_POSTGRES": "postgresql://127.0.0.1:1/nothing", "FLUX_PAYLOADS": "az://flux/payloads"}
        here = {"AzureWebJobsStorage__blobServiceUri": "http://127.0.0.1:1"}
        told = found({**self.ENVIRONMENT, "FLUX_STORAGE": "", **database, **here}, project)
        assert told["store, reading"].standing == FAILURE, "it was tried"
        assert "payloads" not in told
        assert told["container"].standing == UNKNOWN


class TestWhatAzureRefuses:
    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [
            (403, "AuthorizationPermissionMismatch", "you need the role Storage Blob Data Contributor"),
            (401, "InvalidAuthenticationInfo", "a token holds for an hour"),
            (403, "KeyBasedAuthenticationNotPermitted", "takes no key. Enter it as yourself: export"),
            (500, "InternalError", "Azure did not tell: InternalError"),
            (503, "", "Azure did not tell: HTTP 503"),
        ],
    )
    def test_is_unknown_with_what_to_do(self, service: Service, status: int, code: str, said: str) -> None:
        service.says(status, code)
        asked = service.services()
        for finding in (
            of_container(asked, "flux"),
            of_deletion(asked),
            of_timer(asked, "flux_sweep", "0 * * * * *", NOW),
        ):
            assert finding.standing == UNKNOWN
            assert said in finding.said
        assert [one.standing for one in of_queue(asked, "flux-work")] == [UNKNOWN, UNKNOWN]

    def test_or_does_not_answer_at_all_is_unknown(self) -> None:
        nowhere = Services(Account("orders", "http://127.0.0.1:1", "http://127.0.0.1:1", token=TOKEN), {})
        finding = of_container(nowhere, "flux")
        assert finding.standing == UNKNOWN
        assert "http://127.0.0.1:1 did not answer" in finding.said
        assert "check the account's name" in finding.said

    def test_an_identity_is_told_too(self, service: Service) -> None:
        platform = {"IDENTITY_ENDPOINT": f"{service.address}/msi/token", "IDENTITY_HEADER": "a-secret"}
        service.says(400)
        finding = of_container(Services(Account("orders", service.address, service.address), platform), "flux")
        assert finding.standing == UNKNOWN
        assert "The platform gave no token for the app's identity" in finding.said


class TestAContainer:
    def test_that_anybody_can_read_is_a_failure(self, service: Service) -> None:
        service.says(200, x_ms_blob_public_access="blob")
        assert of_container(service.services(), "flux") == Finding(
            "container", FAILURE,
            "anybody can read 'flux': az storage container set-permission --public-access off --name flux "
            "--account-name orders",
        )  # fmt: skip

    @pytest.mark.parametrize("name", ["x_ms_has_immutability_policy", "x_ms_has_legal_hold"])
    def test_that_lets_no_blob_go_is_a_failure(self, service: Service, name: str) -> None:
        service.says(200, **{name: "true"})
        finding = of_container(service.services(), "flux")
        assert finding.standing == FAILURE
        assert "index markers have to go" in finding.said

    def test_whose_blobs_are_gone_once_deleted_is_worth_a_look(self, stack: Stack) -> None:
        off = b"<DeleteRetentionPolicy><Enabled>false</Enabled></DeleteRetentionPolicy>"
        stack.send("PUT", "", "restype=service&comp=properties", _properties(off))
        finding = of_deletion(stack.services)
        assert finding.standing == WARNING
        assert "--enable-delete-retention true --delete-retention-days 7 --account-name devstoreaccount1" in (
            finding.said
        )


class TestThePoisonQueue:
    def test_with_messages_is_worth_a_look(self, stack: Stack) -> None:
        poison = f"{stack.name}-poison"
        with stack.client(poison) as client:
            client.create_queue()
            assert list(of_queue(stack.services, stack.name))[1] == Finding("poison queue", OK, f"{poison!r} is empty")
            for _ in range(3):
                client.send_message("nonsense")
            stack.queue.send_message("later", visibility_timeout=3600)
            waiting, finding = of_queue(stack.services, stack.name)
            client.delete_queue()
        assert waiting.said == f"messages in {stack.name!r}: about 1, those for later included"
        assert finding.standing == WARNING
        assert finding.said.startswith(f"messages in {poison!r}: about 3. az storage message peek ")


class TestTheTimer:
    @staticmethod
    def finding(stack: Stack, schedule: str = "0 * * * * *") -> Finding:
        return of_timer(stack.services, "flux_sweep", schedule, NOW)

    def test_fires(self, stack: Stack) -> None:
        stack.fires(NOW - timedelta(seconds=20), NOW + timedelta(seconds=40))
        assert self.finding(stack) == Finding(
            "timer", OK, "flux_sweep fires (last 20 s ago); whether it got through, its log says"
        )

    def test_that_should_have_fired_long_ago_is_a_failure(self, stack: Stack) -> None:
        stack.fires(NOW - timedelta(minutes=31), NOW - timedelta(minutes=30))
        finding = self.finding(stack)
        assert finding.standing == FAILURE
        assert finding.said == (
            "flux_sweep was due 30 min ago and has not fired (last 31 min ago): see that the app is running (az "
            "functionapp start) and that no setting AzureWebJobs.flux_sweep.Disabled is on"
        )

    def test_may_be_as_slow_as_its_schedule(self, stack: Stack) -> None:
        stack.fires(NOW - timedelta(hours=20), NOW + timedelta(hours=4))
        assert self.finding(stack, "0 0 3 * * *").standing == OK

    def test_that_has_just_been_deployed_has_not_fired_yet(self, stack: Stack) -> None:
        due = f"{NOW + timedelta(seconds=40):%Y-%m-%dT%H:%M:%S}+00:00"
        never = "0001-01-01T00:00:00"
        stack.keep(TIMERS, json.dumps({"Last": never, "Next": due, "LastUpdated": never}))
        assert self.finding(stack).said.startswith("flux_sweep fires (never yet)")

    def test_is_the_one_that_fired_last_where_an_older_app_used_the_account(self, stack: Stack) -> None:
        stack.fires(NOW - timedelta(days=31), NOW - timedelta(days=30), TIMERS.replace("func-orders", "func-old"))
        stack.fires(NOW - timedelta(seconds=20), NOW + timedelta(seconds=40))
        assert self.finding(stack).standing == OK

    def test_of_another_function_is_no_sign_of_life(self, stack: Stack) -> None:
        stack.fires(NOW, NOW + timedelta(seconds=60), TIMERS.replace("flux_sweep", "not_flux_sweep"))
        finding = self.finding(stack)
        assert finding.standing == FAILURE
        assert "no app has ever run flux_sweep with the storage account 'devstoreaccount1'" in finding.said

    def test_without_any_host_is_a_failure(self, stack: Stack) -> None:
        finding = self.finding(stack)
        assert finding.standing == FAILURE
        assert "publish the app, or correct AzureWebJobsStorage here" in finding.said

    def test_that_fires_more_than_once_a_minute_leaves_no_record(self, stack: Stack) -> None:
        finding = self.finding(stack, "*/20 * * * * *")
        assert finding.standing == UNKNOWN
        assert "Azure keeps no record" in finding.said

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"Last": "soon", "Next": "soon"}'])
    def test_of_which_something_else_is_kept_is_unknown(self, stack: Stack, text: str) -> None:
        stack.keep(TIMERS, text)
        finding = self.finding(stack)
        assert finding.standing == UNKNOWN
        assert "cannot be read" in finding.said

    def test_is_found_on_any_page_of_a_long_list(self, service: Service) -> None:
        pages = (b"<Name>timers/a/b/status</Name><NextMarker>more</NextMarker>", f"<Name>{TIMERS}</Name>".encode())
        kept = json.dumps({"Last": f"{NOW:%Y-%m-%dT%H:%M:%S}Z", "Next": f"{NOW:%Y-%m-%dT%H:%M:%S}Z"})
        service.bodies = [*pages, kept.encode()]
        assert of_timer(service.services(), "flux_sweep", "0 * * * * *", NOW).standing == OK
        listing = "/azure-webjobs-hosts?restype=container&comp=list&prefix=timers%2F"
        assert [path for path, _ in service.seen] == [
            listing, f"{listing}&marker=more", f"/azure-webjobs-hosts/{TIMERS}",
        ]  # fmt: skip

    def test_has_the_names_of_the_app_s_functions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_QUEUE", "flux-work")
        workflow = create_workflow("nothing").step("step", lambda ctx: None)

        def timers() -> list[str]:
            app = func.FunctionApp()
            app.register_functions(blueprint(workflow))
            triggers = {str(one.get_function_name()): one.get_trigger() for one in app.get_functions()}
            return [name for name, one in triggers.items() if one is not None and one.type == "timerTrigger"]

        assert timers() == ["flux_sweep"]
        monkeypatch.setenv("FLUX_PURGE_AFTER", "86400")
        assert timers() == ["flux_purge"]


class TestHostJson:
    SETTINGS = AzureSettings.from_env({"FLUX_STORAGE": "az://flux/instances"}).host

    def findings(self, change: Callable[[dict[str, Any]], object], **environment: str) -> list[Finding]:
        tree = host_json()
        change(tree)
        return list(of_host_json(json.dumps(tree), self.SETTINGS, environment))

    def one(self, change: Callable[[dict[str, Any]], object], **environment: str) -> Finding:
        (finding,) = self.findings(change, **environment)
        return finding

    def test_as_it_is_made_is_well(self) -> None:
        assert self.one(lambda _: None) == Finding("host.json", OK, "a message is tried 12 times, 4 at once")

    @pytest.mark.parametrize("tries", [1, 5])
    def test_that_gives_a_message_up_before_an_instance_is_stuck_fails(self, tries: int) -> None:
        finding = self.one(lambda tree: tree["extensions"]["queues"].update(maxDequeueCount=tries))
        assert (finding.subject, finding.standing) == ("redelivery", FAILURE)
        assert finding.said.endswith("(after 5 deaths): set maxDequeueCount to 12")

    def test_that_brings_a_message_again_at_once_is_worth_a_look(self) -> None:
        finding = self.one(lambda tree: tree["extensions"]["queues"].update(visibilityTimeout="00:00:00"))
        assert (finding.subject, finding.standing) == ("redelivery", WARNING)
        assert "set visibilityTimeout to 00:00:15" in finding.said

    def test_that_takes_more_messages_than_there_are_threads_is_worth_a_look(self) -> None:
        def crowd(tree: dict[str, Any]) -> None:
            tree["extensions"]["queues"].update(batchSize=16, newBatchThreshold=8)

        finding = self.one(crowd)
        assert (finding.subject, finding.standing) == ("threads", WARNING)
        assert "up to 24 messages are taken at once, and there are 5 threads" in finding.said
        assert self.one(crowd, PYTHON_THREADPOOL_THREAD_COUNT="24").standing == OK

    def test_without_a_section_for_queues_has_azure_s_own_numbers(self) -> None:
        told = self.findings(lambda tree: tree.pop("extensions"))
        assert [(one.subject, one.standing) for one in told] == [
            ("redelivery", FAILURE), ("redelivery", WARNING), ("threads", WARNING),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("timeout", "standing", "said"),
        [
            ("00:04:00", FAILURE, "its worker dies with all that it runs. Set functionTimeout to 00:05:00"),
            ("00:04:30", WARNING, "Set functionTimeout to 00:05:00"),
            ("00:15:00", OK, ""),
            ("00:20:00", FAILURE, "FLUX_LONGEST_INVOCATION says 900 s: deleting could meet an invocation"),
            ("1.00:00:00", FAILURE, "a functionTimeout of 86400 s"),
            ("1", FAILURE, "a functionTimeout of 86400 s"),
            ("-1", FAILURE, "no limit of an invocation"),
            (None, FAILURE, "a functionTimeout of 1800 s"),
        ],
    )
    def test_has_a_time_out_between_the_budget_and_the_longest_invocation(
        self, timeout: str | None, standing: str, said: str
    ) -> None:
        finding = self.one(lambda tree: tree.update(functionTimeout=timeout))
        assert finding.standing == standing
        assert said in finding.said

    @pytest.mark.parametrize(
        "text", ["[]", '{"functionTimeout": 300}', '{"extensions": {"queues": {"maxDequeueCount": "many"}}}']
    )
    def test_that_is_none_fails(self, text: str) -> None:
        (finding,) = of_host_json(text, self.SETTINGS, {})
        assert finding.standing == FAILURE
        assert "write it as flux_azure.host_json() gives it" in finding.said

    def test_with_comments_is_not_looked_at(self) -> None:
        (finding,) = of_host_json("// ours\n{}", self.SETTINGS, {})
        assert finding.standing == UNKNOWN

    def test_is_looked_for_in_the_project(self, stack: Stack, tmp_path: Path, project: Path) -> None:
        shutil.move(project / "src" / "host.json", project / "host.json")
        assert found(stack.environment, project)["host.json"].standing == OK
        (tmp_path / "host.json").write_bytes(b"\xff\xfe\xff")
        assert found(stack.environment, project)["host.json"].standing == UNKNOWN
        (tmp_path / "host.json").unlink()
        missing = found(stack.environment, project)["host.json"]
        assert missing.standing == UNKNOWN
        assert "run this in the project's folder" in missing.said


class TestTheCommand:
    def test_asks_the_app_by_its_address(
        self, stack: Stack, deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = deploy()
        now = datetime.now(UTC)
        stack.fires(now, now + timedelta(seconds=60))
        monkeypatch.chdir(app.folder)
        for name, value in app.environment.items():
            monkeypatch.setenv(name, value)
        with served(app) as address:
            options = [f"--{part}={address}" for part in ("api", "worker", "sweeper")]
            code, told = doctor("azure", *options)
            assert code == 1
            refused = [one for one in told if one["where"] != "here"]
            assert {one["where"]: one["standing"] for one in refused} == dict.fromkeys(
                ("api", "worker", "sweeper"), FAILURE
            )
            assert "It wants to know who asks: --header says it" in refused[0]["said"]
            code, told = doctor("azure", *options, "--header", "x-functions-key: function-key")
        assert code == 0, told
        by_part: dict[str, set[str]] = {}
        for one in told:
            by_part.setdefault(one["where"], set()).add(one["subject"])
        running = {"clock", "store, reading", "store, writing", "queue", "callback keys"}
        assert by_part.pop("here") == {
            *running, "settings", "store, list index", "store, due index", "sweeper", "container", "soft delete",
            "queue, waiting", "poison queue", "timer", "redelivery", "time-out",
        }  # fmt: skip
        assert by_part == {
            "api": {*running, "store, list index"},
            "worker": running,
            "sweeper": {"clock", "store, due index", "sweeper", "queue"},
        }
        assert all(one["standing"] == OK for one in told if one["where"] != "here")


def doctor(*arguments: str) -> tuple[int, list[dict[str, str]]]:
    """`flux doctor`: its exit code, and what it found."""
    done = CliRunner().invoke(program, ["doctor", *arguments, "--json"])
    *lines, _ = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, lines


@contextmanager
def served(app: Deployment) -> Iterator[str]:
    """The app's routes behind an address, as the Functions host has them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = app.http("POST", self.path, body, key=self.headers.get("x-functions-key"))
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _properties(policy: bytes) -> bytes:
    return b"<?xml version='1.0'?><StorageServiceProperties>" + policy + b"</StorageServiceProperties>"
