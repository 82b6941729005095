"""The real `flux` in a real terminal: what a person sees, at whatever width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.orders import Orders

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

_CONTROLS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of so many columns."""

    def __init__(self, flux: Flux, columns: int) -> None:
        self.flux = flux
        self.columns = columns

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code of `flux`, and what it wrote, control sequences and all."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self.columns, 0, 0))
        plain = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        process = self.flux.start(
            *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=plain | {"TERM": "xterm-256color"} | environment
        )
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the process, the last one that had the other end open, has ended
                break
            if not part:
                break
            written += part
        os.close(ours)
        return process.wait(timeout=60), written.decode().replace("\r\n", "\n")


def plain(written: str) -> list[str]:
    return [line.rstrip() for line in _CONTROLS.sub("", written).splitlines()]


@pytest.fixture
def orders(flux: Flux) -> Orders:
    """Written with a clock of the past, so that every process sees them as old."""
    orders = Orders(flux)
    for status in ("suspended", "failed", "stuck"):
        orders.reach(status, f"o-{status}")
    return orders


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_a_list_fits_any_width_and_no_id_is_cut(columns: int, orders: Orders) -> None:
    code, written = Terminal(orders.flux, columns)("list", "--app", orders.app)
    rows = plain(written)
    assert code == 0
    assert max(map(len, rows)) <= columns
    assert "\x1b[31m" in written  # failed, in red
    if columns >= 80:
        assert [row.split()[1] for row in rows[1:]] == ["o-suspended", "o-stuck", "o-failed"]


@pytest.mark.parametrize("columns", [40, 80])
def test_an_instance_fits_any_width_and_its_commands_stay_whole(columns: int, orders: Orders) -> None:
    code, written = Terminal(orders.flux, columns)("show", "--app", orders.app, "o-failed")
    rows = plain(written)
    assert code == 0
    assert f"    flux complete --app {orders.app} o-failed gate" in rows
    assert max(len(row) for row in rows if not row.startswith("    flux ")) <= columns
    assert "failed since" in rows[1]


def test_no_color_is_heeded(orders: Orders) -> None:
    _, written = Terminal(orders.flux, 80)("show", "--app", orders.app, "o-stuck", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", written)


def test_following_redraws_in_place_and_leaves_the_whole_screen_behind(flux: Flux) -> None:
    flux.write_app(
        """
        import time
        from threading import Thread
        from flux_core import FluxEngine, create_workflow
        from flux_local import SQLiteStorage

        flow = create_workflow("flow")
        for name in ("one", "two", "three"):
            flow.step(name, lambda ctx: time.sleep(0.4))
        engine = FluxEngine(SQLiteStorage("store.db"), workflows=[flow])

        def at_work():
            Thread(target=engine.execute, args=("flow", None, "f-1"), daemon=True).start()
            while not engine.list().items:
                time.sleep(0.01)
            return engine
        """
    )
    code, written = Terminal(flux, 80)("show", "--app", f"{flux.module}:at_work", "f-1", "--follow")
    assert code == 0
    assert "an invocation works at step" in written
    assert "\x1b[2K" in written  # what was drawn is erased before it is drawn again
    last = plain(written.rpartition("\x1b[2K")[2])
    assert any(row.startswith("completed since") for row in last)
    assert [row.split()[:2] for row in last if row.startswith(("  one", "  two", "  three"))] == [
        ["one", "completed"],
        ["two", "completed"],
        ["three", "completed"],
    ]


def test_ctrl_c_while_it_only_watches_says_that_the_instance_goes_on(flux: Flux) -> None:
    orders = Orders(flux)
    orders.reach("running")  # its clock stands, so nobody ever takes it over
    process = flux.start("show", "--app", orders.app, "o-1", "--follow")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "flux: interrupted; it was only watched, and goes on without you\n"


def test_a_reader_that_goes_away_is_no_traceback(flux: Flux) -> None:
    orders = Orders(flux)
    for number in range(60):
        orders.execute("completed", f"o-{number}")
    process = flux.start("list", "--app", orders.app, "--all", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) in {0, 1}
