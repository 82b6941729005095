"""`ctx.data` and its deltas: a step records what changed, and the first run equals a resume."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flux_core.data import Data, DataTracker, Delta
from flux_core.errors import Unserialisable
from flux_core.values import decode, encode


def working_copy(tracker: DataTracker) -> Data:
    """What an attempt gets: a dict of its own with the recorded containers in it."""
    return Data(tracker.values)


def accept(tracker: DataTracker, delta: Delta) -> None:
    """The record of `delta` is durable."""
    tracker.apply(delta.set, delta.unset)


class TestAttributeAccess:
    def test_reads_writes_and_deletes_keys(self) -> None:
        data = Data(order=1)
        data.total = 2
        data["order"] += 1
        del data.total
        assert (data.order, data, isinstance(data, dict)) == (2, {"order": 2}, True)

    def test_of_a_missing_key_names_the_keys_there_are(self) -> None:
        with pytest.raises(AttributeError, match="no key 'ordr'; the keys are: order, total"):
            _ = Data(total=1, order=2).ordr
        with pytest.raises(AttributeError, match="the keys are: none yet"):
            _ = Data().order
        assert getattr(Data(), "order", 5) == 5

    @pytest.mark.parametrize("name", ["items", "get", "update", "_private", "__dict__", "__class__"])
    def test_cannot_set_a_name_that_is_kept_and_says_how_else(self, name: str) -> None:
        data = Data()
        with pytest.raises(AttributeError, match=rf'write ctx\.data\["{name}"\]'):
            setattr(data, name, 1)
        data[name] = 1
        assert data == {name: 1}

    def test_cannot_delete_what_is_not_there(self) -> None:
        data = Data(items=1)
        for name in ("gone", "items"):
            with pytest.raises(AttributeError, match=f"no key '{name}' to delete"):
                delattr(data, name)
        assert data == {"items": 1}

    def test_has_no_other_place_for_state(self) -> None:
        assert not hasattr(Data(a=1), "__dict__")

    def test_survives_copying(self) -> None:
        data = Data(a=[1])
        deep = copy.deepcopy(data)
        assert (type(deep), deep, deep.a is data.a, copy.copy(data)) == (Data, data, False, data)


def tracked(**values: object) -> DataTracker:
    return DataTracker({key: encode(value, key).value for key, value in values.items()})


def some(delta: Delta | None) -> Delta:
    assert delta is not None
    return delta


EVERY_KIND: list[Any] = [
    1,
    "text",
    None,
    2.5,
    b"bytes",
    Decimal("1.10"),
    datetime(2024, 1, 1, tzinfo=UTC),
    [1, [2]],
    {"a": {"b": []}},
    {"at": datetime(2024, 1, 1, tzinfo=UTC)},
    (1, [2]),
    {1, 2},
    {"raw": [b"x"]},
    {1: "one"},
    "s" * 10,
    ["s"],
]


class TestADelta:
    @pytest.mark.parametrize("value", EVERY_KIND)
    def test_is_none_if_nothing_changed(self, value: object) -> None:
        tracker = tracked(key=value, other=[value])
        assert tracker.delta(working_copy(tracker), "s") is None
        again = {"key": encode(value, "x").value, "other": [encode(value, "x").value]}
        assert tracker.delta(again, "s") is None

    def test_holds_the_changed_the_new_and_the_removed_keys_only(self) -> None:
        tracker = tracked(a=1, b=[1], c="x", d={"k": 1})
        data = working_copy(tracker)
        data.a = 2
        data.new = (1, 2)
        del data.c
        delta = some(tracker.delta(data, "s"))
        assert (delta.set, delta.unset) == ({"a": 2, "new": (1, 2)}, ["c"])
        assert delta.text == '{"a":2,"new":{"$tuple":[1,2]}}'
        assert decode(delta.text) == delta.set

    def test_sees_a_mutation_at_any_depth(self) -> None:
        tracker = tracked(order={"items": [{"price": 1}]})
        data: Any = working_copy(tracker)
        data.order["items"][0]["price"] = 2
        assert some(tracker.delta(data, "s")).set == {"order": {"items": [{"price": 2}]}}

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (1, True),
            (1, 1.0),
            (0.0, -0.0),
            ([1], [True]),
            ([1], (1,)),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({1: 1}, {"1": 1}),
            ([b"x"], ["x"]),
            (Decimal("1.0"), Decimal("1.00")),
            ([], None),
            ("a", ["a"]),
        ],
    )
    def test_sees_a_change_of_type_or_order_between_equal_values(self, old: object, new: object) -> None:
        for before, after in ((old, new), (new, old)):
            tracker = tracked(k=before)
            delta = some(tracker.delta({"k": after}, "s"))
            assert repr(delta.set) == repr({"k": after})

    def test_with_only_removals_has_an_empty_set_part(self) -> None:
        delta = some(tracked(a=1, b=2).delta({}, "s"))
        assert (delta.set, delta.unset, delta.text) == ({}, ["a", "b"], "{}")

    def test_of_replaced_data_takes_any_dict(self) -> None:
        tracker = tracked(a=1, b=2)
        delta = some(tracker.delta(OrderedDict(b=2, c=3), "s"))
        assert (delta.set, delta.unset) == ({"c": 3}, ["a"])

    def test_of_data_that_is_no_dict_is_refused(self) -> None:
        with pytest.raises(Unserialisable, match=r'step "charge": ctx\.data was replaced by a value of type list'):
            tracked().delta([], "charge")

    @pytest.mark.parametrize("key", [1, None, ("a",), type("Key", (str,), {})("k")])
    def test_with_a_key_that_is_no_string_is_refused(self, key: object) -> None:
        with pytest.raises(Unserialisable, match=r'step "charge": ctx.data has a key of type .*have to be strings'):
            tracked(a=1).delta({key: 1}, "charge")

    def test_names_step_key_and_path_of_what_cannot_be_stored(self) -> None:
        tracker = tracked(order={"items": []})
        data: Any = working_copy(tracker)
        data.order["items"].append({"price": object()})
        with pytest.raises(
            Unserialisable, match=r'^step "charge": ctx.data\["order"\].items\[0\].price: a value of type object'
        ):
            tracker.delta(data, "charge")

    def test_of_a_circle_with_many_ways_round_ends(self) -> None:
        """Marshal's format 2 would take 2^1000 steps here."""
        tracker = tracked(tree={"children": []}, raw={"b": [b"x"]})
        data: Any = working_copy(tracker)
        data.tree["children"] += [{"parent": data.tree}, {"parent": data.tree}]
        with pytest.raises(Unserialisable, match="contains itself"):
            tracker.delta(data, "s")

    def test_sees_bytes_that_became_a_bytearray(self) -> None:
        """Marshal writes both alike."""
        tracker = tracked(k={"raw": b"some bytes"})
        data: Any = working_copy(tracker)
        data.k["raw"] = bytearray(b"some bytes")
        with pytest.raises(Unserialisable, match=r'ctx.data\["k"\].raw: a value of type bytearray'):
            tracker.delta(data, "s")

    def test_shares_nothing_with_the_handlers_objects(self) -> None:
        tracker = tracked()
        mine: list[object] = [1]
        delta = some(tracker.delta({"k": mine, "again": mine}, "s"))
        mine.append(2)
        assert delta.set == {"k": [1], "again": [1]}
        assert delta.set["k"] is not delta.set["again"]


