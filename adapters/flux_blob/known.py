"""What this process knows of the ends of logs, so that a step costs one put and nothing else. It sends no request.

All of it may be out of date, since others write too: it says where to begin to look, and what stands in records that
never change. Only a purge makes it wrong; whoever notices forgets.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from flux_blob.envelope import Kept, Standing
    from flux_core.ports import InstanceRef

_MOST: Final = 4096


class Entry(NamedTuple):
    """The due entry that a header, or its `n`-th later due time, has in the index."""

    n: int
    due: int | None
    token: str


class Known(NamedTuple):
    """As of record `seq`."""

    seq: int
    pointer: int
    """The record with the newest header; `NO_HEADER` if there is none."""
    token: str
    """That header's; it tells one life of an id from another."""
    standing: Standing | None
    """What that record carries, if it was seen."""
    entry: Entry | None
    """Its due entry as it was last seen."""
    changes: int = 0
    """How many later due times that header is known to have."""


class KnownEnds:
    """Of the instances that were met last."""

    def __init__(self) -> None:
        self._ends: dict[InstanceRef, Known] = {}
        self._lock = allocate_lock()

    def get(self, ref: InstanceRef) -> Known | None:
        """What is known of an instance."""
        return self._ends.get(ref)

    def learn(self, ref: InstanceRef, seq: int, kept: Kept, *, anew: bool = False) -> Known:
        """Record `seq` was written or seen. `anew`: what was known of later records is wrong, or of another life."""
        old = None if anew else self._ends.get(ref)
        same = old is not None and (old.pointer, old.token) == (kept.pointer, kept.token)
        standing = kept.standing
        if old is not None and same and (standing is None or old.standing is not None):
            known = old._replace(seq=seq)
        elif standing is not None:
            known = Known(seq, seq, kept.token, standing, Entry(0, standing.header.due, standing.token))
        else:
            known = Known(seq, kept.pointer, kept.token, None, None)
        if old is None or old.seq < seq or (old.seq == seq and not same):
            self._ends[ref] = known
            if len(self._ends) > _MOST:
                self._drop()
        return known

    def step_on(self, ref: InstanceRef, known: Known) -> None:
        """The record after `known` was written, without a header. The way of every step, so it is short."""
        seq, pointer, token, standing, entry, changes = known
        self._ends[ref] = Known(seq + 1, pointer, token, standing, entry, changes)

    def amend(self, ref: InstanceRef, known: Known) -> None:
        """More was found out about the same record."""
        old = self._ends.get(ref)
        if old is None or old.seq <= known.seq:
            self._ends[ref] = known

    def saw_changes(self, ref: InstanceRef, pointer: int, changes: int) -> None:
        """The header in record `pointer` has so many later due times."""
        old = self._ends.get(ref)
        if old is not None and old.pointer == pointer and old.changes < changes:
            self._ends[ref] = old._replace(changes=changes)

    def forget(self, ref: InstanceRef) -> None:
        """It was wrong, or the instance is gone."""
        self._ends.pop(ref, None)

    def _drop(self) -> None:
        with self._lock:
            for ref in list(self._ends)[: len(self._ends) - _MOST]:
                self._ends.pop(ref, None)
