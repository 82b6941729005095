"""Reading logs: which records there are, the tail, and the newest header. It must not write, but for learning.

A list of keys that grow is a list of some moment for each page, so no key is there without the ones before it, save in
a folder of the file system, and while an instance is being removed.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from flux_blob import layout
from flux_blob.envelope import NO_HEADER, Kept, Standing, Tombstone, unpack_change, unpack_record
from flux_blob.known import Entry, Known, KnownEnds
from flux_blob.objects import PAGE
from flux_core.errors import CorruptRecord, PurgeUnfinished
from flux_core.keys import sha256

if TYPE_CHECKING:
    from flux_blob.layout import Layout
    from flux_blob.patience import Patience
    from flux_core.ports import InstanceRef

_NEAR: Final = PAGE // 2
"""Records between header and tail up to which both are listed at once."""


class Scan(NamedTuple):
    """What a list of the log from some record on showed."""

    seqs: list[int]
    changes: dict[int, int]
    """Record -> how many later due times its header has."""
    since: int
    """The record from which on `changes` is complete."""

    @property
    def end(self) -> int:
        """The last record; -1 if there is none."""
        return self.seqs[-1] if self.seqs else -1


class Position(NamedTuple):
    """An instance's end: its tail, and the newest header with the due time as it is now."""

    seq: int
    at: int
    """The record that has the header."""
    standing: Standing
    entry: Entry


