"""A durable step of the whole engine in object storage, against the bare conditional put of the same bytes.

The service is Azurite, or S3 as moto plays it, a process of its own; both sides put through the same obstore client.
The bare objects go into folders of their own (`paired` has the method). What is measured is what engine and store add
to a request.
"""

from __future__ import annotations

import urllib.request
from time import perf_counter
from typing import TYPE_CHECKING, Any

import obstore

from benchmarks import paired
from flux_blob import BlobStorage
from tests.services import azurite, moto

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figure import Figure
    from benchmarks.paired import Rows

TOPIC = "durable step in object storage"
TARGET = 1.10
BLOCK = 10


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs on each service, which is started and ended here."""
    process, azure = azurite.start(folder / "azurite.log")
    with process:
        try:
            azure.create_container("benchmark")
            options = {"endpoint": azure.endpoint, "account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
            figures = _figures("Azurite", BlobStorage("az://benchmark", options=options, time_limit=60), blocks)
        finally:
            process.kill()
    server, aws = moto.start()
    with server:
        try:
            signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
            order = urllib.request.Request(f"{aws.endpoint}/benchmark", method="PUT", headers=signed)  # noqa: S310 -- our own
            with urllib.request.urlopen(order, timeout=30):  # noqa: S310 -- as above
                pass
            settings = {"endpoint": aws.endpoint, "region": "us-east-1", "access_key_id": "x", "secret_access_key": "y"}
            figures += _figures("S3 (moto)", BlobStorage("s3://benchmark", options=settings, time_limit=60), blocks)
        finally:
            server.kill()
    return figures


def _figures(service: str, store: BlobStorage, blocks: int) -> list[Figure]:
    objects: Any = store._connection.objects()
    client, put = objects._client, objects.put
    written: list[tuple[str, int, bytes]] = []

    def remembered(key: str, data: bytes) -> bool:
        written.append((key, len(written), data))
        return bool(put(key, data))

    def into(folder: str, rows: Rows) -> float:
        named = [(f"{folder}/{key}", data) for key, _, data in rows]
        begun = perf_counter()
        for key, data in named:
            obstore.put(client, key, data, mode="create", use_multipart=False)
        return perf_counter() - begun

    objects.put = remembered
    try:
        return paired.measure(
            store,
            lambda start: written[start:],
            lambda rows: into("bare", rows),
            lambda rows: into("again", rows),
            blocks,
            topic=TOPIC,
            prefix=f"{service}, ",
            bare_write="bare put",
            written="an object",
            target=TARGET,
            block=BLOCK,
        )
    finally:
        store.close()
