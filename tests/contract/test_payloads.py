"""The payload stores keep their contract, and what they promise beyond."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from flux_core import DefinitionError, InstanceRef, PayloadMissing, StorageUnavailable
from flux_core.encoding import EncodedPayloads
from flux_core.keys import sha256
from flux_core.payloads import MemoryPayloads
from flux_core.testing import PayloadContract
from flux_local import FolderPayloads
from tests.contract.codecs import Scrambled

if TYPE_CHECKING:
    from flux_core import PayloadStorage

ORDER = InstanceRef("acme", "order", "1")


class TestMemoryPayloads(PayloadContract):
    def make_payloads(self) -> MemoryPayloads:
        return MemoryPayloads()


class TestEncodedPayloads(PayloadContract):
    def make_payloads(self) -> EncodedPayloads:
        return EncodedPayloads(MemoryPayloads(), Scrambled())


class TestFolderPayloads(PayloadContract):
    sync = False

    def make_payloads(self) -> FolderPayloads:
        self.folders = getattr(self, "folders", [])
        self.folders.append(TemporaryDirectory())
        return FolderPayloads(Path(self.folders[-1].name) / "payloads", sync=self.sync)

    def reopen(self, payloads: PayloadStorage) -> FolderPayloads:
        assert isinstance(payloads, FolderPayloads)
        payloads.close()
        return FolderPayloads(payloads.path)

    def teardown_method(self) -> None:
        super().teardown_method()
        for folder in self.folders:
            folder.cleanup()


class TestFolderPayloadsThatSync(TestFolderPayloads):
    sync = True


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_equal_content_is_one_file(tmp_path: Path) -> None:
    payloads = FolderPayloads(tmp_path)
    for _ in range(3):
        payloads.put(ORDER, sha256(b"same"), b"same")
    (file,) = files(tmp_path)
    assert (file.name, file.read_bytes()) == (sha256(b"same"), b"same")


def test_purge_leaves_no_file_and_no_folder_of_the_instance(tmp_path: Path) -> None:
    payloads = FolderPayloads(tmp_path)
    payloads.put(ORDER, sha256(b"x"), b"x")
    (file,) = files(tmp_path)
    (file.parent / ".left-by-a-writer-that-died").write_bytes(b"half")
    payloads.purge(ORDER)
    assert not file.parent.parent.exists()


def test_a_writer_that_fails_leaves_nothing_that_could_be_taken_for_a_payload(tmp_path: Path) -> None:
    payloads = FolderPayloads(tmp_path)
    payloads.put(ORDER, sha256(b"x"), b"x")
    with pytest.raises(TypeError):
        payloads.put(ORDER, sha256(b"y"), None)  # type: ignore[arg-type]  # it fails while writing
    assert [file.name for file in files(tmp_path)] == [sha256(b"x")]
    with pytest.raises(PayloadMissing, match=sha256(b"y")):
        payloads.get(ORDER, sha256(b"y"))


def test_a_folder_that_cannot_be_made_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    payloads = FolderPayloads(tmp_path / "file" / "payloads")
    with pytest.raises(StorageUnavailable, match=r"file/payloads could not be made .*Check its permissions"):
        payloads.ensure()
    with pytest.raises(StorageUnavailable, match=r"could not keep a payload of 1 bytes"):
        payloads.put(ORDER, sha256(b"x"), b"x")
    with pytest.raises(StorageUnavailable, match="could not read"):
        payloads.get(ORDER, sha256(b"x"))


def test_a_folder_needs_a_path() -> None:
    with pytest.raises(DefinitionError, match="needs the path of a folder"):
        FolderPayloads("")


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    FolderPayloads(tmp_path / "payloads")
    assert list(tmp_path.iterdir()) == []