class Log:
    """The logs of one store."""

    def __init__(self, layout: Layout, known: KnownEnds) -> None:
        self.layout = layout
        self.known = known

    # --- records -------------------------------------------------------------------------------------------------

    def read(self, send: Patience, ref: InstanceRef, start: int) -> list[bytes]:
        """All records from `start` on, contiguous and in order."""
        base = self.layout.instance(ref)
        while True:
            scan = self._scan(send, ref, base, start)
            if not scan.seqs:
                return []
            if scan.seqs[0] != start:
                if self._is_unused(send, ref, base, start, scan.seqs[0]):
                    return []
                continue
            raws = send.get_all([layout.record(base, seq) for seq in scan.seqs])
            if any(raw is None for raw in raws):
                continue  # somebody is removing the instance: look again
            kept = [
                unpack_record(raw or b"", layout.record(base, seq), seq)
                for seq, raw in zip(scan.seqs, raws, strict=True)
            ]
            records = [one for one in kept if isinstance(one, Kept)]
            if len(records) < len(kept):
                self._refuse_removed(send, ref, base, scan.end, kept[-1])
            if records:
                for seq, one in enumerate(records, start):
                    if one.standing is not None or seq == start + len(records) - 1:
                        self.known.learn(ref, seq, one)
                pointer = records[-1].pointer
                self.known.saw_changes(ref, pointer, scan.changes.get(pointer, 0))
            return [one.record for one in records]

    def tail(self, send: Patience, ref: InstanceRef) -> tuple[int, Kept] | None:
        """The newest record; None for an unknown instance."""
        base = self.layout.instance(ref)
        known = self.known.get(ref)
        found = self._end(send, ref, base, 0 if known is None else known.seq)
        return None if found is None else found[1:]

    def record(self, send: Patience, ref: InstanceRef, seq: int) -> Kept | Tombstone | None:
        """Record `seq`; None if there is none."""
        key = layout.record(self.layout.instance(ref), seq)
        raw = send.get(key)
        return None if raw is None else unpack_record(raw, key, seq)

    # --- the header ----------------------------------------------------------------------------------------------

    def position(self, send: Patience, ref: InstanceRef) -> Position | None:
        """The newest header and its present due time; None for an unknown instance, or one without a header."""
        base = self.layout.instance(ref)
        known = self.known.get(ref)
        start = 0
        if known is not None:
            near = known.pointer != NO_HEADER and known.seq - known.pointer < _NEAR
            start = known.pointer if near else known.seq
        found = self._end(send, ref, base, start)
        if found is None:
            return None
        scan, seq, tail = found
        if tail.pointer == NO_HEADER:
            return None
        standing = self.standing(send, ref, seq, tail)
        if standing is None:
            return None  # it was removed at this moment
        at = tail.pointer
        n = scan.changes.get(at, 0) if scan.since <= at else self._changes(send, base, at)
        entry = self._entry(send, ref, base, at, standing, n)
        if entry is None:
            return None  # as above
        self.known.amend(ref, Known(seq, at, standing.token, standing, entry, n))
        return Position(seq, at, standing, entry)

    def last_seen_entry(self, send: Patience, ref: InstanceRef, known: Known, standing: Standing) -> Entry | None:
        """The due entry of the header `standing`, as far as this process knows; None if it is gone."""
        if known.entry is not None and known.entry.n >= known.changes:
            return known.entry
        return self._entry(send, ref, self.layout.instance(ref), known.pointer, standing, known.changes)

    def standing(self, send: Patience, ref: InstanceRef, seq: int, kept: Kept) -> Standing | None:
        """What the record carries that record `seq`, which is `kept`, names as the newest header."""
        if kept.standing is not None or kept.pointer == NO_HEADER:
            return kept.standing
        known = self.known.get(ref)
        if known is not None and known.standing is not None and known.token == kept.token:
            return known.standing
        named = self.record(send, ref, kept.pointer)
        if not isinstance(named, Kept) or named.standing is None:
            return None
        self.known.amend(ref, Known(seq, kept.pointer, kept.token, named.standing, None))
        return named.standing

    # --- instances that are being removed ------------------------------------------------------------------------

    def is_removed(self, send: Patience, base: str, tombstone: Tombstone) -> bool:
        """Whether `tombstone` is that of the instance whose record 0 is there; a crash may have left it behind."""
        first = send.get(layout.record(base, 0))
        return first is not None and sha256(first) == tombstone.first

    def refuse(self, ref: InstanceRef, seq: int) -> NoReturn:
        """The instance is being removed; its last record is `seq`."""
        raise PurgeUnfinished(
            f"workflow {ref.workflow!r}, id {ref.id!r} is being deleted, or its deletion was interrupted; delete it "
            "again to complete that",
            seq,
        )

    # --- inside --------------------------------------------------------------------------------------------------

    def _end(self, send: Patience, ref: InstanceRef, base: str, start: int) -> tuple[Scan, int, Kept] | None:
        """What a list from `start` on shows, and the last record; `start` is only where to begin to look."""
        while True:
            scan = self._scan(send, ref, base, start, jump=True)
            if start and (not scan.seqs or scan.seqs[0] != start):
                self.known.forget(ref)  # another life began since
                start = 0
                continue
            if not scan.seqs:
                return None
            if scan.seqs[0] != start:
                if self._is_unused(send, ref, base, start, scan.seqs[0]):
                    return None
                continue
            for seq in scan.seqs[:-3:-1]:  # a tombstone that means nothing may be the last
                kept = self.record(send, ref, seq)
                if isinstance(kept, Kept):
                    known = self.known.get(ref)
                    self.known.learn(ref, seq, kept, anew=known is not None and known.seq > seq and start == 0)
                    self.known.saw_changes(ref, kept.pointer, scan.changes.get(kept.pointer, 0))
                    return scan, seq, kept
                if kept is None:
                    break
                self._refuse_removed(send, ref, base, seq, kept)
            else:
                return None

    def _scan(self, send: Patience, ref: InstanceRef, base: str, start: int, *, jump: bool = False) -> Scan:
        """The records from `start` on. `jump`: only the end matters, so a long log is entered at its last snapshot."""
        seqs: list[int] = []
        changes: dict[int, int] = {}
        after, since = layout.before_record(base, start), start
        more = True
        while more:
            more = False
            for page in send.keys(f"{base}/L", after):
                for entry in page:
                    seq, n = layout.place_in_log(entry.key)
                    if n:
                        changes[seq] = n
                    elif seqs and seq != seqs[-1] + 1:
                        return self._with_gap(send, ref, base, Scan(seqs, changes, since), seq)
                    else:
                        seqs.append(seq)
                if jump and start == 0 and len(page) >= PAGE and seqs:
                    jump = False
                    newest = self.newest_snapshot(send, base)
                    if newest is not None and newest[0] > seqs[-1]:
                        after, since, more = layout.before_record(base, newest[0]), newest[0], True
                        seqs = [*range(newest[0])]
                        break
        return Scan(seqs, changes, since)

    def newest_snapshot(self, send: Patience, base: str) -> tuple[int, str] | None:
        """Number and key of the newest snapshot."""
        for page in send.keys(f"{base}/S"):
            return layout.snapshot_seq(page[0].key), page[0].key
        return None

    def _entry(self, send: Patience, ref: InstanceRef, base: str, at: int, standing: Standing, n: int) -> Entry | None:
        """The due entry after `n` changes of the header in record `at`; None if it is gone."""
        if not n:
            return Entry(0, standing.header.due, standing.token)
        known = self.known.get(ref)
        if known is not None and known.standing == standing and known.entry is not None and known.entry.n == n:
            return known.entry
        key = layout.change(base, at, n)
        raw = send.get(key)
        return None if raw is None else Entry(n, *unpack_change(raw, key))

    def _changes(self, send: Patience, base: str, at: int) -> int:
        """How many later due times the header in record `at` has."""
        prefix = f"{layout.record(base, at)}."
        for page in send.keys(f"{base}/L", layout.record(base, at)):
            own = [*takewhile(lambda entry: entry.key.startswith(prefix), page)]
            if own:
                return layout.place_in_log(own[-1].key)[1]
            return 0
        return 0

    def _with_gap(self, send: Patience, ref: InstanceRef, base: str, scan: Scan, seq: int) -> Scan:
        """Record `seq` follows the end of `scan`, and some are not listed between them."""
        if send.get(layout.record(base, scan.end + 1)) is not None:
            return scan  # a folder of the file system shows what is new in any order: it came after this began
        if self._is_left_behind(send, ref, base, seq):
            return scan
        if send.get(layout.record(base, scan.end)) is None:
            return self._scan(send, ref, base, scan.seqs[0])  # it is being removed just now
        return self._corrupt(ref, scan.end + 1, seq)

    def _is_unused(self, send: Patience, ref: InstanceRef, base: str, start: int, found: int) -> bool:
        """The first record from `start` on is `found`, a later one. True: it means nothing; False: look again."""
        if send.get(layout.record(base, start)) is not None:
            return False
        if self._is_left_behind(send, ref, base, found):
            return True
        if self.record(send, ref, found) is None:
            return False
        return self._corrupt(ref, start, found)

    def _is_left_behind(self, send: Patience, ref: InstanceRef, base: str, seq: int) -> bool:
        """Whether record `seq`, with some missing before it, is a tombstone that means nothing.

        Raises `PurgeUnfinished` if the log ends in one that does: then the others may be gone in any order.
        """
        last = seq
        for page in send.keys(f"{base}/L", layout.record(base, seq)):
            last = layout.place_in_log(page[-1].key)[0]
        stone = self.record(send, ref, last)
        if not isinstance(stone, Tombstone):
            return False
        if self.is_removed(send, base, stone):
            self.refuse(ref, last - 1)
        return last == seq

    def _refuse_removed(self, send: Patience, ref: InstanceRef, base: str, seq: int, last: object) -> None:
        if isinstance(last, Tombstone) and self.is_removed(send, base, last):
            self.refuse(ref, seq - 1)

    def _corrupt(self, ref: InstanceRef, missing: int, found: int) -> NoReturn:
        raise CorruptRecord(
            f"The log of {ref.workflow}/{ref.id} (tenant {ref.tenant}) has a record {found} but no record "
            f"{missing}: objects under {self.layout.instance(ref)} were lost. Restore them from a backup, or from the "
            "bucket's object versions."
        )
