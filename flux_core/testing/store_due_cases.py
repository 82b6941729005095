"""The store contract, third part: the header and the due index (PROTOCOL rules 2 and 7)."""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from flux_core.testing.store_case import NOW, StoreCase, header, must, ref, same, together


class DueCases(StoreCase):
    """The header changes with a record or by one exact condition, and the due index always says what it says."""

    # --- header ------------------------------------------------------------------------------------------------

    def test_an_unknown_instance_has_no_header(self) -> None:
        same(self.store.header(ref("nobody")), None, "the header of an unknown instance")

    def test_every_field_of_a_header_comes_back(self) -> None:
        written = header(0, status="suspended", created_at=NOW, updated_at=NOW + 7, epoch=12, due=NOW + 86_400_000)
        self.start(ref(), written)
        same(self.store.header(ref()), written, "the header as written")

    def test_a_header_may_have_nothing_due(self) -> None:
        self.start(ref(), header(due=None))
        same(self.store.header(ref()), header(due=None), "the header with due None")
        self.due_is([], "the due index of an instance with due None")

    def test_a_later_header_replaces_the_whole_one(self) -> None:
        self.start(ref(), header(due=NOW))
        later = header(1, status="completed", updated_at=NOW + 9, epoch=2)
        self.store.append(ref(), 1, b"end", later)
        same(self.store.header(ref()), later, "the header after a later one")
        same(self.store.read(ref(), 1), [b"end"], "the record that came with it")

    def test_a_record_without_header_leaves_the_header(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 1, b"step")
        same(self.store.header(ref()), header(due=NOW), "the header after a record without one")
        self.due_is([(ref(), NOW)], "the due index after a record without header")

    def test_a_taken_slot_leaves_the_header(self) -> None:
        self.start(ref(), header(due=NOW))
        found = self.store.append(ref(), 0, b"other", header(0, status="failed", epoch=9, due=NOW - 5))
        must(found is not None, "append with a header to a taken slot returned None: it claims to have written")
        same(self.store.header(ref()), header(due=NOW), "the header after an append to a taken slot")

    def test_a_taken_slot_leaves_both_indexes(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 0, b"other", header(0, status="failed", due=NOW - 5))
        self.due_is([(ref(), NOW)], "the due index after an append to a taken slot")
        self.listed_is(
            lambda listed: [entry.header.status for entry in listed], ["running"], "the list after such an append"
        )

    def test_a_taken_slot_does_not_make_a_header(self) -> None:
        self.store.append(ref(), 0, b"bare")
        self.store.append(ref(), 0, b"other", header(due=NOW))
        same(self.store.header(ref()), None, "the header after a refused append to an instance that had none")
        self.due_is([], "the due index after that")

    # --- nudge ---------------------------------------------------------------------------------------------------

    def test_a_nudge_makes_the_entry_earlier(self) -> None:
        self.start(ref(), header(due=NOW + 100))
        same(self.store.nudge(ref(), 1, NOW), True, "nudge to an earlier time")
        self.due_is([(ref(), NOW)], "the due index after the nudge")

    def test_a_nudge_never_makes_the_entry_later(self) -> None:
        self.start(ref(), header(due=NOW))
        same(self.store.nudge(ref(), 1, NOW + 100), True, "nudge to a later time (the entry is early enough)")
        self.due_is([(ref(), NOW)], "the due index after a nudge to a later time")

    def test_a_nudge_to_the_same_time_is_content(self) -> None:
        self.start(ref(), header(due=NOW))
        same(self.store.nudge(ref(), 1, NOW), True, "nudge to the time that is there")
        self.due_is([(ref(), NOW)], "the due index after it")

    def test_a_nudge_gives_an_entry_to_an_instance_without(self) -> None:
        self.start(ref(), header(due=None))
        same(self.store.nudge(ref(), 1, NOW), True, "nudge of an instance with nothing due")
        self.due_is([(ref(), NOW)], "the due index after it")

    def test_a_nudge_with_another_epoch_changes_nothing(self) -> None:
        self.start(ref(), header(epoch=3, due=NOW + 100))
        for epoch in (2, 4):
            same(self.store.nudge(ref(), epoch, NOW), False, f"nudge with epoch {epoch} of a header with epoch 3")
        self.due_is([(ref(), NOW + 100)], "the due index after nudges with other epochs")

    def test_a_nudge_of_an_unknown_instance_is_false(self) -> None:
        same(self.store.nudge(ref("nobody"), 1, NOW), False, "nudge of an unknown instance")
        self.due_is([], "the due index after it")

    def test_a_nudge_changes_only_the_due_time(self) -> None:
        self.start(ref(), header(due=NOW + 100), b"start")
        self.store.nudge(ref(), 1, NOW)
        same(self.store.header(ref()), header(due=NOW), "the header after a nudge")
        same(self.store.read(ref()), [b"start"], "the log after a nudge")

    def test_a_nudge_moves_one_instance_only(self) -> None:
        self.start(ref("1"), header(due=NOW + 100))
        self.start(ref("10"), header(due=NOW + 100))
        self.store.nudge(ref("1"), 1, NOW)
        self.due_is([(ref("1"), NOW), (ref("10"), NOW + 100)], "the due index after a nudge of instance 1")

    # --- settle ------------------------------------------------------------------------------------------------

    def test_settle_to_none_removes_the_entry(self) -> None:
        self.start(ref(), header(due=NOW))
        same(self.store.settle(ref(), 0, NOW, None), True, "settle of the exact entry")
        same(self.store.header(ref()), header(due=None), "the header after it")
        self.due_is([], "the due index after it")

    def test_settle_to_a_later_time_moves_the_entry(self) -> None:
        self.start(ref(), header(due=NOW))
        same(self.store.settle(ref(), 0, NOW, NOW + 500), True, "settle of the exact entry")
        self.due_is([(ref(), NOW + 500)], "the due index after it")
        same(self.store.header(ref()), header(due=NOW + 500), "the header after it")

    def test_settle_of_another_due_time_changes_nothing(self) -> None:
        self.start(ref(), header(due=NOW))
        for due in (NOW - 1, NOW + 1):
            same(self.store.settle(ref(), 0, due, None), False, f"settle of due {due} when the entry is {NOW}")
        self.due_is([(ref(), NOW)], "the due index after settles of other times")

    def test_settle_after_a_newer_header_changes_nothing(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 1, b"claim", header(1, epoch=2, due=NOW))
        same(self.store.settle(ref(), 0, NOW, None), False, "settle with record 0 when the header is of record 1")
        self.due_is([(ref(), NOW)], "the due index after it")
        same(self.store.settle(ref(), 1, NOW, None), True, "settle with the header's own record")

    def test_settle_after_a_nudge_changes_nothing(self) -> None:
        self.start(ref(), header(due=NOW + 100))
        self.store.nudge(ref(), 1, NOW)
        same(self.store.settle(ref(), 0, NOW + 100, None), False, "settle of an entry that a nudge has moved")
        self.due_is([(ref(), NOW)], "the due index: the nudge must not be lost")

    def test_settle_where_nothing_is_due_is_false(self) -> None:
        self.start(ref(), header(due=None))
        same(self.store.settle(ref(), 0, NOW, NOW + 1), False, "settle of an instance with nothing due")
        same(self.store.settle(ref("nobody"), 0, NOW, NOW + 1), False, "settle of an unknown instance")
        self.due_is([], "the due index after both")

    def test_an_entry_is_settled_once(self) -> None:
        self.start(ref(), header(due=NOW))
        won = together(8, lambda number: self.store.settle(ref(), 0, NOW, NOW + 1 + number))
        same(won.count(True), 1, "the number of settles of one entry that were told they did it")
        self.due_is([(ref(), NOW + 1 + won.index(True))], "the due index, as the one that won left it")

    def test_a_nudge_is_never_lost_to_a_settle_at_the_same_time(self) -> None:
        for turn in range(self.churn // 4):
            at = ref(str(turn))
            self.start(at, header(due=NOW + 100))
            nudged, _ = together(
                2,
                lambda number, at=at: (  # type: ignore[misc]
                    self.store.settle(at, 0, NOW + 100, None) if number else self.store.nudge(at, 1, NOW)
                ),
            )
            same(nudged, True, "nudge with the right epoch, beside a settle")
            head = self.store.header(at)
            same(head and head.due, NOW, "the due time after a nudge and a settle at the same time, in either order")

    # --- due -----------------------------------------------------------------------------------------------------

    def test_an_empty_store_has_nothing_due(self) -> None:
        same(self.store.due(2 * NOW, 10), [], "due of an empty store")

    def test_the_earliest_comes_first(self) -> None:
        for number in (5, 2, 9, 1, 10):
            self.start(ref(str(number)), header(due=NOW + number))
        self.due_is([(ref(str(n)), NOW + n) for n in (1, 2, 5, 9, 10)], "the due index in the order of time")

    def test_the_limit_keeps_the_earliest(self) -> None:
        for number in range(10):
            self.start(ref(str(number)), header(due=NOW - number))
        self.due_is([(ref(str(9 - place)), NOW - 9 + place) for place in range(10)], "the due index")
        first = [(entry.ref, entry.due) for entry in self.store.due(NOW, 3)]
        same(first, [(ref("9"), NOW - 9), (ref("8"), NOW - 8), (ref("7"), NOW - 7)], "due with limit 3")

    def test_until_includes_its_own_millisecond(self) -> None:
        self.start(ref(), header(due=NOW))
        self.due_is([(ref(), NOW)], "the due index")
        same(self.store.due(NOW - 1, 10), [], "due until one millisecond before the entry")
        same(len(self.store.due(NOW, 10)), 1, "the number of entries due until exactly their time")

    def test_all_tenants_and_workflows_are_told(self) -> None:
        for place, at in enumerate((ref("1"), ref("1", tenant="other"), ref("1", workflow="refund"))):
            self.start(at, header(due=NOW + place))
        wanted = [(ref("1"), NOW), (ref("1", tenant="other"), NOW + 1), (ref("1", workflow="refund"), NOW + 2)]
        self.due_is(wanted, "the due index over tenants and workflows")

    def test_a_newer_header_moves_the_entry_and_leaves_none_behind(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 1, b"claim", header(1, due=NOW + 50))
        self.due_is([(ref(), NOW + 50)], "the due index after a header with a later time")
        self.store.append(ref(), 2, b"yield", header(2, due=NOW - 50))
        self.due_is([(ref(), NOW - 50)], "the due index after a header with an earlier time")

    def test_a_newer_header_without_due_removes_the_entry(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 1, b"end", header(1, status="completed", due=None))
        self.due_is([], "the due index after the instance has ended")

    def test_an_entry_that_moved_away_and_back_is_told_once(self) -> None:
        self.start(ref(), header(due=NOW))
        self.store.append(ref(), 1, b"claim", header(1, due=NOW + 50))
        self.store.append(ref(), 2, b"yield", header(2, due=NOW))
        self.due_is([(ref(), NOW)], "the due index after the entry moved away and back")

    def test_looking_does_not_remove(self) -> None:
        self.start(ref(), header(due=NOW))
        for _ in range(3):
            self.due_is([(ref(), NOW)], "the due index, looked at again")

    def test_many_entries_of_one_millisecond_are_all_told(self) -> None:
        wanted = {ref(str(number)) for number in range(self.crowd)}
        for at in wanted:
            self.start(at, header(due=NOW))
        self._settled(lambda: {at for at, _ in self.due_now()}, wanted, "the instances due in one millisecond")
        same(len(self.due_now()), self.crowd, "the number of entries (none twice)")

    def test_a_sweep_in_small_portions_meets_every_instance(self) -> None:
        for number in range(self.crowd):
            self.start(ref(str(number)), header(due=NOW + number % 3))
        met: list[object] = []
        for _ in range(self.crowd * 2):
            portion = self.store.due(NOW + 10, 7)
            met += [entry.ref for entry in portion if self.store.settle(entry.ref, 0, entry.due, None)]
        same(len(met), self.crowd, "the number of instances that a sweep with limit 7 met")
        self.due_is([], "the due index after the sweep")

    def test_entries_that_stand_are_never_missed_while_others_move(self) -> None:
        standing = {ref(f"still-{number}") for number in range(20)}
        for place, at in enumerate(sorted(standing)):
            self.start(at, header(due=NOW + place))
        self._settled(lambda: {at for at, _ in self.due_now()}, standing, "the due index before anything moves")

        def work(number: int) -> None:
            if number == 0:
                for _ in range(self.churn * 4 // 10):
                    told = {at for at, _ in self.due_now()}
                    same(standing - told, set(), "standing entries that due missed while others moved")
                return
            for count in range(self.churn * 15 // 100):
                at = ref(f"busy-{number}-{count}")
                self.start(at, header(due=NOW + count))
                self.store.append(at, 1, b"claim", header(1, due=NOW + 20 - count))
                self.store.nudge(at, 1, NOW - 1)
                self.store.settle(at, 1, NOW - 1, None)

        together(4, work)
        self._settled(lambda: {at for at, _ in self.due_now()}, standing, "the due index after all others were settled")

    def test_what_writers_added_at_the_same_time_is_all_due(self) -> None:
        def add(number: int) -> None:
            for count in range(self.churn // 5):
                self.start(ref(f"{number}-{count}"), header(due=NOW + count))

        together(6, add)
        wanted = {ref(f"{number}-{count}") for number in range(6) for count in range(self.churn // 5)}
        self._settled(lambda: {at for at, _ in self.due_now()}, wanted, "the instances that six writers added")
