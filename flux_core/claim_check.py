"""`ClaimCheckStorage`: a store for bytes of any size, around one that takes only so many.

What is longer than the inline limit goes to a `PayloadStorage` under its SHA-256, before the store is given the
reference that names it (PROTOCOL rule 13). It must not look into the bytes.

Removing an instance begins with a mark at the end of its log. The order is what keeps I14:

    mark: nobody reads or appends any more -> payloads -> the rest, the mark last

A store whose own removing takes several commits raises `PurgeUnfinished` once that has begun; payloads are gone then.
One who finds the mark of another may complete his work only once the other cannot be running any more: else his
removing of payloads, late, could meet those of a new instance of the same id.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.errors import CorruptRecord, DefinitionError, PayloadMissing, PurgeUnfinished, UnknownInstance
from flux_core.keys import sha256
from flux_core.layer import StorageLayer
from flux_core.reference import RESERVED, PurgeMark, Reference
from flux_core.system import SystemClock, SystemEntropy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from flux_core.ports import Clock, Entropy, Header, InstanceRef, Mail, PayloadStorage, WorkflowStorage

INLINE: Final = 32 * 1024
"""Bytes up to which records, mail and snapshots stand in the store itself."""


class ClaimCheckStorage(StorageLayer):
    """A `WorkflowStorage` around `inner` that keeps what is longer than `inline` bytes in `payloads`.

    Equal bytes of one instance are kept once. Whatever is read is checked against its hash: `CorruptRecord`, and
    `PayloadMissing` if it is gone, name the record. `purge` is refused while another one that began less than
    `longest_purge` seconds ago may be under way; reading meanwhile raises `PurgeUnfinished`.
    """

    def __init__(
        self,
        inner: WorkflowStorage,
        payloads: PayloadStorage,
        inline: int = INLINE,
        *,
        longest_purge: float = 900.0,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        """`DefinitionError` for an `inline` that is no number of bytes. Closing it closes both stores."""
        super().__init__(inner)
        if type(inline) is not int or inline < 0:
            message = f"the inline limit must be a number of bytes, such as {INLINE}; got {inline!r}"
            raise DefinitionError(message)
        self.payloads = payloads
        self.inline = inline
        self.ephemeral = inner.ephemeral or payloads.ephemeral
        self._longest_purge = longest_purge
        self._clock: Clock = clock or SystemClock()
        self._entropy: Entropy = entropy or SystemEntropy()
        self._by = ""
        self._purging: set[InstanceRef] = set()
        self._lock = allocate_lock()

    # --- what carries bytes --------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found, whole."""
        stored = record
        if len(record) > self.inline or record.startswith(RESERVED):
            stored = self._put(ref, record, record)
        found = self.inner.append(ref, seq, stored, header)
        if found is None or not found.startswith(RESERVED):
            return found
        return record if found == stored else self._whole(ref, found, f"record {seq}")

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, whole."""
        raws = self.inner.read(ref, start)
        if raws and raws[-1].startswith(RESERVED):
            self._refuse_mark(ref, raws[-1], f"record {start + len(raws) - 1}")
        known: dict[bytes, bytes] = {}  # a step of a loop may have put the same again and again
        whole = []
        for seq, raw in enumerate(raws, start):
            if not raw.startswith(RESERVED):
                whole.append(raw)
                continue
            payload = raw[: raw.find(b',"v"')]
            if payload not in known:
                known[payload] = self._whole(ref, raw, f"record {seq}")
            whole.append(known[payload])
        return whole

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record, whole, with its sequence number; None for an unknown instance."""
        found = self.inner.tail(ref)
        if found is None or not found[1].startswith(RESERVED):
            return found
        return found[0], self._whole(ref, found[1], f"record {found[0]}")

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found, whole."""
        stored = mail
        if len(mail.body) > self.inline or mail.body.startswith(RESERVED):
            stored = mail._replace(body=self._put(ref, mail.body))
        found = self.inner.put_mail(ref, stored)
        if found is None or not found.body.startswith(RESERVED):
            return found
        if found.body == stored.body:
            return found._replace(body=mail.body)
        return self._whole_mail(ref, found)

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox."""
        return [self._whole_mail(ref, mail) for mail in self.inner.mail(ref)]

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        if len(state) > self.inline or state.startswith(RESERVED):
            state = self._put(ref, state)
        self.inner.put_snapshot(ref, seq, state)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        found = self.inner.snapshot(ref)
        if found is None or not found[1].startswith(RESERVED):
            return found
        return found[0], self._whole(ref, found[1], f"snapshot {found[0]}")

    # --- life cycle ----------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`, its payloads too; else False, nothing removed.

        After an error it may be called again, by this store at once and by another one after `longest_purge` seconds:
        with the number that it was called with, or the one that `PurgeUnfinished` tells.
        """
        with self._lock:
            if ref in self._purging:
                return False
            self._purging.add(ref)
        try:
            try:
                marked = self._marked(ref, seq)
            except PurgeUnfinished as begun:
                # The store itself has begun, which comes last. Not the payloads again: should another one end this
                # meanwhile, they might be those of a new instance.
                return seq <= begun.seq and self.inner.purge(ref, begun.seq)
            if marked is None:
                return False
            self.payloads.purge(ref)
            return self.inner.purge(ref, marked)
        finally:
            with self._lock:
                self._purging.discard(ref)

    def ensure(self) -> None:
        """Create what both stores need."""
        self.payloads.ensure()
        self.inner.ensure()

    def close(self) -> None:
        """Release the connections of both."""
        self.inner.close()
        self.payloads.close()

    def references(self, ref: InstanceRef) -> Iterator[tuple[str, Reference]]:
        """What an instance keeps outside, by what names it (`record 7`); for who checks I14, or copies payloads."""
        box = ((f"mail {mail.name}/{mail.id}", mail.body) for mail in self.inner.mail(ref))
        kept = self.inner.snapshot(ref)
        for where, raw in (
            *((f"record {seq}", raw) for seq, raw in enumerate(self.inner.read(ref))),
            *box,
            *(() if kept is None else ((f"snapshot {kept[0]}", kept[1]),)),
        ):
            if raw.startswith(RESERVED):
                found = _read_reference(ref, raw, where)
                if isinstance(found, Reference):
                    yield where, found

    # --- inside --------------------------------------------------------------------------------------------

    def _put(self, ref: InstanceRef, data: bytes, record: bytes = b"") -> bytes:
        reference = Reference(sha256(data), len(data))
        self.payloads.put(ref, reference.digest, data)
        return reference.to_bytes(record)

    def _whole_mail(self, ref: InstanceRef, mail: Mail) -> Mail:
        if not mail.body.startswith(RESERVED):
            return mail
        return mail._replace(body=self._whole(ref, mail.body, f"mail {mail.name}/{mail.id}"))

    def _whole(self, ref: InstanceRef, raw: bytes, where: str) -> bytes:
        """What `raw`, which begins with `RESERVED`, stands for."""
        reference = _read_reference(ref, raw, where)
        if isinstance(reference, PurgeMark):
            raise self._being_removed(ref, reference)
        try:
            data = self.payloads.get(ref, reference.digest)
        except PayloadMissing as error:
            tail = self.inner.tail(ref)
            if tail is None:
                message = f"workflow {ref.workflow!r}, id {ref.id!r} was deleted meanwhile"
                raise UnknownInstance(message) from error
            self._refuse_mark(ref, tail[1], f"record {tail[0]}")
            message = (
                f"{where} of {'/'.join(ref)} is kept outside of the store, in {reference.length} bytes that are gone: "
                f"{error}; look whether payloads= is what the instance was written with, or restore that payload from "
                f"a backup. Nothing was changed."
            )
            raise PayloadMissing(message) from error
        if len(data) != reference.length or sha256(data) != reference.digest:
            message = (
                f"{where} of {'/'.join(ref)} is kept outside of the store, as payload {reference.digest}, and what is "
                f"there ({len(data)} bytes; {reference.length} were put) is something else; restore that payload from "
                f"a backup. Nothing was changed."
            )
            raise CorruptRecord(message)
        return data

    def _refuse_mark(self, ref: InstanceRef, raw: bytes, where: str) -> None:
        if raw.startswith(RESERVED):
            found = _read_reference(ref, raw, where)
            if isinstance(found, PurgeMark):
                raise self._being_removed(ref, found)

    def _being_removed(self, ref: InstanceRef, mark: PurgeMark) -> PurgeUnfinished:
        left = self._longest_purge - (self._clock.now() - mark.at) / 1000
        when = "at once" if left <= 0 else f"in {left:.0f} s"
        message = (
            f"workflow {ref.workflow!r}, id {ref.id!r} is being deleted; if that was interrupted, delete it again to "
            f"complete it ({when}, when nobody else can still be at it)"
        )
        return PurgeUnfinished(message, mark.of)

    def _marked(self, ref: InstanceRef, seq: int) -> int | None:
        """Mark the log as ours: the number of the mark; None if it is not as told, or somebody else's business."""
        tail = self.inner.tail(ref)
        if tail is None:
            return None
        last, raw = tail
        now = self._clock.now()
        found = _read_reference(ref, raw, f"record {last}") if raw.startswith(RESERVED) else None
        if isinstance(found, PurgeMark):
            if found.of != seq:
                return None
            if found.by == self._by:
                return last  # an earlier call of this store did not come to its end
            if now - found.at < self._longest_purge * 1000:
                return None
        elif last != seq:
            return None
        self._by = self._by or self._entropy.token()
        mark = PurgeMark(self._by, now, seq).to_bytes()
        taken = self.inner.append(ref, last + 1, mark)
        return last + 1 if taken in {None, mark} else None


def _read_reference(ref: InstanceRef, raw: bytes, where: str) -> Reference | PurgeMark:
    try:
        return Reference.of(raw)
    except ValueError as error:
        message = (
            f"{where} of {'/'.join(ref)} names a payload and cannot be read: {error}; restore the record from a backup "
            f"of the store. Nothing was changed."
        )
        raise CorruptRecord(message) from error
