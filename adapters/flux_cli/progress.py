"""How a run shows that it is alive: a bar on a terminal, now and then a line elsewhere. It must not print results."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flux_cli.outcomes import lines_told
from flux_cli.styles import STYLES

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

_EVERY: Final = 2.0
"""Seconds between two plain lines."""


class Settled(Protocol):
    """A line of input, or an instance, that nothing more comes of here."""

    @property
    def status(self) -> str:
        """What became of it, in a word that is counted."""


class Watch(Protocol):
    """Is told every settled outcome, one at a time."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def settled(self, outcome: Settled) -> None:
        """One more line has come to its end."""


class Bar:
    """A progress bar with the counts by status."""

    def __init__(self, console: Console, total: int | None) -> None:
        self._counts: Counter[str] = Counter()
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def settled(self, outcome: Settled) -> None:
        """Move on by one."""
        self._counts[outcome.status] += 1
        counts = self._counts.most_common()
        shown = " ".join(f"[{STYLES.get(status, 'default')}]{status} {count}[/]" for status, count in counts)
        self._progress.update(self._task, advance=1, description=shown)


class PlainLines:
    """A line every two seconds, for logs and pipes."""

    def __init__(self, console: Console, total: int | None) -> None:
        self._counts: Counter[str] = Counter()
        self._console = console
        self._total = total
        self._next = monotonic() + _EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def settled(self, outcome: Settled) -> None:
        """Count it, and say so if it is time."""
        self._counts[outcome.status] += 1
        if monotonic() >= self._next:
            self._next = monotonic() + _EVERY
            shown = ", ".join(f"{status} {n}" for status, n in self._counts.most_common())
            done = self._counts.total()
            of = lines_told(done) if self._total is None else f"{done} of {lines_told(self._total)}"
            self._console.print(f"{of}: {shown}", markup=False, highlight=False, soft_wrap=True)
