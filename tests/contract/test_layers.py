"""A store within layers keeps the store contract: with nearly all bytes in a payload store, encoded, or both."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flux_core.claim_check import ClaimCheckStorage
from flux_core.encoding import EncodedPayloads, EncodedStorage
from flux_core.layer import StorageLayer
from flux_core.memory import MemoryStorage
from flux_core.payloads import MemoryPayloads
from flux_core.testing import StoreContract
from flux_local import FolderPayloads, SQLiteStorage
from tests.contract.codecs import Scrambled

if TYPE_CHECKING:
    from flux_core.ports import WorkflowStorage


class TestEverythingKeptOutside(StoreContract):
    def make_store(self) -> WorkflowStorage:
        return ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 0)


class TestMuchKeptOutside(StoreContract):
    def make_store(self) -> WorkflowStorage:
        return ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 200)


class TestEncoded(StoreContract):
    def make_store(self) -> WorkflowStorage:
        return EncodedStorage(MemoryStorage(), Scrambled())


class TestEncodedThenKeptOutside(StoreContract):
    def make_store(self) -> WorkflowStorage:
        return EncodedStorage(ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 20), Scrambled())


class TestKeptOutsideThenEncoded(StoreContract):
    def make_store(self) -> WorkflowStorage:
        codec = Scrambled()
        inner = EncodedStorage(MemoryStorage(), codec)
        return ClaimCheckStorage(inner, EncodedPayloads(MemoryPayloads(), codec), 8)


class TestSQLiteWithAFolder(StoreContract):
    inline = 200
    writers = 16  # the claim check itself is raced above; here it is about the two on one disk

    def make_store(self) -> WorkflowStorage:
        self.folders = getattr(self, "folders", [])
        self.folders.append(TemporaryDirectory())
        return self.opened(Path(self.folders[-1].name))

    def opened(self, folder: Path) -> WorkflowStorage:
        storage = SQLiteStorage(folder / "flux.db", synchronous="OFF")
        return ClaimCheckStorage(storage, FolderPayloads(folder / "payloads", sync=False), self.inline)

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        assert isinstance(store, StorageLayer)
        assert isinstance(store.inner, SQLiteStorage)
        store.close()
        return self.opened(Path(store.inner.path).parent)

    def teardown_method(self) -> None:
        super().teardown_method()
        for folder in self.folders:
            folder.cleanup()


class TestSQLiteWithNearlyEverythingInAFolder(TestSQLiteWithAFolder):
    inline = 8
    slots = 50
    long_log = 300
