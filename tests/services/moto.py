"""AWS for tests: one moto server for each worker of pytest, a process of its own, ended by its process id."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What a process needs so that the SDK asks nobody but the server, and finds nothing of whoever runs the tests."""


class Moto(NamedTuple):
    """A server that answers."""

    endpoint: str
    environment: dict[str, str]


def start(module: str = "tests.services.moto_server") -> tuple[subprocess.Popen[str], Moto]:
    """Start a server and wait until it answers; the caller ends the process."""
    if find_spec("moto") is None or find_spec("werkzeug") is None:
        missing("moto, which plays AWS", "pip install 'moto[dynamodb,s3,server]' boto3 (the extra [dev] brings both)")
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "adapters")])}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    if not port:
        message = f"the moto server ended with {process.wait()} before it answered"
        raise RuntimeError(message)
    return process, Moto(f"http://127.0.0.1:{port}", dict(ENVIRONMENT))


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """The server. Tests that share it keep apart by names: a table or bucket for each."""
    process, server = start()
    with process:
        yield server
        process.kill()
