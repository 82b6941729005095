"""`FirestoreStorage` keeps the store contract, on Google's emulator."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_core.claim_check import ClaimCheckStorage
from flux_core.errors import PayloadTooLarge
from flux_core.payloads import MemoryPayloads
from flux_core.testing import StoreContract
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core.ports import WorkflowStorage

_numbers = count(1)
PATIENT = 60.0
"""Seconds: a machine that runs tests may be busy."""


@pytest.fixture(autouse=True, scope="module")
def _emulator(firestore_emulator: str) -> Iterator[None]:
    """Before `setup_method` makes the first store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMULATOR, firestore_emulator)
        yield


class OnFirestore(StoreContract):
    writers = 16  # 64 writers on 200 slots, in several processes: tests/gcp/test_firestore_processes.py
    slots = 40
    long_log = 500
    churn = 40
    crowd = 60

    def make_store(self) -> WorkflowStorage:
        return FirestoreStorage(f"contract-{next(_numbers)}", timeout=PATIENT)


class TestFirestoreStorage(OnFirestore):
    def reopen(self, store: WorkflowStorage) -> FirestoreStorage:
        assert isinstance(store, FirestoreStorage)
        store.close()
        return FirestoreStorage(store.settings.project, timeout=PATIENT)

    # A document holds 1 MiB, its name included. A record that is larger is for the layer above, which keeps it outside.

    def test_a_record_of_one_mebibyte_comes_back(self) -> None:
        with pytest.raises(PayloadTooLarge):
            super().test_a_record_of_one_mebibyte_comes_back()


@pytest.mark.soak
class TestFirestoreStorageAtFullSize(TestFirestoreStorage):
    writers, slots, churn, crowd = 64, 200, 100, 120
    long_log = 10_000


class TestFirestoreWithMuchKeptOutside(OnFirestore):
    """Values of any size: what no document holds, too. Raced less, since the store alone is raced above."""

    writers, slots, churn, crowd = 4, 10, 10, 12
    long_log = 50

    def make_store(self) -> WorkflowStorage:
        return ClaimCheckStorage(super().make_store(), MemoryPayloads(), 200)

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        assert isinstance(store, ClaimCheckStorage)
        assert isinstance(store.inner, FirestoreStorage)
        store.inner.close()
        return ClaimCheckStorage(FirestoreStorage(store.inner.settings.project, timeout=PATIENT), store.payloads, 200)
