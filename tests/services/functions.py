"""Google's functions-framework for tests: the real runtime, a process (gunicorn with threads) for each function.

A function is ended with its whole process group, which is its own: gunicorn's workers go with their master.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INSTALL: Final = "pip install functions-framework"
PATIENCE: Final = 120.0
"""Seconds that a busy machine may need to start it."""
ROOT: Final = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Function:
    """One deployed function: a process that answers at `url`."""

    def __init__(
        self,
        source: Path,
        target: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        signature: str = "http",
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [
            *(sys.executable, "-m", "functions_framework", "--source", str(source), "--target", target),
            *("--signature-type", signature, "--host", "127.0.0.1", "--port", str(self.port)),
        ]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environment = {
            **inherited,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'adapters'}",
            "PYTHONUNBUFFERED": "1",
            "THREADS": "8",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it listens."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._process = process
        give_up_at = time.monotonic() + PATIENCE
        while not self._listens():
            if process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                pytest.fail(f"functions-framework did not start: {self.text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Take it away at once, whatever it is doing, as the platform may."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            while self._listens():  # until gunicorn's worker, a child of its own, is gone, too
                time.sleep(0.01)

    def text(self) -> str:
        """All that it has written."""
        return self.log.read_text(errors="replace")

    def call(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body. POST if there is a body."""
        request = urllib.request.Request(self.url + path, body, dict(headers or {}), method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Functions:
    """What a test deploys; all is taken away at its end."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("functions_framework") is None:
            missing("Google's functions-framework", INSTALL)
        self._folder = folder
        self._deployed: list[Function] = []

    def deploy(
        self,
        source: Path,
        target: str,
        environment: Mapping[str, str],
        *,
        signature: str = "http",
        port: int | None = None,
    ) -> Function:
        """Start `target` of the file `source`; `signature`: http or cloudevent."""
        log = self._folder / f"{target}-{len(self._deployed)}.log"
        self._deployed.append(Function(source, target, environment, log, signature=signature, port=port))
        return self._deployed[-1]

    def remove(self) -> None:
        """End all."""
        for function in self._deployed:
            function.kill()


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[Functions]:
    """Deploys functions for one test."""
    deployed = Functions(tmp_path)
    yield deployed
    deployed.remove()


@pytest.fixture(scope="module")
def module_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    """Deploys functions that the tests of a module share: each start takes a second or two."""
    deployed = Functions(tmp_path_factory.mktemp("functions"))
    yield deployed
    deployed.remove()
