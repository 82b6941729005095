"""The crash matrix on DynamoDB: one in nine shapes struck once, a commit at each call; all of it by `make soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_aws import DynamoDBStorage
from tests.simulation.matrix import once, strike, strike_once, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto
    from tests.simulation.script import Shape


@pytest.fixture(scope="module")
def store(moto: Moto) -> Iterator[DynamoDBStorage]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto.environment.items():
            patch.setenv(name, value)
        opened = DynamoDBStorage("matrix", endpoint=moto.endpoint, shards=1, call_timeout=60)
        opened.ensure()
        yield opened
        opened.close()


@pytest.mark.parametrize("shape", once(9, 0))
def test_a_shape_that_is_struck_once_ends_as_if_nothing_had_happened(store: DynamoDBStorage, shape: Shape) -> None:
    strike_once(shape, store)


@pytest.mark.parametrize(
    ("shape", "blow"), whole({"a commit": ["the invocation dies after the call", "the response is lost"]})
)
def test_a_fault_at_any_call_changes_nothing(store: DynamoDBStorage, shape: Shape, blow: str) -> None:
    strike(shape, store, blow)
