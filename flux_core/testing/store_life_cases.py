"""The store contract, last part: purge, ensure, close, and what a store keeps when it is opened again."""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.doctor import OK, PROBE, examine
from flux_core.engine import FluxEngine
from flux_core.testing.store_case import ALL_BYTES, NOW, StoreCase, header, letter, ref, same, together

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef


class LifeCases(StoreCase):
    """Purge removes one instance wholly or not at all; opening again loses nothing that was acknowledged."""

    # --- what the doctor does ------------------------------------------------------------------------------------

    def test_the_doctor_finds_nothing_wrong_however_often_and_removes_what_he_left(self) -> None:
        engine = FluxEngine(self.store)
        for _ in range(2):
            for part in ("api", "worker", "sweeper", "operator", "purge"):
                same(
                    [one for one in examine(engine, part) if one.standing != OK], [], f"what the doctor of {part} found"
                )
        same(self.store.read(PROBE), [], "the log of the doctor's own instance, purged")
        same(self.store.mail(PROBE), [], "its mailbox")

    # --- purge -------------------------------------------------------------------------------------------------

    def test_purge_leaves_nothing_of_the_instance(self) -> None:
        self._full(ref())
        same(self.store.purge(ref(), 2), True, "purge with the newest record's number")
        same(self.store.read(ref()), [], "the log after purge")
        same(self.store.tail(ref()), None, "the tail after purge")
        same(self.store.header(ref()), None, "the header after purge")
        same(self.store.snapshot(ref()), None, "the snapshot after purge")
        same(self.store.mail(ref()), [], "the mailbox after purge")

    def test_purge_leaves_nothing_in_the_indexes(self) -> None:
        self._full(ref())
        self.store.purge(ref(), 2)
        self.due_is([], "the due index after purge")
        self.listed_is(len, 0, "the number of instances listed after purge")

    def test_purge_with_another_number_removes_nothing(self) -> None:
        self._full(ref())
        for seq in (0, 1, 3):
            same(self.store.purge(ref(), seq), False, f"purge with {seq} when the newest record is 2")
        self._is_full(ref())

    def test_purge_of_an_unknown_instance_is_false(self) -> None:
        same(self.store.purge(ref("nobody"), 0), False, "purge of an unknown instance")

    def test_an_instance_is_purged_once(self) -> None:
        self._full(ref())
        won = together(4, lambda _: self.store.purge(ref(), 2))
        same(won.count(True), 1, "the number of purges at the same time that were told they did it")
        same(self.store.purge(ref(), 2), False, "purge of an instance that is gone")

    def test_an_id_can_be_used_and_purged_again_and_again(self) -> None:
        for _ in range(3):
            self._full(ref())
            same(self.store.purge(ref(), 2), True, "purge of the next instance of an id")
            same(self.store.read(ref()), [], "the log after it")

    def test_purge_leaves_all_others_alone(self) -> None:
        others = [ref("10"), ref("1:"), ref("0"), ref("1", workflow="refund"), ref("1", tenant="other")]
        for at in (ref("1"), *others):
            self._full(at)
        self.store.purge(ref("1"), 2)
        for at in others:
            self._is_full(at)
        self._settled(lambda: {at for at, _ in self.due_now()}, set(others), "the due index after purge of instance 1")

    def test_a_purged_id_can_be_used_again_and_finds_nothing_of_the_past(self) -> None:
        self._full(ref())
        self.store.purge(ref(), 2)
        same(
            self.store.append(ref(), 0, b"new life", header(created_at=NOW + 9, epoch=1)), None, "record 0 after purge"
        )
        same(self.store.read(ref()), [b"new life"], "the log of the new life")
        same(self.store.header(ref()), header(created_at=NOW + 9, epoch=1), "the header of the new life")
        same(self.store.snapshot(ref()), None, "the snapshot of the new life")
        same(self.store.put_mail(ref(), letter(body=b"again")), None, "mail with an id that the past life had used")
        same(self.store.mail(ref()), [letter(body=b"again")], "the mailbox of the new life")
        self.due_is([], "the due index of the new life")

    def test_a_long_instance_is_purged_wholly(self) -> None:
        records, mails = self.churn * 3, self.churn
        self.fill(ref(), records)
        for number in range(mails):
            self.store.put_mail(ref(), letter(id=str(number)))
        same(self.store.purge(ref(), records - 1), True, f"purge of {records} records and {mails} mails")
        same((self.store.read(ref()), self.store.mail(ref())), ([], []), "what is left of it")

    # --- ensure, close, open again -------------------------------------------------------------------------------

    def test_ensure_again_changes_nothing(self) -> None:
        self._full(ref())
        self.store.ensure()
        self.store.ensure()
        self._is_full(ref())

    def test_close_again_is_harmless(self) -> None:
        other = self.make_store()
        other.close()
        other.close()

    def test_a_store_says_whether_a_restart_loses_everything(self) -> None:
        same(type(self.store.ephemeral), bool, "the type of `ephemeral`")

    def test_what_was_acknowledged_is_there_after_opening_again(self) -> None:
        self._full(ref())
        self._full(ref("10"))
        self.store = self.reopen(self.store)
        self._is_full(ref())
        self._is_full(ref("10"))

    def test_the_indexes_are_there_after_opening_again(self) -> None:
        self._full(ref())
        self.store = self.reopen(self.store)
        self.due_is([(ref(), NOW + 5)], "the due index after opening again")
        self.listed_is(lambda listed: [entry.ref for entry in listed], [ref()], "the list after opening again")

    def test_a_taken_slot_is_taken_after_opening_again(self) -> None:
        self._full(ref())
        self.store = self.reopen(self.store)
        same(self.store.append(ref(), 1, b"late"), ALL_BYTES, "append to a slot taken before opening again")
        same(self.store.put_mail(ref(), letter(body=b"late")), letter(), "mail with an id taken before opening again")
        same(self.store.append(ref(), 3, b"next"), None, "append to the next slot after opening again")

    def test_a_cursor_is_good_after_opening_again(self) -> None:
        for number in range(6):
            self.start(ref(str(number)), header(created_at=NOW + number))
        self.listed_is(len, 6, "the number of instances listed")
        cursor = self.store.list("acme", limit=4).cursor
        self.store = self.reopen(self.store)
        rest = [entry.ref.id for entry in self.store.list("acme", limit=4, cursor=cursor).items]
        same(rest, ["1", "0"], "the page after a cursor from before opening again")

    # --- an instance that has one of everything ------------------------------------------------------------------

    def _full(self, at: InstanceRef) -> None:
        self.start(at, header(due=NOW), b"start")
        self.store.append(at, 1, ALL_BYTES)
        self.store.append(at, 2, b"suspend", header(2, status="suspended", due=NOW + 5))
        self.store.put_mail(at, letter())
        self.store.put_snapshot(at, 2, b"state")

    def _is_full(self, at: InstanceRef) -> None:
        same(self.store.read(at), [b"start", ALL_BYTES, b"suspend"], f"the log of {at}")
        same(self.store.tail(at), (2, b"suspend"), f"the tail of {at}")
        same(self.store.header(at), header(2, status="suspended", due=NOW + 5), f"the header of {at}")
        same(self.store.mail(at), [letter()], f"the mailbox of {at}")
        same(self.store.snapshot(at), (2, b"state"), f"the snapshot of {at}")
