"""The store of docs/writing-a-store.md passes the store contract, in the very five lines that the page shows."""

from __future__ import annotations

from flux_core.testing import StoreContract
from tests.docs.conftest import ROOT, python_blocks

_page = python_blocks(ROOT / "docs" / "writing-a-store.md")
for _block in _page:
    _block.evaluate()

TestDictStorage: type[StoreContract] = _page.namespace["TestDictStorage"]


def test_the_page_shows_the_contract() -> None:
    assert issubclass(TestDictStorage, StoreContract)
