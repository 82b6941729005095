"""`PostgresStorage` keeps the store contract, bare and with nearly everything in a payload store."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from flux_core.claim_check import ClaimCheckStorage
from flux_core.payloads import MemoryPayloads
from flux_core.testing import StoreContract
from flux_local import PostgresStorage

if TYPE_CHECKING:
    from flux_core.ports import WorkflowStorage
    from tests.services.postgres import Postgres

_schemas = count(1)


class TestPostgresStorage(StoreContract):
    @pytest.fixture(autouse=True)
    def server(self, postgres: Postgres) -> None:
        self.url = postgres.url

    def setup_method(self) -> None:
        """The server is known only when the fixtures have run."""

    @pytest.fixture(autouse=True)
    def opened(self, server: None) -> None:
        super().setup_method()

    def make_store(self) -> WorkflowStorage:
        self.schema = f"contract_{next(_schemas)}"
        return self.open()

    def open(self) -> WorkflowStorage:
        return PostgresStorage(self.url, schema=self.schema, timeout=60)

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        store.close()
        return self.open()


class TestPostgresWithMuchKeptOutside(TestPostgresStorage):
    writers = 16

    def open(self) -> WorkflowStorage:
        self.payloads = getattr(self, "payloads", MemoryPayloads())
        return ClaimCheckStorage(PostgresStorage(self.url, schema=self.schema, timeout=60), self.payloads, 200)

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        assert isinstance(store, ClaimCheckStorage)
        store.inner.close()
        return self.open()
