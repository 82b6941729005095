"""Plain data checked against type hints: what dataclasses and TypedDicts say about the input of a workflow.

JSON has no dates, decimals or tuples; where a hint asks for one, the form that `to_plain` writes is accepted too
(ISO text, a string, a list). Nothing else is converted: "5" is no int. This module must not import the user's
libraries, and knows neither workflows nor records.
"""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any

from flux_core.errors import DefinitionError, InputInvalid
from flux_core.registered import is_typed_dict, kind_of
from flux_core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

_DICTS = ("dict", "Mapping", "MutableMapping")
_LISTS = ("list", "Sequence", "MutableSequence", "Iterable", "Collection")
_SETS: dict[str, type] = {"set": set, "frozenset": frozenset, "Set": frozenset, "MutableSet": set}
_MARKS = ("Required", "NotRequired", "ReadOnly")


def name_of(hint: object) -> str:
    """A hint as a user writes it: `int`, `Order`, `list[Item]`."""
    if isinstance(hint, types.GenericAlias):
        return str(hint).replace(f"{getattr(hint.__origin__, '__module__', '')}.", "")
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def field_hints(cls: type) -> dict[str, Any]:
    """The resolved type hints of a class. Raises DefinitionError for a name that its module does not have."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise DefinitionError(
            f"the type hints of {cls.__module__}.{cls.__qualname__} cannot be resolved: {error}. "
            "Define what they name at the top of the module (not under TYPE_CHECKING, nor inside a function)."
        ) from error


def to_plain(value: Any) -> Any:
    """Plain data as it is; instances of models, enums, dates and the like in the JSON form that a schema reads back."""
    cls = type(value)
    if cls is dict:
        return {key: to_plain(part) for key, part in value.items()}
    if cls is list:
        return [to_plain(item) for item in value]
    match kind_of(cls):
        case "Enum":
            return to_plain(value.value)
        case "pydantic":
            return value.model_dump(mode="json", by_alias=True, round_trip=True)
        case "msgspec":
            import msgspec

            return msgspec.to_builtins(value, str_keys=True, builtin_types=(Secret,))
        case "dataclass":
            return {name: to_plain(getattr(value, name)) for name, field in _fields(cls).items() if field.init}
        case "NamedTuple":
            return [to_plain(item) for item in value]
        case _:
            return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    cls = type(value)
    if cls in (tuple, set, frozenset):
        plain = [to_plain(item) for item in value]
        return plain if cls is tuple else sorted(plain, key=repr)
    match (cls.__module__, cls.__name__):
        case ("datetime", "datetime" | "date" | "time"):
            return value.isoformat()
        case ("datetime", "timedelta"):
            return value.total_seconds()
        case ("decimal", "Decimal") | ("uuid", "UUID"):
            return str(value)
        case ("builtins", "bytes"):
            from binascii import b2a_base64

            return b2a_base64(value, newline=False).decode("ascii")
        case _:
            return value


def _fields(cls: type) -> dict[str, Any]:
    import dataclasses

    return {field.name: field for field in dataclasses.fields(cls)}


class _Shape:
    """The fields of one dataclass or TypedDict: their hints, and which of them must be there."""

    __slots__ = ("hints", "required")

    def __init__(self, hints: dict[str, Any], required: set[str]) -> None:
        self.hints = hints
        self.required = required


class Hints:
    """Fits plain values to hints. `nested` gives a validator (with `parse`) for classes of other libraries."""

    __slots__ = ("_nested", "_shapes")

    def __init__(self, nested: Callable[[type], Any]) -> None:
        self._nested = nested
        self._shapes: dict[type, _Shape] = {}

    def check_schema(self, cls: type) -> None:
        """Raises DefinitionError if the hints of `cls` cannot be resolved."""
        self._shape(cls)

    def fit(self, hint: Any, value: Any, path: str, problems: list[str]) -> Any:
        """The value as the hint wants it; what does not fit is appended to `problems`, each with its path."""
        hint, _ = unwrapped(hint)
        origin = typing.get_origin(hint)
        if hint in (Any, object) or isinstance(hint, typing.TypeVar):
            return value
        if origin is typing.Union or isinstance(hint, types.UnionType):
            return self._union(hint, value, path, problems)
        if origin is typing.Literal:
            for choice in typing.get_args(hint):
                plain = to_plain(choice)
                if (type(value) is type(choice) and value == choice) or (type(value) is type(plain) and value == plain):
                    return choice
            return _wrong(path, f"expected one of {', '.join(map(repr, typing.get_args(hint)))}", value, problems)
        cls = origin or hint
        if not isinstance(cls, type):
            return value
        return self._class(cls, typing.get_args(hint), value, path, problems)

    def _union(self, hint: Any, value: Any, path: str, problems: list[str]) -> Any:
        choices = typing.get_args(hint)
        exact = [choice for choice in choices if unwrapped(choice)[0] is type(value)]
        tried: list[list[str]] = []
        for choice in [*exact, *(choice for choice in choices if choice not in exact)]:
            found: list[str] = []
            fitted = self.fit(choice, value, path, found)
            if not found:
                return fitted
            tried.append(found)
        inner = [found for found, choice in zip(tried, choices, strict=True) if unwrapped(choice)[0] is not type(None)]
        if len(inner) == 1 and value is not None:  # Optional[X]: what X says is the most useful
            problems.extend(inner[0])
            return value
        return _wrong(path, f"expected {' or '.join(map(name_of, choices))}", value, problems)

    def _class(self, cls: type, arguments: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
        if cls is bool or cls is str or cls is int:
            return value if type(value) is cls else _wrong(path, f"expected {cls.__name__}", value, problems)
        if cls is float:
            if type(value) in (int, float):
                return float(value)
            return _wrong(path, "expected float", value, problems)
        if cls is type(None):
            return value if value is None else _wrong(path, "expected None", value, problems)
        kind = kind_of(cls)
        if kind == "Enum":
            return _enum(cls, value, path, problems)
        validator = self._nested(cls)
        if validator is not None:
            return _parsed(validator, value, path, problems)
        if kind == "dataclass" or is_typed_dict(cls):
            return self._object(cls, value, path, problems)
        if kind == "NamedTuple":
            hints = field_hints(cls)
            items = self._tuple(tuple(hints.get(name, Any) for name in cls._fields), value, path, problems)  # type: ignore[attr-defined]
            return cls(*items) if isinstance(items, tuple) else value
        name = cls.__name__ if cls.__module__ in ("builtins", "collections.abc") else ""
        if name in _DICTS:
            return self._dict(arguments, value, path, problems)
        if name in _LISTS or name in _SETS:
            return self._many(_SETS.get(name, list), arguments, value, path, problems)
        if cls is tuple:
            return self._tuple(arguments, value, path, problems)
        return _scalar(cls, value, path, problems)

    def _dict(self, arguments: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            return _wrong(path, "expected an object (dict)", value, problems)
        of_key, of_part = arguments if len(arguments) == 2 else (Any, Any)  # noqa: PLR2004 -- dict[key, value]
        return {
            self._key(of_key, key, f"{path}[{key!r}]", problems): self.fit(of_part, part, f"{path}[{key!r}]", problems)
            for key, part in value.items()
        }

    def _key(self, hint: Any, key: Any, path: str, problems: list[str]) -> Any:
        if unwrapped(hint)[0] is int and isinstance(key, str) and key.removeprefix("-").isdecimal():
            return int(key)  # the keys of a JSON object are strings
        return self.fit(hint, key, f"{path} (key)", problems)

    def _many(self, made: Any, arguments: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, (list, tuple, set, frozenset)):
            return _wrong(path, "expected a list", value, problems)
        hint = arguments[0] if arguments else Any
        before = len(problems)
        items = [self.fit(hint, item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
        return made(items) if len(problems) == before else value

    def _tuple(self, arguments: tuple[Any, ...], value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, (list, tuple)):
            return _wrong(path, "expected a list", value, problems)
        if not arguments or (len(arguments) == 2 and arguments[1] is ...):  # noqa: PLR2004 -- tuple[X, ...]
            return self._many(tuple, arguments[:1], value, path, problems)
        if len(value) != len(arguments):
            problems.append(f"{path or 'the whole'}: expected {len(arguments)} items, got {len(value)}")
            return value
        return tuple(
            self.fit(hint, item, f"{path}[{index}]", problems)
            for index, (hint, item) in enumerate(zip(arguments, value, strict=True))
        )

    def _object(self, cls: type, value: Any, path: str, problems: list[str]) -> Any:
        if type(value) is cls and not is_typed_dict(cls):
            return value
        if not isinstance(value, dict):
            return _wrong(path, f"expected an object with the fields of {cls.__name__}", value, problems)
        shape = self._shape(cls)
        before = len(problems)
        prefix = f"{path}." if path else ""
        problems.extend(f"{prefix}{name}: missing" for name in shape.hints if name in shape.required - value.keys())
        problems.extend(f"{prefix}{name}: unknown field" for name in value if name not in shape.hints)
        made = {
            name: self.fit(shape.hints[name], part, f"{prefix}{name}", problems)
            for name, part in value.items()
            if name in shape.hints
        }
        if is_typed_dict(cls) or len(problems) > before:
            return made
        try:
            return cls(**made)
        except (ValueError, TypeError, AssertionError) as error:  # the checks of a __post_init__
            problems.append(f"{path or cls.__name__}: {error}")
            return value

    def _shape(self, cls: type) -> _Shape:
        shape = self._shapes.get(cls)
        if shape is None:
            shape = self._shapes[cls] = typed_dict_shape(cls) if is_typed_dict(cls) else _dataclass_shape(cls)
        return shape


def typed_dict_shape(cls: Any) -> _Shape:
    """The fields of a TypedDict, and which of them must be there."""
    hints = field_hints(cls)
    required = set()
    for name, hint in hints.items():
        # Hints that are strings hide Required and NotRequired from __required_keys__, so look again.
        _, marks = unwrapped(hint)
        if "Required" in marks or (name in cls.__required_keys__ and "NotRequired" not in marks):
            required.add(name)
    return _Shape(hints, required)


def _dataclass_shape(cls: type) -> _Shape:
    import dataclasses

    hints = field_hints(cls)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise DefinitionError(
                f"{cls.__module__}.{cls.__qualname__}.{name} is an InitVar; an input can only have ordinary fields."
            )
    fields = {name: field for name, field in _fields(cls).items() if field.init}
    missing = dataclasses.MISSING
    required = {name for name, field in fields.items() if field.default is missing and field.default_factory is missing}
    return _Shape({name: hints[name] for name in fields}, required)


def unwrapped(hint: Any) -> tuple[Any, set[str]]:
    """A hint without Annotated, NewType, alias and the marks of TypedDict fields; and those marks."""
    marks: set[str] = set()
    while True:
        mark = getattr(typing.get_origin(hint), "_name", None)
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif mark in _MARKS:
            marks.add(mark)
            (hint,) = typing.get_args(hint)
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint, marks


def _wrong(path: str, expected: str, value: object, problems: list[str]) -> Any:
    problems.append(f"{path or 'the whole'}: {expected}, got {name_of(type(value))}")
    return value


def _enum(cls: Any, value: Any, path: str, problems: list[str]) -> Any:
    if type(value) is cls:
        return value
    for member in cls:
        plain = to_plain(member.value)
        if type(value) is type(plain) and value == plain:
            return member
    if type(value) is int:  # flags joined with |
        try:
            return cls(value)
        except ValueError:
            pass
    choices = ", ".join(repr(to_plain(member.value)) for member in cls)
    problems.append(f"{path or 'the whole'}: expected one of {choices} ({cls.__name__}), got {name_of(type(value))}")
    return value


def _parsed(validator: Any, value: Any, path: str, problems: list[str]) -> Any:
    try:
        return validator.parse(value)
    except InputInvalid as error:
        inner = str(error).partition(": ")[2]
        joint = ": " if " " in inner.partition(":")[0] else "."  # a sentence, or a path that goes on
        problems.append(f"{path}{joint}{inner}")
        return value


def _scalar(cls: type, value: Any, path: str, problems: list[str]) -> Any:
    if type(value) is cls:
        return value
    make = _READERS.get((cls.__module__, cls.__name__))
    if make is None:
        return value if isinstance(value, cls) else _wrong(path, f"expected {cls.__name__}", value, problems)
    accepted, form, read = make
    if type(value) in accepted:
        try:
            return read(cls, value)
        except (ValueError, ArithmeticError):
            problems.append(
                f"{path or 'the whole'}: expected {cls.__name__} as {form}, and the {name_of(type(value))} is none"
            )
            return value
    return _wrong(path, f"expected {cls.__name__} as {form}", value, problems)


def _from_iso(cls: Any, value: Any) -> object:
    return cls.fromisoformat(value)


def _from_seconds(cls: Any, value: Any) -> object:
    return cls(seconds=value)


def _from_plain(cls: Any, value: Any) -> object:
    return cls(value)


def _from_base64(cls: Any, value: Any) -> object:
    from binascii import a2b_base64

    return cls(a2b_base64(value, strict_mode=True))


_READERS: dict[tuple[str, str], tuple[tuple[type, ...], str, Callable[[Any, Any], object]]] = {
    ("builtins", "bytes"): ((str,), "base64 text", _from_base64),
    ("datetime", "date"): ((str,), "ISO text", _from_iso),
    ("datetime", "datetime"): ((str,), "ISO text", _from_iso),
    ("datetime", "time"): ((str,), "ISO text", _from_iso),
    ("datetime", "timedelta"): ((int, float), "a number of seconds", _from_seconds),
    ("decimal", "Decimal"): ((str, int), "text or an integer", _from_plain),
    ("uuid", "UUID"): ((str,), "text", _from_plain),
}
