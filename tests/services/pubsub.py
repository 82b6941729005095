"""Pub/Sub for tests: Google's emulator, a process for each worker of pytest, spoken to by its REST API."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.functions import free_port
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "google-cloud-cli-pubsub-emulator"
INSTALL = (
    f"apt-get install {PACKAGE} openjdk-17-jre-headless, or gcloud components install pubsub-emulator and Java 17 or "
    "newer"
)
PATIENCE = 180.0
"""Seconds that a busy machine may need to start it."""


def archive() -> Path | None:
    """The emulator's jar, wherever it was installed."""
    folders = []
    if shutil.which("dpkg"):
        listed = subprocess.run(["dpkg", "-L", PACKAGE], capture_output=True, text=True, check=False)
        folders += [Path(line) for line in listed.stdout.splitlines() if line.endswith(".jar")]
    if gcloud := shutil.which("gcloud"):
        lib = Path(gcloud).resolve().parents[1] / "platform" / "pubsub-emulator" / "lib"
        folders += sorted(lib.glob("cloud-pubsub-emulator-*.jar"))
    return next((jar for jar in folders if jar.is_file()), None)


class PubSub:
    """Topics with push subscriptions; each test makes its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._numbers = count(1)

    def topic(self, endpoint: str) -> str:
        """A topic whose messages are pushed to `endpoint` until they are acknowledged; `endpoint` gets their form."""
        number = next(self._numbers)
        topic = f"projects/flux-test/topics/flux-{number}"
        self._call("PUT", topic, {})
        subscription = {"topic": topic, "pushConfig": {"pushEndpoint": f"{endpoint}/{topic}"}, "ackDeadlineSeconds": 60}
        self._call("PUT", f"projects/flux-test/subscriptions/flux-{number}", subscription)
        return topic

    def publish(self, topic: str, *messages: object) -> None:
        """Messages: JSON values, or bytes as they are."""
        data = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
        body = {"messages": [{"data": base64.b64encode(one).decode()} for one in data]}
        self._call("POST", f"{topic}:publish", body)

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{self.address}/v1/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.fixture(scope="session")
def pubsub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSub]:
    """The emulator."""
    jar, java = archive(), shutil.which("java")
    if jar is None or java is None:
        missing("Google's Pub/Sub emulator" if java else "Java, for Google's Pub/Sub emulator,", INSTALL)
    port = free_port()
    log = tmp_path_factory.mktemp("pubsub") / "emulator.log"
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [java, *options, "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    with process:
        give_up_at = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > give_up_at:
                process.kill()
                missing(f"Google's Pub/Sub emulator ({log.read_text(errors='replace')[-500:]})", INSTALL)
            time.sleep(0.1)
        yield PubSub(f"127.0.0.1:{port}")
        process.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
