"""Logs, headers, mailboxes and snapshots as documents, by conditional commits alone. It must not know workflow rules.

An append is one Commit whose record must not be there yet; at an episode boundary the header is in the same Commit,
which takes place wholly or not at all. So the header never changes without its record (PROTOCOL rule 2):

    A: [record 7 absent? + header]  written
    B: [record 7 absent? + header]  refused, the header stays A's; B reads record 7 and hands it to its caller

There are no transactions: they cost two calls more. `nudge` and `settle` read the header and write it on condition that
it was not changed since. Where things lie is said in `firestore_layout`, how a call is made in `firestore_wire`.
"""

from __future__ import annotations

import os
from heapq import merge
from typing import TYPE_CHECKING, Final

from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CorruptRecord, PurgeUnfinished, UnknownInstance
from flux_core.ports import Due, Header, InstanceRef, Listed, Mail, Page
from flux_gcp import firestore_faults as faults
from flux_gcp import firestore_purge as purging
from flux_gcp.firestore_layout import DISJUNCTIONS, LARGEST, PARTS, SHARDS, letter_of, seq_of, shard
from flux_gcp.firestore_messages import (
    EQUAL,
    IN,
    UP_TO,
    along,
    any_of,
    by_fields,
    by_name,
    change,
    create,
    number,
    raw,
    replace,
    text,
)
from flux_gcp.firestore_wire import REFUSED_LATE, WRITTEN, Wire

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from google.auth.credentials import Credentials

    from flux_gcp.firestore_messages import Message
    from flux_gcp.settings import FirestoreSettings

_STATUSES: Final = DISJUNCTIONS // SHARDS
"""How many statuses one query may ask for."""
_ALL_SHARDS: Final = any_of(map(number, range(SHARDS)))
_CHANGED: Final = frozenset({"FAILED_PRECONDITION", "NOT_FOUND"})
"""How Firestore says that a document is not as it was seen."""


