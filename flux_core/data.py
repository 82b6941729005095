"""`ctx.data`, and what one attempt changed of it.

PROTOCOL, Data delta: a step's record holds only the top-level keys whose encoded form changed; changed values are
replaced by their decoded form, and after a failed attempt the data is as last recorded. This module must not know
records, steps or storage.
"""

from __future__ import annotations

import marshal

from flux_core.errors import Unserialisable
from flux_core.jsontext import quote as _quote
from flux_core.values import SCALARS, Encoded, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_marshal = marshal.dumps
_TAKEN = frozenset(dir(dict))
_MISSING = object()


if TYPE_CHECKING:
    _Base = dict[str, Any]
else:
    _Base = dict


class Data(_Base):
    """A dict whose keys are attributes too: `ctx.data.order = x` is `ctx.data["order"] = x`.

    Names that dict has itself (`items`, `get`, ...) and names that begin with "_" work as keys only.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """The value of the key `name`. Raises AttributeError naming the keys there are."""
        try:
            return self[name]
        except KeyError:
            there = ", ".join(sorted(map(str, self))) or "none yet"
            raise AttributeError(f"ctx.data has no key {name!r}; the keys are: {there}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: object) -> None:
        """Set the key `name`. Raises AttributeError for a name that an attribute cannot have."""
        if name in _TAKEN or name[:1] == "_":
            raise AttributeError(
                f'ctx.data.{name} cannot be set as an attribute, the name is kept; write ctx.data["{name}"] = ...',
                name=name,
                obj=self,
            )
        self[name] = value

    def __delattr__(self, name: str) -> None:
        """Remove the key `name`. Raises AttributeError if there is none."""
        if name in _TAKEN or name not in self:
            raise AttributeError(f"ctx.data has no key {name!r} to delete; see ctx.data.keys()", name=name, obj=self)
        del self[name]


class Delta:
    """The changed keys of one attempt.

    `set` holds the decoded values, `unset` the keys that went, `text` the JSON object text of the set part.
    The values belong to the tracker once the delta is accepted: do not change them.
    """

    __slots__ = ("set", "text", "unset")

    def __init__(self, set: dict[str, object], unset: list[str], text: str) -> None:
        self.set = set
        self.unset = unset
        self.text = text


class DataTracker:
    """The recorded data, and a print of every value in it that can be changed in place.

    `values` is what the records say, each value in its decoded form; the tracker owns it. A handler gets the
    containers themselves, not copies, so the prints show what it did to them.

    A print is the marshal bytes of a value where these are enough, else its JSON text. Format 4 is used since its
    references keep a circular value from running for ever (format 2 takes 2^n steps). The bytes depend on reference
    counts too, so equal prints prove that nothing changed, while for unequal ones the JSON text decides.
    """

    __slots__ = ("_fresh", "_prints", "_texts", "values")

    def __init__(self, values: dict[str, object]) -> None:
        self.values = values
        self._prints: dict[str, bytes | str] = {}
        self._fresh: dict[str, Encoded] = {}
        """What the last `delta` found changed, until `apply` takes it over."""
        self._texts: dict[str, str] = {}
        """The JSON text of containers, where it is known."""
        for key, value in values.items():
            self._record(key, value)

    def delta(self, data: Any, step: str) -> Delta | None:
        """What differs between `data` and the recorded values; None if nothing does.

        Raises Unserialisable naming `step`, the key and the path for a value that cannot be stored, a key that is
        no string, or data that is no dict.
        """
        values = self.values
        prints = self._prints
        changed: dict[str, object] = {}
        fresh: dict[str, Encoded] = {}
        self._fresh = fresh
        texts: list[str] = []
        kept = 0
        if not isinstance(data, dict):
            raise Unserialisable(
                f'step "{step}": ctx.data was replaced by a value of type {type(data).__name__}; it has to stay a dict.'
            )
        for key, value in data.items():
            old = values.get(key, _MISSING)
            known = prints.get(key)
            if known is None and value is old:  # what has no print cannot be changed in place
                kept += 1
                continue
            if known.__class__ is bytes:
                try:
                    if _marshal(value, 4) == known:
                        kept += 1
                        continue
                except ValueError:
                    pass  # a foreign type: the encoder below knows or refuses it
            kind = type(value)
            if type(key) is not str:
                raise _not_a_key(key, step)
            if kind is int or kind is str or kind is bool:  # of these, equal values have equal texts
                if kind is type(old) and value == old:
                    kept += 1
                    continue
                encoded, same = encode(value, step), False
            else:
                encoded = fresh[key] = encode(value, f'step "{step}": ctx.data[{_quote(key)}]')
                same = old is not _MISSING and self._equals(key, old, encoded)
            if old is not _MISSING:
                kept += 1
                if same:
                    if value is old:  # equal, yet perhaps not the same inside: [a, a] is not [a, copy of a]
                        self._record(key, encoded.value, into=values)
                    continue
            changed[key] = encoded.value
            texts.append(f"{_quote(key)}:{encoded.text}")
        unset = [key for key in values if key not in data] if kept != len(values) else []
        if not changed and not unset:
            return None
        return Delta(changed, unset, "{" + ",".join(texts) + "}")

    def apply(self, set: Mapping[str, object], unset: Iterable[str]) -> None:
        """Make the changes of a record. Keys keep their place, new ones append; takes the values over."""
        for key in unset:
            self.values.pop(key, None)
            self._prints.pop(key, None)
            self._texts.pop(key, None)
        values, prints = self.values, self._prints
        for key, value in set.items():
            if type(value) in SCALARS:
                values[key] = value
                if key in prints:
                    del prints[key]
                    self._texts.pop(key, None)
            else:
                self._record(key, value, into=values)

    def restore(self) -> None:
        """Replace every container by a fresh copy of what was recorded.

        For after a failed or timed-out attempt: its handler may still hold the old ones, and change them.
        """
        for key, known in list(self._prints.items()):
            fresh = marshal.loads(known) if isinstance(known, bytes) else decode(known)  # noqa: S302 -- our own bytes
            self._record(key, fresh, into=self.values)

    def _record(self, key: str, value: Any, into: dict[str, object] | None = None) -> None:
        if into is not None:
            into[key] = value
        if type(value) in SCALARS:
            self._prints.pop(key, None)
            self._texts.pop(key, None)
            return
        fresh = self._fresh.get(key)
        text = fresh.text if fresh is not None and fresh.value is value else None
        if text is not None and '"$' not in text:  # plain JSON: marshal knows it, and there are no bytes in it
            self._prints[key], self._texts[key] = marshal.dumps(value, 4), text
            return
        self._texts.pop(key, None)
        try:
            known = marshal.dumps(value, 4)
        except ValueError:
            known = b""
        if not known or ((b"s" in known or b"\xf3" in known) and _holds_bytes(value)):
            self._prints[key] = encode(value, f"ctx.data[{key!r}]").text
        else:
            self._prints[key] = known

    def _equals(self, key: str, old: object, new: Encoded) -> bool:
        text = self._texts.get(key)
        if text is not None:
            return text == new.text
        known = self._prints.get(key)
        if isinstance(known, str):
            return known == new.text
        if known is None:
            return encode(old, "recorded data").text == new.text
        new_value: Any = new.value
        try:
            return marshal.dumps(marshal.loads(known), 2) == marshal.dumps(new_value, 2)  # noqa: S302 -- our own bytes
        except ValueError:  # a foreign type has come in
            return False


def _not_a_key(key: object, step: str) -> Unserialisable:
    return Unserialisable(
        f'step "{step}": ctx.data has a key of type {type(key).__name__}; its keys have to be '
        'strings. Keep other keys one level down: ctx.data["name"] = {...}.'
    )


def _holds_bytes(value: Any) -> bool:
    """Whether bytes occur in it. Marshal writes a bytearray put in their place alike, so it cannot print these."""
    stack: list[Any] = [(value,)]
    while stack:
        parts = stack.pop()
        kinds = set(map(type, parts))  # of a long list nearly always one, and no container
        if bytes in kinds:
            return True
        if not kinds.isdisjoint(_CONTAINERS):
            stack += [part for part in parts if type(part) in _CONTAINERS]
            stack += [part.values() for part in parts if type(part) is dict]
    return False


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
