"""The crash matrix on PostgreSQL: every shape struck once, eight of them wholly; all of it by `make soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_local import PostgresStorage
from tests.simulation.matrix import ONE_BLOW, strike, strike_once, whole
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.postgres import Postgres
    from tests.simulation.script import Shape

QUICK = (
    "data writes",
    "a commit",
    "an idempotent commit retried later",
    "a signal sent twice",
    "a saga with a durable retry",
    "a retry that keeps commits",
    "cancel with compensations",
    "a definition that changes meanwhile",
)


@pytest.fixture(scope="module")
def store(postgres: Postgres) -> Iterator[PostgresStorage]:
    opened = PostgresStorage(postgres.url, schema="matrix", timeout=60)
    opened.ensure()
    yield opened
    opened.close()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_that_is_struck_once_ends_as_if_nothing_had_happened(store: PostgresStorage, shape: Shape) -> None:
    strike_once(shape, store)


@pytest.mark.parametrize(("shape", "blow"), whole(dict.fromkeys(QUICK, ONE_BLOW)))
def test_a_fault_at_any_call_changes_nothing(store: PostgresStorage, shape: Shape, blow: str) -> None:
    strike(shape, store, blow)
