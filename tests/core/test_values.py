"""Values: what comes out of the store equals what went in, in value and type at every depth."""

from __future__ import annotations

import collections
import enum
import json
import math
import sys
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_core import jsontext, values
from flux_core.errors import CorruptRecord, DefinitionError, Unserialisable
from flux_core.values import DEPTH_LIMIT, canonical, decode, decode_tree, encode, register_type


@register_type
class Colour(enum.Enum):
    RED = "red"
    BLUE = ("b", 2)


@register_type
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@register_type
class Word(enum.StrEnum):
    YES = "yes"


@register_type
class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@register_type(name="tests.point")
@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@register_type
@dataclass
class Basket:
    items: list[object]
    owner: str | None = None
    total: Decimal = field(default=Decimal(0), init=False)

    @cached_property
    def size(self) -> int:
        return len(self.items)


@register_type
class Pair(NamedTuple):
    left: object
    right: object = None


@register_type
class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    name: str
    inner: object = None
    _secret: int = 7


@register_type
class Struct(msgspec.Struct):
    a: object
    b: list[object] = []
    c: int | msgspec.UnsetType = msgspec.UNSET


class Stranger:
    pass


def same(left: Any, right: Any) -> bool:
    """Equal in value and type at every depth, dict order included; nan equals nan."""
    if type(left) is not type(right):
        return False
    if isinstance(left, enum.Enum):
        return left is right
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, (datetime, time)):
        return repr(left) == repr(right)
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(a, b) and same(left[a], right[b]) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    if isinstance(left, (Point, Basket)):
        return all(same(getattr(left, part.name), getattr(right, part.name)) for part in fields(left))
    if isinstance(left, Model):
        return same(left.__getstate__(), right.__getstate__())
    if isinstance(left, Struct):
        return all(same(getattr(left, name), getattr(right, name)) for name in ("a", "b", "c"))
    return bool(left == right)


def mutable_ids(value: Any) -> set[int]:
    found: set[int] = set()
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            found.add(id(top))
            stack.extend(top)
            stack.extend(top.values())
        elif isinstance(top, (list, set)):
            found.add(id(top))
            stack.extend(top)
        elif isinstance(top, (tuple, frozenset)):
            stack.extend(top)
        elif isinstance(top, (Basket, Model)):
            found.add(id(top))
            stack.append(vars(top))
        elif isinstance(top, Struct):
            found.add(id(top))
            stack += [top.a, top.b]
    return found


zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["Europe/Berlin", "America/New_York"]).map(ZoneInfo),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "Lunch")),
)
any_text = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too
tag_like = st.sampled_from(["$", "$decimal", "$esc", "$type", "$x", "", "a.b"])
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**590, max_value=10**700),
    st.floats(allow_nan=False),
    any_text,
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(timezones=zones, allow_imaginary=False),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Colour, *Level, *Word, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(Point, st.integers(), st.floats(allow_nan=False)),
)
scalars = st.one_of(hashables, st.just(math.nan), st.decimals())
keys = st.one_of(any_text, tag_like, hashables, st.tuples(st.integers(), any_text))
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), any_text, tag_like
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(any_text, tag_like), inner, max_size=4)
    ),
    max_leaves=20,
)
all_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(any_text, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.frozensets(st.one_of(hashables, st.tuples(hashables)), max_size=3),
        st.builds(Basket, st.lists(inner, max_size=2)),
        st.builds(Pair, inner, inner),
        st.builds(Model, name=any_text.filter(str.isascii), inner=inner, other=inner),
        st.builds(Struct, inner, st.lists(inner, max_size=2)),
    ),
    max_leaves=12,
)


