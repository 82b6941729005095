"""The codec of docs/payloads.md, made with the package `cryptography`, behind the whole store contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core.claim_check import ClaimCheckStorage
from flux_core.encoding import EncodedStorage
from flux_core.memory import MemoryStorage
from flux_core.payloads import MemoryPayloads
from flux_core.testing import StoreContract
from tests.docs.conftest import ROOT, python_blocks

if TYPE_CHECKING:
    from flux_core.ports import WorkflowStorage

_page = python_blocks(ROOT / "docs" / "payloads.md")
for _block in _page:
    if "class AesGcm" in _block.parsed:
        _block.evaluate()
AesGcm: Any = _page.namespace["AesGcm"]


class TestEncrypted(StoreContract):
    writers = 16

    def make_store(self) -> WorkflowStorage:
        layers = ClaimCheckStorage(MemoryStorage(), MemoryPayloads(), 60)
        return EncodedStorage(layers, AesGcm({"2026": bytes(32)}, "2026"))
