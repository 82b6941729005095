"""Every call that a function makes is one that its service account may make, and every permission is used by some call.

Accounts, roles and bindings are those that the module would make, as Terraform tells them; so are the functions'
settings. The functions run on Google's Firestore emulator, fake-gcs-server and the server that plays Cloud Tasks. Each
has its own way to them, by which is told who asked.
"""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials

from flux_core.callbacks import parsed_keys
from flux_gcp import callback_function, firestore_purge, http_function, rotation_function
from flux_gcp import settings as names
from tests.gcp.conftest import new_project
from tests.gcp.relay import COMMIT, QUERY, Relay
from tests.gcp.requests import flask_request
from tests.infra.play import Call, Grant, Tomorrow, idle, order, refused
from tests.infra.sam import ROOT
from tests.services.cloud_tasks import CloudTasks
from tests.services.proxy import Proxy, Seen
from tests.services.terraform import Resource, by_key, schema_module
from tests.services.vaults import TOKEN, SecretManager, served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOURCE = ROOT / "infra" / "gcp" / "terraform"
KEYS = "k1:0123456789abcdef0123456789abcdef"
UNUSED = {
    "storage.objects.list": "without it Cloud Storage says 'forbidden' of an object that is not there; purge lists",
}
"""What no call here needs, and why it is allowed nevertheless."""
RUN = """
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}

run "made" {
  command = apply
  variables {
    project_id          = "PROJECT"
    package_path        = "tests/package.txt"
    callback_keys       = "KEYS"
    purge_after_seconds = 3600
  }
}
"""
GOOGLES_ROLES = {"roles/run.invoker": ["run.routes.invoke"]}
"""What roles of Google's own allow (cloud.google.com/iam/docs/roles-permissions/run), but for that of jobs."""


# --- what the module grants -----------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What the module would make."""

    project: str
    resources: list[Resource]

    def of(self, type_: str, name: str) -> dict[str, dict[str, Any]]:
        """By key, the values of a resource."""
        return by_key(self.resources, type_, name)

    def functions(self) -> dict[str, dict[str, Any]]:
        """By function, how its service runs."""
        found = self.of("google_cloudfunctions2_function", "function")
        return {name: values["service_config"][0] for name, values in found.items()}

    def accounts(self) -> dict[str, str]:
        """By member, as bindings have it: whose account that is."""
        found = {name: one["member"] for name, one in self.of("google_service_account", "function").items()}
        found["invoker"] = self.of("google_service_account", "invoker")[""]["member"]
        return {member: name for name, member in found.items()}

    def grants(self) -> list[Grant]:
        """What the accounts of functions, tasks and schedules may do."""
        roles = {one["name"]: one["permissions"] for one in self.of("google_project_iam_custom_role", "this").values()}
        accounts = self.accounts()
        bindings = [(one.values, resource) for one in self.resources if (resource := bound_to(one)) is not None]
        return [
            Grant(accounts[values["member"]], permission, resource)
            for values, resource in bindings
            if values["member"] in accounts
            for permission in {**GOOGLES_ROLES, **roles}[values["role"]]
        ]


def bound_to(one: Resource) -> str | None:
    """The resource that a binding is of; None for what is no binding."""
    match one.type:
        case "google_project_iam_member":
            conditions = [condition["expression"] for condition in one.values["condition"]]
            found = [re.fullmatch(r'resource\.name == "([^"]+)"', expression) for expression in conditions]
            return found[0][1] if found and found[0] else f"projects/{one.values['project']}"
        case "google_storage_bucket_iam_member":
            return str(one.values["bucket"])
        case "google_cloud_tasks_queue_iam_member":
            return "projects/{project}/locations/{location}/queues/{name}".format(**one.values)
        case "google_service_account_iam_member":
            return str(one.values["service_account_id"])
        case "google_secret_manager_secret_iam_member":
            return str(one.values["secret_id"])
        case "google_cloud_run_v2_service_iam_member":
            return str(one.values["name"])
        case other:
            assert "_iam_" not in other or other == "google_project_iam_custom_role", other
            return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    module = schema_module(SOURCE, tmp_path_factory.mktemp("terraform"))
    project = new_project()
    return Made(project, module.made(RUN.replace("PROJECT", project).replace("KEYS", KEYS)))


