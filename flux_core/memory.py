"""`MemoryStorage`: the store for development and tests. It must not outlive the process, nor pretend to.

Everything sits behind one lock, so it is also the plainest reading of what `WorkflowStorage` means.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CallerError, StorageUnavailable
from flux_core.ports import Due, Listed, Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from flux_core.ports import Header, InstanceRef, Mail

_SLACK = 64
"""Superseded due entries that the heap may hold beyond one for each live entry before it is built anew."""


class MemoryStorage:
    """A `WorkflowStorage` in this process's memory: thread-safe, and lost when the process ends.

    `append` costs some 0.3 µs. `due` costs as much as what it returns, however many instances there are.
    `list` sorts the tenant's instances on every page.
    """

    ephemeral = True

    def __init__(self) -> None:
        """An empty store."""
        self._lock: _Lock = allocate_lock()
        self._logs: dict[InstanceRef, list[bytes]] = {}
        self._headers: dict[InstanceRef, Header] = {}
        self._mail: dict[InstanceRef, dict[tuple[str, str], Mail]] = {}
        self._snapshots: dict[InstanceRef, tuple[int, bytes]] = {}
        # A heap of (due, ref). An entry counts only while the header says the same, so nothing is ever searched for.
        self._due_heap: list[tuple[int, InstanceRef]] = []
        self._due_count = 0

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found.

        Raises `ValueError` if `seq` lies beyond the end of the log: the caller cannot have seen record `seq - 1`.
        """
        with self._lock:
            log = self._logs.get(ref)
            if log is None:
                if seq:
                    self._refuse_gap(ref, seq, 0)
                self._logs[ref] = [record]
            elif seq == len(log):
                log.append(record)
            elif 0 <= seq < len(log):
                return log[seq]
            else:
                self._refuse_gap(ref, seq, len(log))
            if header is not None:
                self._put_header(ref, header)
            return None

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, in order."""
        with self._lock:
            log = self._logs.get(ref)
            return [] if log is None else log[start:]

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        with self._lock:
            log = self._logs.get(ref)
            return None if log is None else (len(log) - 1, log[-1])

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        with self._lock:
            box = self._mail.setdefault(ref, {})
            found = box.get((mail.name, mail.id))
            if found is None:
                box[mail.name, mail.id] = mail
            return found

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        with self._lock:
            box = list(self._mail.get(ref, {}).values())
        return sorted(box, key=lambda mail: (mail.at, mail.id, mail.name))

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        with self._lock:
            kept = self._snapshots.get(ref)
            if kept is None or kept[0] < seq:
                self._snapshots[ref] = (seq, state)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        with self._lock:
            return self._snapshots.get(ref)

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        with self._lock:
            return self._headers.get(ref)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        with self._lock:
            header = self._headers.get(ref)
            if header is None or header.epoch != epoch:
                return False
            if header.due is None or due < header.due:
                self._put_header(ref, header._replace(due=due))
            return True

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        with self._lock:
            header = self._headers.get(ref)
            if header is None or header.seq != seq or header.due != due:
                return False
            self._put_header(ref, header._replace(due=then))
            return True

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        from heapq import heappop, heappush

        found: list[Due] = []
        with self._lock:
            heap = self._due_heap
            while heap and heap[0][0] <= until and len(found) < limit:
                due, ref = heappop(heap)
                header = self._headers.get(ref)
                live = header is not None and header.due == due
                # An entry that was moved and moved back lies in the heap twice; equal entries come out together.
                if live and (not found or found[-1] != (ref, due)):
                    found.append(Due(ref, due))
            for entry in found:
                heappush(heap, (entry.due, entry.ref))
        return found

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """One page of the tenant's instances, newest first.

        Raises `CallerError` for a cursor that this listing did not give out, or a limit below 1.
        """
        if limit < 1:
            raise CallerError(f"A page needs a limit of at least 1, not {limit}.")
        after = None if cursor is None else decode_cursor(tenant, cursor)
        with self._lock:
            matching = [
                (ListKey(header.created_at, ref.id, ref.workflow), Listed(ref, header))
                for ref, header in self._headers.items()
                if ref.tenant == tenant
                and (workflow is None or ref.workflow == workflow)
                and (statuses is None or header.status in statuses)
            ]
        if after is not None:
            matching = [entry for entry in matching if entry[0] < after]
        matching.sort(reverse=True)
        shown = matching[:limit]
        more = len(matching) > limit
        return Page([listed for _, listed in shown], encode_cursor(tenant, shown[-1][0]) if more else None)

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not."""
        with self._lock:
            log = self._logs.get(ref)
            if log is None or len(log) - 1 != seq:
                return False
            header = self._headers.pop(ref, None)
            if header is not None and header.due is not None:
                self._due_count -= 1
            self._mail.pop(ref, None)
            self._snapshots.pop(ref, None)
            del self._logs[ref]
            return True

    def ensure(self) -> None:
        """Nothing to create."""

    def close(self) -> None:
        """Forget everything; every later call raises `StorageUnavailable`."""
        self._lock = _Closed()
        self._logs, self._headers, self._mail, self._snapshots, self._due_heap = {}, {}, {}, {}, []

    # --- inside, under the lock ----------------------------------------------------------------------------

    def _put_header(self, ref: InstanceRef, header: Header) -> None:
        old = self._headers.get(ref)
        self._headers[ref] = header
        due_before = None if old is None else old.due
        if header.due == due_before:
            return
        self._due_count += (header.due is not None) - (due_before is not None)
        heap = self._due_heap
        if header.due is not None:
            from heapq import heappush

            heappush(heap, (header.due, ref))
        if len(heap) > 2 * self._due_count + _SLACK:
            # Superseded entries of the far future would never reach the top: drop them, at a flat cost for each.
            live = {(due, ref) for due, ref in heap if (kept := self._headers.get(ref)) and kept.due == due}
            heap[:] = sorted(live)

    def _refuse_gap(self, ref: InstanceRef, seq: int, end: int) -> NoReturn:
        raise ValueError(
            f"append to {ref.workflow}/{ref.id} (tenant {ref.tenant}) at {seq}, but its log has {end} records: "
            f"the next one is {end}. The caller must have seen the record before the one that it writes."
        )


class _Closed:
    """Stands in for the lock of a closed store, so that the open one pays for no check."""

    def __enter__(self) -> bool:
        raise StorageUnavailable("This MemoryStorage was closed, and what it held is gone. Make a new one.")

    def __exit__(self, *_: object) -> None:
        """Never reached."""


if TYPE_CHECKING:
    from _thread import LockType

    _Lock = LockType | _Closed
