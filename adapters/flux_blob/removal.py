"""Removing an instance: a tombstone first, so that nobody appends; record 0 last, so that nobody starts it over.

    tombstone -> snapshots, mail, payloads, records from the last to the first -> index entries -> record 0 -> tombstone

It needs the right to delete, which the role that runs workflows does not have (PROTOCOL rule 20).
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from flux_blob import layout
from flux_blob.envelope import Tombstone, pack_tombstone
from flux_blob.layout import DueEntry
from flux_core.errors import PurgeUnfinished
from flux_core.keys import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_blob.log import Log, Position
    from flux_blob.patience import Patience
    from flux_core.ports import InstanceRef

_LONGEST_MS: Final = 15 * 60 * 1000
"""A purge that began longer ago was interrupted, and another may complete it."""


class Removal:
    """The purges of one store."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._layout = log.layout
        self._failed: dict[InstanceRef, str] = {}
        """Tombstones of purges that this store began and did not complete."""

    def purge(self, call: Callable[[], Patience], ref: InstanceRef, seq: int) -> bool:
        """Remove the instance whose newest record is `seq`; False, nothing removed, if it is not, or another does."""
        send = call()
        base = self._layout.instance(ref)
        first, last = layout.record(base, 0), layout.record(base, seq + 1)
        identity = send.get(first)
        if identity is None:
            return self._is_last_request(send, ref, seq, last)
        entries: list[str] = []
        mark = Tombstone(int(time.time() * 1000), secrets.token_hex(6), sha256(identity))
        try:
            tail = self._log.tail(send, ref)
            if tail is None or tail[0] != seq:
                return False
            entries = self._entries(self._log.position(send, ref), ref)
        except PurgeUnfinished as begun:
            there = self._log.record(send, ref, seq + 1)
            if begun.seq != seq or not isinstance(there, Tombstone) or not self._may_go_on(ref, there):
                return False
            mark = there
        try:
            if not send.put(last, pack_tombstone(mark)) and self._log.record(send, ref, seq + 1) != mark:
                return False
            if send.get(first) != identity:
                send.delete([last])  # somebody else was quicker
                return False
            for part in ("S", "M", "P", "L"):
                self._empty(call, f"{base}/{part}", keep={first, last})
            self._empty(call, f"{base}/M", keep=set())  # a signal may have come meanwhile
            for keys in (entries, [first], [last]):
                call().delete(keys)
        except BaseException:
            self._failed[ref] = mark.token
            raise
        self._failed.pop(ref, None)
        return True

    def _is_last_request(self, send: Patience, ref: InstanceRef, seq: int, key: str) -> bool:
        """There is no record 0: perhaps a purge was interrupted before its last request, which is made here."""
        there = self._log.record(send, ref, seq + 1)
        if not isinstance(there, Tombstone) or not self._may_go_on(ref, there):
            return False
        send.delete([key])
        self._failed.pop(ref, None)
        return True

    def _may_go_on(self, ref: InstanceRef, there: Tombstone) -> bool:
        return self._failed.get(ref) == there.token or time.time() * 1000 - there.at > _LONGEST_MS

    def _entries(self, position: Position | None, ref: InstanceRef) -> list[str]:
        """The index entries of the newest header; older ones, left by crashes, go when their time comes."""
        if position is None:
            return []
        standing, entry = position.standing, position.entry
        found = [self._layout.mark(ref, standing.header, standing.mark)]
        if entry.due is not None:
            found.append(self._layout.due(DueEntry(entry.due, ref, position.at, entry.n, entry.token)))
        return found

    def _empty(self, call: Callable[[], Patience], folder: str, keep: set[str]) -> None:
        """Delete what is in a folder, the last keys first."""
        keys = [entry.key for page in call().keys(folder) for entry in page if entry.key not in keep]
        for end in range(len(keys), 0, -1000):
            call().delete(keys[max(end - 1000, 0) : end][::-1])
