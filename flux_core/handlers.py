"""What can be a handler: told when a workflow is declared, not when the first order comes. It must not call one."""

from __future__ import annotations

from flux_core.errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
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
