"""The store contract, fourth part: listing instances."""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from flux_core.errors import CallerError
from flux_core.testing.store_case import NOW, StoreCase, header, must, ref, same, together


class ListCases(StoreCase):
    """Newest first, complete, none twice, and one tenant at a time."""

    def test_an_empty_store_lists_nothing(self) -> None:
        page = self.store.list("acme")
        same((list(page.items), page.cursor), ([], None), "the list of an empty store")

    def test_the_newest_comes_first(self) -> None:
        for number in (3, 1, 2, 10):
            self.start(ref(f"i{number}"), header(created_at=NOW + number))
        self.listed_is(
            lambda listed: [entry.ref.id for entry in listed], ["i10", "i3", "i2", "i1"], "the list by creation time"
        )

    def test_an_entry_shows_the_header(self) -> None:
        written = header(0, status="suspended", updated_at=NOW + 3, epoch=4, due=NOW + 9)
        self.start(ref(), written)
        self.listed_is(lambda listed: [(entry.ref, entry.header) for entry in listed], [(ref(), written)], "the list")

    def test_an_entry_follows_the_header(self) -> None:
        self.start(ref(), header(due=NOW))
        later = header(1, status="completed", updated_at=NOW + 3)
        self.store.append(ref(), 1, b"end", later)
        self.listed_is(
            lambda listed: [entry.header for entry in listed], [later], "the list after the instance has ended"
        )

    def test_tenants_do_not_see_each_other(self) -> None:
        self.start(ref("mine", tenant="acme"))
        self.start(ref("theirs", tenant="acme2"))
        self.listed_is(lambda listed: [entry.ref.id for entry in listed], ["mine"], "the list of tenant acme")
        same([entry.ref.id for entry in self.listing("acme2")], ["theirs"], "the list of tenant acme2")
        same(self.listing("nobody"), [], "the list of a tenant without instances")

    def test_a_workflow_can_be_picked(self) -> None:
        self.start(ref("a", workflow="order"))
        self.start(ref("b", workflow="refund"))
        self.start(ref("c", workflow="order-2"))
        self.listed_is(len, 3, "the number of instances listed")
        same([entry.ref.id for entry in self.listing(workflow="order")], ["a"], "the list of workflow order")
        same(self.listing(workflow="nothing"), [], "the list of a workflow without instances")

    def test_statuses_can_be_picked(self) -> None:
        for status in ("running", "failed", "completed"):
            self.start(ref(status), header(status=status))
        self.listed_is(len, 3, "the number of instances listed")
        for wanted in (["failed"], ["completed", "running"], ["cancelled"], []):
            told = sorted(entry.header.status for entry in self.listing(statuses=wanted))
            want = sorted({"running", "failed", "completed"} & set(wanted))
            same(told, want, f"the statuses listed for {wanted}")

    def test_workflow_and_status_can_be_picked_together(self) -> None:
        for workflow in ("order", "refund"):
            for status in ("running", "failed"):
                self.start(ref(status, workflow), header(status=status))
        self.listed_is(len, 4, "the number of instances listed")
        told = [entry.ref for entry in self.listing(workflow="refund", statuses=["failed"])]
        same(told, [ref("failed", "refund")], "the failed instances of workflow refund")

    def test_a_changed_status_is_listed_under_the_new_one_only(self) -> None:
        self.start(ref(), header(status="running"))
        self.store.append(ref(), 1, b"end", header(1, status="failed"))
        self.listed_is(
            lambda listed: [entry.header.status for entry in listed], ["failed"], "the list after the change"
        )
        same(self.listing(statuses=["running"]), [], "the list of running instances after the only one failed")
        same(len(self.listing(statuses=["failed"])), 1, "the number of failed instances")

    def test_one_id_in_two_workflows_is_two_entries(self) -> None:
        self.start(ref("1", "order"))
        self.start(ref("1", "refund"))
        self.listed_is(lambda listed: sorted(entry.ref.workflow for entry in listed), ["order", "refund"], "the list")
        told = sorted(entry.ref.workflow for entry in self.listing(limit=1))
        same(told, ["order", "refund"], "the same list in pages of one")

    def test_an_instance_without_a_header_is_not_listed(self) -> None:
        self.store.append(ref("bare"), 0, b"start")
        self.start(ref("whole"))
        self.listed_is(
            lambda listed: [entry.ref.id for entry in listed], ["whole"], "the list beside a log without header"
        )

    # --- pages -------------------------------------------------------------------------------------------------

    def test_pages_together_are_complete_without_repeats(self) -> None:
        self._crowd()
        for limit in (1, 7, self.crowd - 1, self.crowd, self.crowd + 1):
            told = [entry.ref.id for entry in self.listing(limit=limit)]
            same(len(told), len(set(told)), f"the number of entries in pages of {limit}, against the different ones")
            same(len(told), self.crowd, f"the number of entries in pages of {limit}")

    def test_pages_keep_the_order(self) -> None:
        self._crowd()
        times = [entry.header.created_at for entry in self.listing(limit=7)]
        same(times, sorted(times, reverse=True), "the creation times over pages of 7")

    def test_the_order_of_equal_times_is_always_the_same(self) -> None:
        self._crowd(times=1)
        once = [entry.ref.id for entry in self.listing(limit=7)]
        same([entry.ref.id for entry in self.listing(limit=50)], once, "the order of equal times, listed again")
        same(sorted(once), sorted(f"i{n}" for n in range(self.crowd)), "the instances of one millisecond over pages")

    def test_filters_hold_over_all_pages(self) -> None:
        self._crowd()
        told = [entry.ref.id for entry in self.listing(workflow="order", statuses=["failed"], limit=4)]
        want = [f"i{number}" for number in range(self.crowd) if number % 5 == 0]
        same(sorted(told), sorted(want), "the failed instances over pages of 4")

    def test_the_last_page_has_no_cursor(self) -> None:
        self._crowd()
        page = self.store.list("acme", limit=self.crowd + 10)
        same(page.cursor, None, "the cursor of a page that had room for more")
        same(len(page.items), self.crowd, "the number of its entries")

    def test_a_page_that_is_not_the_last_has_a_cursor(self) -> None:
        self._crowd()
        must(
            self.store.list("acme", limit=3).cursor is not None,
            "a page of 3 among many has no cursor: the rest is lost",
        )

    def test_a_listing_misses_nothing_while_instances_come_and_change(self) -> None:
        self._crowd()
        standing = {f"i{number}" for number in range(self.crowd)}
        arrivals = self.churn * 3 // 10

        def work(number: int) -> None:
            if number == 0:
                for _ in range(3):
                    told = [entry.ref.id for entry in self.listing(limit=9)]
                    same(len(told), len(set(told)), "the number of entries told, against the different ones")
                    same(standing - set(told), set(), "instances that existed throughout and were missed")
                return
            for count in range(arrivals):
                self.start(ref(f"new-{number}-{count}"), header(created_at=NOW + count * 3))
                at = ref(f"i{(number * 31 + count * 7) % self.crowd}")
                head, tail = self.store.header(at), self.store.tail(at)
                if head is not None and tail is not None:
                    changed = head._replace(status="suspended", seq=tail[0] + 1, updated_at=NOW + count)
                    self.store.append(at, tail[0] + 1, b"suspend", changed)

        together(3, work)
        self.listed_is(len, self.crowd + 2 * arrivals, "the number of instances in the end")

    # --- cursors -------------------------------------------------------------------------------------------------

    def test_a_made_up_cursor_is_the_callers_mistake(self) -> None:
        self.start(ref())
        for cursor in ("", "x", "nonsense", "é", "bnVsbA==", "W10=", "MTIz", "eyJhIjoxfQ==", "A" * 5_000):
            self._refused("acme", cursor)

    def test_a_cut_cursor_is_the_callers_mistake(self) -> None:
        self._crowd()
        cursor = self.store.list("acme", limit=3).cursor or ""
        self._refused("acme", cursor[: len(cursor) // 2])

    def test_the_cursor_of_another_tenant_is_the_callers_mistake(self) -> None:
        self._crowd()
        cursor = self.store.list("acme", limit=3).cursor or ""
        self._refused("other", cursor)

    def test_a_cursor_survives_its_entry(self) -> None:
        self._crowd()
        first = self.store.list("acme", limit=5)
        last = first.items[-1].ref
        same(self.store.purge(last, 0), True, "purge of the last entry of the first page")
        rest: list[str] = []
        cursor = first.cursor
        while cursor is not None:
            page = self.store.list("acme", limit=50, cursor=cursor)
            rest += [entry.ref.id for entry in page.items]
            cursor = page.cursor
        same(len(set(rest)), self.crowd - 5, "the entries after a page whose last instance was purged since")

    def _refused(self, tenant: str, cursor: str) -> None:
        try:
            self.store.list(tenant, cursor=cursor)
        except CallerError:
            return
        except Exception as error:
            raise AssertionError(f"list with the cursor {cursor[:40]!r} raised {error!r}, not a CallerError") from error
        raise AssertionError(f"list took the cursor {cursor[:40]!r}, which it never gave to tenant {tenant}")

    def _crowd(self, times: int = 40) -> None:
        for number in range(self.crowd):
            status = "failed" if number % 5 == 0 else "running"
            self.start(ref(f"i{number}"), header(status=status, created_at=NOW + number % times))
        self.listed_is(len, self.crowd, "the number of instances listed")
