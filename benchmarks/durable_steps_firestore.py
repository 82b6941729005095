"""A durable step of the whole engine on Firestore's emulator, against the bare commit of the same bytes.

Small blocks in turn, in one process, over one channel of one client: a handler of the running workflow ends the
engine's block, and then commits the records that the engine has just written once more, each on condition that it is
not there, to another instance whose name has the same length. A third one gets them a second time: what two runs of
the very same thing differ by is the noise of the method. A fourth gets them through `DocumentReference.create` of
google-cloud-firestore, which is what one would write by hand.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, InstanceRef, create_workflow
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR
from tests.services.firestore import start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TOPIC = "durable step on Firestore"
TARGET = 1.10
BLOCK = 10
"""Steps a block: short enough that all sides of a comparison see the same machine."""
_PROJECT = "flux-benchmark"


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` comparisons, on an emulator of its own."""
    process, host = start(folder / "firestore.log")
    before = os.environ.get(EMULATOR)
    os.environ[EMULATOR] = host
    with process:
        try:
            return _measure(blocks)
        finally:
            process.kill()
            os.environ.pop(EMULATOR)
            if before is not None:
                os.environ[EMULATOR] = before


class _Blocks:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, storage: FirestoreStorage, ref: InstanceRef) -> None:
        from google.cloud.firestore import Client

        self._storage = storage
        self._ref = ref
        storage.ensure()
        assert storage._opened is not None
        self._wire = storage._opened.wire
        self._client = Client(project=_PROJECT)
        self._next = 0
        self._turn = 0
        self._begun = 0.0
        self.sides: dict[str, Callable[[Sequence[bytes], int], None]] = {
            "bare": lambda records, seq: self._commits("b", records, seq),
            "again": lambda records, seq: self._commits("c", records, seq),
            "by hand": lambda records, seq: self._creates("d", records, seq),
        }
        self.seconds: dict[str, list[float]] = {name: [] for name in ("engine", *self.sides)}
        self.sizes: list[int] = []

    def end_block(self) -> None:
        """Take the engine's time since the last block, and let the others write the same records."""
        now = perf_counter()
        records = self._storage.read(self._ref, self._next)
        if self._next:
            assert len(records) == BLOCK, f"{len(records)} records in a block of {BLOCK} steps"
            self.seconds["engine"].append(now - self._begun)
            self.sizes += map(len, records)
        names = list(self.sides)
        self._turn += 1
        for name in names[self._turn % 3 :] + names[: self._turn % 3]:
            begun = perf_counter()
            self.sides[name](records, self._next)
            if self._next:
                self.seconds[name].append(perf_counter() - begun)
        self._next += len(records)
        self._begun = perf_counter()

    def _commits(self, id: str, records: Sequence[bytes], seq: int) -> None:
        """The write that no durable engine can do without, through the store's own client."""
        from flux_gcp.firestore_messages import CommitRequest, Document, Precondition, Value, Write

        wire, layout = self._wire, self._wire.names
        instance = layout.instance(self._ref._replace(id=id))
        for place, record in enumerate(records, seq):
            document = Document(name=layout.record(instance, place), fields={"record": Value(bytes_value=record)})
            write = Write(update=document, current_document=Precondition(exists=False))
            request = CommitRequest(database=layout.database, writes=[write])
            wire._commit(request, timeout=20.0, metadata=wire._to_database)

    def _creates(self, id: str, records: Sequence[bytes], seq: int) -> None:
        layout = self._wire.names
        instance = layout.instance(self._ref._replace(id=id))
        for place, record in enumerate(records, seq):
            path = layout.record(instance, place).removeprefix(f"{layout.documents}/")
            self._client.document(path).create({"record": record})

    def close(self) -> None:
        """Close the client that is not the store's."""
        self._client.close()


def _measure(blocks: int) -> list[Figure]:
    storage = FirestoreStorage(_PROJECT)
    sides = _Blocks(storage, InstanceRef("default", "benchmark", "a"))

    def step(ctx: Context) -> object:
        if ctx.current_step % BLOCK == 0:
            sides.end_block()
        ctx.data["attempts"] = ctx.current_step
        return {"ok": True, "charge": "ch_00017", "amount": 4250}

    builder = create_workflow("benchmark", version="1")
    for number in range(BLOCK * (blocks + 1) + 1):
        builder.step(f"step-{number}", step)
    try:
        result = FluxEngine(storage, lease=3600).execute(builder, {"order": 1}, "a")
        assert result.status == "completed", result.error
    finally:
        sides.close()
        storage.close()

    def figure(name: str, unit: str, values: list[float], aim: float | None = None) -> Figure:
        return Figure.of(TOPIC, name, unit, Samples.of(values), aim)

    def over(one: str, other: str) -> list[float]:
        return [mine / theirs for mine, theirs in zip(sides.seconds[one], sides.seconds[other], strict=True)]

    def each(name: str) -> list[float]:
        return [value / BLOCK * 1e6 for value in sides.seconds[name]]

    return [
        figure("engine", "µs/step", each("engine")),
        figure("bare commit", "µs/step", each("bare")),
        figure("DocumentReference.create", "µs/step", each("by hand")),
        figure("engine over bare commit, paired blocks", "ratio", over("engine", "bare"), TARGET),
        figure("engine over DocumentReference.create", "ratio", over("engine", "by hand")),
        figure("bare commit over itself (noise)", "ratio", over("again", "bare")),
        figure("bytes a record", "B", [float(size) for size in sides.sizes]),
    ]