class TestTheRoundTrip:
    @given(all_values)
    @settings(max_examples=500, deadline=None)
    def test_gives_back_every_accepted_value_in_value_type_and_order(self, value: object) -> None:
        encoded = encode(value, "the output")
        assert same(decode(encoded.text), value)
        assert same(encoded.value, value)

    @given(json_values)
    @settings(max_examples=300, deadline=None)
    def test_is_the_same_on_the_fast_and_the_exact_path(self, value: object) -> None:
        fast = encode(value, "x")
        exact = encode([value, Decimal(1)], "x")  # the Decimal forces the exact path
        assert exact.text == f'[{fast.text},{{"$decimal":"1"}}]'
        assert same(decode(fast.text), value)

    @given(all_values)
    @settings(max_examples=200, deadline=None)
    def test_shares_no_mutable_object_with_what_went_in(self, value: object) -> None:
        assert not mutable_ids(encode(value, "x").value) & mutable_ids(value)

    @given(all_values)
    @settings(max_examples=200, deadline=None)
    def test_survives_utf_8_with_surrogates_and_a_parser_that_knows_no_tags(self, value: object) -> None:
        text = encode(value, "x").text
        stored = text.encode("utf-8", "surrogatepass")
        tree = json.loads(stored.decode("utf-8", "surrogatepass"))
        before = repr(tree)
        assert same(decode_tree(tree), value)
        assert repr(tree) == before

    @pytest.mark.parametrize(
        "value",
        [
            [1, True, 1.0, -0.0, 0.0],
            {1: "int", "1": "str"},
            {True: 1, "True": 2},
            {None: 1, "null": 2, 2.5: 3},
            {"$decimal": "1.10"},
            {"$esc": {"$esc": 1}},
            {"$a": 1, "b": Decimal(1)},
            ["$decimal", {"price": "$5"}],
            (1, [2, (3,)]),
            [float("inf"), float("-inf")],
            '\ud800 \udfff \ud83d\ude00 \x00 \u2028 " \\',
            {"\udc00": 1},
            [10**5000, -(10**5000)],
            Decimal("-0.00"),
            Decimal("sNaN12"),
            datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001 -- a naive one on purpose
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
            time(1, 2, fold=1),
            time(1, 2, tzinfo=timezone(timedelta(hours=2, microseconds=5))),
            {frozenset({1, 2}): {(1, 2): set()}},
            {"": {"": []}},
        ],
    )
    def test_keeps_what_json_alone_would_change(self, value: object) -> None:
        assert same(decode(encode(value, "x").text), value)

    def test_keeps_the_private_extra_and_unset_parts_of_models(self) -> None:
        model = Model.model_validate({"name": "n", "colour": Colour.RED})
        model._secret = 9
        struct = Struct(1)
        back: Any = encode([model, struct], "x").value
        assert back[0] == model
        assert (back[0]._secret, back[0].model_extra, back[0].model_fields_set) == (
            9,
            {"colour": Colour.RED},
            {"name", "colour"},
        )
        assert back[1].c is msgspec.UNSET

    def test_keeps_fields_that_the_constructor_does_not_take_and_forgets_cached_properties(self) -> None:
        basket = Basket([1, 2])
        basket.total = Decimal("3.20")
        assert basket.size == 2
        back: Any = encode(basket, "x").value
        assert (back, back.total, "size" in vars(back), back.size) == (basket, Decimal("3.20"), False, 2)

    def test_writes_plain_json_for_plain_data(self) -> None:
        assert encode({"id": "ä", "items": [1, 2.5, None, True]}, "x").text == '{"id":"ä","items":[1,2.5,null,true]}'

    def test_needs_no_c_encoder(self) -> None:
        for quote, scan, writer in (jsontext.accelerated(), jsontext.plain()):
            assert "".join(writer(ordered=True)({"b": [1], "a": "ä"}, 0)) == '{"a":"ä","b":[1]}'
            assert quote("ä\n") == '"ä\\n"'
            assert scan('[1,2.5,"x"] rest', 0) == ([1, 2.5, "x"], 11)


