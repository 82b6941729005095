"""Several real processes on one place: one winner for each slot, on every service."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from flux_core.ports import InstanceRef
from tests.blob.places import Spot, spots

ORDER = InstanceRef("acme", "order", "1")
PROCESSES, THREADS = 4, 16

RACERS = """
import json, sys, threading
from flux_blob import BlobStorage
from flux_core.ports import Header, InstanceRef
address, options, name, threads, slots = json.loads(sys.argv[1])
store = BlobStorage(address, options=options, time_limit=120)
order = InstanceRef("acme", "order", "1")
won = []
def race(number):
    for seq in range(slots):
        writer = f"{name}.{number}.{seq}"
        header = Header("running", 1, seq, 1, seq, None) if seq % 10 == 0 else None
        if store.append(order, seq, writer.encode(), header) is None:
            won.append(writer)
store.ensure()
print("ready", flush=True)
sys.stdin.readline()
racers = [threading.Thread(target=race, args=(number,)) for number in range(threads)]
for racer in racers: racer.start()
for racer in racers: racer.join()
print(json.dumps(won), flush=True)
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture(params=["folder", "s3", "az", "gs"])
def spot(request: pytest.FixtureRequest) -> Spot:
    found = spots(request.param, request)()
    found.store().ensure()
    return found


def test_64_writers_in_four_processes_have_one_winner_for_each_slot(spot: Spot) -> None:
    race(spot, 200 if "://" not in spot.address else 12)


@pytest.mark.soak
def test_64_writers_in_four_processes_have_one_winner_for_each_of_200_slots(spot: Spot) -> None:
    race(spot, 200)


def race(spot: Spot, slots: int) -> None:
    racers = [python(RACERS, spot.address, spot.options, name, THREADS, slots) for name in "abcd"[:PROCESSES]]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [winner for racer in racers for winner in json.loads(racer.communicate(timeout=280)[0])]
    log = [record.decode() for record in spot.store(time_limit=120).read(ORDER)]
    assert len(log) == slots
    assert sorted(told) == sorted(log), "each record was written by who was told so, and nobody else was"
    header = spot.store().header(ORDER)
    assert header is not None
    assert header.seq == (slots - 1) // 10 * 10
