"""A worker: `flux run` as a process of its own, which the demo may kill. It must not touch any other process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from threading import Thread
from typing import TYPE_CHECKING, Final

from examples.order_fulfilment.app import HOME_VARIABLE, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DONE: Final = frozenset({0, 1})
"""Exit codes of `flux run` after it has done its work: all well, or some orders failed (some are meant to)."""

_CHARGE: Final = b'"effect":"charge"'
_PATIENCE: Final = 0.1
"""Seconds to wait for a charge to die after, once there are effects at all; then any effect will do."""


class WorkerFailed(Exception):
    """The worker ended by itself without doing its work; the message holds what it said."""


class Worker:
    """One `flux run` over a file of orders."""

    def __init__(self, app: str, orders: Path, home: Path, number: int) -> None:
        """Start it. Its words go to a file in `home`, its results come here line by line."""
        self.arguments = ["run", "--app", app, "--id-field", "order_id", str(orders)]
        self.statuses: Counter[str] = Counter()
        """Settled orders by status."""
        self._log = home / f"worker-{number}.log"
        paths = [str(ROOT), str(ROOT / "adapters"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {HOME_VARIABLE: str(home), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flux_cli", *self.arguments, "--json"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def settled(self) -> int:
        """How many orders it has settled."""
        return self.statuses.total()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def watch(self, tick: Callable[[], None], until: Callable[[], bool]) -> None:
        """Call `tick` while the worker runs, until `until()`; `WorkerFailed` if it ends without doing its work."""
        while self.running and not until():
            tick()
            time.sleep(0.005)
        if not self.running:
            self._reader.join()
            self._check()
        tick()

    def kill(self, journal: Path, pause: float) -> bool:
        """SIGKILL it `pause` seconds after its next charge, before the answer is back. False: it had ended already."""
        place = journal.stat().st_size if journal.exists() else 0
        begun: float | None = None
        while self.running:
            fresh = _after(journal, place)
            if fresh and begun is None:
                begun = time.monotonic()
            if _CHARGE in fresh or (begun is not None and time.monotonic() - begun > _PATIENCE):
                time.sleep(pause)
                break
            time.sleep(0.001)
        if not self.running:
            self._reader.join()
            self._check()
            return False
        self._process.kill()
        self._process.wait()
        self._reader.join()
        return True

    def stop(self) -> None:
        """Make sure that it does not outlive the demo."""
        if self.running:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 -- opened above
        with pipe:
            for line in pipe:
                if line.endswith(b"\n"):  # the last one may be cut by the kill
                    outcome = json.loads(line)
                    if "summary" not in outcome:
                        self.statuses[outcome["status"]] += 1

    def _check(self) -> None:
        code = self._process.returncode
        if code not in DONE:
            said = self._log.read_text(errors="replace").strip()
            raise WorkerFailed(f"the worker ended with exit code {code}: {said[-2000:] or '(it said nothing)'}")


def _after(journal: Path, place: int) -> bytes:
    if not journal.exists():
        return b""
    with journal.open("rb") as file:
        file.seek(place)
        return file.read()
