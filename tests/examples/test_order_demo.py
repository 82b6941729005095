"""The demo as a user starts it: a process of its own, without a terminal, from any folder."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from examples.order_fulfilment.app import ROOT
from examples.order_fulfilment.journal import read_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATHS = os.pathsep.join(str(path) for path in (ROOT, ROOT / "adapters"))


def demo(home: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": PATHS, "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "examples.order_fulfilment.demo", "--home", str(home), *arguments],
        cwd=cwd or home.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def kills(*fractions: float) -> Sequence[str]:
    return [word for fraction in fractions for word in ("--kill-after", str(fraction))]


@pytest.mark.parametrize(("fractions", "seed"), [((0.0,), 1), ((0.3,), 2), ((0.6,), 3), ((0.2, 0.6), 4)])
def test_the_proof_holds_whenever_the_worker_is_killed(tmp_path: Path, fractions: tuple[float, ...], seed: int) -> None:
    home = tmp_path / "demo"
    done = demo(home, "--orders", "32", "--seed", str(seed), *kills(*fractions))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("The demo has killed its own worker") == len(fractions)
    assert "Nothing was charged twice and nothing was lost." in done.stdout
    assert "REPEATED" not in done.stdout
    assert "FAILED" not in done.stdout
    workers = {entry.pid for entry in read_journal(home / "journal.jsonl")}
    assert len(workers) >= 2  # the one that was killed, and another that went on; people decide in the demo's own


@pytest.mark.parametrize("shop", ["engine", "blind_probe"])
def test_the_proof_convicts_a_careless_shop(tmp_path: Path, shop: str) -> None:
    app = f"examples.order_fulfilment.careless:{shop}"
    done = demo(tmp_path / "demo", "--orders", "40", "--app", app)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The proof failed" in done.stdout
    assert re.search(r"order-1037: 2 x charge with one key", done.stdout)  # its answer is lost, long after the kill
    assert "Traceback" not in done.stdout + done.stderr


def test_it_starts_afresh_leaves_other_files_alone_and_recommends_commands_that_work(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.mkdir()
    (home / "notes.txt").write_text("mine")
    (home / "journal.jsonl").write_text("not a journal\n")
    (home / "orders.db").write_text("not a database")
    told = demo(home, "--orders", "24", *kills(0.5), cwd=ROOT).stdout.partition("Try next")[2]
    commands = [line.strip().removeprefix("$ ") for line in told.splitlines() if line.strip().startswith("$")]
    assert [line.split()[0] for line in commands if line.startswith("make")] == ["make", "make", "make"]
    environment = os.environ | {"PYTHONPATH": PATHS}
    for command in (line for line in commands if not line.startswith("make")):
        ran = subprocess.run(
            ["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode in {0, 1}, (command, ran.stderr)
        assert "Traceback" not in ran.stderr, (command, ran.stderr)
    assert (home / "notes.txt").read_text() == "mine"


def test_a_worker_that_cannot_start_ends_the_demo_with_what_it_said(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--app", "no.such:engine")
    assert done.returncode == 3
    assert "no module 'no'" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_second_demo_in_the_same_folder_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.mkdir()
    (home / "journal.jsonl").write_text("the first one's")
    with (home / "demo.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = demo(home, "--orders", "1")
    assert done.returncode == 3
    assert f"another demo is running in {home.name}; wait for it, or use another folder: " in done.stdout
    assert 'make demo ARGS="--home OTHER"' in " ".join(done.stdout.split())
    assert (home / "journal.jsonl").read_text() == "the first one's"
    assert done.stderr == ""


def test_a_fraction_that_is_none_is_refused(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--kill-after", "1.5")
    assert done.returncode == 2
    assert "at least 0 and less than 1" in done.stderr


def test_the_commands_of_the_readme_run_the_orders_and_approve_those_that_wait(tmp_path: Path) -> None:
    readme = (ROOT / "examples" / "order_fulfilment" / "README.md").read_text(encoding="utf-8")
    by_hand = readme.partition("## By hand")[2]
    blocks = re.findall(r"(?:^    .*\n)+", by_hand, flags=re.MULTILINE)
    assert [block.split()[0] for block in blocks] == ["flux", "export"]
    file = "examples/order_fulfilment/orders.jsonl"
    few = tmp_path / "orders.jsonl"
    few.write_text("".join((ROOT / file).read_text(encoding="utf-8").splitlines(keepends=True)[:24]), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": PATHS, "FLUX_ORDERS_HOME": str(tmp_path / "home")}
    told = []
    for block in blocks:
        python = f'"{sys.executable}"'
        script = re.sub("^    ", "", block, flags=re.MULTILINE).replace(file, str(few))
        script = re.sub("^flux ", f"{python} -m flux_cli ", script, flags=re.MULTILINE)
        ran = subprocess.run(
            ["sh", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in ran.stderr, ran.stderr
        told.append(ran.stdout)
    assert "wait for the signal approval" in told[0]
    assert "order-1007" in told[1].partition("\n\n")[0]  # it is in the list of those that wait
    assert told[1].endswith("order-fulfilment order-1007 has completed\n")
