"""What the environment says: the storage account in all its forms, triggers, store; errors name the variable."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import azure.functions as func
import pytest

from flux_azure import AzureSettings, host_json
from flux_azure.account import account, blob_account
from flux_azure.application import Application, timekeeper
from flux_azure.host_json import DEATHS
from flux_azure.identity import Identity
from flux_azure.settings import BUDGET, Triggers
from flux_azure.storage_queue import StorageQueue
from flux_blob import BlobPayloads, BlobStorage
from flux_core import DefinitionError, FluxEngine, MemoryStorage, create_workflow
from flux_core.errors import SchedulerUnavailable
from flux_core.hosting import HostSettings
from flux_local import PostgresStorage, SQLiteStorage
from tests.azure.in_process import Functions
from tests.services.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "bm90IGEgcmVhbCBrZXk="
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=orders;AccountKey={KEY};EndpointSuffix=core.windows.net"
NOTHING = create_workflow("nothing").step("step", lambda ctx: None)


class TestTheAccount:
    def test_is_read_from_a_connection_string(self) -> None:
        read = account({"AzureWebJobsStorage": CONNECTION})
        assert (read.name, read.key, read.by_identity) == ("orders", KEY, False)
        assert read.queues == "https://orders.queue.core.windows.net"
        assert read.blobs == "https://orders.blob.core.windows.net"

    def test_may_be_in_another_cloud(self) -> None:
        read = account({"AzureWebJobsStorage": CONNECTION.replace("windows.net", "chinacloudapi.cn")})
        assert read.queues == "https://orders.queue.core.chinacloudapi.cn"

    def test_may_have_endpoints_of_its_own_and_a_signature(self) -> None:
        text = "QueueEndpoint=https://orders.queue.core.windows.net/;SharedAccessSignature=sv=2024&sig=a%3D%3D"
        read = account({"AzureWebJobsStorage": text})
        assert (read.name, read.signature) == ("orders", "sv=2024&sig=a%3D%3D")
        assert read.queues == "https://orders.queue.core.windows.net"

    def test_may_be_the_emulator(self) -> None:
        read = account({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})
        assert read.queues == "http://127.0.0.1:10001/devstoreaccount1"
        assert read.blobs == "http://127.0.0.1:10000/devstoreaccount1"

    @pytest.mark.parametrize(
        "settings",
        [
            {"AzureWebJobsStorage__accountName": "orders"},
            {"AzureWebJobsStorage__queueServiceUri": "https://orders.queue.core.windows.net/"},
        ],
    )
    def test_may_be_entered_by_the_identity_of_the_app(self, settings: dict[str, str]) -> None:
        read = account({**settings, "AzureWebJobsStorage__clientId": "an-id"})
        assert read.by_identity
        assert (read.name, read.queues) == ("orders", "https://orders.queue.core.windows.net")
        assert read.blob_options() == {
            "account_name": "orders", "endpoint": "https://orders.blob.core.windows.net", "client_id": "an-id",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text", ["nonsense", "AccountName=orders", f"AccountKey={KEY}", "AccountName=orders;AccountKey=***", "=;=;"]
    )
    def test_that_cannot_be_read_is_told(self, text: str) -> None:
        with pytest.raises(DefinitionError, match="AzureWebJobsStorage is not the connection string") as told:
            account({"AzureWebJobsStorage": text})
        assert KEY not in str(told.value)

    def test_that_is_missing_is_told(self) -> None:
        with pytest.raises(DefinitionError, match="set AzureWebJobsStorage to its connection string"):
            account({})

    def test_may_be_entered_with_a_token_of_whoever_works_here(self) -> None:
        read = account({"AzureWebJobsStorage__accountName": "orders", "AZURE_STORAGE_TOKEN": "t-1"})
        assert not read.by_identity
        assert read.blob_options()["token"] == "t-1"  # noqa: S105 -- made up
        assert StorageQueue(read, "flux-work")._signed(0, b"")["Authorization"] == "Bearer t-1"
        assert "t-1" not in repr(read)

    def test_of_the_blobs_is_the_app_s_unless_obstore_s_settings_name_another(self) -> None:
        own = {"AzureWebJobsStorage": CONNECTION}
        assert blob_account(own) == account(own)
        other = blob_account({**own, "AZURE_STORAGE_ACCOUNT_NAME": "state", "AZURE_CLIENT_ID": "an-id"})
        assert (other.name, other.blobs) == ("state", "https://state.blob.core.windows.net")
        assert (other.by_identity, other.client_id) == (True, "an-id")
        keyed = blob_account(
            {
                "AZURE_STORAGE_ACCOUNT_NAME": "state",
                "AZURE_STORAGE_ACCESS_KEY": KEY,
                "AZURE_ENDPOINT": "http://127.0.0.1:10000/state/",
            }
        )
        assert (keyed.key, keyed.blobs) == (KEY, "http://127.0.0.1:10000/state")
        signed = blob_account({"AZURE_STORAGE_ACCOUNT_NAME": "state", "AZURE_STORAGE_SAS_TOKEN": "?sv=1"})
        assert signed.signature == "sv=1"

    def test_keeps_the_time_for_the_doctor(self) -> None:
        assert timekeeper({"AzureWebJobsStorage__accountName": "orders"}) == "https://orders.blob.core.windows.net"
        assert timekeeper({}) is None

    def test_does_not_show_its_key(self) -> None:
        assert KEY not in repr(account({"AzureWebJobsStorage": CONNECTION}))


class TestTheTriggers:
    def test_are_the_queue_and_every_minute(self) -> None:
        assert Triggers.from_env({"FLUX_QUEUE": "flux-work"}) == Triggers("flux-work", "0 * * * * *")
        assert Triggers.from_env({"FLUX_SWEEP_SCHEDULE": "*/30 * * * * *"}) == Triggers(None, "*/30 * * * * *")

    @pytest.mark.parametrize("name", ["a", "Flux", "flux_work", "-flux", "flux--work", "x" * 64, "flüx"])
    def test_refuse_what_is_no_queue(self, name: str) -> None:
        with pytest.raises(DefinitionError, match="FLUX_QUEUE must be the name of a storage queue"):
            Triggers.from_env({"FLUX_QUEUE": name})

    def test_refuse_a_schedule_of_five_fields(self) -> None:
        with pytest.raises(DefinitionError, match="FLUX_SWEEP_SCHEDULE must have six fields"):
            Triggers.from_env({"FLUX_SWEEP_SCHEDULE": "* * * * *"})


class TestTheSettings:
    def test_have_a_budget_and_a_sweeper(self) -> None:
        settings = AzureSettings.from_env({})
        assert (settings.host.budget, settings.host.sweeper) == (BUDGET, True)
        assert AzureSettings.from_env({"FLUX_BUDGET": "60"}).host.budget == 60

    def test_do_not_show_the_password_of_the_database(self) -> None:
        settings = AzureSettings.from_env({"FLUX_POSTGRES": "postgresql://flux:hunter2@host/database"})
        assert "hunter2" not in repr(settings)
        assert "postgres='[redacted]'" in repr(settings)

    def test_are_of_one_store(self) -> None:
        with pytest.raises(DefinitionError, match="FLUX_STORAGE and FLUX_POSTGRES are both set"):
            AzureSettings.from_env({"FLUX_STORAGE": "az://a", "FLUX_POSTGRES": "postgresql://b"})

    @pytest.mark.parametrize("name", ["FLUX_STORAGE", "FLUX_PAYLOADS"])
    def test_name_places_of_this_cloud(self, name: str) -> None:
        with pytest.raises(DefinitionError, match=f"{name} must be an address such as az://container/prefix"):
            AzureSettings.from_env({name: "s3://bucket"})

    @pytest.mark.parametrize("name", ["FLUX_CALLBACK_KEYS", "FLUX_POSTGRES", "AzureWebJobsStorage"])
    def test_refuse_a_reference_to_key_vault_that_was_not_resolved(self, name: str) -> None:
        reference = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/callbacks/)"
        with pytest.raises(DefinitionError, match=f"{name} is a reference to Key Vault that Azure could not resolve"):
            AzureSettings.from_env({name: reference})


class TestTheEngine:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AzureWebJobsStorage", CONNECTION)
        for name in ("FLUX_STORAGE", "FLUX_POSTGRES", "FLUX_QUEUE", "FLUX_PAYLOADS"):
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def engine(**options: object) -> FluxEngine:
        return Application((NOTHING,), None, options).host.engine

    def test_keeps_instances_in_blob_storage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_STORAGE", "az://container/prefix")
        storage = self.engine().storage
        assert isinstance(storage, BlobStorage)
        assert storage.address == "az://container/prefix"

    def test_keeps_instances_in_postgresql(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_POSTGRES", "postgresql://host/database")
        assert isinstance(self.engine().storage, PostgresStorage)

    def test_has_payloads_a_queue_and_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_POSTGRES", "postgresql://host/database")
        monkeypatch.setenv("FLUX_PAYLOADS", "az://container/payloads")
        monkeypatch.setenv("FLUX_QUEUE", "flux-work")
        engine = self.engine()
        assert engine.scheduled
        assert isinstance(engine.storage.payloads, BlobPayloads)  # type: ignore[attr-defined]  # of the claim check

    def test_without_a_store_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="No store is named: set FLUX_STORAGE to az://container/prefix"):
            self.engine()

    def test_over_memory_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="forgets everything"):
            self.engine(storage=MemoryStorage())
        with pytest.raises(DefinitionError, match="forgets everything"):
            Application((), FluxEngine(MemoryStorage()), {}).host  # noqa: B018 -- building it is what is refused

    def test_takes_what_it_is_given_before_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUX_STORAGE", "az://container")
        mine = SQLiteStorage(tmp_path / "flux.db")
        engine = self.engine(storage=mine, tenant="mine")
        assert engine.storage is mine
        assert engine.tenant == "mine"

    def test_is_built_once_by_however_many_threads(self, tmp_path: Path) -> None:
        application = Application((NOTHING,), None, {"storage": SQLiteStorage(tmp_path / "flux.db")})
        found: list[FluxEngine] = []
        threads = [threading.Thread(target=lambda: found.append(application.host.engine)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(one) for one in found}) == 1
        assert application.callbacks.engine is found[0]


class TestHostJson:
    def test_brings_a_message_again_more_often_than_an_instance_may_die(self) -> None:
        assert host_json()["extensions"]["queues"]["maxDequeueCount"] > DEATHS

    def test_ends_an_invocation_after_it_has_ended_itself_and_before_it_counts_as_over(self) -> None:
        for budget in (30.0, BUDGET, 840.0):
            hours, minutes, seconds = map(int, host_json(budget)["functionTimeout"].split(":"))
            timeout = hours * 3600 + minutes * 60 + seconds
            assert budget < timeout <= HostSettings().longest_invocation

    def test_refuses_a_budget_that_an_engine_would_take_for_over(self) -> None:
        with pytest.raises(DefinitionError, match="must be up to 840 seconds"):
            host_json(841)

    def test_serves_the_routes_where_they_are_on_every_cloud(self) -> None:
        assert host_json()["extensions"]["http"]["routePrefix"] == ""

    def test_fits_what_the_functions_are_bound_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_QUEUE", "flux-work")
        monkeypatch.setenv("AzureWebJobsStorage", CONNECTION)
        functions = Functions(NOTHING, storage=SQLiteStorage(tmp_path / "flux.db"))
        assert host_json()["extensions"]["queues"]["messageEncoding"] in {"none", "base64"}
        answer = functions.http("flux_workflows", "GET", "https://a.example/workflows/nothing/executions")
        assert answer.status_code == 200


class TestAnIdentity:
    @pytest.fixture
    def platform(self) -> Iterator[tuple[dict[str, str], list[tuple[str, str]], list[tuple[int, bytes]]]]:
        """What the platform serves to a function app: environment, requests that were made, answers to come."""
        asked: list[tuple[str, str]] = []
        answers: list[tuple[int, bytes]] = []

        class Endpoint(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("X-IDENTITY-HEADER", "")))
                status, body = answers.pop(0)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        where = f"http://127.0.0.1:{server.server_address[1]}/msi/token"
        yield {"IDENTITY_ENDPOINT": where, "IDENTITY_HEADER": "a-secret"}, asked, answers
        server.shutdown()
        thread.join()
        server.server_close()

    @staticmethod
    def token(text: str, expires: int = 4102444800) -> tuple[int, bytes]:
        told = {"access_token": text, "expires_on": str(expires), "resource": "https://storage.azure.com/"}
        return 200, json.dumps({**told, "token_type": "Bearer", "client_id": "an-id"}).encode()

    def test_asks_the_platform_for_a_token_and_keeps_it(self, platform: tuple) -> None:
        environment, asked, answers = platform
        answers.append(self.token("t-1"))
        identity = Identity("an-id", environment)
        assert [identity.token(), identity.token()] == ["t-1", "t-1"]
        query = "api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com%2F&client_id=an-id"
        assert asked == [(f"/msi/token?{query}", "a-secret")]

    def test_asks_again_when_the_token_nearly_ends_or_was_refused(self, platform: tuple) -> None:
        environment, _, answers = platform
        answers += [self.token("t-1", 1), self.token("t-2"), self.token("t-3")]
        identity = Identity("", environment)
        assert [identity.token(), identity.token(), identity.token()] == ["t-1", "t-2", "t-2"]
        identity.forget()
        assert identity.token() == "t-3"

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            ((400, b"no identity"), "HTTP 400.*no identity.*AzureWebJobsStorage__clientId"),
            ((200, b"nonsense"), "did not answer as documented"),
            ((200, b"[]"), "did not answer as documented"),
        ],
    )
    def test_without_a_token_is_told(self, platform: tuple, answer: tuple[int, bytes], told: str) -> None:
        environment, _, answers = platform
        answers.append(answer)
        with pytest.raises(SchedulerUnavailable, match=told):
            Identity("", environment).token()

    def test_that_is_not_assigned_is_told(self) -> None:
        with pytest.raises(SchedulerUnavailable, match="az functionapp identity assign"):
            Identity("", {}).token()

    def test_lets_a_message_in(self, platform: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        environment, _, answers = platform
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answers.append(self.token("t-1"))
        queue = StorageQueue(account({"AzureWebJobsStorage__accountName": "orders"}), "flux-work")
        assert queue._signed(0, b"")["Authorization"] == "Bearer t-1"

    def test_that_the_queue_refuses_is_asked_for_once_more(
        self, platform: tuple, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment, asked, answers = platform
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answers += [self.token("t-1"), self.token("t-2")]
        service = Proxy("http://127.0.0.1:1")
        statuses = iter([401, 201])
        service.rule = lambda _: next(statuses)
        named = {"AzureWebJobsStorage__accountName": "orders", "AzureWebJobsStorage__queueServiceUri": service.address}
        queue = StorageQueue(account(named), "flux-work")
        queue.put("{}")
        queue.close()
        service.close()
        assert len(asked) == 2
        assert [one.path.partition("?")[0] for one in service.seen] == ["/flux-work/messages"] * 2


def test_an_engine_of_ones_own_brings_its_workflows(tmp_path: Path) -> None:
    from flux_azure import blueprint

    engine = FluxEngine(SQLiteStorage(tmp_path / "flux.db"))
    with pytest.raises(DefinitionError, match=r"blueprint\(engine=...\) takes nothing else"):
        blueprint(NOTHING, engine=engine)


def test_a_blueprint_leaves_the_level_of_its_routes_to_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_azure import blueprint

    monkeypatch.setenv("FLUX_QUEUE", "")
    app = func.FunctionApp()
    app.register_functions(blueprint(NOTHING, auth_level=func.AuthLevel.ANONYMOUS))
    levels = {
        one.get_function_name(): one.get_trigger().auth_level  # type: ignore[union-attr]  # HTTP's
        for one in app.get_functions()
        if one.is_http_function()
    }
    assert set(levels.values()) == {func.AuthLevel.ANONYMOUS}
