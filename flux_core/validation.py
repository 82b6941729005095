"""What `.input(...)` accepts: a schema checks the raw input of `execute` and gives handlers their typed `ctx.input`.

A schema is a pydantic model, a dataclass, a msgspec.Struct, a TypedDict or a validating callable. The raw input is
what is stored and hashed (PROTOCOL rule 19); it is parsed again whenever the instance is loaded. This module must not
import pydantic or msgspec unless the user's class came from them, and keeps no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core.errors import DefinitionError, InputInvalid
from flux_core.hints import Hints, name_of, to_plain
from flux_core.registered import is_typed_dict, kind_of
from flux_core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the 10 ms that importing inspect takes
_ACCEPTED = "a pydantic model, a dataclass, a msgspec.Struct, a TypedDict, or a function that validates"


class Validator:
    """Checks the input of one workflow. `schema` is what the user gave to `.input(...)`."""

    __slots__ = ("schema",)

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def parse(self, raw: object) -> object:
        """Turn the stored input into what handlers see. Raises InputInvalid naming the fields that do not fit."""
        raise NotImplementedError

    def raw(self, value: object) -> object:
        """Turn what the caller passed (plain data or a built instance) into the plain tree that is stored.

        Raises InputInvalid if an instance cannot be turned into plain data and back without loss.
        """
        raise NotImplementedError

    def _invalid(self, problems: str) -> InputInvalid:
        return InputInvalid(f"the input does not fit {name_of(self.schema)}: {problems}")


def input_validator(schema: object) -> Validator | None:
    """The validator of a schema; None for None (any input is accepted as it is).

    Raises DefinitionError, saying what is accepted, for anything else.
    """
    if schema is None:
        return None
    if isinstance(schema, type):
        if is_typed_dict(schema):
            return _Typed(schema)
        match kind_of(schema):
            case "pydantic":
                return _Pydantic(schema, schema.model_validate, schema.model_validate_json)  # type: ignore[attr-defined]
            case "msgspec":
                return _Msgspec(schema)
            case "dataclass" if hasattr(schema, "__pydantic_validator__"):
                inner = schema.__pydantic_validator__
                return _Pydantic(schema, inner.validate_python, inner.validate_json)
            case "dataclass":
                return _Typed(schema)
            case _:
                raise DefinitionError(f".input({name_of(schema)}) is not possible: give {_ACCEPTED}.")
    if not callable(schema) or hasattr(schema, "__origin__") or hasattr(schema, "__supertype__"):
        raise DefinitionError(f".input({schema!r:.80}) is not possible: give {_ACCEPTED}.")
    if getattr(getattr(schema, "__code__", None), "co_flags", 0) & _COROUTINE:
        raise DefinitionError(
            f".input({name_of(schema)}) is an async function; make it a plain one, or validate in the first step."
        )
    return _Callable(schema)


class _Pydantic(Validator):
    """A pydantic model or pydantic dataclass."""

    __slots__ = ("_from_json", "_from_python")

    def __init__(self, schema: type, from_python: Callable[..., object], from_json: Callable[..., object]) -> None:
        super().__init__(schema)
        self._from_python = from_python
        self._from_json = from_json

    def parse(self, raw: object) -> object:
        try:
            return self._from_python(raw)
        except ValueError as error:
            # A strict model takes "2026-01-01" for a date in JSON only; and stored input is JSON.
            try:
                return self._from_json(_json(raw))
            except (TypeError, ValueError):
                raise self._invalid(_pydantic_problems(error)) from error

    def raw(self, value: object) -> object:
        if not isinstance(value, self.schema):
            return to_plain(value)
        try:
            plain: object = self.schema.__pydantic_serializer__.to_python(
                value, mode="json", by_alias=True, round_trip=True, warnings=False
            )
        except ValueError as error:
            raise self._invalid(f"{error}; pass a dict that the model accepts") from error
        again = self.parse(plain)
        for name in self.schema.__pydantic_fields__:
            if getattr(again, name) != getattr(value, name):
                raise self._invalid(
                    f"{name}: what the model dumps is read back differently (an alias, a secret or an excluded "
                    "field?), so it cannot be stored; pass a dict that the model accepts"
                )
        return plain


class _Msgspec(Validator):
    """A msgspec.Struct."""

    __slots__ = ()

    def parse(self, raw: object) -> object:
        import msgspec

        try:
            return msgspec.convert(raw, self.schema, str_keys=True)
        except msgspec.ValidationError as error:
            raise self._invalid(str(error).replace("$.", "").replace("`$`", "the top level")) from error

    def raw(self, value: object) -> object:
        import msgspec

        try:
            return to_plain(msgspec.to_builtins(value, str_keys=True, builtin_types=(Secret,)))
        except TypeError as error:
            raise self._invalid(f"{error}") from error


class _Typed(Validator):
    """A dataclass or a TypedDict, checked by its type hints."""

    __slots__ = ("_hints",)

    def __init__(self, schema: type) -> None:
        super().__init__(schema)
        self._hints = Hints(_nested)
        self._hints.check_schema(schema)

    def parse(self, raw: object) -> object:
        problems: list[str] = []
        parsed = self._hints.fit(self.schema, raw, "", problems)
        if problems:
            raise self._invalid("; ".join(problems))
        return parsed

    def raw(self, value: object) -> object:
        return to_plain(value)


class _Callable(Validator):
    """A function of the raw input: False or an exception refuses it, True or None takes it as it is."""

    __slots__ = ()

    def parse(self, raw: object) -> object:
        try:
            answer = self.schema(raw)
        except InputInvalid:
            raise
        except Exception as error:
            raise InputInvalid(
                f"the input was refused by {name_of(self.schema)}: {type(error).__name__}: {error}"
            ) from error
        if answer is False:
            raise InputInvalid(f"the input was refused by {name_of(self.schema)}: it returned False")
        return raw if answer is None or answer is True else answer

    def raw(self, value: object) -> object:
        return value


def _nested(cls: type) -> Validator | None:
    """The validator of a pydantic or msgspec class in a field; None for classes the hints know themselves."""
    if kind_of(cls) in ("pydantic", "msgspec") or (
        kind_of(cls) == "dataclass" and hasattr(cls, "__pydantic_validator__")
    ):
        return input_validator(cls)
    return None


def _json(raw: object) -> str:
    from json import dumps

    return dumps(raw)


def _pydantic_problems(error: Exception) -> str:
    list_errors = getattr(error, "errors", None)
    if list_errors is None:
        return str(error)
    problems = []
    for problem in list_errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(map(str, problem["loc"])) or "the whole"
        problems.append(f"{place}: {problem['msg']}")
    return "; ".join(problems)
