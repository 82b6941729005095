"""What can be a handler: told when a workflow is declared, not when the first order comes. It must not call one.

Also what it says of its types, as far as that costs nothing: `storable` looks closer.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_VARARGS, _GENERATOR, _ASYNC_GENERATOR = 0x04, 0x20, 0x200
"""Flags of a code object (the same as `inspect`'s, without its import)."""


def checked_handler(where: str, role: str, function: object) -> Any:
    """A function that takes the context; `DefinitionError` if it cannot be called so, as far as that can be seen."""
    if not callable(function):
        message = f"{where}: {role} must be a function that takes the context; got {function!r}"
        raise DefinitionError(message)
    code = getattr(function, "__code__", None)
    if code is None:
        return function
    bound = getattr(function, "__self__", None) is not None
    taken = code.co_argcount - bound
    required = taken - len(getattr(function, "__defaults__", None) or ())
    named = code.co_kwonlyargcount - len(getattr(function, "__kwdefaults__", None) or ())
    if required > 1 or named > 0 or (taken < 1 and not code.co_flags & _VARARGS):
        name = getattr(function, "__name__", "f")
        message = f"{where}: {role} must take the context and nothing else: def {name}(ctx)"
        raise DefinitionError(message)
    if code.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
        message = f"{where}: {role} must not be a generator: return the value, do not yield it"
        raise DefinitionError(message)
    return function


_PLAIN = frozenset({"Any", "Context", "None", "bool", "bytes", "dict", "float", "int", "list", "object", "str"})


def is_plain(hint: object) -> bool:
    """Whether an annotation, resolved or not, names nothing but a built-in type or the bare context."""
    if isinstance(hint, str):
        return hint in _PLAIN
    return hint is None or (type(hint) is type and hint.__module__ in {"builtins", "flux_core.context"})


_NONE: dict[str, Any] = {}


def annotations_of(function: Any) -> dict[str, Any]:
    """The annotations of a handler that say more than that, as they stand there; none for most handlers."""
    try:
        hints: dict[str, Any] = (function if hasattr(function, "__code__") else _with_code(function)).__annotations__
        return {name: hint for name, hint in hints.items() if not is_plain(hint)} if hints else _NONE
    except Exception:  # noqa: BLE001 -- from Python 3.14 on this look evaluates them, and no annotation breaks a definition
        return _NONE


def scope_of(function: object) -> tuple[dict[str, Any], dict[str, object]]:
    """The names that the annotations of a handler may use: of its module, and those it uses of functions around it."""
    inner: Any = _with_code(function)
    for _ in range(_MOST_WRAPPED):
        inner = getattr(inner, "__wrapped__", inner)
    inner = _with_code(inner)
    return getattr(inner, "__globals__", {}), dict(_free(inner))


_MOST_WRAPPED = 20


def _with_code(function: Any) -> Any:
    """The function that a method, a partial or an object with `__call__` comes down to; None if that is none."""
    for _ in range(_MOST_WRAPPED):
        if hasattr(function, "__code__"):
            return function
        partial = type(function).__module__ == "functools" and hasattr(function, "func")
        function = function.func if partial else getattr(type(function), "__call__", None)  # noqa: B004 -- the method
    return None


def _free(function: Any) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not defined yet
            continue