class Instances:
    """What a `FirestoreStorage` does once it is open; the port tells what each method promises."""

    def __init__(self, settings: FirestoreSettings, credentials: Credentials | None) -> None:
        self.wire = Wire(settings, credentials)
        self._names = self.wire.names

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None) -> bytes | None:
        """One commit; a second call only if the slot was taken."""
        if len(record) > LARGEST:
            raise faults.too_large(ref, f"Record {seq}", len(record), LARGEST)
        wire, names = self.wire, self._names
        instance = names.instance(ref)
        slot = names.record(instance, seq)
        fields = {"record": raw(record)}
        end = wire.end()
        first = create(slot, fields)
        while True:
            writes = [first] if header is None else [first, along(instance, _header_fields(ref, header))]
            if wire.commit(writes, end) == WRITTEN:
                return None
            (found,) = wire.get([slot], end)
            if found is None:
                first = create(slot, fields)  # purged in between: once more
            elif purging.is_tombstone(found):
                self._check_alive(ref, instance, seq, found, end)
                first = replace(slot, fields, found)
            else:
                there: bytes = found.fields["record"].bytes_value
                return there

    def read(self, ref: InstanceRef, start: int) -> builtins.list[bytes]:
        """One query for every 300 records."""
        names = self._names
        instance = names.instance(ref)
        found = self.wire.all(instance, names.log, until=names.record(instance, start) if start else "")
        if found and self._is_grave(ref, found[0]):
            del found[0]
        if found and seq_of(found[0].name) != start + len(found) - 1:
            raise CorruptRecord(
                f"The log of {ref.workflow}/{ref.id} (tenant {ref.tenant}) in {names.database} has {len(found)} "
                f"records from {start} on, but the newest is {seq_of(found[0].name)}: some are missing. Restore the "
                "database from a backup."
            )
        return [document.fields["record"].bytes_value for document in reversed(found)]

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """One query; a second where the id was used before and deleted."""
        found = self._newest(ref, self.wire.end())
        return None if found is None else (seq_of(found.name), found.fields["record"].bytes_value)

    def _newest(self, ref: InstanceRef, end: float) -> Message | None:
        instance, log = self._names.instance(ref), self._names.log
        found = self.wire.query(instance, by_name(log, 1), end)
        if found and self._is_grave(ref, found[0]):
            found = self.wire.query(instance, by_name(log, 1, after=found[0].name), end)
        return found[0] if found else None

    def _is_grave(self, ref: InstanceRef, document: Message) -> bool:
        """Whether the newest document is a tombstone; `PurgeUnfinished` if what it is for is not all gone."""
        if not purging.is_tombstone(document):
            return False
        if purging.is_left(document):
            raise faults.being_purged(ref, seq_of(document.name) - 1)
        return True

    def _check_alive(self, ref: InstanceRef, instance: str, seq: int, tombstone: Message, end: float) -> None:
        """Let a log that was begun anew grow over the tombstone of an older one, but no late writer of the older."""
        self._is_grave(ref, tombstone)
        (before,) = self.wire.get([self._names.record(instance, seq - 1)], end)
        if before is None:
            raise UnknownInstance(f"workflow {ref.workflow!r}, id {ref.id!r} of tenant {ref.tenant!r} was deleted")

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """One commit; a second call only if it was sent before."""
        if len(mail.body) > LARGEST:
            raise faults.too_large(ref, f"The signal {mail.name!r}", len(mail.body), LARGEST)
        name = self._names.letter(self._names.instance(ref), mail.name, mail.id)
        end = self.wire.end()
        while self.wire.commit([create(name, {"at": number(mail.at), "body": raw(mail.body)})], end) != WRITTEN:
            (found,) = self.wire.get([name], end)
            if found is not None:
                return _mail(found)
        return None

    def mail(self, ref: InstanceRef) -> builtins.list[Mail]:
        """One query for every 300 mails."""
        found = self.wire.all(self._names.instance(ref), self._names.mail)
        return sorted(map(_mail, found), key=lambda mail: (mail.at, mail.id, mail.name))

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """One commit, of several documents if the state does not go into one. One that is there already is as good."""
        if len(state) > PARTS * LARGEST:
            raise faults.too_large(ref, f"The snapshot after record {seq}", len(state), PARTS * LARGEST)
        instance = self._names.instance(ref)
        parts = [state[at : at + LARGEST] for at in range(0, len(state), LARGEST)] or [b""]
        writes = [
            create(self._names.snapshot(instance, seq, part), {"state": raw(some), "parts": number(len(parts))})
            for part, some in enumerate(parts)
        ]
        self.wire.commit(writes, self.wire.end())

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """One query; a second call if the newest has several parts."""
        instance = self._names.instance(ref)
        end = self.wire.end()
        found = self.wire.query(instance, by_name(self._names.snap, 1), end)
        if not found:
            return None
        seq, parts = seq_of(found[0].name), found[0].fields["parts"].integer_value
        if parts > 1:
            found += self.wire.get([self._names.snapshot(instance, seq, part) for part in range(1, parts)], end)
        if None in found:
            raise CorruptRecord(
                f"The snapshot after record {seq} of {ref.workflow}/{ref.id} (tenant {ref.tenant}) in "
                f"{self._names.database} has lost a part. Delete the documents of that snapshot: the log has it all."
            )
        return seq, b"".join(document.fields["state"].bytes_value for document in found)

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """One call."""
        (found,) = self.wire.get([self._names.instance(ref)], self.wire.end())
        return None if found is None else _header(found)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """A look at the header and one commit; again if somebody came between."""
        end = self.wire.end()
        while True:
            (found,) = self.wire.get([self._names.instance(ref)], end)
            if found is None or found.fields["epoch"].integer_value != epoch:
                return False
            now = _due(found)
            if now is not None and now <= due:
                return True
            if self._change_due(found, due, end) == WRITTEN:
                return True

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """A look at the header and one commit; again if somebody came between."""
        end = self.wire.end()
        mine = False
        while True:
            (found,) = self.wire.get([self._names.instance(ref)], end)
            if found is None or found.fields["seq"].integer_value != seq:
                return False
            if _due(found) != due:
                return mine and _due(found) == then  # an answer was lost
            outcome = self._change_due(found, then, end)
            if outcome == WRITTEN:
                return True
            mine = outcome == REFUSED_LATE

    def _change_due(self, seen: Message, due: int | None, end: float) -> int:
        fields = {} if due is None else {"due": number(due)}
        return self.wire.commit([change(seen.name, fields, seen, ["due"])], end, _CHANGED)

    def due(self, until: int, limit: int) -> builtins.list[Due]:
        """One query over all shards."""
        if limit < 1:
            return []
        filters = [("shard", IN, _ALL_SHARDS), ("due", UP_TO, number(until))]
        question = by_fields(self._names.inst, filters, [("due", False)], limit)
        found = self.wire.query(self._names.documents, question, self.wire.end())
        return [Due(_ref(document), document.fields["due"].integer_value) for document in found]

    def list(
        self, tenant: str, workflow: str | None, statuses: Sequence[str] | None, limit: int, cursor: str | None
    ) -> Page:
        """One query over all shards; one for every three statuses, if some are picked, all as of the same time."""
        after = None if cursor is None else decode_cursor(tenant, cursor)
        filters = [("tenant", EQUAL, text(tenant)), ("shard", IN, _ALL_SHARDS)]
        order = [("created_at", True), ("id", True)]
        if workflow is None:
            order.append(("workflow", True))
        else:
            filters.append(("workflow", EQUAL, text(workflow)))
        behind: list[Message] = []
        if after is not None:
            behind = [number(after.created_at), text(after.id), text(after.workflow)][: len(order)]
        more: builtins.list[builtins.list[tuple[str, int, Message]]] = [[]]
        if statuses is not None:
            wanted = sorted(set(statuses))
            groups = [wanted[at : at + _STATUSES] for at in range(0, len(wanted), _STATUSES)]
            more = [[("status", IN, any_of(map(text, group)))] for group in groups]
        questions = [by_fields(self._names.inst, [*filters, *some], order, limit + 1, behind) for some in more]
        # An instance whose status changes between two queries would be told twice, or not at all.
        answers = self.wire.queries(self._names.documents, questions, self.wire.end())
        found = list(merge(*answers, key=_list_key, reverse=True))
        items = [Listed(_ref(document), _header(document)) for document in found[:limit]]
        return Page(items, encode_cursor(tenant, _list_key(found[limit - 1])) if len(found) > limit else None)

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """The tail, then as `firestore_purge` says."""
        instance = self._names.instance(ref)
        by = os.urandom(16).hex()
        try:
            newest = self._newest(ref, self.wire.end())
        except PurgeUnfinished as begun:
            return begun.seq == seq and purging.finish(self.wire, instance, seq, by)
        if newest is None or seq_of(newest.name) != seq:
            return False
        return purging.purge(self.wire, instance, seq, by)


