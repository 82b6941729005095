"""`flux dev`: keep a laptop's workflows awake. It must not know how instances are woken or shown."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flux_cli.apps import opened
from flux_cli.chronicle import Board, JsonBoard, PlainBoard, Start
from flux_cli.dashboard import LiveBoard
from flux_cli.exits import GOOD, INTERRUPTED, SOME_FAILED, TERMINATED, UNUSABLE, CommandFailed
from flux_cli.failures import told
from flux_cli.options import App
from flux_cli.output import drop_output, note, notes, results
from flux_cli.pump import Advanced, Pump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_cli.pump import Told

_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_STOPPING = b"flux dev: stopping; the step that runs may end, Ctrl-C again interrupts it\n"


def dev(
    *,
    app: App = None,
    interval: Annotated[
        float,
        typer.Option(min=0.05, metavar="SECONDS", help="Look at least so often: other processes set timers, too."),
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Wake what is due now, and exit; for cron.")] = False,
    live: Annotated[bool, typer.Option(help="On a terminal, a view that is drawn anew; else lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an event.")] = False,
) -> None:
    """Wake workflows when their time comes: timers, back-offs, hand-overs, and what dead processes left.

    No server means that nothing ticks by itself; this command does, on one machine. Two of them do no harm. Ctrl-C
    or SIGTERM let the step that is running end, then it stops.

    Exit codes:

    0 with --once: done

    2 the command line is wrong

    3 the app or its store cannot be used

    130 ended by Ctrl-C

    143 ended by SIGTERM
    """
    engine, spec = opened(app)
    if not engine.workflows:
        raise CommandFailed(f"the engine of {spec!r} knows no workflow; pass it FluxEngine(workflows=[...])", UNUSABLE)
    out, err = results(), notes()
    if getattr(engine.storage, "ephemeral", False):
        note(
            err,
            "note: this engine keeps its instances in memory, where no other process can reach them: there is nothing "
            "to wake but what the app itself has started. Give it a SQLiteStorage to work beside others",
        )
    start = Start(engine, spec)
    advanced = 0

    def tell(event: Told) -> None:
        nonlocal advanced
        advanced += isinstance(event, Advanced)
        board.told(event)

    pump = Pump(engine, tell, interval=interval)
    board: Board
    try:
        with (
            told("a step was cut off in the middle; its instance keeps what was recorded"),
            _stopping(pump) as received,
        ):
            if as_json:
                board = JsonBoard(engine, start)
            elif live and out.is_terminal and not once:
                board = LiveBoard(engine, start, pump, out)
            else:
                board = PlainBoard(engine, start, out, err)
            with board:
                if once:
                    pump.once()
                else:
                    pump.run()
                board.ended(advanced, f"stopped by {received[0].name}" if received else "done")
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    raise typer.Exit(_CODES[received[0]] if received else GOOD)


@contextmanager
def _stopping(pump: Pump) -> Iterator[list[signal.Signals]]:
    """The first signal stops the pump, a second one does what it always does; those received."""
    received: list[signal.Signals] = []

    def stop(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        for one, handler in before.items():
            signal.signal(one, handler)
        pump.stop()
        if pump.busy:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _STOPPING)  # what a handler may call

    found = {one: signal.getsignal(one) for one in _CODES}
    before = {one: handler for one, handler in found.items() if handler is not signal.SIG_IGN}  # nohup, `&` in a script
    for one in before:
        signal.signal(one, stop)
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
