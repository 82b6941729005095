"""The store contract, first part: what `append`, `read` and `tail` promise of the log (PROTOCOL rule 3)."""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.errors import FluxError
from flux_core.testing.store_case import ALL_BYTES, NAME_CHARACTERS, NOW, StoreCase, header, must, ref, same, together

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef


class LogCases(StoreCase):
    """Records are put if absent, never changed, contiguous, and belong to one instance."""

    # --- put if absent -----------------------------------------------------------------------------------

    def test_a_free_slot_is_written_and_append_returns_none(self) -> None:
        same(self.store.append(ref(), 0, b"first"), None, "append to the free slot 0")
        same(self.store.read(ref()), [b"first"], "the log after one append")

    def test_a_taken_slot_returns_exactly_the_bytes_it_holds(self) -> None:
        self.store.append(ref(), 0, ALL_BYTES)
        same(self.store.append(ref(), 0, b"second"), ALL_BYTES, "append to the taken slot 0")

    def test_a_taken_slot_keeps_its_first_record(self) -> None:
        self.store.append(ref(), 0, b"first")
        self.store.append(ref(), 0, b"second")
        same(self.store.read(ref()), [b"first"], "the log after a second append to slot 0")

    def test_the_same_bytes_again_are_found_not_written(self) -> None:
        self.store.append(ref(), 0, b"mine")
        same(
            self.store.append(ref(), 0, b"mine"),
            b"mine",
            "append of the same bytes to their own slot (a lost response)",
        )
        same(self.store.read(ref()), [b"mine"], "the log after the same append twice")

    def test_a_taken_slot_in_the_middle_returns_its_own_record(self) -> None:
        written = self.fill(ref(), 5)
        same(self.store.append(ref(), 2, b"late"), written[2], "append to the taken slot 2 of 5")
        same(self.store.read(ref()), written, "the log after a refused append to slot 2")

    def test_an_empty_record_also_takes_its_slot(self) -> None:
        same(self.store.append(ref(), 0, b""), None, "append of an empty record")
        same(
            self.store.append(ref(), 0, b"second"), b"", "append to a slot that holds an empty record (b'' is not None)"
        )
        same(self.store.read(ref()), [b""], "the log with one empty record")

    def test_after_a_refused_append_the_next_slot_is_still_free(self) -> None:
        self.store.append(ref(), 0, b"theirs")
        self.store.append(ref(), 0, b"mine")
        same(self.store.append(ref(), 1, b"mine"), None, "append to the free slot 1 after slot 0 was found taken")
        same(self.store.read(ref()), [b"theirs", b"mine"], "the log")

    # --- writers at the same time --------------------------------------------------------------------------

    def test_many_writers_on_many_slots_have_one_winner_each(self) -> None:
        slots = range(self.slots)

        def write(number: int) -> list[bytes | None]:
            return [self.store.append(ref(), seq, b"%d/%d" % (number, seq)) for seq in slots]

        answers = together(self.writers, write)
        log = self.store.read(ref())
        same(len(log), self.slots, f"the length of the log that {self.writers} writers filled")
        for seq in slots:
            winners = [number for number in range(self.writers) if answers[number][seq] is None]
            same(len(winners), 1, f"the number of writers told that slot {seq} is theirs")
            same(log[seq], b"%d/%d" % (winners[0], seq), f"slot {seq}, won by writer {winners[0]}")
            lost = {answers[number][seq] for number in range(self.writers) if number != winners[0]}
            same(lost, {log[seq]}, f"what the losers of slot {seq} found there")

    def test_writers_with_headers_leave_the_header_of_the_winner(self) -> None:
        self.start(ref())

        def claim(number: int) -> bool:
            head = header(1, epoch=number + 2, due=NOW + number)
            return self.store.append(ref(), 1, b"claim %d" % number, head) is None

        won = together(min(self.writers, 16), claim)
        same(won.count(True), 1, "the number of claims that were told they won")
        winner = won.index(True)
        same(self.store.read(ref(), 1), [b"claim %d" % winner], "record 1, that the winner wrote")
        same(
            self.store.header(ref()), header(1, epoch=winner + 2, due=NOW + winner), "the header, that the winner wrote"
        )
        self.due_is([(ref(), NOW + winner)], "the due index after many claims")

    def test_instances_written_at_the_same_time_do_not_mix(self) -> None:
        def write(number: int) -> None:
            for seq in range(20):
                self.store.append(ref(str(number)), seq, b"%d/%d" % (number, seq))

        together(8, write)
        for number in range(8):
            wanted = [b"%d/%d" % (number, seq) for seq in range(20)]
            same(self.store.read(ref(str(number))), wanted, f"the log of instance {number}")

    def test_a_reader_sees_a_contiguous_log_while_it_grows(self) -> None:
        def work(number: int) -> None:
            for seq in range(self.churn):
                if number == 0:
                    self.store.append(ref(), seq, b"%d" % seq)
                else:
                    log = self.store.read(ref())
                    same(log, [b"%d" % place for place in range(len(log))], "a log read while it grows")

        together(2, work)

    def test_another_thread_reads_what_was_acknowledged(self) -> None:
        for seq in range(20):
            self.store.append(ref(), seq, b"%d" % seq, header(seq, updated_at=NOW + seq))
            told = together(1, lambda _: (self.store.tail(ref()), self.store.header(ref())))
            same(told, [((seq, b"%d" % seq), header(seq, updated_at=NOW + seq))], "tail and header in another thread")

    # --- gaps ------------------------------------------------------------------------------------------------

    def test_a_gap_is_never_read_as_a_contiguous_log(self) -> None:
        written = self.fill(ref(), 2)
        try:
            self.store.append(ref(), 5, b"beyond the end")
            log = self.store.read(ref())
        except (ValueError, FluxError):
            return  # refused when written or told when read: both keep the fold from a wrong record
        same(log, written, "a log of 2 records after an append to slot 5 (a record must not change its number)")

    # --- bytes -------------------------------------------------------------------------------------------------

    def test_every_value_of_a_byte_comes_back(self) -> None:
        self.store.append(ref(), 0, ALL_BYTES)
        same(self.store.read(ref()), [ALL_BYTES], "a record with all 256 bytes")
        same(self.store.tail(ref()), (0, ALL_BYTES), "the tail with all 256 bytes")

    def test_every_single_byte_is_a_record_of_its_own(self) -> None:
        for value in range(256):
            self.store.append(ref(), value, bytes([value]))
        same(self.store.read(ref()), [bytes([value]) for value in range(256)], "256 records of one byte each")

    def test_a_record_of_one_mebibyte_comes_back(self) -> None:
        big = ALL_BYTES * 4096
        self.store.append(ref(), 0, big)
        same(self.store.read(ref()) == [big], True, "a record of 1 MiB, read back unchanged")
        same(self.store.append(ref(), 0, b"") == big, True, "a taken slot of 1 MiB, returned unchanged")

    def test_records_are_given_as_bytes(self) -> None:
        self.store.append(ref(), 0, b"x")
        tail = self.store.tail(ref())
        kinds = {
            type(self.store.read(ref())[0]),
            type(self.store.append(ref(), 0, b"y")),
            type(tail[1] if tail else None),
        }
        same(kinds, {bytes}, "the types that read, append and tail give")

    def test_text_in_utf_8_is_not_normalised(self) -> None:
        text = "é e\u0301 \r\n 漢字 \U0001f600\x00".encode()
        self.store.append(ref(), 0, text)
        same(self.store.read(ref()), [text], "a record with composed and decomposed letters, line ends and NUL")

    # --- names -------------------------------------------------------------------------------------------------

    def test_names_of_128_characters_are_kept_apart(self) -> None:
        long = ref("i" * 127 + "a", "w" * 128, "t" * 128)
        longer = long._replace(id="i" * 127 + "b")
        self.start(long, header(due=NOW), b"a")
        self.start(longer, header(due=NOW + 1), b"b")
        same((self.store.read(long), self.store.read(longer)), ([b"a"], [b"b"]), "two ids that differ in character 128")
        self.due_is([(long, NOW), (longer, NOW + 1)], "the due index with names of 128 characters")
        listed = [entry.ref for entry in self.listing("t" * 128)]
        same(sorted(listed), [long, longer], "the list with names of 128 characters")

    def test_every_allowed_character_of_a_name_comes_back(self) -> None:
        odd = ref(NAME_CHARACTERS, NAME_CHARACTERS[::-1], NAME_CHARACTERS)
        self.start(odd, header(due=NOW))
        self.due_is([(odd, NOW)], "the due index with every allowed character in the names")
        same([entry.ref for entry in self.listing(NAME_CHARACTERS)], [odd], "the list with every allowed character")

    def test_names_that_differ_in_case_are_different(self) -> None:
        self.start(ref("Order-a"), record=b"upper")
        same(self.store.read(ref("order-a")), [], "the log of order-a when only Order-a exists")

    def test_names_that_look_like_numbers_are_text(self) -> None:
        names = ("1", "01", "1.0", "1e0")
        for name in names:
            same(self.store.append(ref(name), 0, name.encode()), None, f"append to the new instance {name!r}")
        for name in names:
            same(self.store.read(ref(name)), [name.encode()], f"the log of {name!r}")

    def test_the_same_id_in_two_tenants_is_two_instances(self) -> None:
        self._apart(ref("1", "order", "acme"), ref("1", "order", "other"))

    def test_the_same_id_in_two_workflows_is_two_instances(self) -> None:
        self._apart(ref("1", "order", "acme"), ref("1", "refund", "acme"))

    def test_two_ids_of_one_workflow_are_two_instances(self) -> None:
        self._apart(ref("1"), ref("2"))

    def test_it_matters_where_the_separators_fall(self) -> None:
        for mark in ":.-_":
            self._apart(ref("c", f"a{mark}b", "t"), ref(f"b{mark}c", "a", "t"))
            self._apart(ref("i", "w", f"t{mark}u"), ref("i", f"u{mark}w", "t"))

    def test_an_id_that_begins_like_another_is_another(self) -> None:
        self._apart(ref("1"), ref("10"))
        self._apart(ref("2:0"), ref("2"))
        self._apart(ref("3"), ref("3:L"))

    def _apart(self, one: InstanceRef, two: InstanceRef) -> None:
        self.start(one, header(status="running"), b"one")
        same(self.store.tail(two), None, f"the tail of {two} when only {one} exists")
        same(self.store.header(two), None, f"the header of {two} when only {one} exists")
        self.start(two, header(status="failed"), b"two")
        self.store.append(two, 1, b"more")
        same(self.store.read(one), [b"one"], f"the log of {one} beside {two}")
        same(self.store.read(two), [b"two", b"more"], f"the log of {two} beside {one}")
        same(self.store.tail(one), (0, b"one"), f"the tail of {one} beside {two}")
        same(self.store.header(one), header(status="running"), f"the header of {one} beside {two}")

    # --- reading -----------------------------------------------------------------------------------------------

    def test_an_unknown_instance_has_no_records_and_no_tail(self) -> None:
        same(self.store.read(ref("nobody")), [], "the log of an unknown instance")
        same(self.store.read(ref("nobody"), 7), [], "the log of an unknown instance from record 7 on")
        same(self.store.tail(ref("nobody")), None, "the tail of an unknown instance")

    def test_reading_from_the_middle_begins_with_that_record(self) -> None:
        written = self.fill(ref(), 12)
        same(self.store.read(ref(), 7), written[7:], "the log from record 7 on")
        same(self.store.read(ref(), 11), written[11:], "the log from its last record on")

    def test_reading_from_beyond_the_end_gives_nothing(self) -> None:
        self.fill(ref(), 3)
        same(self.store.read(ref(), 3), [], "the log of 3 records from record 3 on")
        same(self.store.read(ref(), 100), [], "the log of 3 records from record 100 on")

    def test_a_long_log_comes_back_complete_and_in_order(self) -> None:
        written = self.fill(ref(), self.long_log)
        same(self.store.read(ref()) == written, True, f"{self.long_log} records, complete and in order")
        middle = self.long_log // 2
        same(self.store.read(ref(), middle) == written[middle:], True, f"the records from {middle} on, in order")
        same(self.store.tail(ref()), (self.long_log - 1, written[-1]), "the tail of a long log")

    def test_a_log_longer_than_a_page_of_the_store_comes_back_complete(self) -> None:
        written = [bytes([seq]) * 100_000 for seq in range(30)]
        for seq, record in enumerate(written):
            self.store.append(ref(), seq, record)
        same(self.store.read(ref()) == written, True, "3 MB in 30 records, complete and in order")

    def test_the_tail_is_the_newest_record_after_each_append(self) -> None:
        for seq in range(12):
            self.store.append(ref(), seq, b"%d" % seq)
            same(self.store.tail(ref()), (seq, b"%d" % seq), f"the tail after the append of record {seq}")

    def test_what_read_gives_belongs_to_the_caller(self) -> None:
        written = self.fill(ref(), 3)
        self.store.read(ref()).clear()
        same(self.store.read(ref()), written, "the log after a caller emptied the list that read gave")
        must(self.store.append(ref(), 3, b"next") is None, "the log's end moved when a caller emptied the list")
