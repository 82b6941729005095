from __future__ import annotations
from flux_core.testing import StoreContract, PayloadContract
from flux_blob import BlobStorage, BlobPayloads
class TestMem(StoreContract):
    def make_store(self): return BlobStorage("memory://")
