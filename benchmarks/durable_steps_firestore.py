"""A durable step of the whole engine on Firestore's emulator, against the bare commit of the same bytes.

Over one channel of one client, by the method of `paired`. The same records also go through `DocumentReference.create`
of google-cloud-firestore, which is what one would write by hand.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import paired
from flux_core import InstanceRef
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR
from tests.services.firestore import start

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figure import Figure
    from benchmarks.paired import Rows, Write
    from flux_core import Header

TOPIC = "durable step on Firestore"
TARGET = 1.10
BLOCK = 10
_PROJECT = "flux-benchmark"


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` comparisons, on an emulator of its own."""
    process, host = start(folder / "firestore.log")
    before = os.environ.get(EMULATOR)
    os.environ[EMULATOR] = host
    with process:
        try:
            return _figures(blocks)
        finally:
            process.kill()
            os.environ.pop(EMULATOR)
            if before is not None:
                os.environ[EMULATOR] = before


def _figures(blocks: int) -> list[Figure]:
    from google.cloud.firestore import Client

    from flux_gcp import firestore_messages as m

    written: list[tuple[str, int, bytes]] = []

    class Watched(FirestoreStorage):
        """Remembers what the engine wrote; that is a list's append, beside a request."""

        def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
            written.append((ref.id, seq, record))
            return super().append(ref, seq, record, header)

    storage = Watched(_PROJECT, timeout=60)
    storage.ensure()
    assert storage._opened is not None
    wire, layout = storage._opened.wire, storage._opened.wire.names
    client = Client(project=_PROJECT)

    def commits(id: str) -> Write:
        """The write that no durable engine can do without, through the store's own client."""
        instance = layout.instance(InstanceRef("default", "benchmark", id))

        def write(rows: Rows) -> float:
            begun = perf_counter()
            for _, seq, record in rows:
                document = m.Document(name=layout.record(instance, seq), fields={"record": m.Value(bytes_value=record)})
                put = m.Write(update=document, current_document=m.Precondition(exists=False))
                request = m.CommitRequest(database=layout.database, writes=[put])
                wire._commit(request, timeout=20.0, metadata=wire._to_database)
            return perf_counter() - begun

        return write

    def creates(rows: Rows) -> float:
        instance = layout.instance(InstanceRef("default", "benchmark", "d")).removeprefix(f"{layout.documents}/")
        begun = perf_counter()
        for _, seq, record in rows:
            client.document(layout.record(instance, seq)).create({"record": record})
        return perf_counter() - begun

    try:
        return paired.measure(
            storage,
            lambda first: written[first:],
            commits("b"),
            commits("c"),
            blocks,
            topic=TOPIC,
            bare_write="bare commit",
            target=TARGET,
            block=BLOCK,
            others={"DocumentReference.create": creates},
        )
    finally:
        client.close()
        storage.close()