class TestTheTracker:
    def test_hands_out_its_own_containers_in_a_dict_of_the_attempts_own(self) -> None:
        tracker = tracked(a=[1])
        data: Any = working_copy(tracker)
        data.b = 1
        assert (data.a is tracker.values["a"], "b" in tracker.values) == (True, False)

    def test_keeps_the_place_of_a_key_and_appends_new_ones(self) -> None:
        tracker = tracked(a=1, b=2, c=3)
        data = working_copy(tracker)
        del data["a"]
        data["d"] = 4
        data["a"] = 5
        accept(tracker, some(tracker.delta(data, "s")))
        assert list(tracker.values.items()) == [("a", 5), ("b", 2), ("c", 3), ("d", 4)]

    def test_accepts_decoded_values(self) -> None:
        tracker = tracked()
        mine = [1]
        data = Data(k=mine)
        accept(tracker, some(tracker.delta(data, "s")))
        mine.append(2)
        assert tracker.values == {"k": [1]}
        assert tracker.delta(working_copy(tracker), "s") is None

    def test_applies_changes_of_records(self) -> None:
        tracker = tracked(a=[1], b=2)
        tracker.apply({"a": 1, "c": {"x": b"1"}}, ["b", "never"])
        assert tracker.values == {"a": 1, "c": {"x": b"1"}}
        assert tracker.delta(working_copy(tracker), "s") is None

    @pytest.mark.parametrize("value", [value for value in EVERY_KIND if isinstance(value, (list, dict, set))])
    def test_restores_what_a_failed_handler_changed_and_may_change_later(self, value: Any) -> None:
        tracker = tracked(k=value, n=1)
        held: Any = working_copy(tracker).k
        held.clear()
        tracker.restore()
        assert repr(tracker.values) == repr({"k": value, "n": 1})
        held.clear()
        assert tracker.delta(working_copy(tracker), "s") is None
        assert tracker.values["k"] == value

    def test_does_not_keep_an_alias_that_a_handler_made_between_equal_parts(self) -> None:
        """It is no change in the record, so the first run must not see it either."""
        tracker = tracked(k={"a": [1], "b": [1]})
        data: Any = working_copy(tracker)
        data.k["b"] = data.k["a"]
        assert tracker.delta(data, "s") is None
        after: Any = working_copy(tracker)
        after.k["a"].append(2)
        assert some(tracker.delta(after, "s")).set == {"k": {"a": [1, 2], "b": [1]}}

    def test_is_not_misled_by_references_that_come_and_go(self) -> None:
        tracker = tracked(k={"a": [1], "b": "st"})
        data: Any = working_copy(tracker)
        held = (data.k["a"], data.k["b"])
        assert tracker.delta(data, "s") is None
        assert tracker.delta(data, "s") is None
        del held
        assert tracker.delta(working_copy(tracker), "s") is None
        data = working_copy(tracker)
        data.k["a"].append(2)
        assert some(tracker.delta(data, "s")).set == {"k": {"a": [1, 2], "b": "st"}}


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0.0, -0.0, 1.0, "s", "$a", b"s"]),
    st.decimals(0, 1, places=1),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", "$c", 1]), inner, max_size=3),
    ),
    max_leaves=6,
)
names = st.sampled_from(["x", "y", "z"])


