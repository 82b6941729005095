"""User values to JSON text and back, exactly: what comes out equals what went in, in value and type at every depth.

What JSON cannot say is written as an object with one key, `{"$decimal": "1.10"}`; a user's dict with a key that begins
with "$" is wrapped as `{"$esc": {...}}`. A value that cannot be kept exactly is refused, never changed (PROTOCOL,
Data delta). This module must not import a class by a name from a record, and must not know records or workflows.

Plain JSON data takes a fast path: C encoder, C scanner, and `marshal` as the proof. Version 2 of its format has no
references and tells 1, True and 1.0, list and tuple apart, and refuses subclasses and foreign types; so equal bytes
before and after the round trip mean that nothing was lost. Everything else takes the exact path below it.
"""

from __future__ import annotations

import sys
from marshal import dumps as _marshal
from marshal import loads

from flux_core import scalars
from flux_core.errors import CorruptRecord, Unserialisable
from flux_core.jsontext import chunks, parse, quote, scan, sorted_chunks, write
from flux_core.registered import Refused, kind_of, register_type, rule_named, rule_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = [
    "DEPTH_LIMIT",
    "SCALARS",
    "Encoded",
    "canonical",
    "copied",
    "decode",
    "decode_tree",
    "encode",
    "register_type",
]

DEPTH_LIMIT = 64
"""How many levels of lists, dicts, tuples, sets and objects a value may have (PROTOCOL, Security)."""

SCALARS: set[type] = {str, int, float, bool, type(None), bytes}
"""Exact types whose instances cannot change; those of other modules join when the first of them is met."""

# Longer integers are written in hexadecimal, which no setting of sys.set_int_max_str_digits (640 at the least) stops.
_INT_LIMIT = 10**600
_SHOWN_PATH = 12


class Encoded:
    """A stored value: `text` is its JSON text, `value` what decoding the text yields (first run equals resume)."""

    __slots__ = ("text", "value")

    def __init__(self, text: str, value: object) -> None:
        self.text = text
        self.value = value


def encode(value: Any, where: str) -> Encoded:
    """Turn `value` into JSON text. `where` names it in errors: `ctx.data["order"]`, `the output`.

    The text may hold lone surrogates: write it with "surrogatepass". Except for immutable scalars, `Encoded.value`
    shares no object with `value`.

    Raises Unserialisable, its message starting with `where` and the path inside the value.
    """
    kind = type(value)
    if kind is str:
        return Encoded(quote(value), value)
    if kind is dict or kind is list:
        plain = _plain(value)
        if plain is not None:
            return plain
    elif kind is int and -_INT_LIMIT < value < _INT_LIMIT:
        return Encoded(int.__repr__(value), value)
    elif kind is float and value - value == 0.0:  # neither inf nor nan
        return Encoded(float.__repr__(value), value)
    elif value is None:
        return Encoded("null", None)
    elif kind is bool:
        return Encoded("true" if value else "false", value)
    text = write(_tree(value, where, ordered=False))
    return Encoded(text, decode(text))


def canonical(value: object, where: str = "the input") -> str:
    """The JSON text of `value` with all keys sorted: equal values have equal texts, for hashing (PROTOCOL rule 19).

    Raises Unserialisable as `encode` does.
    """
    if _plain(value) is not None:
        return _sorted_text(value)
    return _sorted_text(_tree(value, where, ordered=True))


def decode(text: str) -> object:
    """The value of a JSON text that `encode` made. Raises CorruptRecord for anything else."""
    try:
        tree = parse(text)
    except (ValueError, RecursionError) as error:
        raise CorruptRecord(
            f"a stored value is not JSON: {error}. The record is damaged or of another writer."
        ) from error
    return decode_tree(tree) if '"$' in text else tree


def decode_tree(obj: object) -> object:
    """The value of a tree that a JSON parser already made of such a text. The tree itself is left as it is.

    Raises CorruptRecord for a tag that is unknown or damaged, or a class that is not registered.
    """
    try:
        return _resolve(obj)
    except RecursionError as error:
        raise CorruptRecord("a stored value is nested too deeply to be read; the record is damaged.") from error


def copied(value: Any) -> Any:
    """A copy of a value that came out of `encode` or `decode`, sharing nothing that can be changed."""
    if type(value) in SCALARS:
        return value
    try:
        return loads(_marshal(value, 2))  # noqa: S302 -- our own bytes, of a value that cannot be circular
    except ValueError:
        from copy import deepcopy

        return deepcopy(value)


# --- the fast path ----------------------------------------------------------------------------------


