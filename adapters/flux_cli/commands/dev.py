"""`flux dev`: a laptop's workflows kept awake, and their routes. How that is done and shown it must not know."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from threading import RLock
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
from flux_cli.serving import HERE, PORT, PortTaken, Serving
from flux_core.errors import DefinitionError
from flux_core.host import Host
from flux_core.hosting import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from flux_cli.chronicle import Event
    from flux_core import FluxEngine

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
    serve: Annotated[bool, typer.Option(help="Serve the HTTP routes, the same as a cloud's.")] = True,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help=f"Of the routes: {PORT} if it is free; 0: any free one.", show_default=False
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Of the routes: this machine alone.")] = HERE,
    live: Annotated[bool, typer.Option(help="On a terminal, a view that is drawn anew; else lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an event.")] = False,
) -> None:
    """Wake workflows when their time comes (timers, back-offs, hand-overs, dead processes), and serve their routes.

    No server means that nothing ticks by itself; this command does, on one machine. Two of them do no harm. The routes
    are those that a cloud's function has, at http://127.0.0.1:8000 for example, without a login. Ctrl-C or SIGTERM let
    the step that is running end, then it stops.

    Exit codes:

    0 with --once: done

    2 the command line is wrong

    3 the app, its store or the port cannot be used

    130 ended by Ctrl-C

    143 ended by SIGTERM
    """
    engine, spec = opened(app)
    if not engine.workflows:
        raise CommandFailed(f"the engine of {spec!r} knows no workflow; pass it FluxEngine(workflows=[...])", UNUSABLE)
    out, err = results(), notes()
    _remark_on_memory(engine, err)
    advanced = 0
    broken: list[Exception] = []
    lock = RLock()  # requests are told of by the threads that serve them

    def tell(event: Event) -> None:
        nonlocal advanced
        with lock:
            advanced += isinstance(event, Advanced)
            board.told(event)

    def tell_of_request(event: Event) -> None:
        try:
            tell(event)
        except (BrokenPipeError, CommandFailed) as error:
            broken.append(error)
            pump.stop()
        pump.wake()  # it may have set a timer, or left something to do

    pump = Pump(engine, tell, interval=interval)
    start = Start(engine, spec)
    serving = _serving(engine, tell_of_request, pump, host, port, err) if serve and not once else None
    start.url = None if serving is None else serving.url

    board: Board
    try:
        with (
            told("a step was cut off in the middle; its instance keeps what was recorded"),
            _stopping(pump, serving) as received,
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
                    _run(pump, serving)
                if broken:
                    raise broken[0]
                board.ended(advanced, f"stopped by {received[0].name}" if received else "done")
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    finally:
        if serving is not None:
            serving.close()
    raise typer.Exit(_CODES[received[0]] if received else GOOD)


def _remark_on_memory(engine: FluxEngine, err: Console) -> None:
    if getattr(engine.storage, "ephemeral", False):
        note(
            err,
            "note: this engine keeps its instances in memory, where no other process can reach them: there is nothing "
            "to wake but what the app itself and requests to this process have started. Give it a SQLiteStorage to "
            "work beside others",
        )


def _serving(
    engine: FluxEngine, tell: Callable[[Event], object], pump: Pump, address: str, port: int | None, err: Console
) -> Serving | None:
    """The routes; None if the port that nobody asked for is taken: two of these commands do no harm."""
    try:
        settings = HostSettings.from_mapping(os.environ)
    except DefinitionError as error:
        raise CommandFailed(str(error), UNUSABLE) from error
    try:
        serving = Serving(
            Host(engine, settings),
            tell,
            stopping=lambda: pump.stopping,
            address=address,
            port=PORT if port is None else port,
        )
    except PortTaken as error:
        if port is not None:
            raise
        note(err, f"note: no routes are served: {error}")
        return None
    if serving.open_to_others:
        note(err, f"note: whoever reaches {serving.url} can start, change and read workflows: there is no login")
    return serving


def _run(pump: Pump, serving: Serving | None) -> None:
    if serving is None:
        pump.run()
        return
    serving.begin()
    pump.run()
    serving.end()  # only if nothing has interrupted the pump: who presses Ctrl-C twice does not want to wait


@contextmanager
def _stopping(pump: Pump, serving: Serving | None) -> Iterator[list[signal.Signals]]:
    """The first signal stops the pump, a second one does what it always does; those received."""
    received: list[signal.Signals] = []

    def stop(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        for one, handler in before.items():
            signal.signal(one, handler)
        pump.stop()
        if pump.busy or (serving is not None and serving.busy):
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
