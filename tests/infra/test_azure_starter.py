"""The starter for Azure on Microsoft's own engine, with what its own stack would tell the app.

Terraform plans the project as `flux init` has written it. The app has the settings of the plan; the keys of callback
links are those of the vault that a setting refers to, and all that is added are the addresses of what plays Azure
Storage, and the key to it, since it knows no identities.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flux_azure.account import ACCOUNT_NAME, CONNECTION, OBSTORE_ACCOUNT
from flux_azure.settings import QUEUE
from flux_core.hosting import CALLBACK_KEYS, PAYLOADS, STORAGE
from tests.azure.deployment import App
from tests.infra.orders import KEYS, Answer, Orders
from tests.services import azurite
from tests.services.azure_functions import KEY, Host
from tests.services.terraform import Resource, by_key, schema_module
from tests.templates.starter import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VAULT = "https://kv.vault.azure.net/"
PLAN = """
mock_provider "azapi" {}

mock_provider "azurerm" {
  override_during = plan
  mock_resource "azurerm_storage_account" {
    defaults = {
      id                     = "/subscriptions/0/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/s"
      primary_blob_endpoint  = "https://s.blob.core.windows.net/"
      primary_queue_endpoint = "https://s.queue.core.windows.net/"
    }
  }
  mock_resource "azurerm_key_vault" {
    defaults = { vault_uri = "VAULT" }
  }
  mock_resource "azurerm_user_assigned_identity" {}
  mock_resource "azurerm_application_insights" {}
}

run "planned" {
  command = plan
  variables {
    unique        = "ab12"
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

    def settings(self) -> dict[str, str]:
        """Of the app, a reference to the vault replaced by what is there, as the platform does it."""
        site = self.of("azapi_resource", "app")["main"]["body"]["properties"]["siteConfig"]
        (secret,) = self.of("azurerm_key_vault_secret", "callbacks").values()
        vault = {f"@Microsoft.KeyVault(SecretUri={VAULT}secrets/{secret['name']})": KEYS}
        return {one["name"]: vault.get(one["value"], one["value"]) for one in site["appSettings"]}


class OnAzure:
    """The app, and what brings it events."""

    def __init__(self, settings: dict[str, str], source: Path, blobs: azurite.Azurite, connection: str) -> None:
        self.settings = settings
        self.keys = settings[CALLBACK_KEYS]
        self._blobs = blobs
        added = {
            CONNECTION: connection,
            "AZURE_STORAGE_ENDPOINT": blobs.endpoint,
            "AZURE_STORAGE_ACCOUNT_KEY": azurite.KEY,
        }
        self.app = App(Host(source, {**settings, **added}), connection)

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """With the key of the app."""
        return self._call(method, path, body, KEY)

    def call_unknown(self, method: str, path: str, body: object = None) -> Answer:
        """Without."""
        return self._call(method, path, body, None)

    def bring(self, done: Callable[[], bool]) -> None:
        """By the listener of the queue."""
        self.app.until(done)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Nobody listens meanwhile; then all is gone."""
        yield
        assert self.app.listener.client.peek_messages(1)
        self.app.listener.client.clear_messages()

    def sweep(self) -> Any:
        """The timer fires; it has no answer."""
        outcome = self.app.host.tick()
        assert outcome.error is None, outcome

    def objects(self, folder: str) -> int:
        """By a listing."""
        from obstore.store import AzureStore

        container, _, prefix = folder.removeprefix("az://").partition("/")
        store = AzureStore(
            container,
            config={"account_name": self._blobs.account, "account_key": azurite.KEY, "endpoint": self._blobs.endpoint},
            client_options={"allow_http": True},
        )
        return sum(len(page) for page in store.list(f"{prefix}/"))

    def _call(self, method: str, path: str, body: object, key: str | None) -> Answer:
        answer = self.app.http(method, path, body, {"content-type": "application/json"}, key=key)
        return Answer(answer.status, json.loads(answer.body or b"null"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("azure", tmp_path_factory.mktemp("starter"))


@pytest.fixture(scope="module")
def planned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    module = schema_module(project, tmp_path_factory.mktemp("terraform"))
    return Planned(module.planned(PLAN.replace("VAULT", VAULT).replace("KEYS", KEYS)))


@pytest.fixture(scope="module")
def deployed(
    planned: Planned, project: Path, azure_runtime: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnAzure]:
    assert azure_runtime.exists()
    settings, logs = planned.settings(), tmp_path_factory.mktemp("azurite")
    state, blobs = azurite.start(logs / "blobs.log", "blob", settings[OBSTORE_ACCOUNT])
    with state:
        work, queues = azurite.start(logs / "queues.log", "queue", settings[ACCOUNT_NAME])
        with work:
            for container in planned.of("azurerm_storage_container", "state").values():
                blobs.create_container(container["name"])
            connection = azurite.AzuriteQueue(queues.endpoint, queues.account).connection()
            platform = OnAzure(settings, project / "src", blobs, connection)
            yield platform
            platform.app.host.close()
            work.kill()
        state.kill()


class TestOrders(Orders):
    """On Azure Functions."""

    def test_its_app_listens_to_the_queue_of_its_stack(self, deployed: OnAzure, planned: Planned) -> None:
        queues = {one["name"] for one in planned.of("azurerm_storage_queue", "work").values()}
        bound = deployed.app.listener.client.queue_name
        assert queues == {bound, f"{bound}-poison"}
        assert bound == deployed.settings[QUEUE]

    def test_its_host_gives_an_invocation_more_time_than_it_takes(self, deployed: OnAzure) -> None:
        assert deployed.app.host.limit > float(deployed.settings["FLUX_BUDGET"])

    def test_its_instances_and_payloads_are_in_the_container_of_its_stack(
        self, deployed: OnAzure, planned: Planned
    ) -> None:
        (container,) = planned.of("azurerm_storage_container", "state").values()
        addresses = [deployed.settings[name] for name in (STORAGE, PAYLOADS)]
        assert all(address.startswith(f"az://{container['name']}/") for address in addresses)
        assert deployed.objects(deployed.settings[STORAGE]) > 0
