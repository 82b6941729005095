"""Inputs: every kind of schema names the fields that do not fit, and reads back what it stored."""

from __future__ import annotations

import enum
import functools
import json
import os
import subprocess
import sys
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

from flux_core.errors import DefinitionError, InputInvalid
from flux_core.storable import types_of
from flux_core.validation import Validator, input_validator
from flux_core.values import decode, encode


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    street: str
    number: int = 1


@dataclass
class Item:
    sku: str
    price: float
    tags: list[str] = field(default_factory=list)


Name = NewType("Name", str)


@dataclass
class Order:
    id: Name
    items: list[Item]
    colour: Colour = Colour.RED
    kind: Literal["new", "old", 3] = "new"
    note: str | None = None
    by_day: dict[int, Item] = field(default_factory=dict)
    pair: tuple[int, str] = (0, "")
    sizes: tuple[int, ...] = ()
    labels: set[str] = field(default_factory=set)
    when: datetime | None = None
    took: timedelta = timedelta(0)
    total: Decimal = Decimal(0)
    key: UUID | None = None
    raw: bytes = b""
    place: Place | None = None
    rights: Rights = Rights.READ
    size: Annotated[int, "in cm"] = 0
    anything: Any = None
    both: int | str = 0
    made: bool = field(default=False, init=False)


FULL = Order(
    id=Name("o1"),
    items=[Item("a", 1.5, ["x"]), Item("b", 2.0)],
    colour=Colour.BLUE,
    kind=3,
    note="n",
    by_day={1: Item("c", 3.0)},
    pair=(1, "p"),
    sizes=(1, 2, 3),
    labels={"l", "m"},
    when=datetime(2024, 1, 2, 3, tzinfo=UTC),
    took=timedelta(seconds=1.5),
    total=Decimal("1.10"),
    key=UUID(int=7),
    raw=b"\x00\xff",
    place=Place("s", 2),
    rights=Rights.READ | Rights.WRITE,
    size=4,
    anything={"k": [1]},
    both="s",
)


class PItem(pydantic.BaseModel):
    sku: str
    price: float = pydantic.Field(gt=0)


class POrder(pydantic.BaseModel):
    id: str
    items: list[PItem]
    colour: Colour = Colour.RED
    when: datetime | None = None


class PStrict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: date
    sizes: tuple[int, ...] = ()


class PAlias(pydantic.BaseModel):
    order_id: int = pydantic.Field(alias="orderId")


class PSecret(pydantic.BaseModel):
    token: pydantic.SecretStr


class PHidden(pydantic.BaseModel):
    shown: int
    hidden: int = pydantic.Field(default=0, exclude=True)


@pydantic.dataclasses.dataclass
class PData:
    size: int
    item: Item | None = None


class SItem(msgspec.Struct):
    sku: str
    price: float


class SOrder(msgspec.Struct, rename="camel"):
    order_id: str
    items: list[SItem]
    colour: Colour = Colour.RED
    by_day: dict[int, str] = {}
    pair: tuple[int, int] = (0, 0)


class TItem(TypedDict):
    sku: str
    price: float


class TOrder(TypedDict, total=False):
    id: Required[str]
    items: list[TItem]
    note: str | None


class TTotal(TypedDict):
    id: str
    note: NotRequired[str]


@dataclass
class Mixed:
    pydantic: PItem
    struct: SItem
    typed: TItem | None = None


@dataclass
class Checked:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("amount is negative")


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


def of(schema: object) -> Validator:
    validator = input_validator(schema)
    assert validator is not None
    return validator


def refusal(schema: object, raw: object) -> str:
    with pytest.raises(InputInvalid) as refused:
        of(schema).parse(raw)
    return str(refused.value)


