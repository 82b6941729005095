"""The requests of one call of the store: tried again while the call's time lasts, and many at once where that helps.

It must not know what an object means. A put whose answer was lost is put again and then finds its own object: who
puts what could be another's compares.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from flux_blob.objects import Trouble
from flux_core.errors import DefinitionError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    from flux_blob.objects import Entry, ObjectStore
    from flux_blob.places import Place

A = TypeVar("A")
B = TypeVar("B")

AT_ONCE: Final = 16
"""Requests of one store that run at the same time, where a call needs many."""
_BULK: Final = 1000
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Connection:
    """The object store at a place, opened by the first call, and shared by all calls until it is closed."""

    def __init__(self, place: Place, options: Mapping[str, Any] | None, time_limit: float, kind: str) -> None:
        """`time_limit` in seconds is that of a whole call; one request may take a quarter of it."""
        if not time_limit > 0:
            raise DefinitionError(f"{kind} needs a time_limit of more than 0 seconds, not {time_limit!r}.")
        self.place = place
        self.time_limit = time_limit
        self.request_limit = time_limit / 4
        self._kind = kind
        self._options = dict(options or {})
        self._objects: ObjectStore | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def call(self, time_limit: float | None = None) -> Patience:
        """A new call begins: its requests share `time_limit` seconds."""
        objects = self._objects
        if objects is None or self._closed:
            objects = self.objects()
        return Patience(self, objects, time.monotonic() + (time_limit or self.time_limit) - self.request_limit)

    def objects(self) -> ObjectStore:
        """The client; `StorageUnavailable` if the store was closed."""
        if self._closed:
            raise StorageUnavailable(f"This {self._kind} at {self.place} was closed. Make a new one.")
        if self._objects is None:
            from flux_blob.places import open_place

            self._objects = open_place(self.place, self._options, self.request_limit)
        return self._objects

    def pool(self) -> ThreadPoolExecutor:
        """The threads for requests at the same time."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(AT_ONCE, "flux-blob")
        return self._pool

    def close(self) -> None:
        """Let go of client and threads."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False)


class Patience:
    """One call's requests. No request begins that could outlast the call's time."""

    __slots__ = ("_connection", "_last", "_objects")

    def __init__(self, connection: Connection, objects: ObjectStore, last: float) -> None:
        """`last` is the moment (monotonic) after which no request begins."""
        self._connection = connection
        self._objects = objects
        self._last = last

    def put(self, key: str, data: bytes) -> bool:
        """Put an object if the key is free. False: it is taken, perhaps by a try of this very put."""
        try:
            return self._objects.put(key, data)
        except Trouble as trouble:
            return self._again(trouble, lambda: self._objects.put(key, data))

    def get(self, key: str) -> bytes | None:
        """The object; None if there is none."""
        try:
            return self._objects.get(key)
        except Trouble as trouble:
            return self._again(trouble, lambda: self._objects.get(key))

    def keys(self, folder: str, after: str = "") -> Iterator[list[Entry]]:
        """The keys under `folder/` greater than `after`, in order, page by page as they are read."""
        pages = self._objects.keys(folder, after)
        while True:
            try:
                page = next(pages, None)
            except Trouble as trouble:
                pages, page = self._again(trouble, partial(self._restarted, folder, after))
            if page is None:
                return
            self._in_time()
            after = page[-1].key
            yield page

    def _restarted(self, folder: str, after: str) -> tuple[Iterator[list[Entry]], list[Entry] | None]:
        pages = self._objects.keys(folder, after)
        return pages, next(pages, None)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly under `folder/`."""
        try:
            return self._objects.folders(folder)
        except Trouble as trouble:
            return self._again(trouble, lambda: self._objects.folders(folder))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete exactly these objects."""
        if not keys:
            return
        if len(keys) == 1 or self._objects.bulk:
            for first in range(0, len(keys), _BULK):
                self._delete(keys[first : first + _BULK])
        else:
            self.together(lambda key: self._delete([key]), keys)

    def discard(self, keys: Sequence[str]) -> None:
        """Delete index entries that nobody needs; who does not get to it leaves them to the next who meets them."""
        if keys and time.monotonic() <= self._last:
            try:
                self._objects.delete(keys)
            except Trouble:
                return

    def together(self, work: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """`work` of each item, several at the same time; the results are in the items' order."""
        todo = [*items]
        if len(todo) <= 1:
            return [work(item) for item in todo]
        return [*self._connection.pool().map(work, todo)]

    def ensure(self) -> None:
        """Create the place if it is absent and can be made."""
        try:
            self._objects.ensure()
        except Trouble as trouble:
            self._again(trouble, self._objects.ensure)

    # --- inside ----------------------------------------------------------------------------------------------

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            self._objects.delete(keys)
        except Trouble as trouble:
            self._again(trouble, lambda: self._objects.delete(keys))

    def _again(self, trouble: Trouble, work: Callable[[], A]) -> A:
        pause = _FIRST_PAUSE
        while trouble.passing and time.monotonic() + pause <= self._last:
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads the tries of many
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                return work()
            except Trouble as next_one:
                trouble = next_one
        raise trouble.error from trouble

    def _in_time(self) -> None:
        if time.monotonic() > self._last:
            raise StorageUnavailable(
                f"{self._objects.name} did not answer all of a call within {self._connection.time_limit:g} s. "
                "Pass a larger time_limit, or look at the service and the network."
            )
