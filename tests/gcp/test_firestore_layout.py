"""Where things lie, and that the indexes which are deployed are those which the queries need."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flux_core.ports import InstanceRef, Mail
from flux_core.testing.store_case import NAME_CHARACTERS
from flux_gcp import FirestoreSettings
from flux_gcp.firestore_indexes import DOWN, EXPIRES, UP, definitions
from flux_gcp.firestore_layout import DISJUNCTIONS, SHARDS, Layout, letter_of, seq_of, shard
from flux_gcp.firestore_messages import EQUAL, IN, Query
from tests.gcp.conftest import ORDER, head
from tests.gcp.relay import COMMIT, QUERY

if TYPE_CHECKING:
    from pathlib import Path

    from flux_gcp import FirestoreStorage
    from flux_gcp.firestore_indexes import IndexField
    from flux_gcp.firestore_messages import Message
    from tests.gcp.relay import Relay

LAYOUT = Layout("p", FirestoreSettings())
TOP = "projects/p/databases/(default)/documents/flux_inst/"


class TestNames:
    def test_an_instance_lies_under_tenant_workflow_and_id_behind_a_hash_of_them(self) -> None:
        name = LAYOUT.instance(ORDER)
        assert name.startswith(TOP)
        assert name.endswith("~acme~order~1")
        assert len(name) == len(TOP) + 4 + len("~acme~order~1")

    def test_ids_that_are_counted_up_do_not_lie_side_by_side(self) -> None:
        names = [LAYOUT.instance(ORDER._replace(id=str(number))) for number in range(100)]
        assert sorted(names) != names
        assert len({name[len(TOP) : len(TOP) + 1] for name in names}) > 10

    def test_the_newest_record_comes_first(self) -> None:
        names = [LAYOUT.record(LAYOUT.instance(ORDER), seq) for seq in (0, 1, 9, 10, 99_999, 9_999_999_998)]
        assert sorted(names, reverse=True) == names
        assert [seq_of(name) for name in names] == [0, 1, 9, 10, 99_999, 9_999_999_998]

    def test_the_mark_of_an_import_comes_behind_every_snapshot_and_further_parts_behind_their_first(self) -> None:
        inst = LAYOUT.instance(ORDER)
        names = [LAYOUT.snapshot(inst, *at) for at in ((10, 0), (10, 1), (10, 8), (9, 0), (0, 0), (0, 1), (-1, 0))]
        assert sorted(names) == names

    def test_none_can_be_one_that_firestore_reserves(self) -> None:
        """`__.*__`, `.` and `..` are refused, and 1,500 bytes are the most."""
        odd = InstanceRef("__a", NAME_CHARACTERS, "b__")
        inst = LAYOUT.instance(odd)
        names = [inst, LAYOUT.letter(inst, "__a", "b__"), LAYOUT.record(inst, 3), LAYOUT.snapshot(inst, -1)]
        for part in (name.rpartition("/")[2] for name in names):
            assert not part.startswith(("_", "."))
        longest = LAYOUT.instance(InstanceRef("t" * 128, "w" * 128, "i" * 128))
        assert len(longest.rpartition("/")[2]) < 1_500

    def test_mail_gives_its_name_and_id_back(self) -> None:
        for name, id_ in (("go", "m1"), (NAME_CHARACTERS, NAME_CHARACTERS), ("__a", "b__")):
            assert letter_of(LAYOUT.letter(LAYOUT.instance(ORDER), name, id_)) == (name, id_)

    def test_names_that_begin_and_end_with_underscores_are_kept(self, store: FirestoreStorage) -> None:
        odd = InstanceRef("__a", "w", "b__")
        assert store.append(odd, 0, b"x", head(0)) is None
        assert store.put_mail(odd, Mail("__a", "b__", 1, b"1")) is None
        assert store.mail(odd) == [Mail("__a", "b__", 1, b"1")]
        assert [item.ref for item in store.list("__a").items] == [odd]

    def test_the_prefix_begins_the_name_of_every_collection(self, store: FirestoreStorage, relay: Relay) -> None:
        store.append(ORDER, 0, b"x", head(0))
        store.put_mail(ORDER, Mail("go", "m", 1, b"1"))
        store.put_snapshot(ORDER, 0, b"s")
        written = [write.update.name for method, message in relay.seen if method == COMMIT for write in message.writes]
        used = {part for name in written for part in name.partition("/documents/")[2].split("/")[::2]}
        assert used == {"flux_inst", "flux_log", "flux_mail", "flux_snap"}


class TestTheIndexes:
    def test_shards_are_used_evenly_and_do_not_depend_on_the_process(self) -> None:
        counts = [0] * SHARDS
        for number in range(5_000):
            counts[shard(ORDER._replace(id=f"order-{number}"))] += 1
        assert max(counts) < 1.25 * min(counts)
        assert shard(ORDER) == 8

    def test_what_is_not_due_is_not_in_the_due_index(self, store: FirestoreStorage, relay: Relay) -> None:
        store.append(ORDER, 0, b"x", head(0))
        store.append(ORDER, 1, b"x", head(1, due=5))
        store.settle(ORDER, 1, 5, None)
        assert store._opened is not None
        wire = store._opened.wire
        (document,) = wire.get([wire.names.instance(ORDER)], wire.end())
        assert document is not None
        assert "due" not in document.fields
        headers = [message.writes[-1].update.fields for method, message in relay.seen if method == COMMIT]
        assert ["due" in fields for fields in headers] == [False, True, False]

    def test_every_query_has_the_index_that_firestore_asks_for(self, store: FirestoreStorage, relay: Relay) -> None:
        """The emulator needs none, so what the queries need is read off the queries themselves."""
        for number in range(6):
            store.append(ORDER._replace(id=str(number)), 0, b"x", head(0, due=1))
        for workflow in (None, "order"):
            for statuses in (None, ["running"], ["running", "failed", "stuck", "paused"]):
                store.list("acme", workflow, statuses, limit=2)
                if statuses != ["running", "failed", "stuck", "paused"]:
                    cursor = store.list("acme", workflow, statuses, limit=2).cursor
                    store.list("acme", workflow, statuses, limit=2, cursor=cursor)
        store.due(10, 10)
        store.read(ORDER, 1)
        store.tail(ORDER)
        store.mail(ORDER)
        store.snapshot(ORDER)
        asked = [message.structured_query for method, message in relay.seen if method == QUERY]
        wanted = {needed(question) for question in asked} - {None}
        assert wanted == {defined(index["collectionGroup"], index["fields"]) for index in definitions()["indexes"]}

    @pytest.mark.parametrize(("before", "after"), [("blocked", "suspended"), ("suspended", "blocked")])
    def test_an_instance_that_changes_between_two_queries_is_told_once(
        self, store: FirestoreStorage, direct: FirestoreStorage, relay: Relay, before: str, after: str
    ) -> None:
        store.append(ORDER, 0, b"x", head(0, status=before))
        relay.again(lambda method, number: None)

        def change(method: str, number: int) -> None:
            if (method, number) == (QUERY, 2):
                direct.append(ORDER, 1, b"y", head(1, status=after))

        relay.meanwhile = change
        listed = store.list("acme", statuses=["blocked", "completed", "failed", "suspended"])
        assert [(item.ref, item.header.status) for item in listed.items] == [(ORDER, before)]

    def test_no_query_asks_for_more_at_once_than_firestore_takes(self, store: FirestoreStorage, relay: Relay) -> None:
        statuses = ["pending", "running", "paused", "suspended", "completed", "failed", "stuck", "blocked"]
        for number, status in enumerate(statuses):
            store.append(ORDER._replace(id=str(number)), 0, b"x", head(0, status=status))
        relay.take()
        listed = store.list("acme", statuses=[*statuses, "running"], limit=5)
        assert [item.ref.id for item in listed.items] == ["7", "6", "5", "4", "3"]
        rest = store.list("acme", statuses=statuses, limit=5, cursor=listed.cursor)
        assert [item.ref.id for item in rest.items] == ["2", "1", "0"]
        for _, message in relay.seen:
            sizes = [
                len(clause.field_filter.value.array_value.values) or 1
                for clause in message.structured_query.where.composite_filter.filters
            ]
            product = 1
            for size in sizes:
                product *= size
            assert product <= DISJUNCTIONS

    def test_all_fields_are_exempt_from_the_automatic_indexes(self) -> None:
        """Else each header fills an index on `created_at`, which takes 500 writes a second and no more."""
        overrides = definitions("x_")["fieldOverrides"]
        exempt = {o["collectionGroup"] for o in overrides if o["fieldPath"] == "*" and o["indexes"] == []}
        assert exempt == {"x_inst", "x_log", "x_mail", "x_snap"}

    def test_only_tombstones_expire(self) -> None:
        expiring = [(o["collectionGroup"], o["fieldPath"]) for o in definitions()["fieldOverrides"] if o.get("ttl")]
        assert expiring == [("flux_log", EXPIRES)]

    def test_the_command_prints_them_as_a_file(self, root: Path) -> None:
        program = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'adapters')!r}]; sys.argv[1:] = ['x_']; "
        program += "import runpy; runpy.run_module('flux_gcp.firestore_indexes', run_name='__main__')"
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert json.loads(printed.stdout) == definitions("x_")


Needed = tuple[str, frozenset[str], tuple[tuple[str, str], ...]]


def needed(question: Message) -> Needed | None:
    """What index a query needs: its collection, fields compared for equality, then the order. None: by name alone."""
    order = tuple(
        (term.field.field_path, UP if term.direction == Query.ASCENDING else DOWN) for term in question.order_by
    )
    if [path for path, _ in order] == ["__name__"] and order[0][1] == UP and not question.HasField("where"):
        return None
    clauses = [clause.field_filter for clause in question.where.composite_filter.filters]
    equal = frozenset(clause.field.field_path for clause in clauses if clause.op in {EQUAL, IN})
    ranges = {clause.field.field_path for clause in clauses} - equal
    assert ranges <= {order[0][0]}, "a range needs the first place in the order"
    return question.from_[0].collection_id, equal, order


def defined(group: str, fields: list[IndexField]) -> Needed:
    """The same of a definition."""
    pairs = [(field["fieldPath"], field["order"]) for field in fields]
    first = next(place for place, (path, _) in enumerate(pairs) if path in {"created_at", "due"})
    return group, frozenset(path for path, _ in pairs[:first]), tuple(pairs[first:])


@pytest.mark.parametrize("limit", [0, -1])
def test_a_sweep_of_nothing_asks_nobody(store: FirestoreStorage, relay: Relay, limit: int) -> None:
    assert store.due(10, limit) == []
    assert relay.seen == []