def _sorted_text(tree: object) -> str:
    return "".join(sorted_chunks(tree, 0))


def _plain(value: Any) -> Encoded | None:
    """Encode a list or dict of JSON types; None if it holds anything else, which the exact path sorts out."""
    try:
        text = "".join(chunks(value, 0))
        if '"$' in text and ('{"$' in text or ',"$' in text):  # perhaps a key that looks like a tag
            return None
        decoded = scan(text, 0)[0]
        if _marshal(value, 2) != _marshal(decoded, 2):
            return None
    except Exception:  # noqa: BLE001 -- a subclass of dict or int runs its own code; the exact path refuses it
        return None
    if len(text) > 2 * DEPTH_LIMIT and text.count("[") + text.count("{") > DEPTH_LIMIT and _too_deep(decoded):
        return None
    return Encoded(text, decoded)


def _too_deep(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


# --- the exact path: value -> tagged tree --------------------------------------------------------------


def _tree(value: object, where: str, *, ordered: bool) -> object:
    try:
        return _Tagger(ordered=ordered).tree(value)
    except Refused as refused:
        steps = refused.path[::-1]
        if len(steps) > _SHOWN_PATH:
            steps = [*steps[: _SHOWN_PATH - 4], " ... ", *steps[-3:]]
        raise Unserialisable(f"{where}{''.join(steps)}: {refused.reason}.") from None


class _Tagger:
    """Turns one value into a tree of JSON types. `ordered` also sorts the pairs of a `$map`, for `canonical`."""

    __slots__ = ("_open", "_ordered")

    def __init__(self, *, ordered: bool) -> None:
        self._open: set[int] = set()
        self._ordered = ordered

    def tree(self, value: Any) -> object:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            return value if -_INT_LIMIT < value < _INT_LIMIT else {"$int": hex(value)}
        if kind is float:
            return value if value - value == 0.0 else {"$float": repr(value)}
        if kind in _BRANCHES:
            return self._within(value)
        if rule_of(kind) is not None:
            return self._within(value)
        known = scalars.TAKERS.get((kind.__module__, kind.__qualname__))
        if known is None or getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
            raise Refused(f"a value of type {kind.__name__} cannot be stored; {_advice(value)}")
        SCALARS.add(kind)
        tag, take = known
        return {tag: take(value)}

    def _within(self, value: object) -> object:
        mark = id(value)
        if mark in self._open:
            raise Refused("the value contains itself; store an id or a name in place of the inner reference")
        if len(self._open) == DEPTH_LIMIT:
            raise Refused(f"the value is nested deeper than {DEPTH_LIMIT} levels; make it flatter")
        self._open.add(mark)
        branch = _BRANCHES.get(type(value), _Tagger._object)
        tree = branch(self, value)
        self._open.discard(mark)
        return tree

    def items(self, values: Iterable[object]) -> list[object]:
        out: list[object] = []
        try:
            for item in values:
                out.append(self.tree(item))  # noqa: PERF401 -- its length names the item in the error
        except Refused as refused:
            refused.path.append(f"[{len(out)}]")
            raise
        return out

    def elements(self, values: Iterable[object]) -> list[object]:
        try:
            return sorted((self.tree(item) for item in values), key=_sorted_text)
        except Refused as refused:
            refused.path.append("{element}")
            raise

    def _fields(self, value: dict[str, object]) -> dict[str, object]:
        out: dict[str, object] = {}
        key = ""
        try:
            for key, part in value.items():
                out[key] = self.tree(part)
        except Refused as refused:
            refused.path.append(f".{key}" if key.isidentifier() else f"[{quote(key)}]")
            raise
        return out

    def mapping(self, value: dict[Any, object]) -> object:
        escape = False
        for key in value:
            if type(key) is not str:
                return {"$map": self._pairs(value)}
            escape = escape or key[:1] == "$"
        tree = self._fields(value)
        return {"$esc": tree} if escape else tree

    def _pairs(self, value: dict[object, object]) -> list[list[object]]:
        pairs: list[list[object]] = []
        key: object = None
        for key, part in value.items():
            try:
                pair = [self.tree(key)]
            except Refused as refused:
                refused.path.clear()
                refused.reason = f"the key {_shown(key)}: {refused.reason}"
                raise
            try:
                pair.append(self.tree(part))
            except Refused as refused:
                refused.path.append(f"[{_shown(key)}]")
                raise
            pairs.append(pair)
        return sorted(pairs, key=_sorted_text) if self._ordered else pairs

    def _object(self, value: object) -> object:
        rule = rule_of(type(value))
        if rule is None:  # `tree` found it, and another thread has loaded the class anew since
            raise Refused(f"a value of type {type(value).__name__} cannot be stored; {_advice(value)}")
        fields, rest = rule.take(value)
        tree: list[object] = [rule.name]
        if type(fields) is dict:
            tree.append(self._fields(fields))
        else:
            tree.append(self.tree(fields))
        if rest is not None:
            tree.append(self.tree(rest))
        return {"$type": tree}


_BRANCHES: dict[type, Callable[[_Tagger, Any], object]] = {
    list: _Tagger.items,
    dict: _Tagger.mapping,
    tuple: lambda tagger, value: {"$tuple": tagger.items(value)},
    set: lambda tagger, value: {"$set": tagger.elements(value)},
    frozenset: lambda tagger, value: {"$frozenset": tagger.elements(value)},
}


def _shown(key: object) -> str:
    try:
        return f"{key!r:.60}"
    except Exception:  # noqa: BLE001 -- a repr of the user's, or an int beyond the interpreter's limit
        return f"...{type(key).__name__}..."


def _advice(value: object) -> str:
    kind = type(value)
    if kind_of(kind) is not None:
        return (
            f"register its class ({kind.__module__}.{kind.__qualname__}): "
            "create_workflow(..., types=[...]) or @register_type, or store its fields as a dict"
        )
    if hasattr(value, "__await__"):
        return "it was not awaited: write `await` before the call that made it"
    for base in (str, bool, int, float, list, dict, tuple, set, frozenset, bytes):
        if issubclass(kind, base):
            return f"as a subclass of {base.__name__} it would lose its type: store {base.__name__}(...) of it"
    if isinstance(value, (bytearray, memoryview)):
        return "store bytes(...) of it"
    if any(base.__module__ == "datetime" for base in kind.__mro__):
        return "store a datetime, date, time or timedelta of the standard library"
    return (
        "store JSON types, datetime, date, time, timedelta, Decimal, UUID, bytes, tuple, set, "
        "or a registered Enum, dataclass, NamedTuple, pydantic model or msgspec.Struct"
    )


# --- tagged tree -> value ---------------------------------------------------------------------------------


def _make_map(body: Any) -> object:
    made = {_resolve(key): _resolve(part) for key, part in body}
    if len(made) != len(body):
        raise ValueError("a key occurs twice")
    return made


def _make_object(body: Any) -> object:
    name, fields, *rest = body
    rule = rule_named(name)
    if rule is None:
        raise CorruptRecord(
            f"a stored value is of the type {name!r}, which is not registered here. Register its class before the "
            f"instance is read: create_workflow(..., types=[...]) or register_type(cls, {name!r})."
        )
    made = {key: _resolve(part) for key, part in fields.items()} if type(fields) is dict else _resolve(fields)
    try:
        return rule.make(made, _resolve(rest[0]) if rest else None)
    except Exception as error:
        raise CorruptRecord(
            f"a stored value of the type {name!r} does not fit the class {rule.cls.__module__}."
            f"{rule.cls.__qualname__}: {error}. Let the class accept what older versions stored."
        ) from error


def _list(body: Any) -> list[object]:
    if type(body) is not list:
        raise TypeError(f"expected a list, found {type(body).__name__}")
    return [_resolve(item) for item in body]


_MAKERS: dict[str, Callable[[Any], object]] = {
    **scalars.MAKERS,
    "$esc": lambda body: {key: _resolve(part) for key, part in body.items()},
    "$frozenset": lambda body: frozenset(_list(body)),
    "$map": _make_map,
    "$set": lambda body: set(_list(body)),
    "$tuple": lambda body: tuple(_list(body)),
    "$type": _make_object,
}


def _resolve(obj: Any) -> object:
    kind = type(obj)
    if kind is list:
        return [item if type(item) in SCALARS else _resolve(item) for item in obj]
    if kind is not dict:
        return obj
    if len(obj) == 1:
        (key,) = obj
        if key[:1] == "$":
            return _untag(key, obj[key])
    return {key: _resolve(part) for key, part in obj.items()}


def _untag(tag: str, body: Any) -> object:
    make = _MAKERS.get(tag)
    if make is None:
        raise CorruptRecord(
            f"a stored value has the unknown tag {tag!r}. It is damaged, or a newer version wrote it: upgrade this one."
        )
    try:
        return make(body)
    except (CorruptRecord, RecursionError):
        raise
    except Exception as error:
        raise CorruptRecord(
            f"a stored value has a damaged tag {tag!r}: {error}. Compare the record with its snapshot or a backup."
        ) from error
