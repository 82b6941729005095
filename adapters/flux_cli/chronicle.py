"""What a pump does, line by line: text for logs and pipes, or JSON for scripts. It must not wake anything.

Lines about instances are results and go to standard output; what is said about the pump goes to standard error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self, assert_never

from rich.text import Text

from flux_cli import standing
from flux_cli.moments import stamp, until
from flux_cli.output import emit, note, written
from flux_cli.pump import Advanced, Exited, Looked, PassedOver, StoreBack, StoreSilent
from flux_cli.serving import Served
from flux_cli.styles import painted, printable
from flux_core.documents import iso
from flux_core.layer import StorageLayer
from flux_core.machine import timer
from flux_core.state import ROLLING_BACK, SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.console import Console

    from flux_cli.pump import Told
    from flux_core import FluxEngine, WorkflowState
    from flux_core.ports import Due

    Event = Told | Served

_WRONG: Final = 400
_BROKEN: Final = 500
_MOST: Final = 1000
"""Entries that are due at the start and counted."""
_FAR: Final = 10 * 365 * 86_400_000
"""Milliseconds ahead where the next timer is looked for."""


class Start:
    """What a pump serves, and what it found when it began."""

    def __init__(self, engine: FluxEngine, spec: str, url: str | None = None) -> None:
        """Asks the store; what that raises means that there is nothing to serve. `url` is where its routes are."""
        self.app = spec
        self.url = url
        self.workflows = sorted(engine.workflows)
        self.store = store_name(engine)
        self.tenant = engine.tenant
        self.now = engine.clock.now()
        due = engine.storage.due(self.now, _MOST)
        self.due = sum(entry.ref.workflow in engine.workflows for entry in due)
        self.strangers = sorted({entry.ref.workflow for entry in due} - set(self.workflows))
        ahead = engine.storage.due(self.now + _FAR, len(due) + 1)[len(due) :]
        self.next: Due | None = ahead[0] if ahead else None

    def serves(self) -> str:
        """`order, refund from SQLiteStorage orders.db, tenant default`."""
        return f"{', '.join(self.workflows)} from {self.store}, tenant {self.tenant}"

    def found(self) -> str:
        """What is due, and when the next timer is."""
        what = "nothing is due" if not self.due else f"{self.due} is due" if self.due == 1 else f"{self.due} are due"
        if self.next is not None:
            ref = self.next.ref
            what += f"; the next timer is that of {ref.workflow}/{ref.id}, {until(self.next.due, self.now)}"
        if self.strangers:
            what += f"; instances of {', '.join(self.strangers)} are due, too, which this engine does not know"
        return what

    def as_json(self) -> dict[str, object]:
        """The first line of `--json`."""
        return {
            "event": "started",
            "at": iso(self.now),
            "app": self.app,
            "workflows": self.workflows,
            "store": self.store,
            "tenant": self.tenant,
            "url": self.url,
            "due": self.due,
            "unknown_workflows_due": self.strangers,
            "next_due": None if self.next is None else iso(self.next.due),
        }


def store_name(engine: FluxEngine) -> str:
    """The kind of store, and its path if it has one, as short as it can be said here."""
    storage = engine.storage
    while isinstance(storage, StorageLayer):
        storage = storage.inner
    kind = type(storage).__name__
    path = getattr(storage, "path", None)
    if not isinstance(path, str | Path):
        return kind
    here = Path.cwd()
    return f"{kind} {Path(path).relative_to(here) if Path(path).is_relative_to(here) else path}"


class Board(Protocol):
    """Is told what a pump does."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def told(self, event: Event) -> None:
        """Something happened."""

    def ended(self, advanced: int, how: str) -> None:
        """The pump has stopped; `how` says why."""


