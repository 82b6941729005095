"""Whether a stored value is of the type that a test expects of it. It must not convert anything."""

from __future__ import annotations

import types
import typing
from typing import Any

from flux_core.hints import name_of, typed_dict_shape, unwrapped
from flux_core.registered import is_typed_dict


def misfit(hint: Any, value: object, path: str = "it") -> str | None:
    """Why `value` is not of the type `hint`, naming where; None if it is."""
    hint, _ = unwrapped(hint)
    if hint in (Any, object):
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or isinstance(hint, types.UnionType):
        fits = any(misfit(one, value, path) is None for one in arguments)
        return None if fits else _wrong(hint, value, path)
    if origin is typing.Literal:
        return None if value in arguments else _wrong(hint, value, path)
    if hint is None:
        return None if value is None else _wrong(hint, value, path)
    if is_typed_dict(hint):
        return _typed_dict(hint, value, path)
    cls = origin or hint
    if not isinstance(cls, type):
        return None
    if not isinstance(value, cls) or (isinstance(value, bool) and cls in (int, float)):
        return _wrong(hint, value, path)
    return _inside(cls, arguments, value, path)


def _inside(cls: type, arguments: tuple[Any, ...], value: Any, path: str) -> str | None:
    if not arguments:
        return None
    problems: typing.Iterable[str | None] = ()
    if issubclass(cls, dict):
        key, item = arguments
        problems = (
            misfit(key, k, f"the key {k!r} of {path}") or misfit(item, v, f"{path}[{k!r}]") for k, v in value.items()
        )
    elif issubclass(cls, tuple) and Ellipsis not in arguments:
        if len(arguments) != len(value):
            return f"{path} has {len(value)} items, not {len(arguments)}"
        problems = (misfit(hint, v, f"{path}[{n}]") for n, (hint, v) in enumerate(zip(arguments, value, strict=True)))
    elif issubclass(cls, list | tuple | set | frozenset):
        problems = (misfit(arguments[0], v, f"{path}[{n}]") for n, v in enumerate(value))
    return next((problem for problem in problems if problem is not None), None)


def _typed_dict(cls: Any, value: object, path: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(cls, value, path)
    shape = typed_dict_shape(cls)
    missing = sorted(shape.required - value.keys())
    if missing:
        return f"{path} has no {missing[0]!r}, which {cls.__name__} requires"
    for key, item in value.items():
        if key not in shape.hints:
            return f"{path} has {key!r}, which {cls.__name__} does not know"
        problem = misfit(shape.hints[key], item, f"{path}[{key!r}]")
        if problem is not None:
            return problem
    return None


def _wrong(hint: Any, value: object, path: str) -> str:
    return f"{path} is {value!r:.100}, which is of type {type(value).__name__}, not {name_of(hint)}"