CASES: list[tuple[type, dict[str, Any], Any]] = [
    (Item, {"sku": "a", "price": 1}, Item("a", 1.0)),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (
        POrder,
        {"id": "o", "items": [{"sku": "a", "price": 2}], "when": "2024-01-02T00:00:00Z"},
        POrder(id="o", items=[PItem(sku="a", price=2)], when=datetime(2024, 1, 2, tzinfo=UTC)),
    ),
    (PStrict, {"when": "2024-01-02", "sizes": [1]}, PStrict(when=date(2024, 1, 2), sizes=(1,))),
    (PAlias, {"orderId": 5}, PAlias(orderId=5)),
    (PData, {"size": 1, "item": {"sku": "a", "price": 1.0}}, PData(1, Item("a", 1.0))),
    (
        SOrder,
        {"orderId": "o", "items": [{"sku": "a", "price": 1.0}], "colour": "blue", "byDay": {"1": "x"}, "pair": [1, 2]},
        SOrder("o", [SItem("a", 1.0)], Colour.BLUE, {1: "x"}, (1, 2)),
    ),
    (
        Mixed,
        {
            "pydantic": {"sku": "a", "price": 1},
            "struct": {"sku": "b", "price": 2.0},
            "typed": {"sku": "c", "price": 3.0},
        },
        Mixed(PItem(sku="a", price=1), SItem("b", 2.0), {"sku": "c", "price": 3.0}),
    ),
    (TOrder, {"id": "o", "items": [{"sku": "a", "price": 1.0}]}, {"id": "o", "items": [{"sku": "a", "price": 1.0}]}),
]


@pytest.mark.parametrize(("schema", "raw", "parsed"), CASES, ids=lambda case: getattr(case, "__name__", ""))
class TestEverySchema:
    def test_parses_what_arrived_as_json(self, schema: type, raw: dict[str, Any], parsed: object) -> None:
        result = of(schema).parse(json.loads(json.dumps(raw)))
        assert (type(result), result) == (type(parsed), parsed)

    def test_stores_an_instance_as_json_and_reads_it_back(
        self, schema: type, raw: dict[str, Any], parsed: object
    ) -> None:
        validator = of(schema)
        stored = json.loads(json.dumps(validator.raw(parsed)))
        assert validator.parse(stored) == parsed
        assert validator.raw(parsed) == stored
        assert raw.keys() <= stored.keys()

    def test_leaves_plain_data_as_it_is(self, schema: type, raw: dict[str, Any], parsed: object) -> None:
        assert of(schema).raw(raw) == raw

    def test_names_a_missing_field(self, schema: type, raw: dict[str, Any], parsed: object) -> None:
        name = next(iter(raw))
        message = refusal(schema, {key: value for key, value in raw.items() if key != name})
        assert message.startswith(f"the input does not fit {schema.__name__}: ")
        assert name in message

    def test_refuses_what_is_no_object(self, schema: type, raw: dict[str, Any], parsed: object) -> None:
        for wrong in (None, 5, "text", [], [raw]):
            assert "does not fit" in refusal(schema, wrong)