class _Plain:
    """No preparation, and nothing to take down."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class JsonBoard(_Plain):
    """One JSON line an event. Scripts read it: fields may be added, none renamed."""

    def __init__(self, engine: FluxEngine, start: Start) -> None:
        self._engine = engine
        emit(start.as_json())

    def told(self, event: Event) -> None:
        """Write it."""
        match event:
            case Advanced(result):
                state, error = result.state, result.error
                line: dict[str, object] = {
                    "event": "advanced",
                    "at": iso(state.updated_at),
                    "tenant": state.tenant,
                    "workflow": state.name,
                    "id": state.id,
                    "status": state.status,
                    "step": _step(state),
                    "waiting_for": list(state.awaited),
                    "goes_on_at": iso(_goes_on_at(state)),
                    "error": error and {"type": error.type, "message": error.message, "step": error.step},
                }
            case PassedOver(ref, why):
                line = {"event": "passed_over", **self._now(), **ref._asdict(), "why": why}
            case Exited(code):
                line = {"event": "handler_exited", **self._now(), "code": None if code is None else repr(code)}
            case StoreSilent(why, pause):
                line = {"event": "store_silent", **self._now(), "why": why, "again_in": pause}
            case StoreBack():
                line = {"event": "store_back", **self._now()}
            case Served(method, path, status, seconds):
                line = {"event": "served", **self._now(), "method": method, "path": path}
                line |= {"code": status, "seconds": round(seconds, 3)}
            case Looked():
                return
            case _:
                assert_never(event)
        emit(line)

    def ended(self, advanced: int, how: str) -> None:
        """The last line."""
        emit({"event": "stopped", **self._now(), "advanced": advanced, "how": how})

    def _now(self) -> dict[str, object]:
        return {"at": iso(self._engine.clock.now())}


class PlainBoard(_Plain):
    """A line an instance, for logs and pipes."""

    def __init__(self, engine: FluxEngine, start: Start, out: Console, err: Console) -> None:
        self._engine = engine
        self._out = out
        self._err = err
        note(err, f"flux dev: {start.app} serves {start.serves()}")
        if start.url is not None:
            note(err, f"flux dev: routes at {start.url}")
        note(err, f"flux dev: {start.found()}")

    def told(self, event: Event) -> None:
        """Write it."""
        now = self._engine.clock.now()
        if isinstance(event, Looked):
            return
        line = event_line(event, now)
        if isinstance(event, Advanced):
            with written():
                self._out.print(line, soft_wrap=True)
        else:
            self._err.print(line, soft_wrap=True)

    def ended(self, advanced: int, how: str) -> None:
        """One more line."""
        note(self._err, f"flux dev: {how}; {advances(advanced)}")


def event_line(
    event: Advanced | PassedOver | Exited | StoreSilent | StoreBack | Served, now: int, *, short: bool = False
) -> Text:
    """The event in one line; `short` with the time of the day alone, and cut where the terminal ends."""
    at = event.result.state.updated_at if isinstance(event, Advanced) else now
    moment = stamp(at)
    line = Text(f"{moment[11:]} " if short else f"{moment} UTC ", style="", no_wrap=short, overflow="ellipsis")
    match event:
        case Advanced(result):
            state = result.state
            line.append(f"{state.name}/{state.id} ")
            line.append_text(painted(state.status))
            why = "; ".join(standing.reasons(state, now))
            line.append(f": {why}" if why else "")
        case PassedOver(ref, why):
            line.append(f"{ref.workflow}/{ref.id} is due and left alone: {printable(why)}", style="yellow")
        case Exited(code):
            shown = "" if code is None else repr(code)
            line.append(f"a handler called sys.exit({shown}); let it raise an exception instead", style="red")
        case StoreSilent(why, pause):
            line.append(f"{printable(why)} Asked again in {pause:g} s.", style="red")
        case StoreBack():
            line.append("the store answers again", style="green")
        case Served(method, path, status, seconds):
            style = "" if status < _WRONG else "yellow" if status < _BROKEN else "red"
            line.append(f"{printable(method)} {printable(path)} {status} in {seconds:.3f} s", style=style)
    return line


def advances(count: int) -> str:
    """`1 instance went on`."""
    return "1 instance went on" if count == 1 else f"{count or 'no'} instances went on"


def _step(state: WorkflowState) -> str | None:
    """Where it failed, or rests."""
    error = state.error or state.failure
    if error is not None and error.step is not None:
        return error.step
    return _first(state.waits) or _first(state.retry_at)


def _first(keys: Iterable[str]) -> str | None:
    return next(iter(keys), None)


def _goes_on_at(state: WorkflowState) -> int | None:
    return timer(state) if state.status in {SUSPENDED, ROLLING_BACK} and not state.owned else None
