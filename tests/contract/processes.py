"""Several real processes over one store: the suite that the tests of each store inherit. It must not know a store.

One winner for each slot, nothing acknowledged is lost with its writer, and the indexes miss nothing while others write.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from flux_core.ports import Header, InstanceRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core import WorkflowStorage

ORDER = InstanceRef("acme", "order", "1")
PROCESSES, THREADS = 4, 16

_BEGIN = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from flux_core.ports import Header, InstanceRef
me, slots, kinds, threads = json.loads(sys.argv[1])
order = InstanceRef("acme", "order", "1")
store.ensure()
store.tail(order)
print("ready", flush=True)
sys.stdin.readline()
"""
RACE = """
over = [Event() for _ in range(slots)]

def race(number):
    mine = []
    for seq in range(number % kinds, slots, kinds):
        if seq:
            over[seq - 1].wait(300)  # who appends has seen the record before
        header = Header("running", 1, seq, 1, seq, None) if seq % 10 == 0 else None
        found = store.append(order, seq, f"{me}.{number}.{seq}".encode(), header)
        if found is None:
            mine.append(f"{me}.{number}.{seq}")
        elif found.rpartition(b".")[2] != b"%d" % seq:
            raise SystemExit(f"slot {seq} gave {found!r}")
        over[seq].set()
    return mine

with ThreadPoolExecutor(threads) as pool:
    print(json.dumps([one for won in pool.map(race, range(threads)) for one in won]), flush=True)
"""
WRITE = """
for seq in range(100_000):
    header = Header("running", 1, seq, 1, seq, seq) if seq % 3 == 0 else None
    store.append(order, seq, b"record %d" % seq * 50, header)
    print(seq, flush=True)
"""
BREED = """
for number in range(slots):
    order = InstanceRef("acme", "order", f"{me}-{number}")
    store.append(order, 0, b"start", Header("running", number, 1, 1, 0, 1_000 + number))
    if number % 4 == 0:
        store.append(order, 1, b"end", Header("completed", number, 1, 1, 1, None))
    elif number % 4 == 1:
        store.nudge(order, 1, 5)
    elif number % 4 == 2:
        store.settle(order, 0, 1_000 + number, 2_000)
print("done", flush=True)
"""


class Opening(NamedTuple):
    """How another process comes to the store."""

    code: str
    """Python that makes it, as `store`."""
    environment: Mapping[str, str] = {}


class RacesOfProcesses:
    """Give the fixtures `opening`, and `store`, which is empty."""

    slots = 200
    rivals = 16
    """Writers that want each slot, as many of each process; 64 in all, by the soak."""
    bred = 24
    """Instances that each of three processes makes."""

    def test_64_writers_in_four_processes_have_one_winner_for_each_slot(
        self, opening: Opening, store: WorkflowStorage
    ) -> None:
        self._race(opening, store, self.rivals)

    @pytest.mark.soak
    def test_64_writers_that_all_want_each_slot_have_one_winner_for_each(
        self, opening: Opening, store: WorkflowStorage
    ) -> None:
        self._race(opening, store, PROCESSES * THREADS)

    def _race(self, opening: Opening, store: WorkflowStorage, rivals: int) -> None:
        kinds = PROCESSES * THREADS // rivals
        racers = [_start(opening, RACE, name, self.slots, kinds) for name in "abcd"]
        _begin(racers)
        told = [winner for racer in racers for winner in json.loads(racer.communicate(timeout=900)[0])]
        assert [racer.returncode for racer in racers] == [0] * PROCESSES
        winners = Counter(int(winner.rpartition(".")[2]) for winner in told)
        assert winners == dict.fromkeys(range(self.slots), 1)
        newest = (self.slots - 1) // 10 * 10
        log = [record.decode() for record in store.read(ORDER)]
        assert log == sorted(told, key=lambda winner: int(winner.rpartition(".")[2]))
        assert store.header(ORDER) == Header("running", 1, newest, 1, newest, None)

    @pytest.mark.parametrize("acknowledged", [1, 40])
    def test_a_writer_killed_in_the_middle_loses_nothing_that_it_acknowledged(
        self, opening: Opening, store: WorkflowStorage, acknowledged: int
    ) -> None:
        writer = _start(opening, WRITE)
        _begin([writer])
        assert writer.stdout is not None
        with writer:
            for _ in range(acknowledged):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
            rest = writer.stdout.read().split()  # communicate() would lose what readline() has read ahead
        last = int(rest[-1]) if rest else acknowledged - 1
        while len(log := store.read(ORDER)) <= last:
            pass
        assert len(log) - 1 in {last, last + 1}, "all that was acknowledged, and at most the one in flight"
        assert log == [b"record %d" % seq * 50 for seq in range(len(log))]
        newest = (len(log) - 1) // 3 * 3
        assert store.header(ORDER) == Header("running", 1, newest, 1, newest, newest), "a header comes with its record"
        assert store.append(ORDER, len(log), b"after the crash") is None

    def test_what_is_due_and_what_is_listed_is_never_missed_while_processes_write(
        self, opening: Opening, store: WorkflowStorage
    ) -> None:
        """What was there before is in every sweep and every listing; in the end all is as the writers left it."""
        standing = {f"standing-{number}" for number in range(12)}
        for number, id_ in enumerate(sorted(standing)):
            store.append(ORDER._replace(id=id_), 0, b"start", Header("running", number * 2, 1, 1, 0, 1_000 + number))
        breeders = [_start(opening, BREED, name, self.bred) for name in "abc"]
        _begin(breeders)
        sweeps = 0
        while any(process.poll() is None for process in breeders) or not sweeps:
            assert standing <= {entry.ref.id for entry in store.due(10_000, 1_000)}
            listed = _listed(store)
            assert standing <= set(listed)
            assert len(listed) == len(set(listed))
            sweeps += 1
        assert [process.communicate()[0] for process in breeders] == ["done\n"] * 3
        due = {entry.ref.id: entry.due for entry in store.due(10_000, 1_000)}
        for process in "abc":
            for number in range(self.bred):
                wanted = {0: None, 1: 5, 2: 2_000, 3: 1_000 + number}[number % 4]
                assert due.get(f"{process}-{number}") == wanted
        assert len(_listed(store)) == len(standing) + 3 * self.bred


def python(code: str, *arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that runs `code`, which finds `arguments` in `sys.argv[1]` as JSON."""
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _start(opening: Opening, program: str, name: str = "a", slots: int = 0, kinds: int = 1) -> subprocess.Popen[str]:
    code = opening.code + _BEGIN + program
    return python(code, name, slots, kinds, THREADS, environment=opening.environment)


def _begin(processes: list[subprocess.Popen[str]]) -> None:
    """Let all go at the same moment."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def _listed(store: WorkflowStorage) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = store.list("acme", limit=20, cursor=cursor)
        found += [item.ref.id for item in page.items]
        if (cursor := page.cursor) is None:
            return found
