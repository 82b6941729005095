"""A function app deployed for a test: on Microsoft's engine, with a queue and a container of its own in Azurite."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_azure import host_json
from tests.azure.workflows import FOLDER
from tests.services.azure_functions import KEY, Answer, Host, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from tests.services.azurite import Azurite, AzuriteQueue

PATIENCE = 120.0
"""Seconds until a test gives up on a busy machine."""
TRIES = 3
PUBLIC = "https://flux.azurewebsites.net"


class App:
    """An app on the host, and its queue."""

    def __init__(self, host: Host, connection: str) -> None:
        """`connection`: the string by which the account of its queue is reached."""
        self.host = host
        self.listener: Listener = host.queue(connection)
        self.listener.client.create_queue()

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
        """A request; again where it is told to come again, since Azurite on a busy machine may not answer in time."""
        for _ in range(TRIES - 1):
            answer = self.host.http(method, target, body, headers, key=key, worker=worker)
            if answer.status != 503:
                return answer
        return self.host.http(method, target, body, headers, key=key, worker=worker)

    def until(self, done: Callable[[], object], meanwhile: Callable[[], object] | None = None) -> None:
        """Pump the queue, or do that, until it is done."""
        give_up_at = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < give_up_at, self.evidence()
            if not (self.listener.pump() if meanwhile is None else meanwhile()):
                time.sleep(0.05)

    def evidence(self) -> object:
        """What helps to see why nothing happens."""
        return self.log()[-3000:]

    def log(self) -> str:
        """What the workers logged."""
        return self.host.log.read_text(errors="replace")


class Deployment(App):
    """The app of the tests, with its folder."""

    def __init__(
        self,
        folder: Path,
        blobs: Azurite,
        queues: AzuriteQueue,
        *,
        workers: int = 1,
        timeout: str = "00:01:00",
        **more: str,
    ) -> None:
        """`more`: settings beside the usual ones. `timeout`: that of host.json."""
        self.folder = folder
        name = f"app-{uuid.uuid4().hex[:12]}"
        blobs.create_container(name)
        self.connection = queues.connection(blobs.endpoint)
        settings = host_json()
        settings["functionTimeout"] = timeout
        settings["extensions"]["queues"]["visibilityTimeout"] = "00:00:00"  # a failed message comes again at once
        (folder / "host.json").write_text(json.dumps(settings))
        shutil.copy(Path(__file__).with_name("function_app.py"), folder)
        self.environment = {
            "AzureWebJobsStorage": self.connection,
            "FLUX_STORAGE": f"az://{name}/flux",
            "FLUX_QUEUE": name,
            "FLUX_LEASE": "2",
            "FLUX_BUDGET": "20",
            "FLUX_PUBLIC_URL": PUBLIC,
            "FLUX_CALLBACK_KEYS": "k1:0123456789abcdef0123456789abcdef",
            FOLDER: str(folder),
            **more,
        }
        super().__init__(Host(folder, self.environment, workers), self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.close()

    # --- what a caller does ----------------------------------------------------------------------------------------

    def execute(
        self, workflow: str, id_: str, body: object = None, *, mode: str = "sync", worker: int | None = None
    ) -> Answer:
        """POST .../executions."""
        path = f"/workflows/{workflow}/executions?mode={mode}"
        return self.http("POST", path, body, {"idempotency-key": id_}, worker=worker)

    def post(self, path: str, body: object = None, *, worker: int | None = None, **headers: str) -> Answer:
        """POST /workflows/..."""
        return self.http("POST", f"/workflows/{path}", body, headers, worker=worker)

    def get(self, workflow: str, id_: str, include: str = "history") -> dict[str, Any]:
        """How the instance stands."""
        answer = self.http("GET", f"/workflows/{workflow}/executions/{id_}?include={include}")
        assert answer.status == 200, answer
        told: dict[str, Any] = answer.json()
        return told

    # --- what the platform does ------------------------------------------------------------------------------------

    def until_ended(self, workflow: str, id_: str, status: str = "completed", *, swept: bool = False) -> dict[str, Any]:
        """Pump the queue, after a sweep if so wanted, until the instance has ended, as it should."""
        active = {"running", "pending", "suspended"}
        self.until(lambda: self.get(workflow, id_, "")["status"] not in active, self._swept if swept else None)
        told = self.get(workflow, id_)
        assert told["status"] == status, told
        return told

    def _swept(self) -> int:
        self.host.tick()
        return self.listener.pump()

    # --- what is seen afterwards ------------------------------------------------------------------------------------

    def ledger(self, id_: str | None = None) -> list[tuple[str, str, str, int]]:
        """Instance, step, what, and process: a line for everything that a step did."""
        file = self.folder / "ledger"
        lines = file.read_text().splitlines() if file.exists() else []
        entries = [(a, b, c, int(d)) for a, b, c, d in (line.split() for line in lines)]
        return [entry for entry in entries if id_ is None or entry[0] == id_]

    def noted(self, id_: str, what: str) -> list[str]:
        """The steps of an instance of which the ledger says that, in order."""
        return [step for _, step, said, _ in self.ledger(id_) if said == what]

    def evidence(self) -> object:
        """What its steps have done, too."""
        return self.ledger(), super().evidence()
