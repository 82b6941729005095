"""Several real processes on one table: one winner for each slot, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

from flux_core.ports import Header, InstanceRef

if TYPE_CHECKING:
    from flux_aws import DynamoDBStorage
    from tests.services.moto import Moto

ORDER = InstanceRef("acme", "order", "1")

RACERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from flux_core.ports import InstanceRef
from flux_aws import DynamoDBStorage
table, name, threads, slots = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = DynamoDBStorage(table, call_timeout=120)
order = InstanceRef("acme", "order", "1")
store.tail(order)
print("ready", flush=True)
sys.stdin.readline()
def race(number):
    # the writers are of four kinds, and so are the slots: each slot has 16 rivals, 4 of each process
    mine = f"{name}{number}".encode()
    return [f"{seq}:{name}{number}" for seq in range(number % 4, slots, 4) if store.append(order, seq, mine) is None]
with ThreadPoolExecutor(threads) as pool:
    print(*[one for won in pool.map(race, range(threads)) for one in won], flush=True)
"""

WRITER = """
import sys
from flux_core.ports import Header, InstanceRef
from flux_aws import DynamoDBStorage
store = DynamoDBStorage(sys.argv[1], call_timeout=60)
order = InstanceRef("acme", "order", "1")
seq = 0
while True:
    header = Header("running", 1, seq, 1, seq, seq) if seq % 3 == 0 else None
    store.append(order, seq, b"record %d" % seq * 50, header)
    print(seq, flush=True)
    seq += 1
"""


def python(moto: Moto, code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, **moto.environment, "AWS_ENDPOINT_URL_DYNAMODB": moto.endpoint}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_64_writers_in_4_processes_on_200_slots_have_one_winner_each(moto: Moto, store: DynamoDBStorage) -> None:
    slots = 200
    racers = [python(moto, RACERS, store.table, name, 16, slots) for name in "abcd"]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [entry.split(":") for racer in racers for entry in racer.communicate(timeout=250)[0].split()]
    assert sorted(Counter(int(seq) for seq, _ in told).items()) == [(seq, 1) for seq in range(slots)]
    owner = {int(seq): name.encode() for seq, name in told}
    assert store.read(ORDER) == [owner[seq] for seq in range(slots)]


def test_a_writer_killed_in_the_middle_loses_nothing_that_it_acknowledged(moto: Moto, store: DynamoDBStorage) -> None:
    writer = python(moto, WRITER, store.table)
    assert writer.stdout is not None
    with writer:
        for _ in range(40):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    last = int(rest[-1]) if rest else 39
    log = store.read(ORDER)
    assert len(log) - 1 in {last, last + 1}, "all that was acknowledged, and at most the one in flight"
    assert log == [b"record %d" % seq * 50 for seq in range(len(log))]
    newest = (len(log) - 1) // 3 * 3
    assert store.header(ORDER) == Header("running", 1, newest, 1, newest, newest), "a header comes with its record"
    assert store.append(ORDER, len(log), b"after the crash") is None
