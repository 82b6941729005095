"""Every request of an app is one that its identity may make, and every permission is used by some request.

Identities, roles and assignments are those that the module would make, as Terraform tells them; so are the apps'
settings. The apps run on Azurite. Each has its own way to blobs and queues, by which is told who asked; what the
Functions host does with the queue, it does there too, since it has the app's identity.
"""

from __future__ import annotations

import gc
import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from azure.storage.queue import QueueClient, TextBase64DecodePolicy

from flux_azure.account import account
from flux_azure.storage_queue import StorageQueue
from flux_blob import BlobPayloads, BlobStorage
from flux_core.callbacks import parsed_keys
from flux_core.hosting import PAYLOADS, STORAGE
from tests.azure.in_process import Functions
from tests.infra.play import Call, Grant, Tomorrow, idle, order, refused
from tests.infra.sam import ROOT
from tests.services.azurite import ACCOUNT, Azurite, AzuriteQueue
from tests.services.proxy import Proxy, Seen
from tests.services.terraform import Resource, by_key, schema_module
from tests.services.vaults import KeyVault, identity, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = ROOT / "infra" / "azure" / "terraform"
KEYS = "k1:0123456789abcdef0123456789abcdef"
HERE = "https://flux.azurewebsites.net"
BLOBS: Final = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
MESSAGES: Final = "Microsoft.Storage/storageAccounts/queueServices/queues/messages"
SECRETS: Final = "Microsoft.KeyVault/vaults/secrets"
MICROSOFTS_ROLES = {
    "Storage Queue Data Contributor": [f"{MESSAGES}/{one}" for one in ("delete", "read", "write", "process/action")],
    "Key Vault Secrets User": [f"{SECRETS}/getSecret/action", f"{SECRETS}/readMetadata/action"],
}
"""The data actions of roles of Microsoft's own (learn.microsoft.com/azure/role-based-access-control/built-in-roles)."""
OF_THE_HOST = {"Storage Blob Data Owner", "Storage Table Data Contributor", "Monitoring Metrics Publisher"}
"""Roles for what the Functions host does in an account of its own: leases, keys, diagnostic events, telemetry.

learn.microsoft.com/azure/azure-functions/functions-reference, Connecting to host storage with an identity.
"""
UNUSED = {
    f"{MESSAGES}/read": "the host looks how many messages wait; Microsoft has no role that takes and adds, and no more",
    f"{SECRETS}/readMetadata/action": "Microsoft has no role that reads a secret, and no more",
}
"""What no request here needs, and why it is allowed nevertheless."""
RUN = """
mock_provider "azurerm" {}
mock_provider "azapi" {
  mock_resource "azapi_resource" {
    defaults = { output = { properties = { defaultHostName = "flux.azurewebsites.net" } } }
  }
}

run "made" {
  command = apply
  variables {
    unique              = "ab12"
    callback_keys       = "KEYS"
    purge_after_seconds = 3600
  }
}
"""


# --- what the module grants -----------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What the module would make."""

    resources: list[Resource]

    def of(self, type_: str, name: str) -> dict[str, dict[str, Any]]:
        """By key, the values of a resource."""
        return by_key(self.resources, type_, name)

    def one(self, type_: str, name: str, key: str = "") -> dict[str, Any]:
        """The values of one resource."""
        return self.of(type_, name)[key]

    def settings(self) -> dict[str, dict[str, str]]:
        """By app, its settings."""
        found = self.of("azapi_resource", "app")
        return {
            app: {one["name"]: one["value"] for one in values["body"]["properties"]["siteConfig"]["appSettings"]}
            for app, values in found.items()
        }

    def assignments(self) -> list[tuple[str, dict[str, Any]]]:
        """The role assignments of apps, with the app that each is of."""
        apps = {one["principal_id"]: app for app, one in self.of("azurerm_user_assigned_identity", "app").items()}
        values = [one.values for one in self.resources if one.type == "azurerm_role_assignment"]
        return [(apps[one["principal_id"]], one) for one in values if one["principal_id"] in apps]

    def grants(self) -> list[Grant]:
        """What the apps' identities may do, but for what the roles of the host are for."""
        definitions = self.of("azurerm_role_definition", "this").values()
        roles = {one["role_definition_resource_id"]: one["permissions"][0]["data_actions"] for one in definitions}
        return [
            Grant(app, action, one["scope"], condition(one))
            for app, one in self.assignments()
            if one["role_definition_name"] not in OF_THE_HOST
            for action in roles.get(one["role_definition_id"]) or MICROSOFTS_ROLES[one["role_definition_name"]]
        ]


