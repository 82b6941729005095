"""AWS Lambda for tests: functions on the real Python runtime client, under AWS's own Runtime Interface Emulator.

The emulator's binary lies inside the wheel of `aws-sam-cli`, which would bring sixty packages with pins of their own:
`python -m tests.services.lambda_runtime` downloads that one wheel and keeps the binary in the user's cache.
An emulator is one execution environment and takes one call at a time; a function has as many as it is called at once.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.services.environment import KEPT
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
WHEEL: Final = "aws-sam-cli==1.170.0"
CACHE: Final = KEPT / "lambda-rie"
NAME: Final = f"aws-lambda-rie-{'arm64' if platform.machine() in {'arm64', 'aarch64'} else 'x86_64'}"
INSTALL: Final = (
    "python -m tests.services.lambda_runtime (make test does it); pip install awslambdaric (the extra [dev])"
)
PATIENCE: Final = 180.0
"""Seconds that a busy machine may need to start it, and to answer after the function's own time limit."""
_INVOKE: Final = "/2015-03-31/functions/function/invocations"


class Outcome(NamedTuple):
    """How an invocation ended, as whoever invoked the function is told."""

    payload: Any
    """What the handler returned; None if it did not."""
    error: str | None = None
    """Why not: the exception's type, `Task timed out ...`, `Runtime.ExitError`."""
    seconds: float = 0.0


def program() -> Path | None:
    """The emulator's binary."""
    found = shutil.which("aws-lambda-rie") or CACHE / NAME
    return Path(found) if Path(found).is_file() else None


class Environment:
    """One execution environment: an emulator, and the runtime that it starts, ends and starts again."""

    def __init__(self, command: Path, handler: str, folder: Path, settings: Mapping[str, str], log: Path) -> None:
        self.log = log
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self._port, runtime_port = one.getsockname()[1], other.getsockname()[1]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(command),
                    *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
                    *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
                    *(sys.executable, "-m", "awslambdaric", handler),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(settings),
            )
        give_up_at = time.monotonic() + PATIENCE
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.close()
                missing(f"AWS's Lambda emulator ({log.read_text(errors='replace')[-500:]})", INSTALL)
            time.sleep(0.02)

    def invoke(self, event: object, limit: float) -> Outcome:
        """Call the function and wait for its answer, `limit` seconds and some patience."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=limit + PATIENCE)
        try:
            connection.request("POST", _INVOKE, body)
            answer = connection.getresponse().read()
        finally:
            connection.close()
        return _outcome(answer, time.monotonic() - begun)

    def runtime(self) -> int | None:
        """The process of the function's own code, if one runs."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        with suppress(OSError):
            children = [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
            return int(children[0]) if children else None
        return None

    def close(self) -> None:
        """End it and what it started, by their ids."""
        for pid in (self.runtime(), self._process.pid):
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


class Function:
    """A function: `handler` (`module.name`) in `folder`, with `timeout` seconds for a call, as Lambda enforces it."""

    def __init__(
        self, command: Path, handler: str, folder: Path, variables: Mapping[str, str], timeout: int, logs: Path
    ) -> None:
        self.timeout = timeout
        self._begin: Callable[[Path], Environment] = lambda log: Environment(command, handler, folder, settings, log)
        self._logs = logs
        self._turn = threading.Lock()
        self._free: list[Environment] = []
        self._all: list[Environment] = []
        settings = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "adapters")]),
            "AWS_LAMBDA_FUNCTION_NAME": "flux-worker",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            **variables,
        }

    def invoke(self, event: object) -> Outcome:
        """Call it in an environment that nobody uses, a new one if there is none. Any number of threads may."""
        with self._turn:
            environment = self._free.pop() if self._free else None
        if environment is None:
            environment = self._begin(self._logs / f"environment-{len(self._all)}-{threading.get_ident()}.log")
            with self._turn:
                self._all.append(environment)
        try:
            return environment.invoke(event, self.timeout)
        finally:
            with self._turn:
                self._free.append(environment)

    def kill(self) -> int:
        """End every process of its code at once, as a crash does; how many there were."""
        ended = [pid for environment in self._all if (pid := environment.runtime()) is not None]
        for pid in ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(ended)

    @property
    def environments(self) -> int:
        """How many there have been."""
        return len(self._all)

    def log(self) -> str:
        """What it and the emulators have written."""
        return "".join(environment.log.read_text(errors="replace") for environment in self._all)

    def await_log(self, text: str, seconds: float = PATIENCE) -> None:
        """Until it has written `text`; `AssertionError` with what it did write if it does not."""
        end = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < end, f"{text!r} was not written: {self.log()[-2000:]}"
            time.sleep(0.02)

    def close(self) -> None:
        """End all that belongs to it."""
        for environment in self._all:
            environment.close()


def _outcome(answer: bytes, seconds: float) -> Outcome:
    try:
        payload = json.loads(answer)
    except ValueError:
        return Outcome(None, answer.decode(errors="replace"), seconds)
    if isinstance(payload, dict) and {"errorType", "errorMessage"} <= payload.keys():
        return Outcome(None, f"{payload['errorType']}: {payload['errorMessage']}", seconds)
    return Outcome(payload, None, seconds)


def function(
    handler: str, folder: Path, variables: Mapping[str, str], *, timeout: int = 30, logs: Path | None = None
) -> Function:
    """A function that begins at its first call; the caller closes it."""
    command = program()
    if command is None or find_spec("awslambdaric") is None:
        missing("AWS's Lambda Runtime Interface Emulator with awslambdaric", INSTALL)
    return Function(command, handler, folder, variables, timeout, logs or folder)


@pytest.fixture
def lambda_function(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    """Make functions, which are gone after the test: `lambda_function(source, variables, timeout=5)`.

    `source` is the text of the function's file, whose `handler` is called.
    """
    made: list[Function] = []

    def make(source: str, variables: Mapping[str, str], *, timeout: int = 30) -> Function:
        folder = tmp_path / f"function-{len(made)}"
        folder.mkdir()
        (folder / "app.py").write_text(source, encoding="utf-8")
        made.append(function("app.handler", folder, variables, timeout=timeout))
        return made[-1]

    yield make
    for each in made:
        each.close()


def install() -> None:
    """Download the wheel, keep the binary."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"samcli/local/rapid/{NAME}")
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"{NAME}.{os.getpid()}"
    kept.write_bytes(content)
    kept.chmod(0o755)
    kept.replace(CACHE / NAME)


if __name__ == "__main__":
    install()
