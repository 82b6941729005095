"""What surrounds the engine while a case runs: a store that fails on demand, the case's log, and overlapping verbs.

Handlers of different invocations overlap here in one fixed way (see `Gate`), so that a case about a race gives the
same observation every time. Nothing in this module knows what a case looks like.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from flux_core import MemoryStorage, StorageUnavailable
from tests.conformance.groups import is_group

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flux_core import Header, InstanceRef

PATIENCE = 20.0
"""Seconds after which a case that hangs is given up."""


class CaseStorage(MemoryStorage):
    """A memory store whose n-th write fails, or whose writes take a while, as the case's `config` says."""

    def __init__(self, fail_at: Collection[int], delay_ms: float) -> None:
        super().__init__()
        self._fail_at = frozenset(fail_at)
        self._delay_ms = delay_ms
        self._writes = 0

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        self._writes += 1
        if self._writes in self._fail_at:
            message = "disk full"
            raise StorageUnavailable(message)
        if self._delay_ms:
            time.sleep(self._delay_ms / 1000)
        return super().append(ref, seq, record, header)


class Log:
    """What happened, in order: handler calls, trace events, hooks. `take` hands over what is new."""

    def __init__(self) -> None:
        self.handlers: list[str] = []
        self.trace: list[dict[str, Any]] = []
        self.hooks: list[str] = []

    def take(self) -> dict[str, Any]:
        """What is new since the last time; empty parts are left out, as in the recorded cases."""
        taken = {"handlers": self.handlers, "trace": self.trace, "hooks": self.hooks}
        self.handlers, self.trace, self.hooks = [], [], []
        return {part: entries for part, entries in taken.items() if entries}


class RecordingSink:
    """A trace sink that notes each event in the form of the recorded cases, and raises afterwards if told to."""

    def __init__(self, log: Log, *, raises: bool) -> None:
        self._log = log
        self._raises = raises

    def emit(self, event: Mapping[str, object]) -> None:
        if is_group(event.get("step_name")):
            return
        self._log.trace.append({_camel(key): value for key, value in event.items() if key not in _NOT_COMPARED})
        if self._raises:
            message = "trace sink"
            raise RuntimeError(message)


_NOT_COMPARED = frozenset({"timestamp", "workflow_id", "workflow_name", "duration"})


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.capitalize, rest))


class Gate:
    """Holds handlers of several invocations until all have begun; or one background run until its time has come.

    `budget` is the milliseconds a handler may sleep before it has to wait for the gate; handlers sleep no real time.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._open = threading.Event()
        self._lock = threading.Lock()

    def pass_ms(self, ms: float) -> None:
        with self._lock:
            self._budget += ms

    def open(self) -> None:
        self._open.set()

    def holds(self, ms: float) -> bool:
        """Whether a handler that takes `ms` from now on has to wait (call `wait`)."""
        if self._open.is_set():
            return False
        with self._lock:
            self._budget -= ms
            return self._budget < 0

    def wait(self) -> None:
        self._open.wait(PATIENCE)


class Invocation:
    """A verb on its own thread. `started_or_done` returns once a handler is held by the gate, or the verb returned."""

    def __init__(self, verb: Callable[[], dict[str, Any]], gate: Gate) -> None:
        self.gate = gate
        self._verb = verb
        self._outcome: dict[str, Any] | BaseException | None = None
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._verb()
        except BaseException as error:  # noqa: BLE001 -- handed over to the thread that joins
            self._outcome = error
        finally:
            self._held.set()

    def held(self) -> None:
        """A handler of this invocation is waiting at the gate."""
        self._held.set()

    def started_or_done(self) -> None:
        if not self._held.wait(PATIENCE):
            message = "an invocation neither reached a handler nor came back"
            raise TimeoutError(message)

    def join(self) -> dict[str, Any]:
        self.gate.open()
        self._thread.join(PATIENCE)
        outcome = self._outcome
        if outcome is None:
            message = "an invocation did not come back"
            raise TimeoutError(message)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
