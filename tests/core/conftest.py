"""A laboratory for behaviour: engines that share one store and one clock that only moves when a test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import FluxEngine, InstanceRef, MemoryStorage
from flux_core.codec import decode_record
from flux_core.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core import Context, Header
    from flux_core.records import Record

TENANT = "default"


class Draws:
    """Tokens that count, and a jitter that a test can set."""

    def __init__(self) -> None:
        self.jitter = 0.5
        self._count = 0

    def token(self) -> str:
        self._count += 1
        return f"{self._count:032x}"

    def uniform(self) -> float:
        return self.jitter


class Killed(BaseException):
    """Ends an invocation as a SIGKILL would: no handler of the engine may catch it."""


class Lines:
    """A logger that keeps its lines as (level, message, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, message: str, **fields: object) -> None:
        self.lines.append(("debug", message, fields))

    def info(self, message: str, **fields: object) -> None:
        self.lines.append(("info", message, fields))

    def warn(self, message: str, **fields: object) -> None:
        self.lines.append(("warn", message, fields))

    def error(self, message: str, **fields: object) -> None:
        self.lines.append(("error", message, fields))


class Events:
    """A trace sink that keeps the events."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def emit(self, event: Mapping[str, object]) -> None:
        self.all.append(dict(event))

    @property
    def types(self) -> list[str]:
        """The types with the step's name, if there is one: `step:start a`."""
        return [" ".join(filter(None, (event["type"], event.get("step_name")))) for event in self.all]

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.all if event["type"] == type_]


class Lab:
    """One store, one clock, and as many engines (processes) over them as a test wants."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.entropy = Draws()
        self.storage = MemoryStorage()
        self.events = Events()
        self.log = Lines()
        self.calls: list[str] = []
        """What handlers noted with `note`."""

    def engine(self, **options: Any) -> FluxEngine:
        """Another engine over the same store, as if in another process."""
        settings: dict[str, Any] = {
            "storage": self.storage,
            "clock": self.clock,
            "entropy": self.entropy,
            "logger": self.log,
            "default_timeout": None,
        }
        return FluxEngine(**{**settings, **options})

    def note(self, what: str, value: object = None) -> Any:
        """A handler that notes `what` and returns `value`."""

        def handler(ctx: Context) -> object:
            self.calls.append(what)
            return value

        return handler

    def die(self, ctx: Context) -> object:
        """A handler during which the process is killed."""
        raise Killed

    def past_the_lease(self) -> None:
        """Let the lease of whoever died run out, and the pauses that follow deaths with it."""
        self.clock.advance(200)

    def ref(self, id_: str, workflow: str = "order") -> InstanceRef:
        return InstanceRef(TENANT, workflow, id_)

    def records(self, id_: str, workflow: str = "order") -> list[Record]:
        ref = self.ref(id_, workflow)
        return [decode_record(raw, ref, seq) for seq, raw in enumerate(self.storage.read(ref))]

    def types(self, id_: str, workflow: str = "order") -> list[str]:
        """The types of the records in the log."""
        return [record.type for record in self.records(id_, workflow)]

    def header(self, id_: str, workflow: str = "order") -> Header:
        header = self.storage.header(self.ref(id_, workflow))
        assert header is not None
        return header

    def statuses(self, result: Any) -> dict[str, str]:
        """The status of every step of a result."""
        return {step.name: step.status for step in result.history}


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def killed() -> type[BaseException]:
    return Killed