# --- what is asked for ----------------------------------------------------------------------------------------------


class Ways:
    """The ways of one function to the services, and what it has sent on them."""

    def __init__(self, firestore: str, storage: str, queue: str) -> None:
        self.firestore, self.storage, self.tasks = Relay(firestore), Proxy(storage), CloudTasks(workers=1)
        self.tasks.queue(queue)
        self.tasks.hold()
        self.brought = 0
        """Of its tasks, those that the worker was given."""

    def environment(self) -> dict[str, str]:
        """What has clients take these ways."""
        return {
            names.EMULATOR: self.firestore.address,
            names.TASKS_EMULATOR: self.tasks.address,
            "STORAGE_EMULATOR_HOST": self.storage.address,
            names.TIMEOUT: "20",  # this machine is busy, and the emulator with it
        }

    def close(self) -> None:
        """Stop at once."""
        self.firestore.close()
        self.storage.close()
        self.tasks.stop()


class Deployed:
    """The functions of the module, each with its own settings and ways."""

    def __init__(
        self,
        functions: Mapping[str, Any],
        firestore: str,
        storage: str,
        manager: SecretManager,
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.functions = functions
        self.manager = manager
        self.ways = {
            name: Ways(firestore, storage, one["environment_variables"][names.QUEUE]) for name, one in functions.items()
        }
        self.invoked: list[str] = []
        """Functions that were called with the identity of tasks and schedules."""
        self._patch = patch
        self._handlers: dict[str, Any] = {}

    def call(self, function: str, path: str, body: object = None, **headers: str) -> Any:
        """A request to a function; what it opens, it opens by its own settings."""
        with self._patch.context() as patch:
            for name, value in self._environment(function).items():
                patch.setenv(name, value)
            if function == "rotation" and function not in self._handlers:
                session = AuthorizedSession(Credentials(TOKEN))
                self._handlers[function] = rotation_function(session=session, service=self.manager.url)
            if function not in self._handlers:
                kind = callback_function if function == "callbacks" else http_function
                options: dict[str, Any] = {"clock": Tomorrow()} if function == "purge" else {}
                self._handlers[function] = kind(order, **options)
            path, _, query = path.partition("?")
            content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            given = {"Content-Type": "application/json", **headers}
            request = flask_request("GET" if body is None else "POST", path, query, given, content)
            answer, status, _ = self._handlers[function](request)
        assert status < 300, (function, path, status, answer)
        return json.loads(answer)

    def scheduled(self, function: str, action: str) -> Any:
        """As Cloud Scheduler asks for it."""
        self.invoked.append(function)
        return self.call(function, "/invoke", {"action": action}, **{"X-CloudScheduler": "true"})

    def deliver(self) -> int:
        """Bring the worker the tasks that were made, also those whose time has not come; how many."""
        worker = self.functions["worker"]["environment_variables"][names.WORKER_URL]
        new = [task for ways in self.ways.values() for task in ways.tasks.created[ways.brought :]]
        for ways in self.ways.values():
            ways.brought = len(ways.tasks.created)
        for task in new:
            assert task.http_request.url == f"{worker}/invoke"
            assert task.http_request.oidc_token.audience == worker
            self.invoked.append("worker")
            queue, _, name = task.name.rpartition("/tasks/")
            told = {"X-CloudTasks-QueueName": queue.rpartition("/")[2], "X-CloudTasks-TaskName": name}
            self.call("worker", "/invoke", task.http_request.body, **told)
        return len(new)

    def close(self) -> None:
        """Close the ways."""
        for ways in self.ways.values():
            ways.close()

    def _environment(self, function: str) -> dict[str, str]:
        service = self.functions[function]
        keys = {one["key"]: KEYS for one in service["secret_environment_variables"]}
        return {**service["environment_variables"], **keys, **self.ways[function].environment()}


def play(deployed: Deployed) -> None:
    """Start, wait, answer a link, signal, fail, retry, end, rotate, delete."""
    executions = "/workflows/order/executions"
    id_ = deployed.call("api", f"{executions}?mode=async", {"fails": True})["id"]
    assert deployed.scheduled("sweeper", "sweep")["asked"] == 1
    assert deployed.deliver() == 2
    waiting = deployed.call("api", f"{executions}/{id_}?include=data")
    assert waiting["status"] == "suspended"
    deployed.call("callbacks", urlsplit(waiting["data"]["link"]).path, {"by": "ann", "signature": "A" * 40_000})
    assert deployed.deliver() >= 1
    deployed.call("api", f"{executions}/{id_}/signals/confirmed?mode=async", {"by": "bob"})
    assert deployed.deliver() >= 1
    assert deployed.call("api", f"{executions}/{id_}")["status"] == "failed"
    mended = deployed.call("api", f"{executions}/{id_}/steps/ship/retry", {"data": {"mended": True}})
    assert mended["status"] == "completed"

    here = deployed.call("api", executions, {})["id"]
    deployed.call("api", f"{executions}/{here}/signals/approval", {"by": "ann"})
    assert deployed.call("api", f"{executions}/{here}/signals/confirmed", {})["status"] == "completed"
    assert len(deployed.call("api", executions)["items"]) == 2

    secret = deployed.functions["rotation"]["environment_variables"][names.SECRET]
    deployed.manager.put(secret, KEYS)
    assert deployed.scheduled("rotation", "rotate") == {"rotated": True}
    assert list(parsed_keys(deployed.manager.text(secret))) == ["k1", "k2"]

    assert deployed.scheduled("purge", "purge") == {"deleted": 2, "left": 0, "finished": True}
    assert deployed.call("api", executions)["items"] == []


def asked_of_firestore(method: str, message: Any) -> Iterator[tuple[str, str]]:
    """Permissions and database (cloud.google.com/firestore/docs/security/iam, Required permissions for API methods)."""
    if method == COMMIT:
        for write in message.writes:
            if write.HasField("delete"):
                yield "datastore.entities.delete", message.database
                continue
            condition = write.current_document.WhichOneof("condition_type")
            if condition is None or not (condition == "update_time" or write.current_document.exists):
                yield "datastore.entities.create", message.database
            if condition is None or condition == "update_time" or write.current_document.exists:
                yield "datastore.entities.update", message.database
        return
    database = message.parent.partition("/documents")[0] if method == QUERY else message.database
    yield "datastore.entities.get", database
    if method == QUERY:
        yield "datastore.entities.list", database


def asked_of_storage(seen: Seen) -> tuple[str, str]:
    """Permission and bucket (cloud.google.com/storage/docs/access-control/iam-json)."""
    path = urlsplit(seen.path).path
    found = re.fullmatch(r"(?:/(upload|download))?/storage/v1/b/([^/]+)/o(?:/([^/]+))?", path)
    assert found is not None, seen
    way, bucket, key = found.groups()
    match seen.method, way, key is not None:
        case "POST", "upload", False:
            return "storage.objects.create", bucket
        case "GET", "download", True:
            return "storage.objects.get", bucket
        case "GET", None, False:
            return "storage.objects.list", bucket
        case "DELETE", None, True:
            return "storage.objects.delete", bucket
        case _:
            raise AssertionError(seen)


def called(made: Made, deployed: Deployed) -> list[Call]:
    """All calls until now."""
    invoker = made.of("google_service_account", "invoker")[""]
    services = {key: one["name"] for key, one in made.of("google_cloudfunctions2_function", "function").items()}
    found = [Call("invoker", "run.routes.invoke", services[function]) for function in deployed.invoked]
    for who, ways in deployed.ways.items():
        found += [Call(who, *asked) for one in ways.firestore.seen for asked in asked_of_firestore(*one)]
        found += [Call(who, *asked_of_storage(one)) for one in ways.storage.seen]
        for task in ways.tasks.created:
            assert task.http_request.oidc_token.service_account_email == invoker["email"]
            # cloud.google.com/tasks/docs/creating-http-target-tasks, HTTP Target tasks with authentication tokens
            found.append(Call(who, "cloudtasks.tasks.create", task.name.rpartition("/tasks/")[0]))
            found.append(Call(who, "iam.serviceAccounts.actAs", invoker["name"]))
        # Cloud Run does it when an instance begins (cloud.google.com/run/docs/configuring/services/secrets).
        secrets = deployed.functions[who]["secret_environment_variables"]
        found += [Call(who, "secretmanager.versions.access", secret["secret"]) for secret in secrets]
    return found + [Call("rotation", *asked_of_secrets(one)) for one in deployed.manager.asked]


def asked_of_secrets(request: str) -> tuple[str, str]:
    """Permission and secret (cloud.google.com/secret-manager/docs/access-control)."""
    found = re.fullmatch(
        r"\w+ /v1/projects/[^/]+/secrets/([^/:]+)(/versions/latest|/versions/\d+:access|:addVersion)", request
    )
    assert found is not None, request
    last = found[2].rpartition(":")[2]
    return f"secretmanager.versions.{ {'access': 'access', 'addVersion': 'add'}.get(last, 'get') }", found[1]


@pytest.fixture(scope="module")
def recorded(made: Made, firestore_emulator: str, fake_gcs: str) -> tuple[list[Call], list[Call]]:
    """The calls of the play; and all, with those of the doctor, who tries every permission."""
    (bucket,) = (one["name"] for one in made.of("google_storage_bucket", "payloads").values())
    body = json.dumps({"name": bucket}).encode()
    making = urllib.request.Request(f"{fake_gcs}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})  # noqa: S310 -- a server of our own
    with urllib.request.urlopen(making, timeout=30):  # noqa: S310 -- as above
        pass
    with pytest.MonkeyPatch.context() as patch, served(SecretManager()) as manager:
        patch.setattr(firestore_purge, "BATCH", 3)  # so that deleting takes several commits
        deployed = Deployed(made.functions(), firestore_emulator, fake_gcs, manager, patch)
        try:
            play(deployed)
            played = called(made, deployed)
            for part in ("api", "worker", "sweeper", "purge"):
                told = deployed.call(part, "/invoke", {"action": "doctor", "part": part})
                assert told["healthy"], told
            return played, called(made, deployed)
        finally:
            deployed.close()


def test_every_call_is_allowed(made: Made, recorded: tuple[list[Call], list[Call]]) -> None:
    played, all_ = recorded
    assert refused(all_, made.grants()) == set()
    assert {call.who for call in played} == {*made.functions(), "invoker"}


def test_every_permission_is_used_or_there_is_a_reason_for_it(
    made: Made, recorded: tuple[list[Call], list[Call]]
) -> None:
    played, _ = recorded
    assert {one for one in idle(played, made.grants()) if one[1] not in UNUSED} == set()


def test_a_deletion_by_anybody_but_purge_would_be_found(made: Made) -> None:
    for permission in ("datastore.entities.delete", "storage.objects.delete"):
        (resource,) = {one.resource for one in made.grants() if one.permission == permission}
        tried = {Call(who, permission, resource) for who in made.functions()}
        assert refused(tried, made.grants()) == {call for call in tried if call.who != "purge"}


def test_nobody_has_the_account_of_another(made: Made) -> None:
    assert len(made.accounts()) == len(made.functions()) + 1
    assert {one["service_account_email"] for one in made.functions().values()} == {
        one["email"] for one in made.of("google_service_account", "function").values()
    }
