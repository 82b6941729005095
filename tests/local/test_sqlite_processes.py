"""Several real processes on one SQLite file: one winner for each slot, nothing acknowledged is lost, forks are safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flux_core.ports import Header, InstanceRef
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from pathlib import Path

# Python 3.12 and later warn of what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ORDER = InstanceRef("acme", "order", "1")

RACER = """
import sys
from flux_core.ports import InstanceRef
from flux_local import SQLiteStorage
path, name, slots = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])
store = SQLiteStorage(path)
store.ensure()
print("ready", flush=True)
sys.stdin.readline()
order = InstanceRef("acme", "order", "1")
print(*[seq for seq in range(slots) if store.append(order, seq, name + b"%d" % seq) is None], flush=True)
"""

WRITER = """
import sys
from flux_core.ports import Header, InstanceRef
from flux_local import SQLiteStorage
store = SQLiteStorage(sys.argv[1])
order = InstanceRef("acme", "order", "1")
seq = 0
while True:
    header = Header("running", 1, seq, 1, seq, seq) if seq % 3 == 0 else None
    store.append(order, seq, b"record %d" % seq * 50, header)
    print(seq, flush=True)
    seq += 1
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_processes_that_race_for_the_slots_of_one_instance_have_one_winner_each(tmp_path: Path) -> None:
    slots, path = 300, tmp_path / "new folder" / "flux.db"
    racers = [python(RACER, path, name, slots) for name in ("a", "b", "c")]  # all three also make the file at once
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    told = [racer.communicate("go\n", timeout=60)[0].split() for racer in racers]
    assert sorted(int(seq) for seqs in told for seq in seqs) == list(range(slots))
    owner = {int(seq): name for name, seqs in zip("abc", told, strict=True) for seq in seqs}
    assert SQLiteStorage(path).read(ORDER) == [f"{owner[seq]}{seq}".encode() for seq in range(slots)]


@pytest.mark.parametrize("acknowledged", [1, 40, 333])
def test_a_writer_killed_in_the_middle_loses_nothing_that_it_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "flux.db"
    writer = python(WRITER, path)
    assert writer.stdout is not None
    with writer:
        for _ in range(acknowledged):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()  # communicate() would lose what readline() has read ahead
    last = int(rest[-1]) if rest else acknowledged - 1

    store = SQLiteStorage(path)
    log = store.read(ORDER)
    assert len(log) - 1 in {last, last + 1}, "all that was acknowledged, and at most the one in flight"
    assert log == [b"record %d" % seq * 50 for seq in range(len(log))]
    newest = (len(log) - 1) // 3 * 3
    assert store.header(ORDER) == Header("running", 1, newest, 1, newest, newest), "a header comes with its record"
    assert store.append(ORDER, len(log), b"after the crash") is None
    store.close()


def test_a_child_after_a_fork_and_its_parent_both_go_on(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")
    for seq in range(10):
        store.append(ORDER, seq, b"before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = [store.append(ORDER, seq, b"child") is None for seq in range(10, 60)]
            code = 0 if len(store.read(ORDER)) >= 60 and mine else 1
        finally:
            os._exit(code)
    for seq in range(10, 60):
        store.append(ORDER, seq, b"parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log = store.read(ORDER)
    assert log[:10] == [b"before"] * 10
    assert len(log) == 60
    assert set(log[10:]) <= {b"child", b"parent"}
    check = store._sessions.current().connection.execute("PRAGMA integrity_check").fetchall()
    assert check == [("ok",)]


def test_no_connection_is_open_across_a_fork(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")
    store.append(ORDER, 0, b"before")
    before = store._sessions.own.session
    child = os.fork()
    if child == 0:
        os._exit(0 if before.closed and not hasattr(store._sessions.own, "session") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before.closed
    assert store.append(ORDER, 1, b"after") is None


def fork_and_append(store: SQLiteStorage, number: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store.append(ORDER._replace(id=f"child-{number}"), 0, b"x") is None else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forks_while_other_threads_write_lose_nothing(tmp_path: Path) -> None:
    store = SQLiteStorage(tmp_path / "flux.db")

    def write(name: str) -> bool:
        return all(
            store.append(ORDER._replace(id=name), seq, b"%d" % seq) is None
            and store.tail(ORDER._replace(id=name)) == (seq, b"%d" % seq)
            for seq in range(150)
        )

    with ThreadPoolExecutor(3) as threads:
        writes = [threads.submit(write, name) for name in ("a", "b", "c")]
        codes = [fork_and_append(store, number) for number in range(8)]
    assert [write.result() for write in writes] == [True] * 3
    assert codes == [0] * 8
    for name in ("a", "b", "c"):
        assert store.read(ORDER._replace(id=name)) == [b"%d" % seq for seq in range(150)]
    assert all(store.read(ORDER._replace(id=f"child-{number}")) == [b"x"] for number in range(8))


def test_a_second_process_reads_what_the_first_has_just_written(tmp_path: Path) -> None:
    path = tmp_path / "flux.db"
    store = SQLiteStorage(path)
    reader = python(
        "import sys\n"
        "from flux_core.ports import InstanceRef\n"
        "from flux_local import SQLiteStorage\n"
        "store = SQLiteStorage(sys.argv[1])\n"
        "for line in sys.stdin:\n"
        "    print(store.tail(InstanceRef('acme', 'order', '1'))[0], flush=True)\n",
        path,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    for seq in range(20):
        store.append(ORDER, seq, b"x")
        reader.stdin.write("?\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == f"{seq}\n"
    reader.communicate(timeout=60)