class TestADataclass:
    def test_with_every_kind_of_field_goes_through_the_store(self) -> None:
        validator = of(Order)
        raw = validator.raw(FULL)
        stored = decode(encode(json.loads(json.dumps(raw)), "the input").text)
        assert validator.parse(stored) == FULL

    def test_may_hold_python_values_in_a_plain_dict(self) -> None:
        raw = {"id": "o", "items": [Item("a", 1.0)], "when": FULL.when, "total": FULL.total, "labels": {"b", "a"}}
        validator = of(Order)
        assert validator.parse(validator.raw(raw)) == validator.parse(raw)
        assert validator.raw(raw)["labels"] == ["a", "b"]  # type: ignore[index]

    def test_names_all_that_is_missing_unknown_or_mistyped_at_once(self) -> None:
        message = refusal(Order, {"items": [{"sku": 5, "price": "x"}, {"price": True}, 7], "color": 1, "size": 1.0})
        assert message == (
            "the input does not fit Order: id: missing; color: unknown field; items[0].sku: expected str, got int; "
            "items[0].price: expected float, got str; items[1].sku: missing; items[1].price: expected float, got bool; "
            "items[2]: expected an object with the fields of Item, got int; size: expected int, got float"
        )

    @pytest.mark.parametrize(
        ("name", "wrong", "says"),
        [
            ("id", 5, "id: expected str, got int"),
            ("items", {}, "items: expected a list, got dict"),
            ("colour", "green", "colour: expected one of 'red', 'blue' (Colour), got str"),
            ("kind", "older", "kind: expected one of 'new', 'old', 3, got str"),
            ("kind", 3.0, "kind: expected one of 'new', 'old', 3, got float"),
            ("note", 5, "note: expected str, got int"),
            ("by_day", [], "by_day: expected an object (dict), got list"),
            ("by_day", {"x": {"sku": "a", "price": 1}}, "by_day['x'] (key): expected int, got str"),
            ("by_day", {"1": {"price": 1}}, "by_day['1'].sku: missing"),
            ("pair", [1], "pair: expected 2 items, got 1"),
            ("pair", [1, 2], "pair[1]: expected str, got int"),
            ("sizes", [1, "x"], "sizes[1]: expected int, got str"),
            ("sizes", "12", "sizes: expected a list, got str"),
            ("labels", ["a", None], "labels[1]: expected str, got None"),
            ("when", "soon", "when: expected datetime as ISO text, and the str is none"),
            ("when", 5, "when: expected datetime as ISO text, got int"),
            ("took", "1s", "took: expected timedelta as a number of seconds, got str"),
            ("total", 1.5, "total: expected Decimal as text or an integer, got float"),
            ("total", "x", "total: expected Decimal as text or an integer, and the str is none"),
            ("key", "7", "key: expected UUID as text, and the str is none"),
            ("raw", "#", "raw: expected bytes as base64 text, and the str is none"),
            ("place", ["s"], "place: expected 2 items, got 1"),
            ("rights", "x", "rights: expected one of 1, 2 (Rights), got str"),
            ("size", True, "size: expected int, got bool"),
            ("both", 1.5, "both: expected int or str, got float"),
            ("made", True, "made: unknown field"),
        ],
    )
    def test_says_what_a_field_expects(self, name: str, wrong: object, says: str) -> None:
        assert refusal(Order, {"id": "o", "items": [], name: wrong}) == f"the input does not fit Order: {says}"

    def test_names_fields_inside_of_models_of_other_libraries(self) -> None:
        message = refusal(Mixed, {"pydantic": {"sku": "a", "price": -1}, "struct": {"sku": 5, "price": 1.0}})
        assert "pydantic.price: Input should be greater than 0" in message
        assert "struct: Expected `str`, got `int` - at `sku`" in message

    def test_reports_what_its_post_init_refuses(self) -> None:
        assert refusal(Checked, {"amount": -1}) == "the input does not fit Checked: Checked: amount is negative"

    def test_with_hints_that_cannot_be_resolved_is_a_wrong_definition(self) -> None:
        @dataclass
        class Lost:
            x: Nowhere  # type: ignore[name-defined]  # noqa: F821 -- that is the point

        with pytest.raises(DefinitionError, match=r"hints of .*Lost cannot be resolved.*top of the module"):
            input_validator(Lost)

    def test_with_an_initvar_is_a_wrong_definition(self) -> None:
        cls = type("WithInit", (), {"__annotations__": {"x": InitVar[int]}, "__module__": __name__})
        with pytest.raises(DefinitionError, match=r"WithInit\.x is an InitVar"):
            input_validator(dataclass(cls))


class TestATypedDict:
    def test_knows_required_and_optional_keys_though_hints_are_strings(self) -> None:
        assert of(TOrder).parse({"id": "o"}) == {"id": "o"}
        assert of(TTotal).parse({"id": "o"}) == {"id": "o"}
        assert refusal(TTotal, {"note": "n"}) == "the input does not fit TTotal: id: missing"
        assert refusal(TTotal, {"id": "o", "note": 5}) == "the input does not fit TTotal: note: expected str, got int"
        assert refusal(TOrder, {"id": "o", "items": [{"sku": "a"}]}).endswith("items[0].price: missing")
        assert refusal(TOrder, {"id": "o", "nope": 1}).endswith("nope: unknown field")


class TestPydantic:
    def test_names_the_place_of_every_problem(self) -> None:
        message = refusal(POrder, {"id": "o", "items": [{"sku": "a", "price": 0}, {"price": 1}]})
        assert "items.0.price: Input should be greater than 0" in message
        assert "items.1.sku: Field required" in message

    @pytest.mark.parametrize("value", [PSecret(token=pydantic.SecretStr("s")), PHidden(shown=1, hidden=2)])
    def test_refuses_an_instance_that_its_dump_does_not_tell_whole(self, value: object) -> None:
        with pytest.raises(InputInvalid, match=r"read back differently .* pass a dict"):
            of(type(value)).raw(value)

    def test_takes_an_instance_inside_of_a_plain_dict(self) -> None:
        assert of(POrder).raw({"id": "o", "items": [PItem(sku="a", price=1)]}) == {
            "id": "o",
            "items": [{"sku": "a", "price": 1.0}],
        }


