"""`SQLiteStorage` keeps the store contract, at the level that is its default and at the fastest one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from flux_core.testing import StoreContract
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from flux_core.ports import WorkflowStorage


class TestSQLiteStorage(StoreContract):
    synchronous: Literal["OFF", "FULL"] = "OFF"

    def make_store(self) -> SQLiteStorage:
        self.folders = getattr(self, "folders", [])
        self.folders.append(TemporaryDirectory())
        return SQLiteStorage(Path(self.folders[-1].name) / "flux.db", synchronous=self.synchronous)

    def reopen(self, store: WorkflowStorage) -> SQLiteStorage:
        assert isinstance(store, SQLiteStorage)
        store.close()
        return SQLiteStorage(store.path, synchronous=self.synchronous)

    def teardown_method(self) -> None:
        super().teardown_method()
        for folder in self.folders:
            folder.cleanup()


class TestSQLiteStorageThatSyncsEveryCommit(TestSQLiteStorage):
    synchronous = "FULL"
