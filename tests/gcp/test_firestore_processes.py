"""Several processes over one database: one winner a slot, nothing acknowledged is lost, everything due is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from flux_core.ports import Header
from flux_gcp.settings import EMULATOR
from tests.gcp.conftest import ORDER, new_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flux_gcp import FirestoreStorage

PROCESSES, THREADS, SLOTS = 4, 16, 200

FIGHT = """
import json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from flux_core.ports import InstanceRef
from flux_gcp import FirestoreStorage
project, process, threads, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
store, order = FirestoreStorage(project, timeout=60), InstanceRef("acme", "order", "1")
store.tail(order)
print("ready", flush=True)
sys.stdin.readline()

def write(thread):
    # the writers are of four kinds, and so are the slots: each slot has 16 rivals, 4 of each process
    mine = b"%d/%d" % (process, thread)
    return {seq: store.append(order, seq, mine + b"/%d" % seq) is None for seq in range(thread % 4, slots, 4)}

with ThreadPoolExecutor(threads) as pool:
    for thread, won in enumerate(pool.map(write, range(threads))):
        print(json.dumps([seq for seq, first in won.items() if first]), flush=True)
store.close()
"""

BREED = """
import sys
from flux_core.ports import Header, InstanceRef
from flux_gcp import FirestoreStorage
project, process = sys.argv[1], int(sys.argv[2])
store = FirestoreStorage(project, timeout=60)
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    order = InstanceRef("acme", "order", f"{process}-{number}")
    store.append(order, 0, b"start", Header("running", number, 1, 1, 0, 1_000 + number))
    if number % 4 == 0:
        store.append(order, 1, b"end", Header("completed", number, 1, 1, 1, None))
    elif number % 4 == 1:
        store.nudge(order, 1, 5)
    elif number % 4 == 2:
        store.settle(order, 0, 1_000 + number, 2_000)
    print(number, flush=True)
"""


def start(root: Path, emulator: str, program: str, *arguments: object) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(root), str(root / "adapters")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, EMULATOR: emulator},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(processes: list[subprocess.Popen[str]]) -> None:
    """Let all go at the same moment."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_64_writers_in_four_processes_on_200_slots_have_one_winner_each(
    root: Path, firestore_emulator: str, open_store: Callable[..., FirestoreStorage]
) -> None:
    project = new_project()
    fighters = [start(root, firestore_emulator, FIGHT, project, n, THREADS, SLOTS) for n in range(PROCESSES)]
    begin(fighters)
    winners: dict[int, list[bytes]] = {seq: [] for seq in range(SLOTS)}
    for number, process in enumerate(fighters):
        told, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        for thread, line in enumerate(told.splitlines()):
            for seq in json.loads(line):
                winners[seq].append(b"%d/%d/%d" % (number, thread, seq))
    assert [len(found) for found in winners.values()] == [1] * SLOTS
    assert open_store(firestore_emulator, project).read(ORDER) == [found[0] for found in winners.values()]


def test_what_is_due_and_what_is_listed_is_never_missed_while_processes_write(
    root: Path, firestore_emulator: str, open_store: Callable[..., FirestoreStorage]
) -> None:
    """What was there before is in every sweep and every listing; in the end all is as the writers left it."""
    project = new_project()
    store = open_store(firestore_emulator, project)
    standing = {f"standing-{number}" for number in range(25)}
    for number, id_ in enumerate(sorted(standing)):
        store.append(ORDER._replace(id=id_), 0, b"start", Header("running", number * 2, 1, 1, 0, 1_000 + number))
    breeders = [start(root, firestore_emulator, BREED, project, n) for n in range(3)]
    begin(breeders)
    sweeps = 0
    while any(process.poll() is None for process in breeders) or not sweeps:
        assert standing <= {entry.ref.id for entry in store.due(10_000, 1_000)}
        listed: list[str] = []
        cursor = None
        while True:
            page = store.list("acme", limit=20, cursor=cursor)
            listed += [item.ref.id for item in page.items]
            if (cursor := page.cursor) is None:
                break
        assert standing <= set(listed)
        assert len(listed) == len(set(listed))
        sweeps += 1
    assert [len(process.communicate()[0].splitlines()) for process in breeders] == [40] * 3
    due = {entry.ref.id: entry.due for entry in store.due(10_000, 1_000)}
    for process in range(3):
        for number in range(40):
            wanted = {0: None, 1: 5, 2: 2_000, 3: 1_000 + number}[number % 4]
            assert due.get(f"{process}-{number}") == wanted


def test_a_record_that_was_acknowledged_outlives_its_writer(
    root: Path, firestore_emulator: str, open_store: Callable[..., FirestoreStorage]
) -> None:
    project = new_project()
    process = start(root, firestore_emulator, BREED, project, 0)
    begin([process])
    assert process.stdout is not None
    acknowledged = 0
    for _ in range(10):
        acknowledged = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.communicate()
    store = open_store(firestore_emulator, project)
    for number in range(acknowledged + 1):
        order = ORDER._replace(id=f"0-{number}")
        assert store.read(order)[0] == b"start"
        assert store.header(order) is not None