def condition(assignment: dict[str, Any]) -> Callable[[str], bool] | None:
    """What its condition says of the path of a blob; it must be one that is about deletions, and nothing else."""
    if assignment["condition_version"] != "2.0":  # there is none, or what a mock has made up
        return None
    path = rf"@Resource\[{re.escape(BLOBS)}:path\] StringLike '([^']+)'"
    whole = rf"\(\(!\(ActionMatches\{{'{re.escape(BLOBS)}/delete'\}}\)\) OR \( {path}(?: OR {path})* \)\)"
    assert re.fullmatch(whole, assignment["condition"]), assignment["condition"]
    patterns = re.findall(path, assignment["condition"])
    return lambda key: any(fnmatchcase(key, pattern) for pattern in patterns)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    module = schema_module(SOURCE, tmp_path_factory.mktemp("terraform"))
    return Made(module.made(RUN.replace("KEYS", KEYS)))


# --- what is asked for ----------------------------------------------------------------------------------------------


class Deployed:
    """The apps of the module, each with its own settings and ways."""

    def __init__(
        self,
        made: Made,
        azurite: Azurite,
        queues: AzuriteQueue,
        vault: KeyVault,
        platform: dict[str, str],
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.vault = vault
        self._platform = platform
        self.settings = made.settings()
        self.blobs = {app: Proxy(azurite.endpoint) for app in self.settings}
        self.queues = {app: Proxy(queues.endpoint) for app in self.settings}
        self._patch = patch
        self._apps: dict[str, Functions] = {}
        self.worked: dict[str, tuple[int, int]] = {}
        """By app, how many requests its work has made of blobs and queues; those after it are the doctor's."""
        name = self.settings["main"]["FLUX_QUEUE"]
        with QueueClient.from_connection_string(queues.connection(), name) as client:
            client.create_queue()
        azurite.create_container(self.settings["main"]["FLUX_STORAGE"].split("/")[2])
        self._queue = QueueClient.from_connection_string(
            self._connection("main"), name, message_decode_policy=TextBase64DecodePolicy()
        )

    def call(self, app: str, function: str, data: dict[str, Any]) -> Any:
        """Invoke a function; what it opens, it opens by its app's settings."""
        environment = self._environment(app)
        with self._patch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            if app not in self._apps:
                # As the app would make them, but with more time: the machine may be busy, and Azurite with it.
                more: dict[str, Any] = {"options": account(environment).blob_options(), "time_limit": 60.0}
                options: dict[str, Any] = {"clock": Tomorrow()} if app == "purge" else {}
                options["storage"] = BlobStorage(environment[STORAGE], **more)
                options["payloads"] = BlobPayloads(environment[PAYLOADS], **more)
                self._apps[app] = Functions(order, **options)
            return self._apps[app].call(function, data)

    def http(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A request to the app."""
        function = {"workflows": "flux_workflows", "callbacks": "flux_callbacks", "invoke": "flux_invoke"}[
            path.split("/")[1]
        ]
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        request = {"method": method, "url": HERE + path, "query": query}
        if body is not None:
            request["body"] = {"string": json.dumps(body)}
        answer = self.call("main", function, {"http": request})
        assert answer.status_code < 300, (path, answer.get_body())
        return dict(json.loads(answer.get_body()))

    def timer(self, app: str, function: str) -> None:
        """A timer fires."""
        self.call(app, function, {"json": json.dumps({"IsPastDue": False})})

    def pump(self) -> int:
        """What the host does with the messages that are visible: how many there were."""
        messages = [*self._queue.receive_messages(max_messages=32, visibility_timeout=600)]
        for message in messages:
            self.call("main", "flux_work", {"string": message.content})
            self._queue.delete_message(message)
        return len(messages)

    def close(self) -> None:
        """Close the ways."""
        self._queue.close()
        for one in gc.get_objects():
            if type(one) is StorageQueue:  # an app has no end, and keeps its connections
                one.close()
        for proxy in (*self.blobs.values(), *self.queues.values()):
            proxy.close()

    def _connection(self, app: str) -> str:
        return AzuriteQueue(self.queues[app].address).connection(self.blobs[app].address)

    def _environment(self, app: str) -> dict[str, str]:
        """A connection string in place of two accounts and an identity, which Azurite has not."""
        kept = {
            name: KEYS if value.startswith("@Microsoft.KeyVault(") else value
            for name, value in self.settings[app].items()
            if not name.startswith(("AzureWebJobsStorage", "AZURE_"))
        }
        secret = (
            {"FLUX_CALLBACK_SECRET": f"{self.vault.url}/secrets/keys", **self._platform} if app == "rotation" else {}
        )
        return {**kept, **secret, "AzureWebJobsStorage": self._connection(app)}


def play(deployed: Deployed) -> None:
    """Start, wait, answer a link, signal, fail, retry, end, rotate, delete."""
    executions = "/workflows/order/executions"
    id_ = deployed.http("POST", f"{executions}?mode=async", {"fails": True})["id"]
    deployed.timer("main", "flux_sweep")
    assert deployed.pump() == 2
    waiting = deployed.http("GET", f"{executions}/{id_}?include=data")
    assert waiting["status"] == "suspended"
    deployed.http("POST", urlsplit(waiting["data"]["link"]).path, {"by": "ann", "signature": "A" * 40_000})
    assert deployed.pump() >= 1
    deployed.http("POST", f"{executions}/{id_}/signals/confirmed?mode=async", {"by": "bob"})
    assert deployed.pump() >= 1
    assert deployed.http("GET", f"{executions}/{id_}")["status"] == "failed"
    mended = deployed.http("POST", f"{executions}/{id_}/steps/ship/retry", {"data": {"mended": True}})
    assert mended["status"] == "completed"

    here = deployed.http("POST", executions, {})["id"]
    deployed.http("POST", f"{executions}/{here}/signals/approval", {"by": "ann"})
    assert deployed.http("POST", f"{executions}/{here}/signals/confirmed", {})["status"] == "completed"
    assert len(deployed.http("GET", executions)["items"]) == 2

    deployed.vault.put("keys", KEYS)
    deployed.timer("rotation", "flux_rotate")
    assert list(parsed_keys(deployed.vault.text("keys"))) == ["k1", "k2"]

    deployed.timer("purge", "flux_purge")
    assert deployed.http("GET", executions)["items"] == []


def examine(deployed: Deployed) -> None:
    """Ask the app what it may do, as each part that it plays; the app that deletes has nobody to ask."""
    for app in deployed.settings:
        deployed.worked[app] = len(deployed.blobs[app].seen), len(deployed.queues[app].seen)
    for part in ("api", "worker", "sweeper"):
        told = deployed.http("POST", "/invoke", {"action": "doctor", "part": part})
        assert told["healthy"], told


def asked_of_blobs(seen: Seen) -> Iterator[tuple[str, str]]:
    """Data action, and what of the account it is for: `container` or `container/path`.

    learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory, Permissions for Blob service
    operations. Put Blob wants write or add/action, and of a name that is taken it says so only to who has write:
    others are refused (UnauthorizedBlobOverwrite).
    """
    parts = urlsplit(seen.path)
    where, query = inside(parts.path), parse_qs(parts.query)
    match seen.method, query.get("comp", [""])[0]:
        case "GET", "list":
            yield f"{BLOBS}/read", where
        case "GET" | "HEAD", "":
            yield f"{BLOBS}/read", where
        case "PUT", "":
            yield f"{BLOBS}/write", where
        case "DELETE", "":
            yield f"{BLOBS}/delete", where
        case "POST", "batch":  # of the whole and of each part
            yield f"{BLOBS}/write", where
            deleted = re.findall(rb"^DELETE (\S+) HTTP", seen.body, re.MULTILINE)
            assert deleted, seen
            yield from ((f"{BLOBS}/delete", inside(path.decode())) for path in deleted)
        case _:
            raise AssertionError(seen)


def asked_of_queues(seen: Seen) -> tuple[str, str]:
    """Data action and queue (the same page, Permissions for Queue service operations).

    Put Message wants add/action or write, Get Messages process/action or read with delete, Delete Message either.
    """
    queue, _, rest = inside(urlsplit(seen.path).path).partition("/")
    assert rest.split("/")[0] == "messages", seen
    action = {"POST": "write", "GET": "process/action", "DELETE": "delete"}[seen.method]
    return f"{MESSAGES}/{action}", queue


def inside(path: str) -> str:
    """A path within the account."""
    return unquote(path).strip("/").removeprefix(ACCOUNT).strip("/")


@pytest.fixture(scope="module")
def played(made: Made, azurite: Azurite, azurite_queue: AzuriteQueue) -> Iterator[Deployed]:
    vault = KeyVault()
    with pytest.MonkeyPatch.context() as patch, identity() as (platform, _), served(vault):
        deployed = Deployed(made, azurite, azurite_queue, vault, platform, patch)
        try:
            play(deployed)
            examine(deployed)
        finally:
            deployed.close()
        yield deployed


def calls_of(made: Made, played: Deployed, blobs: dict[str, list[Seen]], queues: dict[str, list[Seen]]) -> list[Call]:
    """The calls that requests are, which each app has made of blobs and queues."""
    state = made.one("azurerm_storage_container", "state")
    found = []
    for app, requests in blobs.items():
        for action, where in {asked for seen in requests for asked in asked_of_blobs(seen)}:
            container, _, path = where.partition("/")
            assert container == state["name"]
            found.append(Call(app, action, f"{state['resource_manager_id']}/{path}".rstrip("/")))
    for app, requests in queues.items():
        host = made.one("azurerm_storage_account", "host", app)["id"]
        asked = {asked_of_queues(seen) for seen in requests}
        found += [Call(app, action, f"{host}/queueServices/default/queues/{queue}") for action, queue in asked]
    # The platform resolves references (learn.microsoft.com/azure/app-service/app-service-key-vault-references).
    vault, secret = made.one("azurerm_key_vault", "this"), made.one("azurerm_key_vault_secret", "callbacks")
    reference = f"@Microsoft.KeyVault(SecretUri={vault['vault_uri']}secrets/{secret['name']})"
    for app, settings in played.settings.items():
        if reference in settings.values():
            found.append(Call(app, f"{SECRETS}/getSecret/action", secret["resource_versionless_id"]))
    # learn.microsoft.com/azure/key-vault/general/rbac-guide: Get Secret and Set Secret, an action each.
    for request in played.vault.asked:
        action = {"GET": "getSecret", "PUT": "setSecret"}[request.split()[0]]
        found.append(Call("rotation", f"{SECRETS}/{action}/action", secret["resource_versionless_id"]))
    return found


@pytest.fixture(scope="module")
def calls(made: Made, played: Deployed) -> list[Call]:
    """What the apps' work has asked for."""
    blobs = {app: proxy.seen[: played.worked[app][0]] for app, proxy in played.blobs.items()}
    queues = {app: proxy.seen[: played.worked[app][1]] for app, proxy in played.queues.items()}
    return calls_of(made, played, blobs, queues)


@pytest.fixture(scope="module")
def examinations(made: Made, played: Deployed) -> list[Call]:
    """What the doctor has asked for, but for the time, which the service tells everybody."""
    blobs = {app: proxy.seen[played.worked[app][0] :] for app, proxy in played.blobs.items()}
    queues = {app: proxy.seen[played.worked[app][1] :] for app, proxy in played.queues.items()}
    told = {app: [seen for seen in requests if seen[:2] != ("HEAD", "/")] for app, requests in blobs.items()}
    assert told != blobs
    return calls_of(made, played, told, queues)


def test_every_request_is_allowed(made: Made, calls: list[Call]) -> None:
    assert refused(calls, made.grants()) == set()
    assert {call.who for call in calls} == {"main", "purge", "rotation"}


def test_every_request_of_the_doctor_is_allowed(made: Made, examinations: list[Call]) -> None:
    assert refused(examinations, made.grants()) == set()
    tried = {call.permission for call in examinations if call.who == "main"}
    assert {f"{BLOBS}/read", f"{BLOBS}/write", f"{MESSAGES}/write"} <= tried


def test_every_permission_is_used_or_there_is_a_reason_for_it(made: Made, calls: list[Call]) -> None:
    assert {one for one in idle(calls, made.grants()) if one[1] not in UNUSED} == set()


def test_of_what_belongs_to_an_instance_only_purge_may_delete(made: Made) -> None:
    container = made.one("azurerm_storage_container", "state")["resource_manager_id"]
    part = f"{container}/instances/7f/default/order/o-1/L/0000000003"
    tried = {Call(app, f"{BLOBS}/delete", part) for app in ("main", "purge", "rotation")}
    assert refused(tried, made.grants()) == {call for call in tried if call.who != "purge"}
    marker = f"{container}/instances/_due/1/0000000000000/default/order/o-1/0000000003.000000-a"
    assert refused({Call("main", f"{BLOBS}/delete", marker)}, made.grants()) == set()


def test_the_host_has_its_roles_in_the_apps_own_account_alone(made: Made) -> None:
    places = {(app, one["scope"]) for app, one in made.assignments() if "Storage" in str(one["role_definition_name"])}
    accounts = made.of("azurerm_storage_account", "host")
    assert places == {(app, accounts[app]["id"]) for app in made.settings()}


def test_an_app_is_told_of_these_accounts_and_of_its_own_identity(made: Made) -> None:
    state = made.one("azurerm_storage_account", "state")["name"]
    for app, settings in made.settings().items():
        client = made.one("azurerm_user_assigned_identity", "app", app)["client_id"]
        assert settings["AZURE_STORAGE_ACCOUNT_NAME"] == state
        assert settings["AzureWebJobsStorage__accountName"] == made.one("azurerm_storage_account", "host", app)["name"]
        assert {settings["AZURE_CLIENT_ID"], settings["AzureWebJobsStorage__clientId"]} == {client}
