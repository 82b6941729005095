"""Carries out one verb on one instance, and tells how that stands afterwards. It must not know which verb it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from flux_cli import standing
from flux_cli.documents import brief
from flux_cli.exits import SOME_FAILED, CommandFailed
from flux_cli.failures import told
from flux_cli.inspection import Inspection
from flux_cli.instances import print_command
from flux_cli.output import emit, note, notes, results, written
from flux_cli.remedies import remedies
from flux_cli.styles import STYLES
from flux_core import state as s

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from flux_cli.targets import Target
    from flux_core import FluxEngine, FluxResult

_ENDED_WELL = frozenset({s.COMPLETED, s.CANCELLED, s.ROLLED_BACK})


def operate(
    target: Target,
    call: Callable[[], FluxResult],
    *,
    as_json: bool,
    remark: Callable[[Inspection], str | None] | None = None,
) -> None:
    """Do it, say how the instance stands and what comes next, and exit with the code of its status.

    `remark` says what the status does not tell, if there is something.
    """
    note_memory(target.engine)
    show = target.command("show")
    with told(f"what was recorded is kept: {show} tells how it stands"):
        tail = target.engine.storage.tail(target.ref)
        try:
            call()
        except SystemExit as left:
            code = "" if left.code is None else repr(left.code)
            raise CommandFailed(
                f"a handler called sys.exit({code}); let it raise an exception instead. What was recorded is kept: "
                f"{show} tells how it stands",
                SOME_FAILED,
            ) from left
        seen = Inspection(target)
        said = None if remark is None else remark(seen)
        if said is None and tail is not None and tail[0] == seen.state.seq:
            said = "Nothing was changed."
    if as_json:
        emit(brief(seen) | ({} if said is None else {"remark": said}))
    else:
        with written():
            _tell(results(), seen, said)
    raise typer.Exit(standing.exit_code(seen.state.status))


def _tell(console: Console, seen: Inspection, said: str | None) -> None:
    state = seen.state
    line = Text(f"{state.name} {state.id} ")
    line.append(standing.stands(state.status), STYLES.get(state.status, ""))
    why = "; ".join(standing.reasons(state, seen.now, seen.audit()))
    line.append(f": {why}" if why else "")
    console.print(line, soft_wrap=True)
    if said:
        console.print(Text(said), soft_wrap=True)
    ways = [] if state.status in _ENDED_WELL else remedies(seen)
    if ways:
        console.print(Text(f"next: {ways[0].does}:"), soft_wrap=True)
        print_command(console, ways[0].command)


def note_memory(engine: FluxEngine) -> None:
    """Say on standard error that an engine in memory forgets everything with this command."""
    if getattr(engine.storage, "ephemeral", False):
        note(notes(), "note: this engine keeps its instances in memory; they are gone when this command ends")
