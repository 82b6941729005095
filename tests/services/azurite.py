"""Azure Storage for tests: Azurite, one for each worker of pytest, processes of their own, ended by their process ids.

It is an npm package, which `make test` keeps in the user's cache (`tests.services.install`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.services.environment import KEPT
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE = KEPT / "azurite"
INSTALL = "npm install --prefix ~/.cache/flux-tests/azurite azurite@3 (make test does it; needs Node.js with npm)"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has unless told otherwise; it is no secret."""
PATIENCE = 180.0
"""Seconds that a busy machine may need to start it."""


class Azurite(NamedTuple):
    """A service that answers."""

    endpoint: str
    account: str = ACCOUNT

    def create_container(self, name: str) -> None:
        """By the REST interface, since obstore cannot."""
        date, version = formatdate(usegmt=True), "2021-12-02"
        what = f"/{self.account}/{self.account}/{name}\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{what}"
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {self.account}:{base64.b64encode(digest).decode()}",
            "Content-Length": "0",
        }
        request = urllib.request.Request(f"{self.endpoint}/{name}?restype=container", method="PUT", headers=headers)  # noqa: S310 -- our own
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- as above
            assert answer.status == 201


class AzuriteQueue(NamedTuple):
    """The queues of such an account."""

    endpoint: str
    account: str = ACCOUNT

    def connection(self, blobs: str | None = None) -> str:
        """A connection string, as the setting AzureWebJobsStorage holds one."""
        parts = ["DefaultEndpointsProtocol=http", f"AccountName={self.account}", f"AccountKey={KEY}"]
        parts.append(f"QueueEndpoint={self.endpoint}")
        return ";".join(parts + ([f"BlobEndpoint={blobs}"] if blobs else []))


def program(service: str = "blob") -> str | None:
    """The path of the command."""
    kept = CACHE / "node_modules" / ".bin" / f"azurite-{service}"
    return shutil.which(f"azurite-{service}") or (str(kept) if kept.is_file() else None)


def start(log: Path, service: str = "blob", account: str = ACCOUNT) -> tuple[subprocess.Popen[bytes], Azurite]:
    """Start the `service`, blob or queue, and wait until it answers; the caller ends the process."""
    command = program(service)
    if command is None or shutil.which("node") is None:
        missing("Azurite, Azure's storage emulator", INSTALL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, *options, f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{KEY}"},
        )
    give_up_at = time.monotonic() + PATIENCE
    while not answers(port):
        if process.poll() is not None or time.monotonic() > give_up_at:
            process.kill()
            process.wait()
            missing(f"Azurite ({log.read_text(errors='replace')[-500:]})", INSTALL)
        time.sleep(0.1)
    return process, Azurite(f"http://127.0.0.1:{port}/{account}", account)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """The service. Tests that share it keep apart by containers."""
    process, service = start(tmp_path_factory.mktemp("azurite") / "azurite.log")
    with process:
        yield service
        process.kill()


@pytest.fixture(scope="session")
def azurite_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteQueue]:
    """The queue service. Tests that share it keep apart by queues."""
    process, service = start(tmp_path_factory.mktemp("azurite") / "azurite-queue.log", "queue")
    with process:
        yield AzuriteQueue(service.endpoint)
        process.kill()
