"""The classes that a schema or a handler's annotations name, so that the builder can register them.

What is written in annotations is a help, never a rule: a name that cannot be resolved is passed over. It registers
nothing itself, and `typing` is imported only to resolve the hints of a class's own fields.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError
from flux_core.handlers import annotations_of, is_plain, scope_of
from flux_core.registered import is_typed_dict, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def types_of(schema: object) -> list[type]:
    """The Enum, dataclass, NamedTuple, pydantic and msgspec classes of a schema, its own class and its fields' first.

    Empty for None and for callables. `DefinitionError` if the hints of a class among them cannot be resolved.
    """
    walk = _Walk()
    walk.take(schema)
    return list(walk.found)


def types_of_data(model: type) -> list[type]:
    """The same for what `.data(...)` is given, which may also be a plain class that only lists attributes."""
    if kind_of(model) is not None or is_typed_dict(model):
        return types_of(model)
    walk = _Lenient({}, {})
    walk.take_attributes(model)
    return list(walk.found)


def types_in(function: object) -> list[type]:
    """The classes that the annotations of a handler name: what it returns, and the two of `Context[Order, Data]`."""
    hints = annotations_of(function)
    if not hints:
        return []
    walk = _Lenient(*scope_of(function))
    for name, hint in hints.items():
        try:
            resolved = walk.resolved(hint)
            walk.take(resolved)
            if name != "return":  # the context, for a handler takes nothing else
                for model in getattr(resolved, "__args__", ())[1:]:
                    walk.take_attributes(walk.resolved(model))
        except Exception:  # noqa: BLE001, S112 -- an annotation may be anything, and none of it breaks a definition
            continue
    return list(walk.found)


class _Walk:
    """Goes through hints and what is inside of them."""

    def __init__(self) -> None:
        self.found: dict[type, None] = {}
        self._seen: dict[int, object] = {}  # by identity: not every hint can be hashed

    def take(self, hint: object) -> None:
        hint = self.resolved(hint)
        if id(hint) in self._seen:
            return
        self._seen[id(hint)] = hint
        if kind_of(type(hint)) == "Enum":  # a member in a Literal
            self.take(type(hint))
        if isinstance(hint, type) and not hasattr(hint, "__origin__"):
            if kind_of(hint) is not None:
                self.found[hint] = None
            for inner in self.inside(hint):
                self.take(inner)
        for name in ("__origin__", "__supertype__", "__value__"):
            inner = getattr(hint, name, None)
            if inner is not None:
                self.take(inner)
        for inner in getattr(hint, "__args__", ()):  # of `list[Item]`, `Item | None`, `Annotated[...]`
            self.take(inner)

    def resolved(self, hint: object) -> object:
        """The hint itself: the fields of a class come resolved."""
        return hint

    def inside(self, cls: type) -> Iterable[object]:
        """The hints of its fields."""
        return _fields_of(cls)


class _Lenient(_Walk):
    """Resolves strings where a function stands, and passes over what it cannot resolve."""

    def __init__(self, names: dict[str, Any], local: dict[str, object]) -> None:
        super().__init__()
        self._names = names
        self._local = local

    def resolved(self, hint: object) -> object:
        text = hint if isinstance(hint, str) else getattr(hint, "__forward_arg__", None)
        if not isinstance(text, str):
            return hint
        try:
            meant: object = eval(text, self._names, self._local)  # noqa: S307 -- the user's own annotation
        except Exception:  # noqa: BLE001 -- imported for type checkers alone, or not defined yet
            return None
        return meant

    def inside(self, cls: type) -> Iterable[object]:
        try:
            return _fields_of(cls)
        except DefinitionError:
            return ()

    def take_attributes(self, model: object) -> None:
        """What the attributes of a plain class may hold."""
        if isinstance(model, type) and kind_of(model) is None and not is_plain(model):
            from flux_core.hints import field_hints

            try:
                hints = field_hints(model)
            except DefinitionError:
                return
            for hint in hints.values():
                self.take(hint)


def _fields_of(cls: Any) -> Iterable[object]:
    match kind_of(cls):
        case "Enum":
            return ()
        case "pydantic":
            return [field.annotation for field in cls.model_fields.values()]
        case None if not is_typed_dict(cls):
            return ()
        case "dataclass" if all(is_plain(field.type) for field in cls.__dataclass_fields__.values()):
            return ()
    from flux_core.hints import field_hints

    return field_hints(cls).values()
