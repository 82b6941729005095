"""`MemoryPayloads`: payloads for development and tests. It must not outlive the process, nor pretend to."""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.errors import PayloadMissing, StorageUnavailable
from flux_core.ports import PayloadStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.ports import InstanceRef

__all__ = ["MemoryPayloads", "PayloadStorage"]


class MemoryPayloads:
    """A `PayloadStorage` in this process's memory: thread-safe, and lost when the process ends."""

    ephemeral = True

    def __init__(self) -> None:
        """An empty one."""
        self._lock = allocate_lock()
        self._payloads: dict[InstanceRef, dict[str, bytes]] | None = {}

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """Keep `data` under `digest`, unless the instance has it already."""
        with self._lock:
            self._open().setdefault(ref, {}).setdefault(digest, data)

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """The payload; `PayloadMissing` if there is none."""
        with self._lock:
            found = self._open().get(ref, {}).get(digest)
        if found is None:
            message = f"this MemoryPayloads has no payload {digest} of {'/'.join(ref)}"
            raise PayloadMissing(message)
        return found

    def digests(self, ref: InstanceRef) -> list[str]:
        """The digests of all payloads of an instance, in order."""
        with self._lock:
            return sorted(self._open().get(ref, ()))

    def purge(self, ref: InstanceRef) -> None:
        """Remove all payloads of the instance."""
        with self._lock:
            self._open().pop(ref, None)

    def ensure(self) -> None:
        """Nothing has to be created."""

    def close(self) -> None:
        """Forget everything; later calls raise `StorageUnavailable`."""
        with self._lock:
            self._payloads = None

    def _open(self) -> dict[InstanceRef, dict[str, bytes]]:
        if self._payloads is None:
            message = "This MemoryPayloads was closed, and what it held is gone. Make a new one."
            raise StorageUnavailable(message)
        return self._payloads
