"""The side-effect journal: what really happened outside, one line an effect, whatever any workflow record says.

A file opened with O_APPEND, one write and one fsync a line; a process that is killed leaves whole lines. It knows
nothing of Flux, and it must not: the demo's proof reads this file alone. Needs POSIX (flock).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EFFECTS: Final = ("reserve", "release", "charge", "refund", "ship", "notify")
"""What changes the world."""

DUPLICATE: Final = "duplicate_suppressed"
"""A request whose key the other side had seen: it answered with the first effect and did nothing."""

LOOKUP: Final = "lookup"
"""A question whether an effect happened; `of` names it, `found` is the answer."""


class Entry(NamedTuple):
    """One line of the journal."""

    effect: str
    key: str
    order: str
    amount: int
    """In cents; 0 where no money moves."""
    ref: str
    """The other side's name for the effect."""
    of: str
    found: bool
    pid: int
    at: int
    """Milliseconds since the epoch."""


class Journal:
    """Appends effects, from any number of threads and processes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = Lock()
        self._read_to = 0
        self._refs: dict[tuple[str, str], str] = {}

    def once(self, effect: str, key: str, order: str, amount: int = 0, *, remembers: bool = True) -> str:
        """The effect's reference. A known key gets the first one's, as a real provider does; if it `remembers`."""
        with self._alone():
            known = self._refs.get((effect, key)) if remembers else None
            if known is None:
                ref = f"{effect}-{order}-{self._read_to}"
                self._append(Entry(effect, key, order, amount, ref, "", False, os.getpid(), _now()))
            else:
                ref = known
                self._append(Entry(DUPLICATE, key, order, amount, ref, effect, True, os.getpid(), _now()))
        os.fsync(self._file)
        return ref

    def find(self, effect: str, key: str, order: str) -> str | None:
        """The reference of the effect with that key, if it happened. The question itself is journalled too."""
        with self._alone():
            ref = self._refs.get((effect, key))
            self._append(Entry(LOOKUP, key, order, 0, ref or "", effect, ref is not None, os.getpid(), _now()))
        return ref

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process and one thread at a time, with everything read that the others have written."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._catch_up()
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        size = os.fstat(self._file).st_size
        for entry in _entries(os.pread(self._file, size - self._read_to, self._read_to)):
            if entry.effect in EFFECTS:
                self._refs.setdefault((entry.effect, entry.key), entry.ref)
        self._read_to = size

    def _append(self, entry: Entry) -> None:
        os.write(self._file, (json.dumps(entry._asdict(), separators=(",", ":")) + "\n").encode())


def read_journal(path: Path) -> list[Entry]:
    """Every entry in order. `ValueError` for a line that is none: then the journal proves nothing."""
    return _entries(path.read_bytes()) if path.exists() else []


def _entries(raw: bytes) -> list[Entry]:
    return [Entry(**json.loads(line)) for line in raw.splitlines()]


def _now() -> int:
    return time.time_ns() // 1_000_000
