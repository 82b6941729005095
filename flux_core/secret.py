"""`Secret`, a reference to a secret that is held elsewhere, and the resolver that gets its value when a handler asks.

A reference may be stored wherever a value may; the value never is. This module must not keep a value, and no message
of it holds one: not even the text of what a resolver raises, which may quote what it has read.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError, SecretsNotConfigured, SecretUnavailable, StepFault, UnknownSecret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    Resolver = Callable[[str], str] | Mapping[str, str]

_LONGEST_NAME = 512


class Secret:
    """The name of a secret. Inputs, signals, outputs and `ctx.data` may hold it; `ctx.secret(...)` gets the value."""

    __slots__ = ("name",)

    name: str

    def __init__(self, name: str) -> None:
        """`name` is the resolver's word for it: 1 to 512 printable characters. `DefinitionError` for anything else."""
        given: object = name
        if not isinstance(given, str) or not given.isprintable() or not 0 < len(given) <= _LONGEST_NAME:
            what = f"a text of {len(given)}" if isinstance(given, str) else f"one of type {type(given).__name__}"
            message = (
                f"the name of a Secret is a str of 1 to {_LONGEST_NAME} printable characters, not {what}; give the "
                f"name that the resolver knows, and never the value"
            )
            raise DefinitionError(message)
        object.__setattr__(self, "name", str(name))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        message = "a Secret does not change; make another one"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self.name))

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self.name,)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """For pydantic: a field of this type takes references, and no text that could name any secret there is."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


class Secrets:
    """Asks the engine's resolver, each time anew: a value that was changed there is new here at once."""

    __slots__ = ("_resolve",)

    def __init__(self, resolver: Resolver | None = None) -> None:
        """`resolver`: a function from name to value, or a mapping. `DefinitionError` if it is neither."""
        ask: Any = resolver
        if not callable(resolver) and hasattr(resolver, "keys"):
            ask = getattr(resolver, "__getitem__", None)
        if ask is not None and not callable(ask):
            message = (
                f"secrets must be a function from a name to the value, such as os.environ.__getitem__, or a mapping; "
                f"got one of type {type(resolver).__name__}"
            )
            raise DefinitionError(message)
        self._resolve: Callable[[str], object] | None = ask

    def value(self, name: str, step: str | None) -> str:
        """The value of the secret `name`, for `step`.

        `SecretsNotConfigured` without a resolver or if it gives no text, `UnknownSecret` if it does not know the
        name, `SecretUnavailable` if it raises. A `StepFault` that it raises on purpose comes out as it is.
        """
        who = "a hook of the workflow" if step is None else f"step {step!r}"
        resolve = self._resolve
        if resolve is None:
            message = (
                f"{who} asked for {Secret(name)}, and the engine has no resolver; give it one, for example "
                f"FluxEngine(secrets=os.environ.__getitem__), then resume"
            )
            raise SecretsNotConfigured(message)
        try:
            value, raised = resolve(name), None
        except StepFault:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a resolver raises
            value, raised = None, "" if isinstance(error, KeyError) and error.args == (name,) else type(error).__name__
        # Outside of `except`: the error must not be in the new one's context. A lost connection to the secret
        # manager leaves no effect in doubt, and a logger that shows causes would show what the resolver had read.
        if raised:
            message = (
                f"{who} asked for {Secret(name)}, and the resolver raised {raised} (its text may hold the value and is "
                f"not shown; let the resolver log it); see that the resolver can reach what holds the secret"
            )
            raise SecretUnavailable(message)
        if value is None:
            message = f"{who} asked for {Secret(name)}, which the resolver does not know; add it there, then resume"
            raise UnknownSecret(message)
        if not isinstance(value, str):
            close = getattr(value, "close", None) if hasattr(value, "__await__") else None
            if close is not None:
                close()  # else Python warns that it was never awaited
            message = (
                f"{who} asked for {Secret(name)}, and the resolver gave no str but one of type {type(value).__name__}; "
                f"let it return the value as text, from a function that is not async"
            )
            raise SecretsNotConfigured(message)
        return str(value)
