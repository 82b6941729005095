"""`NamedTuple` without importing `typing` or `collections`: start-up is what a function pays for.

It must not do more than `typing.NamedTuple` does; type checkers see that class itself.
"""

from __future__ import annotations

from _operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class NamedTuple(tuple):
        """A tuple whose fields, declared as class annotations, are attributes as well."""

        __slots__ = ()
        _fields = ()
        _defaults = None

        def __init_subclass__(cls) -> None:
            cls._fields = tuple(cls.__annotations__)
            cls._defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
            for index, name in enumerate(cls._fields):
                setattr(cls, name, property(itemgetter(index)))

        def __new__(cls, *values, **named):
            if len(values) != len(cls._fields) or named:
                values = cls._filled(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _filled(cls, values, named):
            known = dict(zip(cls._fields, values, strict=False))
            both = {**cls._defaults, **known, **named}
            if len(values) > len(cls._fields) or known.keys() & named.keys() or both.keys() != set(cls._fields):
                message = f"{cls.__name__} takes {', '.join(cls._fields)}; got {values!r} and {named!r}"
                raise TypeError(message)
            return tuple(both[name] for name in cls._fields)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **named):
            return type(self)(**{**dict(zip(self._fields, self, strict=True)), **named})

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self) -> str:
            shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({shown})"


__all__ = ["NamedTuple"]
