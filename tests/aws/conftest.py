"""What the tests of the AWS stores share: a table of its own for each test, on a moto server."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws import DynamoDBStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services.moto import Moto

_numbers = count(1)
PATIENT = 60.0
"""Seconds: a machine that runs tests may be busy, and a call that is tried again is counted twice."""


@pytest.fixture(autouse=True)
def _aws_settings(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks nobody but the server."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def open_store(moto: Moto) -> Iterator[Callable[..., DynamoDBStorage]]:
    """Open a store on a new table, or on the one that `table=` names; all are closed at the end."""
    opened: list[DynamoDBStorage] = []

    def open_one(table: str | None = None, **options: Any) -> DynamoDBStorage:
        name = table or f"flux-{next(_numbers)}"
        store = DynamoDBStorage(name, endpoint=moto.endpoint, **{"call_timeout": PATIENT, **options})
        opened.append(store)
        if table is None:
            store.ensure()
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., DynamoDBStorage]) -> DynamoDBStorage:
    """A store on a new table."""
    return open_store()
