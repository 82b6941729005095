"""What is special about a folder: it is made when first needed, and loses its empty folders while others write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flux_blob import BlobStorage
from flux_core.ports import Header, InstanceRef
from tests.contract.processes import python

if TYPE_CHECKING:
    from pathlib import Path

ORDER = InstanceRef("acme", "order", "1")

BUSY = """
import json, sys
from flux_blob import BlobStorage
from flux_core.ports import Header, InstanceRef
path, name, turns = json.loads(sys.argv[1])
store = BlobStorage(path)
standing = InstanceRef("acme", "order", "standing")
missed = 0
for turn in range(turns):
    ref = InstanceRef("acme", "order", f"{name}-{turn}")
    assert store.append(ref, 0, b"x", Header("running", 1, 1, 1, 0, 5)) is None
    assert store.append(ref, 1, b"y", Header("completed", 1, 1, 1, 1, None)) is None
    missed += standing not in [entry.ref for entry in store.due(5, 1_000)]
print(json.dumps(missed))
"""


def test_processes_that_empty_and_fill_the_same_folders_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "store")
    store = BlobStorage(path)
    store.append(ORDER._replace(id="standing"), 0, b"x", Header("running", 1, 1, 1, 0, 5))
    writers = [python(BUSY, path, name, 60) for name in "abcd"]
    assert [json.loads(writer.communicate(timeout=120)[0]) for writer in writers] == [0] * 4
    assert len(store.list("acme", statuses=["completed"], limit=1_000).items) == 240
    assert [entry.ref.id for entry in store.due(5, 1_000)] == ["standing"]


def test_nothing_is_left_in_the_folder_of_an_instance_that_was_removed(tmp_path: Path) -> None:
    store = BlobStorage(tmp_path / "store")
    store.append(ORDER, 0, b"x", Header("running", 1, 1, 1, 0, 5))
    assert store.purge(ORDER, 0)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_store_without_anything_answers_like_an_empty_one(tmp_path: Path) -> None:
    store = BlobStorage(tmp_path / "store")
    assert (store.read(ORDER), store.tail(ORDER), store.mail(ORDER)) == ([], None, [])
    assert (store.due(5, 5), list(store.list("acme").items)) == ([], [])
