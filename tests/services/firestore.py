"""Firestore for tests: Google's emulator, a process for each worker of pytest, ended by its process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "google-cloud-cli-firestore-emulator"
INSTALL = (
    f"apt-get install {PACKAGE} openjdk-17-jre-headless, or gcloud components install cloud-firestore-emulator and "
    "Java 17 or newer"
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
        sdk = Path(gcloud).resolve().parents[1]
        folders.append(sdk / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar")
    return next((jar for jar in folders if jar.is_file()), None)


def start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start an emulator and wait until it answers: its process, which the caller ends, and its host and port."""
    jar, java = archive(), shutil.which("java")
    if jar is None or java is None:
        missing("Google's Firestore emulator" if java else "Java, for Google's Firestore emulator,", INSTALL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Little is kept in it and it lives for a minute: the quickest start and the smallest heap.
    options = ["-Duser.language=en", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"]
    main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [java, *options, "-cp", str(jar), main, "--host=127.0.0.1", f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    give_up_at = time.monotonic() + PATIENCE
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > give_up_at:
            process.kill()
            missing(f"Google's Firestore emulator ({log.read_text(errors='replace')[-500:]})", INSTALL)
        time.sleep(0.1)
    return process, f"127.0.0.1:{port}"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
        try:
            probe.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return probe.recv(16).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port. Tests that share it keep apart by projects, which come into being when they are named."""
    process, host = start(tmp_path_factory.mktemp("firestore") / "emulator.log")
    with process:
        yield host
        process.kill()