class TestMsgspec:
    def test_names_the_place_of_the_problem(self) -> None:
        message = refusal(SOrder, {"orderId": "o", "items": [{"sku": 5, "price": 1.0}]})
        assert message == "the input does not fit SOrder: Expected `str`, got `int` - at `items[0].sku`"

    def test_refuses_to_store_what_it_cannot_write(self) -> None:
        with pytest.raises(InputInvalid, match=r"does not fit SOrder: .*object"):
            of(SOrder).raw({"orderId": object()})


class TestACallable:
    def test_that_returns_true_or_nothing_takes_the_input_as_it_is(self) -> None:
        raw = {"x": 1}
        for answer in (True, None):
            assert of(lambda _, answer=answer: answer).parse(raw) is raw

    def test_that_returns_a_value_makes_it_the_input(self) -> None:
        assert of(lambda raw: Item(**raw)).parse({"sku": "a", "price": 1.0}) == Item("a", 1.0)
        assert of(lambda _: 0).parse({}) == 0
        assert of(lambda _: 1).parse({}) == 1

    def test_that_returns_false_or_raises_refuses_it(self) -> None:
        def positive(raw: Any) -> bool:
            return bool(raw["x"] > 0)

        assert refusal(positive, {"x": 0}).endswith("positive: it returned False")
        with pytest.raises(InputInvalid, match="refused by positive: KeyError: 'x'") as refused:
            of(positive).parse({})
        assert isinstance(refused.value.__cause__, KeyError)

    def test_may_raise_the_refusal_itself(self) -> None:
        def own(_: object) -> None:
            raise InputInvalid("just so")

        assert refusal(own, 1) == "just so"

    def test_may_be_a_partial_or_an_object(self) -> None:
        assert of(functools.partial(int, base=16)).parse("ff") == 255
        assert refusal(functools.partial(int, base=16), "x").startswith("the input was refused by ")

    def test_gets_what_the_caller_passed(self) -> None:
        value = object()
        assert of(lambda raw: raw).raw(value) is value


class TestAWrongSchema:
    @pytest.mark.parametrize(
        "schema", [5, "Order", {"id": str}, [Item], dict, int, object, list[int], Name, Colour, Place]
    )
    def test_says_what_is_accepted(self, schema: object) -> None:
        with pytest.raises(DefinitionError, match=r"\.input\(.*give a pydantic model, a dataclass, a msgspec.Struct"):
            input_validator(schema)

    def test_may_not_be_async(self) -> None:
        async def check(_: object) -> None: ...

        with pytest.raises(DefinitionError, match=r"check\) is an async function"):
            input_validator(check)

    def test_is_not_the_absence_of_one(self) -> None:
        assert input_validator(None) is None


class TestTheTypesOfASchema:
    def test_are_found_through_all_fields(self) -> None:
        assert types_of(Order) == [Order, Item, Colour, Place, Rights]
        assert types_of(POrder) == [POrder, PItem, Colour]
        assert types_of(SOrder) == [SOrder, SItem, Colour]
        assert types_of(Mixed) == [Mixed, PItem, SItem]
        assert types_of(PData) == [PData, Item]
        assert types_of(TOrder) == []
        assert types_of(Tree) == [Tree]

    def test_include_the_enum_of_a_literal(self) -> None:
        cls = type("OfLiteral", (), {"__annotations__": {"c": Literal[Colour.RED]}, "__module__": __name__})
        assert types_of(dataclass(cls)) == [cls, Colour]

    def test_of_anything_else_are_none(self) -> None:
        assert types_of(None) == types_of(lambda raw: raw) == types_of(int) == []


def test_importing_the_module_loads_no_library_of_users_and_nothing_slow() -> None:
    script = (
        "import sys, flux_core.validation, flux_core.data\n"
        "slow = {'pydantic', 'msgspec', 'dataclasses', 'inspect', 'datetime', 'decimal', 'uuid', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
