"""The classes whose instances a store may hold, and how one is taken apart and put together again.

This is the allow-list of PROTOCOL, Security: a stored record can make instances of these classes only. The module
must not import a class by the name found in a record, must not use pickle, and imports pydantic and msgspec only
for a class that already came from them. Parts are restored as they were, without running `__init__` or validation
again (msgspec offers no way around its constructor, so the parts are set once more after it).
"""

from __future__ import annotations

import sys

from flux_core.errors import DefinitionError
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar, overload

    _Way = tuple[Callable[[object], "Parts"], Callable[[object, object], object]]

    _T = TypeVar("_T", bound=type)


class Parts(NamedTuple):
    """An instance taken apart: its fields (for an Enum the member's name), and what else pydantic keeps of it."""

    fields: object
    rest: object = None


class Rule(NamedTuple):
    """How instances of one registered class are stored. `make` raises any exception for parts that do not fit."""

    name: str
    cls: type
    take: Callable[[object], Parts]
    make: Callable[[object, object], object]


class Refused(Exception):
    """A value cannot be stored. `path` is collected from the inside to the outside while it rises."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


_by_class: dict[type, Rule] = {}
_by_name: dict[str, Rule] = {}


if TYPE_CHECKING:

    @overload
    def register_type(cls: _T, name: str | None = None) -> _T: ...
    @overload
    def register_type(cls: None = None, name: str | None = None) -> Callable[[_T], _T]: ...


def register_type(cls: _T | None = None, name: str | None = None) -> _T | Callable[[_T], _T]:
    """Allow instances of `cls` in inputs, outputs, signals and `ctx.data`; usable as a decorator, with or without name.

    `cls` is an Enum, dataclass, NamedTuple, pydantic model or msgspec.Struct. `name` is what records say, by default
    "module:qualname"; give one if the class may move. Registering a class again changes nothing. A class that is
    defined anew at the same place (a reloaded module) replaces the older one, whose instances are refused from then on.

    Raises DefinitionError if the class is of another kind, or if another class has that name.
    """
    if cls is None:
        return lambda later: register_type(later, name)
    wanted = name or f"{cls.__module__}:{cls.__qualname__}"
    known = _by_class.get(cls)
    if known is not None and (name is None or known.name == name):
        return cls
    if known is not None:
        raise DefinitionError(f"{_place(cls)} is already registered as {known.name!r} and cannot also be {wanted!r}.")
    holder = _by_name.get(wanted)
    if holder is not None and _place(holder.cls) != _place(cls):
        raise DefinitionError(
            f"cannot register {_place(cls)} as {wanted!r}: {_place(holder.cls)} has that name. "
            'Give one of them another: register_type(cls, "name").'
        )
    take, make = _way(cls)
    if holder is not None:
        del _by_class[holder.cls]
    _by_class[cls] = _by_name[wanted] = Rule(wanted, cls, take, make)
    return cls


def rule_of(cls: type) -> Rule | None:
    """The rule for exactly this class (a subclass needs its own); None if it is not registered."""
    return _by_class.get(cls)


def rule_named(name: object) -> Rule | None:
    """The rule that a record names; None if there is none."""
    return _by_name.get(name) if isinstance(name, str) else None


def kind_of(cls: type) -> str | None:
    """What makes `cls` registrable: Enum, pydantic, msgspec, dataclass or NamedTuple; None if nothing does."""
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(cls, enum.Enum):
        return "Enum"
    if hasattr(cls, "__struct_fields__") and hasattr(cls, "__struct_config__"):
        return "msgspec"
    if isinstance(getattr(cls, "model_fields", None), dict) and hasattr(cls, "__pydantic_validator__"):
        return "pydantic"
    if issubclass(cls, tuple):
        return "NamedTuple" if hasattr(cls, "_fields") and hasattr(cls, "_make") else None
    if hasattr(cls, "__dataclass_fields__") and not issubclass(
        cls, (str, int, float, bytes, list, dict, set, frozenset)
    ):
        return "dataclass"
    return None


def is_typed_dict(cls: object) -> bool:
    """Whether it is a TypedDict class, of typing or of typing_extensions."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _way(cls: type) -> _Way:
    match kind_of(cls):
        case "Enum":
            return _enum(cls)
        case "msgspec":
            return _struct(cls)
        case "pydantic":
            return _model(cls)
        case "dataclass":
            return _dataclass(cls)
        case "NamedTuple":
            return _namedtuple(cls)
        case _:
            raise DefinitionError(
                f"cannot register {_place(cls)}: only an Enum, dataclass, NamedTuple, pydantic model (version 2) "
                "or msgspec.Struct can be. Keep its content in one of these, or in plain dicts and lists."
            )


def _enum(cls: Any) -> _Way:
    members: dict[str, object] = cls.__members__

    def take(value: Any) -> Parts:
        name = getattr(value, "_name_", None)
        if isinstance(name, str) and members.get(name) is value:
            return Parts(name)
        return Parts([getattr(value, "_value_")])  # noqa: B009 -- flags joined with | have a value but no name

    def make(fields: Any, rest: Any) -> object:  # noqa: ARG001 -- one signature for every kind
        if isinstance(fields, list):
            return cls(fields[0])
        return members[str(fields)]

    return take, make


