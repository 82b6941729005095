"""A pump's work as a live view on a terminal: counts by status, the next timers, the last events.

It must not wake anything. The view is drawn four times a second by a thread of `rich`, which must not ask the store.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flux_cli.chronicle import advances, event_line
from flux_cli.moments import until
from flux_cli.pump import Looked, StoreBack, StoreSilent
from flux_cli.styles import STYLES
from flux_core import InvocationError

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from flux_cli.chronicle import Event, Start
    from flux_cli.pump import Pump
    from flux_core import FluxEngine
    from flux_core.ports import Due

_COUNTED: Final = 1000
"""Instances counted by status, the newest; more would make every look expensive."""
_TIMERS: Final = 5
_EVENTS: Final = 100
_EVERY: Final = 5.0
"""Seconds between two counts while nothing happens: other processes write, too."""
_AROUND: Final = 10
"""Lines of the view that are neither timers nor events."""


class LiveBoard:
    """The counts by status, the next timers and the last events, on a terminal."""

    def __init__(self, engine: FluxEngine, start: Start, pump: Pump, console: Console) -> None:
        self._engine = engine
        self._start = start
        self._pump = pump
        self._console = console
        self._events: list[Text] = []
        self._counts: list[tuple[str, int]] = []
        self._more = False
        self._timers: list[Due] = []
        self._trouble: str | None = None
        self._counted_at = 0.0
        self._last: str | None = None
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4)
        self._count()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def told(self, event: Event) -> None:
        """Keep it; the view draws itself anew four times a second."""
        match event:
            case Looked(advanced, _):
                if advanced or self._engine.clock.monotonic() >= self._counted_at + _EVERY:
                    self._count()
                return
            case StoreSilent(why, pause):
                self._trouble = f"{why} Asked again in {pause:g} s."
            case StoreBack():
                self._trouble = None
        self._events = [*self._events, event_line(event, self._engine.clock.now(), short=True)][-_EVENTS:]

    def ended(self, advanced: int, how: str) -> None:
        """The view stays as it is, with one more line."""
        self._last = f"{how}; {advances(advanced)}"
        self._count()
        self._live.refresh()

    def _count(self) -> None:
        """Ask the store anew; the view is drawn by another thread, which must not."""
        self._counted_at = self._engine.clock.monotonic()
        try:
            page = self._engine.list(limit=_COUNTED)
            self._timers = self._pump.ahead(_TIMERS)
        except InvocationError:
            return  # the pump meets it too, and tells
        self._counts = Counter(item.status for item in page.items).most_common()
        self._more = page.cursor is not None

    def _drawn(self) -> RenderableType:
        now = self._engine.clock.now()
        head = Text("flux dev ", style="bold")
        head.append(self._start.app, style="not bold")
        if self._start.url is not None:
            head.append(f"  {self._start.url}", style="not bold")
        head.append("  times in UTC", style="not bold dim")
        parts: list[RenderableType] = [
            head,
            Text(f"serves {self._start.serves()}", style="dim", overflow="ellipsis", no_wrap=True),
            self._counts_line(),
        ]
        if self._trouble is not None:
            parts.append(Text(f"the store does not answer: {self._trouble}", style="red"))
        if self._timers:
            parts += [Text(""), self._timers_table(now)]
        room = max(3, self._console.height - _AROUND - len(self._timers))
        if self._events:
            parts += [Text(""), *self._events[-room:]]
        stopping = "stopping: the step that runs may end; Ctrl-C again interrupts it"
        parts += [Text(""), Text(self._last or (stopping if self._pump.stopping else "Ctrl-C ends it"), style="dim")]
        return Group(*parts)

    def _counts_line(self) -> Text:
        line = Text()
        for status, count in self._counts:
            line.append(f"{count} {status}  ", STYLES.get(status, ""))
        if not self._counts:
            line.append("no instance yet")
        if self._more:
            line.append(f"(of the newest {_COUNTED})", style="dim")
        return line

    def _timers_table(self, now: int) -> Table:
        table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
        table.add_column("next", no_wrap=True, min_width=10)
        table.add_column("instance", overflow="ellipsis", no_wrap=True)
        for entry in self._timers:
            known = entry.ref.workflow in self._engine.workflows
            name = Text(f"{entry.ref.workflow}/{entry.ref.id}", style="" if known else "dim")
            table.add_row(until(entry.due, now), name)
        return table