class TestARefusal:
    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (Stranger(), "the output: a value of type Stranger cannot be stored; store JSON types"),
            ({"items": [1, {"price": Stranger()}]}, "the output.items[1].price: a value of type Stranger"),
            ({"a b": (Stranger(),)}, 'the output["a b"][0]: a value of type Stranger'),
            (Basket([0, Stranger()]), "the output.items[1]: a value of type Stranger"),
            (Model(name="n", inner=[Stranger()]), "the output.inner[0]: a value of type Stranger"),
            ({3: Stranger()}, "the output[3]: a value of type Stranger"),
            ({Stranger: 1}, "the output: the key <class"),
            ({10**5000: Stranger()}, "the output[...int...]: a value of type Stranger"),
            (
                [collections.OrderedDict(a=1)],
                "the output[0]: a value of type OrderedDict cannot be stored; as a subclass of dict",
            ),
            (collections.defaultdict(list), "store dict(...) of it"),
            (bytearray(b"x"), "store bytes(...) of it"),
            (1j, "a value of type complex cannot be stored"),
            (object, "a value of type type cannot be stored"),
        ],
    )
    def test_names_the_path_the_type_and_what_to_do(self, value: object, says: str) -> None:
        with pytest.raises(Unserialisable) as refusal:
            encode(value, "the output")
        assert says in str(refusal.value)
        assert str(refusal.value).startswith("the output")

    @pytest.mark.parametrize("base", [str, int, float, list, dict, tuple, set, frozenset, bytes])
    def test_meets_every_subclass_that_would_lose_its_type(self, base: type) -> None:
        child = type("Child", (base,), {})
        for value in (child(), [child()], {"k": child()}, (child(),)):
            with pytest.raises(Unserialisable, match=f"type Child cannot be stored; as a subclass of {base.__name__}"):
                encode(value, "x")

    def test_meets_a_subclass_of_str_as_a_key(self) -> None:
        child = type("Child", (str,), {})
        with pytest.raises(Unserialisable, match="the key 'k': a value of type Child"):
            encode({child("k"): 1}, "x")

    def test_of_an_unregistered_class_says_how_to_register_it(self) -> None:
        @dataclass
        class Loose:
            x: int = 1

        for value in (Loose(), enum.Enum("Loose", "A").A):  # type: ignore[attr-defined]
            with pytest.raises(Unserialisable, match=r"type Loose cannot be stored; register its class .*types=\["):
                encode({"k": value}, "x")

    def test_of_a_coroutine_says_to_await_it(self) -> None:
        async def call() -> None: ...

        forgotten = call()
        with pytest.raises(Unserialisable, match="not awaited"):
            encode({"r": forgotten}, "the output")
        forgotten.close()

    def test_meets_an_attribute_that_is_no_field(self) -> None:
        basket = Basket([])
        basket.extra = 1  # type: ignore[attr-defined]
        with pytest.raises(Unserialisable, match="'extra' of a Basket is not one of its fields"):
            encode(basket, "x")

    def test_meets_a_field_without_a_value(self) -> None:
        basket = Basket([])
        del basket.items
        with pytest.raises(Unserialisable, match="its field 'items' has no value"):
            encode(basket, "x")
        with pytest.raises(Unserialisable, match="its field 'name' has no value"):
            encode(Model.model_construct(), "x")

    def test_meets_a_time_zone_that_cannot_be_named(self) -> None:
        class Odd(tzinfo):
            def utcoffset(self, _: datetime | None) -> timedelta:
                return timedelta(0)

            dst = utcoffset

            def tzname(self, _: datetime | None) -> str:
                return "odd"

        with pytest.raises(Unserialisable, match=r"time zone of type Odd .*astimezone"):
            encode(datetime(2024, 1, 1, tzinfo=Odd()), "x")

    def test_meets_a_subclass_of_datetime(self) -> None:
        child = type("Stamp", (datetime,), {})
        with pytest.raises(Unserialisable, match="type Stamp cannot be stored; store a datetime"):
            encode(child(2024, 1, 1), "x")

    def test_meets_circles_of_every_form(self) -> None:
        ring: list[object] = []
        ring.append(ring)
        twice: list[object] = []
        twice += [twice, twice]
        loop: dict[object, object] = {"a": 1}
        loop["self"] = {"in": [loop]}
        basket = Basket([])
        basket.items.append(basket)
        for value in (ring, twice, loop, basket, (ring,)):
            with pytest.raises(Unserialisable, match="contains itself"):
                encode(value, "x")

    def test_does_not_meet_the_same_object_twice_side_by_side(self) -> None:
        part = [1]
        back: Any = encode({"a": part, "b": part, "c": (part,)}, "x").value
        assert back == {"a": [1], "b": [1], "c": ([1],)}
        assert back["a"] is not back["b"]

    @pytest.mark.parametrize("leaf", [1, Decimal(1)])
    @pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: (0, v, 1)])
    def test_starts_one_level_below_the_limit(self, leaf: object, wrap: Any) -> None:
        value = leaf
        for _ in range(DEPTH_LIMIT - 1):
            value = wrap(value)
        value = [value]
        assert same(decode(encode(value, "x").text), value)
        with pytest.raises(Unserialisable, match="nested deeper than 64 levels"):
            encode([value], "x")

    def test_of_endless_depth_is_no_recursion_error(self) -> None:
        value: object = 1
        for _ in range(100_000):
            value = [value]
        with pytest.raises(Unserialisable, match="nested deeper") as refusal:
            encode(value, "x")
        assert len(str(refusal.value)) < 300
        while isinstance(value, list):  # taken apart by hand: its destructor is deep as well
            value = value.pop()

    def test_is_not_caused_by_width(self) -> None:
        value = [{"id": i, "tags": ["[", "{"]} for i in range(200)]
        assert encode(value, "x").value == value


