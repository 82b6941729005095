"""An object store that counts its requests, and breaks at the one that a test names."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from flux_blob.objects import Trouble
from flux_core.errors import StorageUnavailable
from flux_core.testing import InvocationDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flux_blob import BlobPayloads, BlobStorage
    from flux_blob.objects import Entry, ObjectStore

T = TypeVar("T")

DIES_BEFORE: Final = "the process dies before the request"
DIES_AFTER: Final = "the process dies after the request"
LOST: Final = "the answer is lost"
REFUSED: Final = "the service is busy"
AREAS: Final = {"L": "records", "S": "snapshots", "M": "mail", "P": "payloads"}


class Request(NamedTuple):
    """One request as it began."""

    verb: str
    key: str

    @property
    def area(self) -> str:
        """What it is about: records, changes of due times, snapshots, mail, payloads, due, list."""
        parts = self.key.split("/")
        for place, part in enumerate(parts):
            if part in {"_due", "_list"}:
                return part[1:]
            if part in AREAS and place >= 4 - ("_due" not in parts):
                return "changes" if part == "L" and "." in parts[-1] else AREAS[part]
        return "?"

    def __str__(self) -> str:
        return f"{self.verb} {self.area}"


class Watched:
    """Around another object store. Put in place by `watch`."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.name, self.ephemeral, self.bulk = inner.name, inner.ephemeral, inner.bulk
        self.requests: list[Request] = []
        self.faults: dict[int, str] = {}
        """Number of a request that writes, from 1 -> what happens."""
        self.writes = 0
        self.after_write: Callable[[], object] | None = None
        self.on_death: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def take(self) -> dict[str, int]:
        """The requests since the last `take`, counted: `put records` -> 3."""
        counts: dict[str, int] = {}
        for request in self.requests:
            counts[str(request)] = counts.get(str(request), 0) + 1
        self.requests.clear()
        return dict(sorted(counts.items()))

    def put(self, key: str, data: bytes) -> bool:
        return self._write(Request("put", key), lambda: self.inner.put(key, data))

    def get(self, key: str) -> bytes | None:
        self._note(Request("get", key))
        return self.inner.get(key)

    def keys(self, folder: str, after: str) -> Iterator[list[Entry]]:
        self._note(Request("list", f"{folder}/"))
        return self.inner.keys(folder, after)

    def folders(self, folder: str) -> list[str]:
        self._note(Request("list", f"{folder}/"))
        return self.inner.folders(folder)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._write(Request("delete", key), lambda key=key: self.inner.delete([key]))  # type: ignore[misc]

    def ensure(self) -> None:
        self.inner.ensure()

    def _note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def _write(self, request: Request, work: Callable[[], T]) -> T:
        with self._lock:
            self.requests.append(request)
            self.writes += 1
            fault = self.faults.get(self.writes)
        if fault == DIES_BEFORE:
            self._die(request)
        if fault == REFUSED:
            raise Trouble(StorageUnavailable(f"busy at {request}"), passing=True)
        answer = work()
        if self.after_write is not None:
            self.after_write()
        if fault == LOST:
            raise Trouble(StorageUnavailable(f"lost at {request}"), passing=True)
        if fault == DIES_AFTER:
            self._die(request)
        return answer

    def _die(self, request: Request) -> None:
        if self.on_death is not None:
            self.on_death()
        raise InvocationDied(str(request))


def watch(store: BlobStorage | BlobPayloads) -> Watched:
    """Count the requests of `store` from now on."""
    watched = Watched(store._connection.objects())
    store._connection._objects = watched
    return watched


def twin(store: BlobStorage) -> BlobStorage:
    """Another process's store at the same place: it shares the objects and knows nothing."""
    from flux_blob import BlobStorage

    other = BlobStorage(store.address)
    objects = store._connection.objects()
    other._connection._objects = objects.inner if isinstance(objects, Watched) else objects
    other._layout.root = store._layout.root
    return other
