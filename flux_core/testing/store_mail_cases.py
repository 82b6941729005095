"""The store contract, second part: mailbox and snapshots (PROTOCOL rules 4, 5 and 12)."""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from flux_core.testing.store_case import ALL_BYTES, NOW, StoreCase, header, letter, ref, same, together


class MailCases(StoreCase):
    """Mail is put if absent by (name, id); of snapshots the newest counts."""

    # --- mailbox -------------------------------------------------------------------------------------------

    def test_new_mail_is_written_and_put_returns_none(self) -> None:
        same(self.store.put_mail(ref(), letter()), None, "put_mail of new mail")
        same(self.store.mail(ref()), [letter()], "the mailbox")

    def test_mail_with_a_taken_id_returns_the_first(self) -> None:
        self.store.put_mail(ref(), letter(body=b"first"))
        again = self.store.put_mail(ref(), letter(body=b"second", at=NOW + 5))
        same(again, letter(body=b"first"), "put_mail with a name and id that are taken")

    def test_mail_with_a_taken_id_leaves_the_first_in_the_box(self) -> None:
        self.store.put_mail(ref(), letter(body=b"first"))
        self.store.put_mail(ref(), letter(body=b"second", at=NOW + 5))
        same(self.store.mail(ref()), [letter(body=b"first")], "the mailbox after a second mail of the same name and id")

    def test_the_very_same_mail_again_is_found_not_written(self) -> None:
        mail = letter()
        self.store.put_mail(ref(), mail)
        same(self.store.put_mail(ref(), mail), mail, "put_mail of the same mail again")
        same(self.store.mail(ref()), [mail], "the mailbox after the same mail twice")

    def test_the_same_id_under_another_name_is_another_mail(self) -> None:
        same(self.store.put_mail(ref(), letter("approval", "m1", body=b"a")), None, "put_mail of approval m1")
        same(self.store.put_mail(ref(), letter("payment", "m1", body=b"b")), None, "put_mail of payment m1")
        bodies = {mail.name: mail.body for mail in self.store.mail(ref())}
        same(bodies, {"approval": b"a", "payment": b"b"}, "the mailbox with one id under two names")

    def test_it_matters_where_name_and_id_of_a_mail_part(self) -> None:
        same(self.store.put_mail(ref(), letter("a:b", "c")), None, "put_mail of name a:b, id c")
        same(self.store.put_mail(ref(), letter("a", "b:c")), None, "put_mail of name a, id b:c")
        same(len(self.store.mail(ref())), 2, "the number of mails")

    def test_mail_is_ordered_by_time_then_id(self) -> None:
        wanted = [
            letter(id="z", at=NOW),
            letter(id="a", at=NOW + 1),
            letter(id="b", at=NOW + 1),
            letter(id="0", at=NOW + 10),
        ]
        for mail in (wanted[3], wanted[2], wanted[0], wanted[1]):
            self.store.put_mail(ref(), mail)
        same(self.store.mail(ref()), wanted, "the mailbox in the order of (at, id)")

    def test_the_order_of_mail_does_not_depend_on_its_name(self) -> None:
        early, late = letter("z", "1", NOW), letter("a", "2", NOW + 1)
        self.store.put_mail(ref(), late)
        self.store.put_mail(ref(), early)
        same(self.store.mail(ref()), [early, late], "the mailbox with two names, in the order of (at, id)")

    def test_the_mail_of_one_instance_is_not_in_the_box_of_another(self) -> None:
        self.store.put_mail(ref("1"), letter(body=b"one"))
        self.store.put_mail(ref("10"), letter(body=b"ten"))
        self.store.put_mail(ref("1", tenant="other"), letter(body=b"other"))
        self.store.put_mail(ref("1", workflow="refund"), letter(body=b"refund"))
        same(self.store.mail(ref("1")), [letter(body=b"one")], "the mailbox of instance 1 beside three others")
        same(self.store.mail(ref("10")), [letter(body=b"ten")], "the mailbox of instance 10")

    def test_an_unknown_instance_has_an_empty_mailbox(self) -> None:
        same(self.store.mail(ref("nobody")), [], "the mailbox of an unknown instance")

    def test_mail_may_come_before_the_first_record(self) -> None:
        same(self.store.put_mail(ref(), letter()), None, "put_mail for an instance without records")
        same(self.store.tail(ref()), None, "the tail of an instance that has only mail")
        self.start(ref())
        same(self.store.mail(ref()), [letter()], "the mailbox after the instance has started")

    def test_mail_changes_neither_log_nor_header(self) -> None:
        self.start(ref(), header(due=NOW), b"start")
        self.store.put_mail(ref(), letter())
        same(self.store.read(ref()), [b"start"], "the log after mail came")
        same(self.store.header(ref()), header(due=NOW), "the header after mail came")
        self.due_is([(ref(), NOW)], "the due index after mail came")

    def test_of_many_senders_with_one_id_one_wins(self) -> None:
        def send(number: int) -> bytes | None:
            found = self.store.put_mail(ref(), letter(body=b"%d" % number))
            return None if found is None else found.body

        answers = together(min(self.writers, 16), send)
        same(answers.count(None), 1, "the number of senders told that their mail was written")
        won = b"%d" % answers.index(None)
        same([mail.body for mail in self.store.mail(ref())], [won], "the mailbox after many senders of one id")
        same(set(answers) - {None}, {won}, "what the other senders found")

    def test_the_body_of_a_mail_may_be_any_bytes(self) -> None:
        self.store.put_mail(ref(), letter(id="1", body=ALL_BYTES))
        self.store.put_mail(ref(), letter(id="2", body=b""))
        same([mail.body for mail in self.store.mail(ref())], [ALL_BYTES, b""], "the bodies of the mail")

    def test_a_full_mailbox_comes_back_complete(self) -> None:
        wanted = [letter(id=f"{number:04d}", at=NOW + number, body=b"x" * 5_000) for number in range(300)]
        for mail in reversed(wanted):
            self.store.put_mail(ref(), mail)
        same(self.store.mail(ref()) == wanted, True, "300 mails (1.5 MB), complete and in order")

    # --- snapshots -----------------------------------------------------------------------------------------

    def test_without_a_snapshot_there_is_none(self) -> None:
        self.start(ref())
        same(self.store.snapshot(ref()), None, "the snapshot of an instance that has none")
        same(self.store.snapshot(ref("nobody")), None, "the snapshot of an unknown instance")

    def test_a_snapshot_comes_back_with_its_number(self) -> None:
        self.store.put_snapshot(ref(), 3, ALL_BYTES)
        same(self.store.snapshot(ref()), (3, ALL_BYTES), "the snapshot after record 3")

    def test_the_newest_snapshot_wins(self) -> None:
        for seq in (9, 10, 100):
            self.store.put_snapshot(ref(), seq, b"%d" % seq)
            same(self.store.snapshot(ref()), (seq, b"%d" % seq), f"the newest snapshot after the one of {seq}")

    def test_an_older_snapshot_that_comes_late_does_not_count(self) -> None:
        self.store.put_snapshot(ref(), 10, b"ten")
        self.store.put_snapshot(ref(), 9, b"nine")
        same(self.store.snapshot(ref()), (10, b"ten"), "the newest snapshot after an older one came late")

    def test_the_mark_of_an_import_stands_before_record_0_and_gives_way_to_any_snapshot(self) -> None:
        self.store.put_snapshot(ref(), -1, b"importing")
        same(self.store.snapshot(ref()), (-1, b"importing"), "the snapshot with the number -1")
        self.store.put_snapshot(ref(), 0, b"zero")
        self.store.put_snapshot(ref(), -1, b"importing")
        same(self.store.snapshot(ref()), (0, b"zero"), "the newest snapshot after the one with the number -1")

    def test_a_snapshot_written_twice_is_harmless(self) -> None:
        self.store.put_snapshot(ref(), 4, b"state")
        self.store.put_snapshot(ref(), 4, b"state")
        same(self.store.snapshot(ref()), (4, b"state"), "the snapshot after it was written twice")

    def test_snapshots_of_instances_do_not_mix(self) -> None:
        self.store.put_snapshot(ref("1"), 1, b"one")
        self.store.put_snapshot(ref("10"), 7, b"ten")
        self.store.put_snapshot(ref("1", tenant="other"), 9, b"other")
        same(self.store.snapshot(ref("1")), (1, b"one"), "the snapshot of instance 1 beside others")
        same(self.store.snapshot(ref("2")), None, "the snapshot of instance 2, that has none")

    def test_a_snapshot_of_one_mebibyte_comes_back(self) -> None:
        self.store.put_snapshot(ref(), 1, ALL_BYTES * 4096)
        same(self.store.snapshot(ref()) == (1, ALL_BYTES * 4096), True, "a snapshot of 1 MiB, read back unchanged")

    def test_a_snapshot_changes_neither_log_nor_header(self) -> None:
        self.start(ref(), header(due=NOW), b"start")
        self.store.put_snapshot(ref(), 0, b"state")
        same(self.store.read(ref()), [b"start"], "the log after a snapshot")
        same(self.store.tail(ref()), (0, b"start"), "the tail after a snapshot")
        same(self.store.header(ref()), header(due=NOW), "the header after a snapshot")
