"""Two clients of each store answer as one store in memory does; more games, and longer ones, by `make soak`."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_aws import DynamoDBStorage
from flux_blob import BlobStorage
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR
from flux_local import PostgresStorage, SQLiteStorage
from tests.blob.places import KINDS, spots
from tests.blob.watched import twin
from tests.contract.two_clients import play

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flux_core import WorkflowStorage

NEAR = ("memory", "folder", "sqlite")
FAR = ("postgres", "dynamodb", "firestore", "s3", "az", "gs")
_numbers = count(1)


@pytest.fixture
def clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[WorkflowStorage]]:
    made = _two(request.param, request, monkeypatch)
    made[0].ensure()
    yield made
    for store in made:
        store.close()


def _two(kind: str, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch) -> Sequence[WorkflowStorage]:
    name = f"two-clients-{next(_numbers)}"
    if kind == "memory":
        first = BlobStorage("memory://", time_limit=60)
        return first, twin(first)
    if kind in KINDS:
        spot = spots(kind, request)()
        return spot.store(), spot.store()
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / "flux.db"
        return SQLiteStorage(path), SQLiteStorage(path)
    if kind == "postgres":
        url, schema = request.getfixturevalue("postgres").url, name.replace("-", "_")
        return PostgresStorage(url, schema=schema, timeout=60), PostgresStorage(url, schema=schema, timeout=60)
    if kind == "firestore":
        patch.setenv(EMULATOR, request.getfixturevalue("firestore_emulator"))
        project = f"{name}-{os.getpid()}"
        return FirestoreStorage(project, timeout=60), FirestoreStorage(project, timeout=60)
    moto = request.getfixturevalue("moto")
    for variable, value in moto.environment.items():
        patch.setenv(variable, value)
    options = {"endpoint": moto.endpoint, "shards": 2, "call_timeout": 60}
    return DynamoDBStorage(name, **options), DynamoDBStorage(name, **options)


@pytest.mark.parametrize(
    ("clients", "games"), [*((kind, 12) for kind in NEAR), *((kind, 2) for kind in FAR)], indirect=["clients"]
)
def test_two_clients_answer_as_one_store_does(clients: Sequence[WorkflowStorage], games: int) -> None:
    for seed in range(games):
        play(clients, seed, 50)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("clients", "games"), [*((kind, 1_000) for kind in NEAR), *((kind, 60) for kind in FAR)], indirect=["clients"]
)
def test_two_clients_answer_so_for_long(clients: Sequence[WorkflowStorage], games: int) -> None:
    for seed in range(1_000, 1_000 + games):
        play(clients, seed, 80)