class FirstRunEqualsResume(RuleBasedStateMachine):
    """Attempts write and fail at will; a second tracker knows only the records, as a resume does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = DataTracker({})
        self.resumed = DataTracker({})
        self.data: Any = working_copy(self.first)
        self.held: list[Any] = []

    @rule(name=names, value=trees)
    def write(self, name: str, value: object) -> None:
        self.data[name] = value
        self.held.append(value)

    @rule(name=names, value=trees)
    def mutate(self, name: str, value: object) -> None:
        self.change(self.data.get(name), value)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.data.pop(name, None)

    @rule(left=names, right=names)
    def alias(self, left: str, right: str) -> None:
        if left in self.data:
            self.data[right] = self.data[left]

    @rule(value=trees)
    def change_what_an_earlier_attempt_held(self, value: object) -> None:
        for held in self.held:
            if all(held is not mine for mine in self.data.values()):
                self.change(held, value)

    @rule()
    def succeed(self) -> None:
        delta = self.first.delta(self.data, "s")
        if delta is not None:
            written = decode(delta.text)
            assert repr(written) == repr(delta.set)
            assert repr(list(delta.set)) == repr([key for key in self.data if key in delta.set])
            self.resumed.apply(json_dict(written), delta.unset)
            accept(self.first, delta)
        else:
            assert same_data(self.data, self.resumed.values)
        assert same_data(self.data, self.first.values)
        self.held = []
        self.data = working_copy(self.first)

    @rule()
    def fail(self) -> None:
        self.held += self.data.values()
        self.first.restore()
        self.data = working_copy(self.first)

    @invariant()
    def nothing_recorded_is_shared_between_keys(self) -> None:
        containers = [id(value) for value in self.first.values.values() if isinstance(value, (list, dict))]
        assert len(containers) == len(set(containers))

    def teardown(self) -> None:
        self.fail()
        assert repr(self.first.values) == repr(self.resumed.values)

    def change(self, target: Any, value: object) -> None:
        if isinstance(target, list):
            target.append(copy.deepcopy(value))
        elif isinstance(target, dict):
            target["m"] = copy.deepcopy(value)
        elif isinstance(target, tuple):
            for part in target:
                self.change(part, value)


def json_dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def same_data(left: dict[str, object], right: dict[str, object]) -> bool:
    return sorted(map(repr, left.items())) == sorted(map(repr, right.items()))


TestFirstRunEqualsResume = FirstRunEqualsResume.TestCase
TestFirstRunEqualsResume.settings = settings(max_examples=120, stateful_step_count=20, deadline=None)


@given(st.dictionaries(st.text(max_size=3), trees, max_size=4), st.dictionaries(st.text(max_size=3), trees, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_delta_leads_from_any_data_to_any_other(before: dict[str, object], after: dict[str, object]) -> None:
    tracker = tracked(**before)
    delta = tracker.delta(after, "s")
    if delta is not None:
        assert json.loads(delta.text).keys() == delta.set.keys()
        accept(tracker, delta)
    assert same_data(tracker.values, after)