class TestADamagedRecord:
    @pytest.mark.parametrize("text", ["", "{", "[1", "nul", "1 2", "NaN", "[Infinity]", "\x00", "[" * 100_000])
    def test_that_is_not_json_is_reported(self, text: str) -> None:
        with pytest.raises(CorruptRecord, match="not JSON"):
            decode(text)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{"$unheard":1}', r"unknown tag '\$unheard'.*upgrade"),
            ('{"$decimal":"x"}', r"damaged tag '\$decimal'"),
            ('{"$decimal":1}', r"damaged tag '\$decimal': expected a string"),
            ('[{"$datetime":"yesterday"}]', r"damaged tag '\$datetime'"),
            ('{"$datetime":["2024-01-01T00:00:00",0,"No/Where"]}', r"damaged tag '\$datetime'"),
            ('{"$bytes":"#"}', r"damaged tag '\$bytes'"),
            ('{"$uuid":"1"}', r"damaged tag '\$uuid'"),
            ('{"$float":"1.5"}', r"damaged tag '\$float'"),
            ('{"$tuple":{}}', r"damaged tag '\$tuple'"),
            ('{"$set":[[1]]}', r"damaged tag '\$set'"),
            ('{"$map":[[1,2],[1,3]]}', r"damaged tag '\$map': a key occurs twice"),
            ('{"$map":5}', r"damaged tag '\$map'"),
            ('{"$esc":5}', r"damaged tag '\$esc'"),
            ('{"$type":[]}', r"damaged tag '\$type'"),
            ('{"$type":["os:system",{}]}', r"type 'os:system', which is not registered.*register_type"),
            ('{"$type":["tests.point",{}]}', "'tests.point' does not fit .*Point: field 'x' is missing"),
            ('{"$type":["tests.point",{"x":1,"z":2}]}', "no field 'z' any more"),
            ('{"$type":["tests.point","RED"]}', "its fields are not an object"),
        ],
    )
    def test_with_an_unknown_or_damaged_tag_says_which(self, text: str, says: str) -> None:
        with pytest.raises(CorruptRecord, match=says):
            decode(text)

    def test_with_a_member_that_the_enum_lost_says_which(self) -> None:
        with pytest.raises(CorruptRecord, match=r"does not fit the class .*Colour: 'GREEN'"):
            decode(json.dumps({"$type": [f"{__name__}:Colour", "GREEN"]}))

    @given(st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=5)), lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*values._MAKERS, "a"]), inner, min_size=1, max_size=1),
    )))  # fmt: skip
    @settings(max_examples=300, deadline=None)
    def test_of_any_form_raises_nothing_else(self, tree: object) -> None:
        try:
            decode(json.dumps(tree))
        except CorruptRecord as error:
            assert "tag" in str(error) or "type" in str(error)  # noqa: PT017 -- both ends of the property are fine

    def test_may_have_white_space_around(self) -> None:
        assert decode(' {"a": [1, 2]}\n') == {"a": [1, 2]}


