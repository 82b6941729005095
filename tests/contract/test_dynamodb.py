"""`DynamoDBStorage` keeps the store contract, on a moto server whose writes are atomic as AWS's are."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest

from flux_aws import DynamoDBStorage
from flux_core.claim_check import ClaimCheckStorage
from flux_core.errors import PayloadTooLarge
from flux_core.payloads import MemoryPayloads
from flux_core.testing import StoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core.ports import WorkflowStorage
    from tests.services.moto import Moto

_numbers = count(1)


@cache
def _session() -> object:
    """One for all, since it is what takes its time: it reads AWS's descriptions of its services."""
    return boto3.session.Session()


@pytest.fixture(autouse=True, scope="module")
def _server(moto: Moto) -> Iterator[None]:
    """Before `setup_method` makes the first store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto.environment.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.endpoint)
        yield


class OnDynamoDB(StoreContract):
    writers = 16  # 64 writers on 200 slots, in several processes: tests/aws/test_dynamodb_processes.py
    slots = 30
    long_log = 200
    churn = 40
    crowd = 24

    def make_store(self) -> WorkflowStorage:
        return DynamoDBStorage(f"contract-{next(_numbers)}", session=_session(), call_timeout=60)


class TestDynamoDBStorage(OnDynamoDB):
    def reopen(self, store: WorkflowStorage) -> DynamoDBStorage:
        assert isinstance(store, DynamoDBStorage)
        store.close()
        return DynamoDBStorage(store.table, session=_session(), call_timeout=60)

    # An item holds 400 KB. What is larger is for the layer above, which keeps it outside.

    def test_a_record_of_one_mebibyte_comes_back(self) -> None:
        with pytest.raises(PayloadTooLarge):
            super().test_a_record_of_one_mebibyte_comes_back()

    def test_a_snapshot_of_one_mebibyte_comes_back(self) -> None:
        with pytest.raises(PayloadTooLarge):
            super().test_a_snapshot_of_one_mebibyte_comes_back()


@pytest.mark.soak
class TestDynamoDBStorageAtFullSize(TestDynamoDBStorage):
    writers, slots, churn, crowd = 64, 200, 100, 120
    long_log = 10_000


class TestDynamoDBWithMuchKeptOutside(OnDynamoDB):
    """Values of any size: what no item holds, too. Raced less, since the store alone is raced above."""

    writers, slots, churn, crowd = 4, 10, 10, 12
    long_log = 50

    def make_store(self) -> WorkflowStorage:
        return ClaimCheckStorage(super().make_store(), MemoryPayloads(), 200)

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        assert isinstance(store, ClaimCheckStorage)
        assert isinstance(store.inner, DynamoDBStorage)
        store.inner.close()
        again = DynamoDBStorage(store.inner.table, session=_session(), call_timeout=60)
        return ClaimCheckStorage(again, store.payloads, 200)
