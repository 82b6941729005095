"""`FolderPayloads`: payloads as files in a local folder, for the store of one machine.

A payload is a file named by its SHA-256, in a folder for its instance: `12/12ab.../P/<sha256>`, from the hash of the
instance's key, because file systems disagree about which names are the same. A file appears whole or not at all.
It must not know what a payload holds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from flux_core.errors import DefinitionError, PayloadMissing, StorageUnavailable
from flux_core.keys import sha256

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef


class FolderPayloads:
    """A `PayloadStorage` in the folder at `path`, which is made when first needed.

    `sync` (default) keeps every payload that was put through a power failure, as `SQLiteStorage` does with "FULL";
    without it through the death of the process only. Any number of processes may use the folder, on a local disk.
    """

    ephemeral = False

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = True) -> None:
        """`DefinitionError` for an empty path."""
        name = os.fspath(path)
        if not name:
            message = "FolderPayloads needs the path of a folder, not ''."
            raise DefinitionError(message)
        self.path = os.path.abspath(name)  # noqa: PTH100 -- importing pathlib would cost more than the rest
        """The absolute path of the folder."""
        self._sync = sync
        self._closed = False

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`, unless the instance has it already."""
        folder = self._folder(ref)
        path = f"{folder}/{digest}"
        try:
            if not os.path.exists(path):  # noqa: PTH110 -- as above
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- as above
                self._write(f"{folder}/.{digest}.{os.getpid()}.{os.urandom(8).hex()}", path, data)
            if self._sync:
                self._sync_names(folder)  # also if it was there: whoever put it may have died before this
        except OSError as error:
            raise self._fault(f"keep a payload of {len(data)} bytes", error) from error

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """The payload; `PayloadMissing` if there is none."""
        path = f"{self._folder(ref)}/{digest}"
        try:
            with open(path, "rb") as file:  # noqa: PTH123 -- as above
                return file.read()
        except FileNotFoundError as error:
            message = f"the file {path} is not there"
            raise PayloadMissing(message) from error
        except OSError as error:
            raise self._fault(f"read {path}", error) from error

    def purge(self, ref: InstanceRef) -> None:
        """Remove all payloads of the instance, and what writers that died have left."""
        folder = self._folder(ref)
        try:
            for name in os.listdir(folder):  # noqa: PTH208 -- as above
                with suppress(FileNotFoundError):  # another one removes them too
                    os.unlink(f"{folder}/{name}")  # noqa: PTH108 -- as above
            os.rmdir(folder)  # noqa: PTH106 -- as above
            os.rmdir(os.path.dirname(folder))  # noqa: PTH106, PTH120 -- as above
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._fault(f"remove {folder}", error) from error

    def ensure(self) -> None:
        """Make the folder if it is absent."""
        self._check_open()
        try:
            os.makedirs(self.path, exist_ok=True)  # noqa: PTH103 -- as above
        except OSError as error:
            raise self._fault("be made", error) from error

    def close(self) -> None:
        """Nothing is open; later calls raise `StorageUnavailable`."""
        self._closed = True

    def _folder(self, ref: InstanceRef) -> str:
        self._check_open()
        name = sha256("/".join(ref).encode())
        return f"{self.path}/{name[:2]}/{name}/P"

    def _write(self, unfinished: str, path: str, data: bytes) -> None:
        try:
            with open(unfinished, "xb") as file:  # noqa: PTH123 -- as above
                file.write(data)
                if self._sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(unfinished, path)  # noqa: PTH105 -- as above; if another one was quicker it is the same
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)  # noqa: PTH108 -- as above
            raise

    def _sync_names(self, folder: str) -> None:
        """A file is safe once the folders that lead to it are."""
        while True:
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
            if folder == self.path:
                return
            folder = os.path.dirname(folder)  # noqa: PTH120 -- as above

    def _check_open(self) -> None:
        if self._closed:
            message = f"This FolderPayloads on {self.path} was closed. Make a new one."
            raise StorageUnavailable(message)

    def _fault(self, what: str, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(
            f"The payload folder {self.path} could not {what} ({error}). Check its permissions and the free space of "
            f"its disk; what was acknowledged is safe."
        )