class TestRegistering:
    def test_twice_changes_nothing(self) -> None:
        assert register_type(Point) is Point
        assert register_type(Point, "tests.point") is Point

    def test_a_second_class_under_a_name_is_an_error(self) -> None:
        @dataclass
        class Other:
            x: int

        with pytest.raises(DefinitionError, match=r"as 'tests.point': .*Point has that name"):
            register_type(Other, "tests.point")

    def test_a_class_under_a_second_name_is_an_error(self) -> None:
        with pytest.raises(DefinitionError, match=r"already registered as 'tests.point'"):
            register_type(Point, "another")

    @pytest.mark.parametrize("cls", [Stranger, collections.OrderedDict, int, tuple, type("Child", (dict,), {})])
    def test_another_kind_of_class_is_an_error(self, cls: type) -> None:
        with pytest.raises(DefinitionError, match=r"only an Enum, dataclass, NamedTuple"):
            register_type(cls)

    def test_a_class_made_anew_at_the_same_place_replaces_the_older_one(self) -> None:
        def make() -> Any:
            @register_type
            @dataclass
            class Again:
                x: int

            return Again

        older, newer = make(), make()
        assert type(encode(newer(1), "x").value) is newer
        with pytest.raises(Unserialisable, match="type Again cannot be stored; register"):
            encode(older(1), "x")

    def test_a_new_field_takes_its_default_in_older_records(self) -> None:
        assert decode('{"$type":["tests.point",{"x":2}]}') == Point(2, 0.0)
        assert decode(json.dumps({"$type": [f"{__name__}:Struct", {"a": 1}]})) == Struct(1)
        model: Any = decode(json.dumps({"$type": [f"{__name__}:Model", {"name": "n"}]}))
        assert (model.inner, model._secret, model.model_fields_set) == (None, 7, {"name"})


class TestTheCanonicalText:
    @given(st.dictionaries(any_text, json_values, max_size=5), st.randoms(use_true_random=False))
    @settings(max_examples=100, deadline=None)
    def test_does_not_depend_on_the_order_of_keys(self, value: dict[str, object], random: Any) -> None:
        order = list(value)
        random.shuffle(order)
        assert canonical({key: value[key] for key in order}) == canonical(value)

    def test_sorts_at_every_depth_and_in_tags(self) -> None:
        left = {"b": {2: {"y": 1, "x": {3, 1, 2}}, 1: ()}, "a": Point(1)}
        right = {"a": Point(1), "b": {1: (), 2: {"x": {2, 3, 1}, "y": 1}}}
        assert canonical(left) == canonical(right)

    def test_tells_different_values_apart(self) -> None:
        different = [1, True, 1.0, "1", [1], (1,), {"1": 1}, {1: 1}, None, "null", Decimal(1), {"$decimal": "1"}, b"1"]
        assert len({canonical(value) for value in different}) == len(different)

    def test_refuses_with_the_path(self) -> None:
        with pytest.raises(Unserialisable, match=r"the input.a\[0\]: a value of type Stranger"):
            canonical({"a": [Stranger()]})


def test_nothing_but_the_value_decides_the_path_in_use() -> None:
    """An int beyond the limit of the interpreter's conversion is kept, whatever that limit is."""
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        for digits in (599, 601, 640, 641, 5000):
            value = 10**digits + 7
            assert decode(encode([value], "x").text) == [value]
            assert decode(encode(value, "x").text) == value
    finally:
        sys.set_int_max_str_digits(limit)


def test_ids_and_dates_have_readable_forms() -> None:
    value = {
        "id": UUID(int=5),
        "day": date(2024, 2, 29),
        "at": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "took": timedelta(1, 2),
    }
    assert json.loads(encode(value, "x").text) == {
        "id": {"$uuid": "00000000-0000-0000-0000-000000000005"},
        "day": {"$date": "2024-02-29"},
        "at": {"$datetime": "2024-02-29T12:00:00+00:00"},
        "took": {"$timedelta": [1, 2, 0]},
    }
