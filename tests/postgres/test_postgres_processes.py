"""Several real processes on one database: one winner for each slot, nothing acknowledged is lost, forks are safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flux_core import Header, InstanceRef

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from flux_local import PostgresStorage
    from tests.services.postgres import Postgres

# Python 3.12 and later warn of what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ORDER = InstanceRef("acme", "order", "1")

RACERS = """
import sys, threading
from flux_core.ports import InstanceRef
from flux_local import PostgresStorage
url, schema, name, writers, slots = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
store = PostgresStorage(url, schema=schema, connections=writers, timeout=60)
store.ensure()
order = InstanceRef("acme", "order", "1")
won = []

def race(number):
    mine = b"%s%d/" % (name.encode(), number)
    for seq in range(slots):
        found = store.append(order, seq, mine + b"%d" % seq)
        if found is None:
            won.append((seq, number))
        elif found.rpartition(b"/")[2] != b"%d" % seq:
            raise SystemExit(f"slot {seq} gave {found!r}")

threads = [threading.Thread(target=race, args=(number,)) for number in range(writers)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*(f"{seq}:{number}" for seq, number in won), flush=True)
"""

WRITER = """
import sys
from flux_core.ports import Header, InstanceRef
from flux_local import PostgresStorage
store = PostgresStorage(sys.argv[1], schema=sys.argv[2], timeout=60)
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


def test_64_writers_of_four_processes_have_one_winner_for_each_of_200_slots(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresStorage]
) -> None:
    slots = 200
    racers = [python(RACERS, postgres.url, schema, name, 16, slots) for name in "abcd"]  # all make the tables at once
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    wins: list[tuple[int, int, str]] = []
    for name, won in zip("abcd", told, strict=True):
        for win in won:
            seq, number = map(int, win.split(":"))
            wins.append((seq, number, name))
    assert sorted(seq for seq, _, _ in wins) == list(range(slots))
    assert opened().read(ORDER) == [f"{name}{number}/{seq}".encode() for seq, number, name in sorted(wins)]


@pytest.mark.parametrize("acknowledged", [1, 40])
def test_a_writer_killed_in_the_middle_loses_nothing_that_it_acknowledged(
    postgres: Postgres, schema: str, store: PostgresStorage, acknowledged: int
) -> None:
    writer = python(WRITER, postgres.url, schema)
    assert writer.stdout is not None
    with writer:
        for _ in range(acknowledged):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    last = int(rest[-1]) if rest else acknowledged - 1
    while len(log := store.read(ORDER)) <= last:
        pass
    assert len(log) - 1 in {last, last + 1}, "all that was acknowledged, and at most the one in flight"
    assert log == [b"record %d" % seq * 50 for seq in range(len(log))]
    newest = (len(log) - 1) // 3 * 3
    assert store.header(ORDER) == Header("running", 1, newest, 1, newest, newest), "a header comes with its record"


def test_a_purge_and_an_append_at_the_same_time_leave_all_or_nothing(
    postgres: Postgres, schema: str, store: PostgresStorage, admin: psycopg.Connection
) -> None:
    """The append has its slot already and waits to commit; the purge must see that it is not told the newest record."""
    from threading import Thread

    import psycopg

    store.append(ORDER, 0, b"start", Header("completed", 1, 1, 1, 0, None))
    told: list[bool] = []
    with psycopg.connect(postgres.url) as other:
        other.execute(f"INSERT INTO {schema}.log VALUES ('acme/order/1', 1, 'late')".encode())
        purge = Thread(target=lambda: told.append(store.purge(ORDER, 0)))
        purge.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        while admin.execute(waiting, (f"%{schema}%",)).fetchall() == [(0,)]:
            pass
        other.commit()
        purge.join(60)
    assert told == [False]
    assert store.read(ORDER) == [b"start", b"late"]
    assert store.purge(ORDER, 1)


def test_a_child_after_a_fork_and_its_parent_both_go_on(store: PostgresStorage) -> None:
    for seq in range(10):
        store.append(ORDER, seq, b"before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for seq in range(10, 60):
                store.append(ORDER, seq, b"child")
            code = 0 if len(store.read(ORDER)) >= 60 else 1
        finally:
            os._exit(code)
    for seq in range(10, 60):
        store.append(ORDER, seq, b"parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log = store.read(ORDER)
    assert log[:10] == [b"before"] * 10
    assert len(log) == 60
    assert set(log[10:]) <= {b"child", b"parent"}


def test_a_child_does_not_close_the_connection_of_its_parent(store: PostgresStorage, admin: psycopg.Connection) -> None:
    store.append(ORDER, 0, b"before")
    mine = store._read("SELECT pg_backend_pid()")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store._read("SELECT pg_backend_pid()") != mine else 1
            store.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store._read("SELECT pg_backend_pid()") == mine


def test_large_logs_come_back_whole(store: PostgresStorage) -> None:
    records = [bytes([seq]) * 300_000 for seq in range(40)]
    for seq, record in enumerate(records):
        store.append(ORDER, seq, record)
    assert store.read(ORDER) == records
    assert store.read(ORDER, 35) == records[35:]
