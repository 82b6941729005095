"""The due index and the list: entries are hints, and what the log of an instance says now is told. It writes no log.

Entries that nobody can need any more are deleted by whoever meets them, by their exact key (docs/decisions/0019).
"""

from __future__ import annotations

import time
from heapq import merge
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from flux_blob import layout
from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CallerError, CorruptRecord, PurgeUnfinished
from flux_core.ports import Due, Listed, Page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flux_blob.layout import DueEntry, Mark
    from flux_blob.log import Log, Position
    from flux_blob.patience import Patience
    from flux_core.ports import InstanceRef

T = TypeVar("T")

_ABANDONED_MS: Final = 24 * 3600 * 1000
"""An entry whose record has not come by then belongs to a writer that died."""
_FEWEST: Final = 16
"""Instances looked up at once, so that a page of one does not go step by step."""


class _Met(NamedTuple):
    """An instance as its log has it now."""

    position: Position | None
    readable: bool


class Indexes:
    """Both indexes of one store."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._layout = log.layout

    # --- due -----------------------------------------------------------------------------------------------------

    def due(self, send: Patience, until: int, limit: int) -> list[Due]:
        """Up to `limit` instances whose header says that they are due by `until`, earliest first."""
        if limit < 1:
            return []
        folders = self._layout.due_folders()
        shards = send.together(lambda folder: _opened(self._due_entries(send, folder, until)), folders)
        candidates = merge(*shards, key=lambda found: found[0].due)
        told: dict[InstanceRef, Due] = {}
        while len(told) < limit:
            batch = [*islice(candidates, max(limit - len(told), _FEWEST))]
            if not batch:
                break
            met = self._meet(send, (entry.ref for entry, _, _ in batch))
            for entry, _, _ in batch:
                position, readable = met[entry.ref]
                if not readable:
                    told.setdefault(entry.ref, Due(entry.ref, entry.due))  # whoever ticks it tells what is wrong
                elif position is not None and (due := position.entry.due) is not None and due <= until:
                    told[entry.ref] = Due(entry.ref, due)
            send.discard([key for entry, key, at in batch if _is_spent(entry, met[entry.ref], at)])
        return sorted(told.values(), key=lambda one: (one.due, one.ref))[:limit]

    def _due_entries(self, send: Patience, folder: str, until: int) -> Iterator[tuple[DueEntry, str, int]]:
        for page in send.keys(folder):
            for key, at in page:
                entry = self._layout.due_entry(key)
                if entry is not None:
                    if entry.due > until:
                        return
                    yield entry, key, at

    # --- list ----------------------------------------------------------------------------------------------------

    def list(
        self,
        send: Patience,
        tenant: str,
        workflow: str | None,
        statuses: Sequence[str] | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """One page of the tenant's instances, newest first."""
        if limit < 1:
            raise CallerError(f"A page needs a limit of at least 1, not {limit}.")
        after = None if cursor is None else decode_cursor(tenant, cursor)
        groups = layout.GROUPS if statuses is None else [*{layout.group_of(status): None for status in statuses}]
        names = send.folders(self._layout.marks(tenant)) if workflow is None else [workflow]
        marks = self._marks(send, tenant, names, groups, after)
        told: list[tuple[ListKey, Listed]] = []
        seen: set[InstanceRef] = set()
        while len(told) <= limit:
            batch = [*islice(marks, max(limit + 1 - len(told), _FEWEST))]
            if not batch:
                break
            met = self._meet(send, (mark.ref for _, mark, _, _ in batch))
            for key, mark, _, _ in batch:
                position = met[mark.ref].position
                if position is None or mark.ref in seen:
                    continue
                header = position.standing.header._replace(due=position.entry.due)
                if mark.created_at == header.created_at and (statuses is None or header.status in statuses):
                    seen.add(mark.ref)
                    told.append((key, Listed(mark.ref, header)))
            send.discard([key for _, mark, key, at in batch if _is_past(mark, met[mark.ref], at)])
        told.sort(key=lambda one: one[0], reverse=True)
        shown = told[:limit]
        return Page([one for _, one in shown], encode_cursor(tenant, shown[-1][0]) if len(told) > limit else None)

    def _marks(
        self, send: Patience, tenant: str, workflows: Iterable[str], groups: Iterable[str], after: ListKey | None
    ) -> Iterator[tuple[ListKey, Mark, str, int]]:
        """The marks of all groups in one order, the newest instance first."""
        wanted = {*groups}
        first = [group for group in layout.GROUPS if group in wanted]
        # Who leaves a group is put into the next one first. Most leave the active one, so that is read before the
        # others; and once more after them, for those who come back to it.
        rounds = [first[:1], first[1:], first[:1] if len(first) > 1 and first[0] == layout.ACTIVE else []]
        streams: list[Iterator[tuple[ListKey, Mark, str, int]]] = []
        for turn in rounds:
            folders = [self._layout.marks(tenant, name, group) for name in workflows for group in turn]
            streams += send.together(lambda folder: _opened(self._group(send, folder, after)), folders)
        return merge(*streams, key=lambda found: found[0], reverse=True)

    def _group(self, send: Patience, folder: str, after: ListKey | None) -> Iterator[tuple[ListKey, Mark, str, int]]:
        start = "" if after is None else self._layout.marks_from(folder, after.created_at)
        marks = (
            (_list_key(mark), mark, entry.key, entry.at)
            for page in send.keys(folder, start)
            for entry in page
            if (mark := self._layout.mark_of(entry.key)) is not None
        )
        for _, of_one_moment in groupby(marks, key=lambda found: found[0].created_at):
            for found in sorted(of_one_moment, key=lambda found: found[0], reverse=True):
                if after is None or found[0] < after:
                    yield found

    # --- inside --------------------------------------------------------------------------------------------------

    def _meet(self, send: Patience, refs: Iterable[InstanceRef]) -> dict[InstanceRef, _Met]:
        wanted = [*dict.fromkeys(refs)]
        return dict(zip(wanted, send.together(lambda ref: self._look(send, ref), wanted), strict=True))

    def _look(self, send: Patience, ref: InstanceRef) -> _Met:
        try:
            return _Met(self._log.position(send, ref), readable=True)
        except PurgeUnfinished:
            return _Met(None, readable=True)
        except CorruptRecord:
            return _Met(None, readable=False)


def _opened(items: Iterator[T]) -> Iterator[T]:
    """The same, its first item asked for already: so the first requests of several run at the same time."""
    return chain([*islice(items, 1)], items)


def _list_key(mark: Mark) -> ListKey:
    return ListKey(mark.created_at, mark.ref.id, mark.ref.workflow)


def _is_spent(entry: DueEntry, met: _Met, at: int) -> bool:
    """Whether nobody can need a due entry any more: its place in the log was taken without it, or is over."""
    position = met.position
    if position is None or entry.seq > position.seq:
        return met.readable and _is_abandoned(at)
    if entry.seq != position.at:
        return True
    if entry.n > position.entry.n:
        return _is_abandoned(at)
    return entry.n < position.entry.n or entry.token != position.entry.token


def _is_past(mark: Mark, met: _Met, at: int) -> bool:
    """Whether a mark is not, and cannot become, the one that its instance's header names."""
    position = met.position
    if position is None or mark.seq > position.seq:
        return met.readable and _is_abandoned(at)
    return mark.name != position.standing.mark


def _is_abandoned(at: int) -> bool:
    return time.time() * 1000 - at > _ABANDONED_MS