def _namedtuple(cls: Any) -> _Way:
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, object] = getattr(cls, "_field_defaults", {})

    def take(value: Any) -> Parts:
        _no_other_state(value, names)
        return Parts(dict(zip(names, tuple.__iter__(value), strict=True)))

    def make(fields: Any, rest: Any) -> object:  # noqa: ARG001 -- one signature for every kind
        parts = _known(fields, names)
        return tuple.__new__(cls, [parts[name] if name in parts else defaults[name] for name in names])

    return take, make


def _dataclass(cls: Any) -> _Way:
    import dataclasses

    fields_of = {field.name: field for field in dataclasses.fields(cls)}
    names = tuple(fields_of)
    missing = dataclasses.MISSING

    def take(value: Any) -> Parts:
        _no_other_state(value, names)
        return Parts({name: _part(value, name) for name in names})

    def make(fields: Any, rest: Any) -> object:  # noqa: ARG001 -- one signature for every kind
        parts = _known(fields, names)
        made = object.__new__(cls)
        for name, field in fields_of.items():
            if name in parts:
                part = parts[name]
            elif field.default is not missing:
                part = field.default
            elif field.default_factory is not missing:
                part = field.default_factory()
            else:
                raise ValueError(f"field {name!r} is missing and has no default")
            object.__setattr__(made, name, part)
        return made

    return take, make


def _struct(cls: Any) -> _Way:
    from msgspec import UNSET
    from msgspec.structs import fields as fields_of
    from msgspec.structs import force_setattr

    names: tuple[str, ...] = cls.__struct_fields__
    may_be_unset = {field.name for field in fields_of(cls) if field.default is UNSET}

    def take(value: Any) -> Parts:
        _no_other_state(value, names)
        parts = {name: _part(value, name) for name in names}
        return Parts({name: part for name, part in parts.items() if part is not UNSET or name not in may_be_unset})

    def make(fields: Any, rest: Any) -> object:  # noqa: ARG001 -- one signature for every kind
        parts = _known(fields, names)
        made = cls(**parts)
        for name, part in parts.items():
            force_setattr(made, name, part)
        return made

    return take, make


def _model(cls: Any) -> _Way:
    fields_of = cls.model_fields
    names = tuple(fields_of)

    def take(value: Any) -> Parts:
        # The state that pydantic itself hands to pickle and to copy: documented by BaseModel.__getstate__.
        state = value.__getstate__()
        held = {name: _part(value, name) for name in names}
        _no_other_state(value, names)
        rest = {
            "set": None if (given := state["__pydantic_fields_set__"]) == set(held) else sorted(given),
            "extra": state["__pydantic_extra__"] or None,
            "private": state["__pydantic_private__"],
        }
        return Parts(
            held,
            {key: part for key, part in rest.items() if part is not None} or None,
        )

    def make(fields: Any, rest: Any) -> object:
        held = _known(fields, names)
        given = set(held)
        for name in names:
            if name not in held:
                if fields_of[name].is_required():
                    raise ValueError(f"field {name!r} is missing and has no default")
                held[name] = fields_of[name].get_default(call_default_factory=True)
        kept = rest if isinstance(rest, dict) else {}
        made = cls.__new__(cls)
        made.__setstate__(
            {
                "__dict__": held,
                "__pydantic_extra__": kept.get("extra", {} if _allows_extra(cls) else None),
                "__pydantic_fields_set__": set(kept.get("set", given)),
                "__pydantic_private__": kept["private"] if "private" in kept else _fresh_private(cls),
            }
        )
        return made

    return take, make


def _fresh_private(cls: Any) -> dict[str, object] | None:
    """The private attributes of a pydantic model with their defaults, for records older than the attributes."""
    if not cls.__private_attributes__:
        return None
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    values = {name: attribute.get_default() for name, attribute in cls.__private_attributes__.items()}
    return {name: value for name, value in values.items() if value is not undefined}


def _allows_extra(cls: Any) -> bool:
    return bool(cls.model_config.get("extra") == "allow")


def _part(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except AttributeError:
        raise Refused(f"its field {name!r} has no value; set it before it is stored") from None


def _known(fields: object, names: Iterable[str]) -> dict[str, object]:
    if not isinstance(fields, dict):
        raise TypeError("its fields are not an object")
    unknown = [name for name in fields if name not in names]
    if unknown:
        raise ValueError(
            f"the class has no field {unknown[0]!r} any more; keep it (with a default) until no instance holds it"
        )
    return dict(fields)


def _no_other_state(value: object, names: tuple[str, ...]) -> None:
    """Refuse attributes that are no fields and so would be lost; a functools.cached_property may be: it comes again."""
    state = getattr(value, "__dict__", None)
    if not state or state.keys() <= set(names):
        return
    from functools import cached_property

    for name in state:
        if name not in names and not isinstance(getattr(type(value), name, None), cached_property):
            raise Refused(
                f"the attribute {name!r} of a {type(value).__name__} is not one of its fields and would be lost; "
                "declare it as a field"
            )
