"""The requests of one call of the store: tried again while the call's time lasts, and many at once where that helps.

It must not know what an object means. A put whose answer was lost is put again and then finds its own object: who
puts what could be another's compares. A time-line of the worst call that reads and then writes, for a limit t:

    0                                     t/2                                t
    | a request, a pause, a request, ...   | no request begins here          |
                                           | the last one, of t/2 at most    |

What is as long as a log begins the time anew with each page and each object, since it gets on.
"""

from __future__ import annotations

import random
import time
from _thread import allocate_lock
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
        """`time_limit` in seconds is that of a whole call; one request may take half of it."""
        if not time_limit > 0:
            raise DefinitionError(f"{kind} needs a time_limit of more than 0 seconds, not {time_limit!r}.")
        self.place = place
        self.time_limit = time_limit
        self.request_limit = time_limit / 2
        self._kind = kind
        self._options = dict(options or {})
        self._objects: ObjectStore | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._opening = allocate_lock()
        """Two clients for one place in memory would be two places."""

    def call(self) -> Patience:
        """A new call begins: its requests share the time limit."""
        return Patience(self, self._objects or self.objects())

    def objects(self) -> ObjectStore:
        """The client; `StorageUnavailable` if the store was closed."""
        with self._opening:
            if self._closed:
                raise self.was_closed()
            if self._objects is None:
                from flux_blob.places import open_place

                self._objects = open_place(self.place, self._options, self.request_limit)
            return self._objects

    def at_once(self, work: Callable[[A], B], items: list[A]) -> Iterator[B]:
        """`work` of each item on the store's threads."""
        with self._opening:
            if self._closed:
                raise self.was_closed()
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(AT_ONCE, "flux-blob")
            return self._pool.map(work, items)

    def was_closed(self) -> StorageUnavailable:
        """What a call is told."""
        return StorageUnavailable(f"This {self._kind} at {self.place} was closed. Make a new one.")

    def close(self) -> None:
        """Let go of client and threads; what is under way comes to its end."""
        with self._opening:
            self._closed, self._objects = True, None
            if self._pool is not None:
                self._pool.shutdown(wait=False)


class Patience:
    """One call's requests. None that writes, or begins a list, begins when it could outlast the call's time."""

    __slots__ = ("_connection", "_last", "_objects")

    def __init__(self, connection: Connection, objects: ObjectStore) -> None:
        """Its time begins."""
        self._connection = connection
        self._objects = objects
        self._renew()

    def _renew(self) -> None:
        """Set the moment (monotonic) after which no request begins."""
        self._last = time.monotonic() + self._connection.time_limit - self._connection.request_limit

    def put(self, key: str, data: bytes) -> bool:
        """Put an object if the key is free. False: it is taken, perhaps by a try of this very put."""
        self._in_time()
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

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """The objects in that order, several at the same time; None for one that is not there."""

        def get(key: str) -> bytes | None:
            found = self.get(key)
            self._renew()
            return found

        return self.together(get, keys)

    def keys(self, folder: str, after: str = "") -> Iterator[list[Entry]]:
        """The keys under `folder/` greater than `after`, in order, page by page as they are read."""
        self._in_time()
        pages, first = self._objects.keys(folder, after), True
        while True:
            try:
                page = next(pages, None)
            except Trouble as trouble:
                pages, page = self._again(trouble, partial(self._restarted, folder, after))
            if page is None:
                return
            if not first:
                self._renew()
            first, after = False, page[-1].key
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
        return [*self._connection.at_once(work, todo)]

    def breathe(self) -> None:
        """Pause before a key that was neither free nor there is tried again: somebody else's put is under way."""
        time.sleep(_FIRST_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311 -- as below

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
