"""`FirestoreStorage` keeps the store contract, on Google's emulator."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_core.errors import PayloadTooLarge
from flux_core.testing import StoreContract
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core.ports import WorkflowStorage

_numbers = count(1)


@pytest.fixture(autouse=True, scope="module")
def _emulator(firestore_emulator: str) -> Iterator[None]:
    """Before `setup_method` makes the first store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMULATOR, firestore_emulator)
        yield


class TestFirestoreStorage(StoreContract):
    writers = 16  # 64 writers on 200 slots, in several processes: tests/gcp/test_firestore_processes.py
    slots = 40
    long_log = 500
    crowd = 60

    def make_store(self) -> FirestoreStorage:
        return FirestoreStorage(f"contract-{next(_numbers)}")

    def reopen(self, store: WorkflowStorage) -> FirestoreStorage:
        assert isinstance(store, FirestoreStorage)
        store.close()
        return FirestoreStorage(store.settings.project)

    # A document holds 1 MiB, its name included. A record that is larger is for the layer above, which keeps it outside.

    def test_a_record_of_one_mebibyte_comes_back(self) -> None:
        with pytest.raises(PayloadTooLarge):
            super().test_a_record_of_one_mebibyte_comes_back()
