"""The contract suite is itself under test: each store here has one fault, and a named case must find it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core.cursor import ListKey
from flux_core.memory import MemoryStorage
from flux_core.ports import Due, Header, InstanceRef, Mail, Page
from flux_core.testing import StoreContract

if TYPE_CHECKING:
    from collections.abc import Sequence


class Overwrites(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        found = super().append(ref, seq, record, header)
        if found is not None:
            self._logs[ref][seq] = record
        return found


class SaysItWroteWhenTheSlotWasTaken(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        super().append(ref, seq, record, header)
        return None


class TakesItsOwnBytesForWritten(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        found = super().append(ref, seq, record, header)
        return None if found == record else found


class TakesAnEmptyRecordForNone(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        return super().append(ref, seq, record, header) or None


class ChangesTheHeaderOnConflict(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        found = super().append(ref, seq, record, header)
        if found is not None and header is not None:
            self._put_header(ref, header)
        return found


class ForgetsTheHeader(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        return super().append(ref, seq, record, header if seq == 0 else None)


class LooksBeforeItWrites(MemoryStorage):
    """Reads, then writes, without holding anything in between."""

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        from time import sleep

        log = self._logs.setdefault(ref, [])
        if seq < len(log):
            return log[seq]
        sleep(0)
        log[seq:] = [record]
        return None


class StoresText(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        return super().append(ref, seq, record.decode(errors="replace").encode(), header)


class FillsGaps(MemoryStorage):
    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        log = self._logs.get(ref, [])
        return super().append(ref, min(seq, len(log)), record, header)


class MixesUpPrefixes(MemoryStorage):
    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        key = "/".join(ref)
        return [record for at in sorted(self._logs) if "/".join(at).startswith(key) for record in self._logs[at]][
            start:
        ]


class JoinsNamesWithoutASeparator(MemoryStorage):
    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        key = ":".join(ref)
        return [record for at in self._logs if ":".join(at) == key for record in self._logs[at]][start:]


class ReadsInTheOrderOfText(MemoryStorage):
    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        log = super().read(ref)
        return [log[seq] for seq in sorted(range(len(log)), key=str)][start:]


class IgnoresWhereToStart(MemoryStorage):
    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        return super().read(ref)


class GivesItsOwnList(MemoryStorage):
    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        return self._logs.get(ref, []) if start == 0 else super().read(ref, start)


class OverwritesMail(MemoryStorage):
    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        found = super().put_mail(ref, mail)
        self._mail[ref][mail.name, mail.id] = mail
        return found


class KeysMailByIdAlone(MemoryStorage):
    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        taken = [other for other in self.mail(ref) if other.id == mail.id]
        return taken[0] if taken else super().put_mail(ref, mail)


class KeepsMailAsItCame(MemoryStorage):
    def mail(self, ref: InstanceRef) -> list[Mail]:
        return list(self._mail.get(ref, {}).values())


class KeepsTheLastSnapshot(MemoryStorage):
    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        self._snapshots[ref] = (seq, state)


class TakesNoSnapshotBeforeTheFirstRecord(MemoryStorage):
    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        if seq >= 0:
            super().put_snapshot(ref, seq, state)


class NudgesLater(MemoryStorage):
    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        header = self._headers.get(ref)
        if header is None or header.epoch != epoch:
            return False
        self._put_header(ref, header._replace(due=due))
        return True


class NudgesAnyEpoch(MemoryStorage):
    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        header = self._headers.get(ref)
        return header is not None and super().nudge(ref, header.epoch, due)


class NudgesOnlyWhatIsDue(MemoryStorage):
    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        header = self._headers.get(ref)
        return header is not None and header.due is not None and super().nudge(ref, epoch, due)


class SettlesWhateverIsDue(MemoryStorage):
    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        header = self._headers.get(ref)
        return header is not None and header.due is not None and super().settle(ref, seq, header.due, then)


class SettlesAfterANewerRecord(MemoryStorage):
    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        header = self._headers.get(ref)
        return header is not None and super().settle(ref, header.seq, due, then)


class LeavesOutTheLastMillisecond(MemoryStorage):
    def due(self, until: int, limit: int) -> list[Due]:
        return super().due(until - 1, limit)


class TellsDueInAnyOrder(MemoryStorage):
    def due(self, until: int, limit: int) -> list[Due]:
        return sorted(super().due(until, 10_000), key=lambda entry: entry.ref)[:limit]


class RemovesWhatItTells(MemoryStorage):
    def due(self, until: int, limit: int) -> list[Due]:
        found = super().due(until, limit)
        self._due_heap.clear()
        return found


class SkipsAtThePageBreak(MemoryStorage):
    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        page = super().list(tenant, workflow, statuses, limit + 1, cursor)
        return Page(page.items[:limit], page.cursor)


class RepeatsAtThePageBreak(MemoryStorage):
    """Pages by creation time alone: what shares a millisecond with the last entry is told again or missed."""

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        from flux_core.cursor import decode_cursor, encode_cursor

        page = super().list(tenant, workflow, statuses, limit, cursor)
        if page.cursor is None:
            return page
        last = decode_cursor(tenant, page.cursor)
        return Page(page.items, encode_cursor(tenant, ListKey(last.created_at, "", "")))


class ListsTheOldestFirst(MemoryStorage):
    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        page = super().list(tenant, workflow, statuses, limit, cursor)
        return Page(page.items[::-1], page.cursor)


class TakesAnyCursor(MemoryStorage):
    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        from flux_core.errors import CallerError

        try:
            return super().list(tenant, workflow, statuses, limit, cursor)
        except CallerError:
            return super().list(tenant, workflow, statuses, limit)


class PurgeLeavesMail(MemoryStorage):
    def purge(self, ref: InstanceRef, seq: int) -> bool:
        mail = self._mail.get(ref, {})
        done = super().purge(ref, seq)
        self._mail[ref] = mail
        return done


class PurgeLeavesTheSnapshot(MemoryStorage):
    def purge(self, ref: InstanceRef, seq: int) -> bool:
        kept = self._snapshots.get(ref)
        done = super().purge(ref, seq)
        if kept is not None:
            self._snapshots[ref] = kept
        return done


class PurgesWhateverIsThere(MemoryStorage):
    def purge(self, ref: InstanceRef, seq: int) -> bool:
        tail = self.tail(ref)
        return tail is not None and super().purge(ref, tail[0])


class ForgetsWhenOpenedAgain(MemoryStorage):
    """Stands for a store that acknowledges before it has written."""


BROKEN: list[tuple[type[MemoryStorage], str]] = [
    (Overwrites, "test_a_taken_slot_keeps_its_first_record"),
    (SaysItWroteWhenTheSlotWasTaken, "test_a_taken_slot_returns_exactly_the_bytes_it_holds"),
    (TakesItsOwnBytesForWritten, "test_the_same_bytes_again_are_found_not_written"),
    (TakesAnEmptyRecordForNone, "test_an_empty_record_also_takes_its_slot"),
    (ChangesTheHeaderOnConflict, "test_a_taken_slot_leaves_the_header"),
    (ChangesTheHeaderOnConflict, "test_a_taken_slot_leaves_both_indexes"),
    (ChangesTheHeaderOnConflict, "test_a_taken_slot_does_not_make_a_header"),
    (ForgetsTheHeader, "test_a_later_header_replaces_the_whole_one"),
    (LooksBeforeItWrites, "test_many_writers_on_many_slots_have_one_winner_each"),
    (StoresText, "test_every_value_of_a_byte_comes_back"),
    (FillsGaps, "test_a_gap_is_never_read_as_a_contiguous_log"),
    (MixesUpPrefixes, "test_an_id_that_begins_like_another_is_another"),
    (JoinsNamesWithoutASeparator, "test_it_matters_where_the_separators_fall"),
    (ReadsInTheOrderOfText, "test_a_long_log_comes_back_complete_and_in_order"),
    (IgnoresWhereToStart, "test_reading_from_the_middle_begins_with_that_record"),
    (GivesItsOwnList, "test_what_read_gives_belongs_to_the_caller"),
    (OverwritesMail, "test_mail_with_a_taken_id_leaves_the_first_in_the_box"),
    (KeysMailByIdAlone, "test_the_same_id_under_another_name_is_another_mail"),
    (KeepsMailAsItCame, "test_mail_is_ordered_by_time_then_id"),
    (KeepsTheLastSnapshot, "test_an_older_snapshot_that_comes_late_does_not_count"),
    (
        TakesNoSnapshotBeforeTheFirstRecord,
        "test_the_mark_of_an_import_stands_before_record_0_and_gives_way_to_any_snapshot",
    ),
    (NudgesLater, "test_a_nudge_never_makes_the_entry_later"),
    (NudgesAnyEpoch, "test_a_nudge_with_another_epoch_changes_nothing"),
    (NudgesOnlyWhatIsDue, "test_a_nudge_gives_an_entry_to_an_instance_without"),
    (SettlesWhateverIsDue, "test_settle_of_another_due_time_changes_nothing"),
    (SettlesWhateverIsDue, "test_settle_after_a_nudge_changes_nothing"),
    (SettlesAfterANewerRecord, "test_settle_after_a_newer_header_changes_nothing"),
    (LeavesOutTheLastMillisecond, "test_until_includes_its_own_millisecond"),
    (TellsDueInAnyOrder, "test_the_earliest_comes_first"),
    (RemovesWhatItTells, "test_looking_does_not_remove"),
    (SkipsAtThePageBreak, "test_pages_together_are_complete_without_repeats"),
    (RepeatsAtThePageBreak, "test_the_order_of_equal_times_is_always_the_same"),
    (ListsTheOldestFirst, "test_the_newest_comes_first"),
    (TakesAnyCursor, "test_a_made_up_cursor_is_the_callers_mistake"),
    (TakesAnyCursor, "test_the_cursor_of_another_tenant_is_the_callers_mistake"),
    (PurgeLeavesMail, "test_purge_leaves_nothing_of_the_instance"),
    (PurgeLeavesMail, "test_a_purged_id_can_be_used_again_and_finds_nothing_of_the_past"),
    (PurgeLeavesTheSnapshot, "test_purge_leaves_nothing_of_the_instance"),
    (PurgesWhateverIsThere, "test_purge_with_another_number_removes_nothing"),
    (ForgetsWhenOpenedAgain, "test_what_was_acknowledged_is_there_after_opening_again"),
]


@pytest.mark.parametrize(("store", "case"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_store_fails_the_case_that_is_made_for_it(store: type[MemoryStorage], case: str) -> None:
    class Suite(StoreContract):
        def make_store(self) -> MemoryStorage:
            return store()

        def reopen(self, opened: object) -> MemoryStorage:
            return store()

    suite = Suite()
    suite.setup_method()
    with pytest.raises(AssertionError) as failure:
        getattr(suite, case)()
    assert len(str(failure.value).split()) >= 5, "a failing case must say what the store did, in a sentence"


def test_a_sound_store_passes_every_case_that_a_broken_one_fails() -> None:
    for case in sorted({case for _, case in BROKEN if "opening_again" not in case}):

        class Suite(StoreContract):
            def make_store(self) -> MemoryStorage:
                return MemoryStorage()

        suite = Suite()
        suite.setup_method()
        getattr(suite, case)()
        suite.teardown_method()


def test_the_suite_has_at_least_sixty_cases() -> None:
    assert len([name for name in dir(StoreContract) if name.startswith("test_")]) >= 60


def test_a_suite_without_a_store_says_what_to_write() -> None:
    with pytest.raises(NotImplementedError, match=r"StoreContract must override make_store"):
        StoreContract().setup_method()