# --- documents and values ------------------------------------------------------------------------------------


def _header_fields(ref: InstanceRef, header: Header) -> dict[str, Message]:
    fields = {
        "tenant": text(ref.tenant),
        "workflow": text(ref.workflow),
        "id": text(ref.id),
        "shard": number(shard(ref)),
        "status": text(header.status),
        "created_at": number(header.created_at),
        "updated_at": number(header.updated_at),
        "epoch": number(header.epoch),
        "seq": number(header.seq),
    }
    if header.due is not None:  # else the document is not in the index of what is due
        fields["due"] = number(header.due)
    return fields


def _header(document: Message) -> Header:
    fields = document.fields
    created, updated, epoch, seq = (fields[name].integer_value for name in ("created_at", "updated_at", "epoch", "seq"))
    return Header(fields["status"].string_value, created, updated, epoch, seq, _due(document))


def _due(document: Message) -> int | None:
    return document.fields["due"].integer_value if "due" in document.fields else None


def _ref(document: Message) -> InstanceRef:
    return InstanceRef(*(document.fields[name].string_value for name in InstanceRef._fields))


def _list_key(document: Message) -> ListKey:
    fields = document.fields
    return ListKey(fields["created_at"].integer_value, fields["id"].string_value, fields["workflow"].string_value)


def _mail(document: Message) -> Mail:
    fields = document.fields
    return Mail(*letter_of(document.name), fields["at"].integer_value, fields["body"].bytes_value)
