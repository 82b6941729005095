"""`flux` as a process: its start, its terminal, Ctrl-C, a reader that goes away, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import flux_cli.main
import flux_core

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

FULL = Path("/dev/full")

SLOW = """
import os, time
from flux_core import FluxEngine, create_workflow
from flux_local import SQLiteStorage

def work(ctx):
    with open("effects", "a") as file:
        file.write(ctx.id + "\\n")
    time.sleep(ctx.input["takes"])

engine = FluxEngine(
    SQLiteStorage("store.db"),
    workflows=[create_workflow("slow").commit("work", work, idempotent=True)],
    lease=1.0,
)
"""


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def wait_for_lines(path: Path, count: int) -> None:
    limit = time.monotonic() + 30
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < limit, "the run did not come so far"
        time.sleep(0.01)


def test_the_version_is_the_package_s(flux: Flux) -> None:
    code, out, err = finished(flux.start("--version"))
    assert (code, err) == (0, "")
    assert out.startswith(f"flux {flux_core.__version__} (Python ")


def test_without_a_command_it_shows_its_help(flux: Flux) -> None:
    code, out, err = finished(flux.start())
    assert code == 2
    assert "run" in out + err


def test_the_exit_codes_are_in_the_help(flux: Flux) -> None:
    out = finished(flux.start("run", "--help"))[1]
    for words in (
        "0 all completed",
        "1 some failed",
        "2 the command line",
        "3 the app or its store",
        "130 interrupted",
    ):
        assert words in out


def test_the_help_is_wrapped_by_paragraph_with_the_exit_codes_one_below_the_other(flux: Flux) -> None:
    rows = [row.strip() for row in finished(flux.start("dev", "--help"))[1].splitlines()]
    assert "Ctrl-C or SIGTERM let the step" in " ".join(rows), rows
    at = rows.index("Exit codes:")
    assert [row.split()[0] for row in rows[at + 1 : at + 6]] == ["0", "2", "3", "130", "143"]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("flux_cli.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as ended:
        flux_cli.main.run()
    assert ended.value.code == 3
    assert capsys.readouterr().err == (
        f"flux: the command line needs the package {missing!r}, which is not installed; "
        f"run: pip install '.[cli]' in the checkout that Flux came from\n"
    )


def test_importing_the_package_loads_neither_the_extra_nor_the_engine(flux: Flux) -> None:
    code = "import sys, flux_cli, flux_cli.main; print([m for m in ('rich', 'typer', 'flux_core') if m in sys.modules])"
    paths = os.pathsep.join(path for path in sys.path if path)
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_on_a_terminal_a_bar_counts_by_status_and_leaves_nothing_behind(flux: Flux) -> None:
    ours, theirs = pty.openpty()
    try:
        file = flux.write_lines(*[{"name": name} for name in ("Ada", "nobody", "sleepy")])
        process = flux.start("run", "--app", flux.app, file, stderr=theirs)
        out, _ = process.communicate(timeout=60)
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 1
    assert "3/3" in shown
    assert "completed 2" in shown
    assert "failed 1" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line of the bar is erased: the table tells the rest
    assert "3 lines in" in out


@pytest.mark.parametrize("option", [(), ("--no-progress",)])
def test_without_a_terminal_there_are_no_control_characters(flux: Flux, option: tuple[str, ...]) -> None:
    code, out, err = finished(flux.start("run", "--app", flux.app, *option, flux.write_lines({"name": "Ada"})))
    assert code == 0
    assert "\x1b" not in out + err


def test_ctrl_c_ends_it_cleanly_and_the_same_command_goes_on(flux: Flux) -> None:
    flux.write_app(SLOW)
    file = flux.write_lines(*[{"n": n, "takes": 0.1} for n in range(12)])
    command = ("run", "--app", flux.app, "--id-field", "n", "--concurrency", "2", file)
    process = flux.start(*command)
    wait_for_lines(flux.folder / "effects", 3)
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert code == 130
    assert out == ""
    assert "flux: interrupted: " in err or "interrupted: " in err
    assert "run the same command again to go on" in err
    code, out, err = finished(flux.start(*command, "--json"))
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["by_status"] == {"completed": 12}
    # The lines that were running when Ctrl-C came were let end, so nothing was begun twice.
    assert sorted((flux.folder / "effects").read_text().split()) == sorted(str(n) for n in range(12))


def test_a_run_that_was_killed_is_taken_over_by_the_same_command_once_its_lease_ends(flux: Flux) -> None:
    flux.write_app(SLOW)
    file = flux.write_lines({"n": 1, "takes": 0.0}, {"n": 2, "takes": 2.0})
    command = ("run", "--app", flux.app, "--id-field", "n", "--json", file)
    process = flux.start(*command)
    wait_for_lines(flux.folder / "effects", 2)
    process.kill()
    process.communicate()
    code, out, err = finished(flux.start(*command))
    assert code == 0, err
    statuses = {row["id"]: row["status"] for row in map(json.loads, out.splitlines()) if "id" in row}
    assert statuses == {"1": "completed", "2": "completed"}


def test_an_instance_that_another_run_owns_is_left_to_it_when_patience_ends(flux: Flux) -> None:
    flux.write_app(SLOW)
    file = flux.write_lines({"n": 1, "takes": 4.0})
    command = ("run", "--app", flux.app, "--id-field", "n", file)
    owner = flux.start(*command)
    wait_for_lines(flux.folder / "effects", 1)
    code, out, _ = finished(flux.start(*command, "--patience", "1.5"))
    assert code == 1
    assert "running" in out
    assert "belong to another invocation" in out
    assert re.search(r"the first lease ends in [01] s; --patience 10 waits for it", out), out
    assert finished(owner)[0] == 0
    assert (flux.folder / "effects").read_text().split() == ["1"]


def test_it_has_the_result_of_an_instance_that_another_run_completes_long_before_its_lease_ends(flux: Flux) -> None:
    flux.write_app(SLOW.replace("lease=1.0", "lease=600.0"))
    file = flux.write_lines({"n": 1, "takes": 2.0})
    command = ("run", "--app", flux.app, "--id-field", "n", file)
    owner = flux.start(*command)
    wait_for_lines(flux.folder / "effects", 1)
    code, out, _ = finished(flux.start(*command, "--patience", "900", "--json"))  # it gives up after a minute
    assert code == 0
    assert json.loads(out.splitlines()[0])["status"] == "completed"
    assert finished(owner)[0] == 0
    assert (flux.folder / "effects").read_text().split() == ["1"]


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("option", ["--json", "--no-progress"])
def test_an_output_that_is_full_is_one_sentence(flux: Flux, option: str) -> None:
    with FULL.open("w") as full:
        file = flux.write_lines({"name": "Ada"}, {"name": "Bo"})
        code, _, err = finished(flux.start("run", "--app", flux.app, option, file, stdout=full))
    assert code == 3
    told = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(told) == 1
    assert told[0].startswith("flux: the results cannot be written to standard output: No space left on device; ")


def test_a_reader_that_goes_away_is_no_traceback(flux: Flux) -> None:
    file = flux.write_lines(*[{"name": f"n{n}"} for n in range(3000)])
    process = flux.start("run", "--app", flux.app, "--json", file)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
