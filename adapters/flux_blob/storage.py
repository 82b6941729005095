"""`BlobStorage`: instances in object storage, without an object that ever changes (docs/decisions/0019).

It must not know workflow rules, nor which service it is on. This module writes; `log` reads, `indexes` finds.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flux_blob import layout
from flux_blob.envelope import (
    NO_HEADER,
    Change,
    Kept,
    Standing,
    Tombstone,
    pack_change,
    pack_headed,
    pack_mail,
    pack_record,
    unpack_change,
    unpack_mail,
)
from flux_blob.indexes import Indexes
from flux_blob.known import Entry, Known, KnownEnds
from flux_blob.layout import DueEntry, Layout, group_of
from flux_blob.log import Log, Position
from flux_blob.patience import Connection
from flux_blob.places import parse_place
from flux_blob.removal import Removal
from flux_core.deadline import MARGIN

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Mapping, Sequence
    from typing import Any

    from flux_blob.patience import Patience
    from flux_core.ports import Due, Header, InstanceRef, Mail, Page


class BlobStorage:
    """A `WorkflowStorage` in S3, Google Cloud Storage, Azure Blob Storage or a local folder.

    `address`: `s3://bucket/root`, `gs://bucket/root`, `az://container/root`, `memory://`, or the path of a folder; the
    root may be left out. `options`: settings of the client, such as `endpoint` and `region`; what is not given comes
    from the environment or the function's role. `time_limit`, in seconds, is that of a call with all its tries (of each
    page of a long log, and of each part of removing an instance); after it the call raises `StorageUnavailable`. The
    default is the margin that the engine keeps before an invocation's deadline. Raises `DefinitionError` for an address
    or limit that cannot work. Threads may share it; make it after a fork, not before.
    """

    snapshot_records = 20
    """Reads are billed each, so a snapshot is worth it from so many records on (PROTOCOL rule 12)."""

    def __init__(
        self, address: str | os.PathLike[str], *, options: Mapping[str, Any] | None = None, time_limit: float = MARGIN
    ) -> None:
        """Check the arguments; the client is made by the first call."""
        place = parse_place(address, "BlobStorage")
        self.ephemeral = place.scheme == "memory"
        self._connection = Connection(place, options, time_limit, "BlobStorage")
        self._layout = Layout(place.root)
        self._known = KnownEnds()
        self._log = Log(self._layout, self._known)
        self._indexes = Indexes(self._log)
        self._removal = Removal(self._log)

    @property
    def address(self) -> str:
        """Where it is, as it was given."""
        return str(self._connection.place)

    # --- the log -------------------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found.

        Raises `ValueError` where record `seq - 1` is missing, `PurgeUnfinished` for an instance that is being removed.
        """
        send = self._connection.call()
        known = self._known.get(ref)
        if known is not None and known.seq >= seq:
            found = self._found(send, ref, seq)
            if found is not None:
                return found.record
            self._known.forget(ref)  # it was removed since
            known = None
        if seq and (known is None or known.seq != seq - 1):
            known = self._before(send, ref, seq)
        if header is not None:
            return self._append_headed(send, ref, seq, record, header, known)
        pointer, token = (NO_HEADER, "") if known is None else (known.pointer, known.token)
        data = pack_record(record, pointer, token)
        while not send.put(layout.record(self._layout.instance(ref), seq), data):
            found = self._found(send, ref, seq)
            if found is not None:
                return found.record
            send.breathe()
        if known is not None:
            self._known.step_on(ref, known)
        else:
            self._known.learn(ref, seq, Kept(b"", pointer, token, None), anew=True)
        return None

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, in order; `CorruptRecord` if one is missing between them."""
        return self._log.read(self._connection.call(), ref, start)

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        found = self._log.tail(self._connection.call(), ref)
        return None if found is None else (found[0], found[1].record)

    # --- mailbox and snapshots -----------------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        send = self._connection.call()
        key, data = layout.mail(self._layout.instance(ref), mail.name, mail.id), pack_mail(mail)
        while not send.put(key, data):
            found = send.get(key)
            if found is not None:
                return unpack_mail(found, key)
            send.breathe()
        return None

    def mail(self, ref: InstanceRef) -> builtins.list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        send = self._connection.call()
        keys = [entry.key for page in send.keys(f"{self._layout.instance(ref)}/M") for entry in page]
        raws = zip(keys, send.get_all(keys), strict=True)
        found = [unpack_mail(raw, key) for key, raw in raws if raw is not None]
        return sorted(found, key=lambda mail: (mail.at, mail.id, mail.name))

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`; equal ones are kept once."""
        self._connection.call().put(layout.snapshot(self._layout.instance(ref), seq), state)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        send = self._connection.call()
        newest = self._log.newest_snapshot(send, self._layout.instance(ref))
        state = None if newest is None else send.get(newest[1])
        return None if newest is None or state is None else (newest[0], state)

    # --- header and indexes --------------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        position = self._log.position(self._connection.call(), ref)
        return None if position is None else position.standing.header._replace(due=position.entry.due)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        send = self._connection.call()
        while True:
            position = self._log.position(send, ref)
            if position is None or position.standing.header.epoch != epoch:
                return False
            if position.entry.due is not None and position.entry.due <= due:
                return True
            if self._change_due(send, ref, position, due):
                return True

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        send = self._connection.call()
        while True:
            position = self._log.position(send, ref)
            if position is None or position.standing.header.seq != seq or position.entry.due != due:
                return False
            if self._change_due(send, ref, position, then):
                return True

    def due(self, until: int, limit: int) -> builtins.list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        return self._indexes.due(self._connection.call(), until, limit)

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
        return self._indexes.list(self._connection.call(), tenant, workflow, statuses, limit, cursor)

    # --- life cycle ----------------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not.

        After an error it may be called again with the same number, by this store at once and by another one after 15
        minutes.
        """
        try:
            return self._removal.purge(self._connection.call, ref, seq)
        finally:
            self._known.forget(ref)

    def ensure(self) -> None:
        """Create the folder or the GCS bucket if it is absent; for S3 and Azure say how, if it is."""
        self._connection.call().ensure()

    def close(self) -> None:
        """Let go of the client and its threads; later calls raise `StorageUnavailable`."""
        self._connection.close()

    # --- inside --------------------------------------------------------------------------------------------------

    def _append_headed(
        self, send: Patience, ref: InstanceRef, seq: int, record: bytes, header: Header, known: Known | None
    ) -> bytes | None:
        before = None
        if known is not None and known.pointer != NO_HEADER:
            before = self._log.standing(send, ref, known.seq, Kept(b"", known.pointer, known.token, known.standing))
        token = secrets.token_hex(6)
        entries: builtins.list[str] = []
        if header.due is not None:
            entries.append(self._layout.due(DueEntry(header.due, ref, seq, 0, token)))
        if before is not None and _in_group(before.header) == _in_group(header):
            standing = Standing(header, token, before.mark)
        else:
            standing = Standing(header, token, f"{seq:010d}-{token}")
            entries.append(self._layout.mark(ref, header, standing.mark))
        send.together(lambda key: send.put(key, b""), entries)
        data = pack_headed(record, standing)
        while not send.put(layout.record(self._layout.instance(ref), seq), data):
            found = self._found(send, ref, seq)
            if found is None:
                send.breathe()
                continue
            if found.standing == standing:
                break  # it was this very put, whose answer was lost
            send.discard(entries)
            if found.record == record:  # an earlier call's, whose answer was lost: it did not get to the rest
                self._discard_superseded(send, ref, known, before, found.standing)
            return found.record
        self._known.learn(ref, seq, Kept(b"", seq, token, standing), anew=seq == 0)
        self._discard_superseded(send, ref, known, before, standing)
        return None

    def _discard_superseded(
        self, send: Patience, ref: InstanceRef, known: Known | None, before: Standing | None, now: Standing | None
    ) -> None:
        """The index entries of the header before, each by its exact key (PROTOCOL rule 7)."""
        if known is None or before is None or now is None:
            return
        gone = []
        if now.mark != before.mark:
            gone.append(self._layout.mark(ref, before.header, before.mark))
        entry = self._log.last_seen_entry(send, ref, known, before)
        if entry is not None and entry.due is not None:
            gone.append(self._layout.due(DueEntry(entry.due, ref, known.pointer, entry.n, entry.token)))
        send.discard(gone)

    def _change_due(self, send: Patience, ref: InstanceRef, position: Position, due: int | None) -> bool:
        """Put the next due time of the header at `position`; False if somebody else was quicker."""
        n, token = position.entry.n + 1, secrets.token_hex(6)
        entry = DueEntry(due or 0, ref, position.at, n, token)
        if due is not None:
            send.put(self._layout.due(entry), b"")
        key, change = layout.change(self._layout.instance(ref), position.at, n), Change(due, token)
        if not send.put(key, pack_change(change)):
            found = send.get(key)
            if found is None or unpack_change(found, key) != change:
                if due is not None:
                    send.discard([self._layout.due(entry)])
                return False
        old, standing = position.entry, position.standing
        self._known.amend(ref, Known(position.seq, position.at, standing.token, standing, Entry(n, due, token), n))
        if old.due is not None:
            send.discard([self._layout.due(DueEntry(old.due, ref, position.at, old.n, old.token))])
        return True

    def _found(self, send: Patience, ref: InstanceRef, seq: int) -> Kept | None:
        """What is in a slot; None if it is free. A tombstone that means nothing is removed."""
        found = self._log.record(send, ref, seq)
        if isinstance(found, Tombstone):
            base = self._layout.instance(ref)
            if self._log.is_removed(send, base, found):
                self._log.refuse(ref, seq - 1)
            send.delete([layout.record(base, seq)])
            return None
        if found is not None:
            self._known.learn(ref, seq, found)
        return found

    def _before(self, send: Patience, ref: InstanceRef, seq: int) -> Known:
        """What record `seq - 1` says, which this process has not seen or has forgotten."""
        before = self._log.record(send, ref, seq - 1)
        if before is None or isinstance(before, Tombstone):
            self._found(send, ref, seq)  # says so if the instance is being removed
            raise ValueError(
                f"append to {ref.workflow}/{ref.id} (tenant {ref.tenant}) at {seq}, but its log has no record "
                f"{seq - 1}. The caller must have seen the record before the one that it writes."
            )
        return self._known.learn(ref, seq - 1, before)


def _in_group(header: Header) -> tuple[str, int]:
    """What places an instance in the list."""
    return group_of(header.status), header.created_at
