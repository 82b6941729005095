"""The demo's screen: a terminal of any width, or a log. It must not know orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flux_cli.styles import STYLES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from rich.console import Console

_NUMBERS: Final = frozenset({"orders", "retries", "charges", "refunds", "parcels", "mails", "repeats", "checked"})


class Show:
    """The screen: a terminal of any width, or a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._chapter += 1
        self.console.print()
        self.console.rule(Text(f"{self._chapter}  {title}", "bold"), align="left")

    def say(self, text: str, style: str = "") -> None:
        """A paragraph, wrapped to the width."""
        self.console.print(Text(text, style))

    def command(self, text: str) -> None:
        """A command, on one line however long, so that it can be copied."""
        self.console.print(Text(f"  $ {text}", "bold cyan"), soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    def bar(self, total: int, counts: Callable[[], Counter[str]]) -> Bar:
        """A progress bar over what `counts()` says."""
        return Bar(self.console, total, counts)


class Bar:
    """A bar that stays on the screen with its last counts; in a log, a line each quarter."""

    def __init__(self, console: Console, total: int, counts: Callable[[], Counter[str]]) -> None:
        self._console = console
        self._total = total
        self._counts = counts
        self._quarter = 0
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._progress.add_task("", total=total) if self._progress else None

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tick(self) -> None:
        """Show how things are now."""
        counts = self._counts()
        done = counts.total()
        if self._progress is not None and self._task is not None:
            shown = " ".join(f"[{STYLES.get(name, 'white')}]{name} {n}[/]" for name, n in counts.most_common())
            self._progress.update(self._task, completed=done, description=shown)
        elif 4 * done // self._total > self._quarter:
            self._quarter = 4 * done // self._total
            told = ", ".join(f"{name} {n}" for name, n in counts.most_common())
            self._console.print(f"  {done} of {self._total}: {told}", soft_wrap=True)


def table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=name == "status")
    return table
