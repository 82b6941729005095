"""What must not be shown to people or sent to observers, by the names of keys and fields.

Trace events, log fields and what a command line shows pass through here; what the store holds, what handlers and
hooks see and what verbs return does not. A value that is shown is never changed itself: what holds something redacted
is shown as a copy. This module must not raise: what it cannot look into it hides.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError
from flux_core.registered import kind_of
from flux_core.secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

REDACTED: Final = "[redacted]"
DEFAULT_REDACTED: Final = (
    *("password", "passwd", "passphrase", "secret", "client_secret", "secret_key", "private_key"),
    *("token", "access_token", "refresh_token", "id_token", "api_key", "x_api_key"),
    *("authorization", "proxy_authorization", "cookie", "set_cookie"),
    *("card_number", "cvv", "cvc", "ssn"),
)
"""The keys whose values are hidden unless the engine is told otherwise."""

_MOST_KNOWN = 4096
_LEAVES: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None), bytes, Secret})


class Redaction:
    """Hides what is under certain keys, however deep. Cheap for values that hold none: they come back as they are."""

    __slots__ = ("_known", "_names", "_texts", "_ways")

    def __init__(self, names: Iterable[str] | None = None, texts: Callable[[str], str] | None = None) -> None:
        """`names`: keys in any case, with or without `-` and `_`; None for `DEFAULT_REDACTED`, empty for none.

        `texts` is given every text and says how it is shown. `DefinitionError` if the names are no list of strings.
        """
        self._names = _DEFAULT if names is None else self._checked(names)
        self._texts = texts
        self._known: dict[str, bool] = {}
        self._ways = dict(_WAYS)

    @staticmethod
    def _checked(names: Iterable[object]) -> frozenset[str]:
        plain = [_plain(name) if isinstance(name, str) else "" for name in names]
        if isinstance(names, str) or not all(plain):
            message = (
                f"redact must be a list of key names, such as [*DEFAULT_REDACTED, 'iban'], or () to hide nothing; "
                f"got {names!r}"
            )
            raise DefinitionError(message)
        return frozenset(plain)

    @property
    def idle(self) -> bool:
        """Whether everything is shown as it is."""
        return not self._names and self._texts is None

    def value(self, value: object) -> object:
        """`value` as it may be shown: itself, or a copy in which `[redacted]` stands for what is hidden.

        An object with a hidden field is shown as a dict of its fields. A `Secret` is shown: it is only a name.
        """
        if self.idle:
            return value
        try:
            return self._shown(value, {})
        except Exception:  # noqa: BLE001 -- code of the user's classes, or a depth without end
            return REDACTED

    def fields(self, fields: dict[str, object]) -> dict[str, object]:
        """The fields of an event or a log line as they may be shown."""
        known = self._known
        if self._texts is None:
            for key, part in fields.items():
                if known.get(key) is not False or type(part) not in _LEAVES:
                    break
            else:  # as with nearly all of them
                return fields
            if not self._names:
                return fields
        try:
            return self._mapping(fields, {})  # type: ignore[return-value]  # a dict of the same keys
        except Exception:  # noqa: BLE001 -- so look at each for itself
            return {key: REDACTED if self._hides(key) else self.value(part) for key, part in fields.items()}

    def _hides(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:  # keys may be anything, ids for example
                self._known.clear()
            known = self._known[key] = _plain(key) in self._names
        return known

    def _shown(self, value: object, seen: _Seen) -> object:
        way = self._ways.get(type(value))
        if way is None:
            way = self._ways[type(value)] = self._way(type(value))
        return way(self, value, seen)

    def _way(self, kind: type) -> _Way:
        """The method that shows the values of a type."""
        if issubclass(kind, dict):
            return Redaction._mapping
        if kind_of(kind) not in {None, "Enum"}:
            return Redaction._object
        if issubclass(kind, list | tuple | set | frozenset):
            return Redaction._items
        from _collections_abc import Mapping  # collections.abc without the import of collections

        return Redaction._mapping if issubclass(kind, Mapping) else Redaction._leaf

    def _leaf(self, value: object, seen: _Seen) -> object:  # noqa: ARG002 -- one signature for every kind
        """A value without parts; as text it may still say what `texts` knows."""
        if self._texts is None or value is None or isinstance(value, int | float | Secret):
            return value
        text = value if isinstance(value, str) else str(value)
        shown = self._texts(text)
        return value if shown == text else shown

    def _mapping(self, value: Mapping[Any, object], seen: _Seen) -> object:
        """A dict or what is like one; as a plain dict if anything in it is hidden."""
        known = seen.get(id(value))
        if known is not None:
            return known[1]
        seen[id(value)] = (value, _AGAIN)
        parts: dict[object, object] = {}
        changed = False
        for key, part in value.items():
            if not self._hides(key):
                shown = self._shown(part, seen)
            else:
                shown = part if part is None or isinstance(part, Secret) else REDACTED
            name = key if self._texts is None else self._leaf(key, seen)
            parts[name] = shown
            changed = changed or shown is not part or name is not key
        return _settled(value, parts if changed else value, seen)

    def _items(self, value: Any, seen: _Seen) -> object:
        """A list, tuple or set; a set as a list if anything in it is hidden."""
        known = seen.get(id(value))
        if known is not None:
            return known[1]
        seen[id(value)] = (value, _AGAIN)
        parts: Any = []
        changed = False
        for part in value:
            shown = self._shown(part, seen)
            parts.append(shown)
            changed = changed or shown is not part
        if changed and isinstance(value, tuple):
            parts = tuple(parts)
        return _settled(value, parts if changed else value, seen)

    def _object(self, value: Any, seen: _Seen) -> object:
        """An object of a kind that can be stored: a dict of its fields if any of them is hidden, or hides something."""
        known = seen.get(id(value))
        if known is not None:
            return known[1]
        seen[id(value)] = (value, _AGAIN)
        fields = _fields(value)
        shown = self._mapping(fields, seen)
        return _settled(value, value if shown is fields else shown, seen)


if TYPE_CHECKING:
    _Way = Callable[[Redaction, Any, "_Seen"], object]
    _Seen = dict[int, tuple[object, object]]
    """By identity: what was met (and is kept, so that no other takes its identity) and how it is shown."""

_AGAIN: Final = "..."
"""Stands for a value within itself."""
_MISSING: Final = object()


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


_DEFAULT: Final = frozenset(map(_plain, DEFAULT_REDACTED))
_WAYS: Final[dict[type, _Way]] = dict.fromkeys(_LEAVES, Redaction._leaf)  # noqa: SLF001 -- a table of its methods
"""How the values of a type are shown: what an engine begins with."""


def _settled(value: object, shown: object, seen: _Seen) -> object:
    seen[id(value)] = (value, shown)
    return shown


def _fields(value: Any) -> dict[str, object]:
    """The fields of an instance of a class that `kind_of` knows, as they are."""
    names = next((found for place in _FIELDS if (found := getattr(type(value), place, None)) is not None), ())
    parts = {name: part for name in names if (part := getattr(value, name, _MISSING)) is not _MISSING}
    return {**parts, **(getattr(value, "__pydantic_extra__", None) or {})}


_FIELDS: Final = ("__struct_fields__", "__pydantic_fields__", "__dataclass_fields__", "_fields")
"""Where msgspec, pydantic, dataclasses and named tuples keep the names of the fields."""
