"""What a test puts in the place of a handler: a value, an exception, a sequence of both, a function, or a duration.

A stub must not touch the workflow: the stage asks for it when the handler's turn comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_core.errors import DefinitionError, NonRetryable, StepTimeout
from flux_core.handlers import checked_handler
from flux_core.retry import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from flux_core.context import Context
    from flux_core.testing.clock import VirtualClock


class _Unset:
    def __repr__(self) -> str:
        return "<nothing>"


UNSET: Final = _Unset()
"""The value of an argument that was not given, where None would mean something."""


class Stub:
    """One stub. `play` does what it says for a call; `real` says that the real handler is called afterwards."""

    __slots__ = ("_calls", "_function", "_kind", "_sequence", "_takes", "_value", "_where", "real")

    def __init__(
        self,
        where: str,
        returns: object = UNSET,
        raises: BaseException | type[BaseException] | None = None,
        sequence: Iterable[object] | None = None,
        calls: Callable[[Context], object] | None = None,
        takes: float | timedelta | None = None,
    ) -> None:
        """`where` names it in messages. `DefinitionError` for none, or more than one, of the ways to answer."""
        given = [
            name
            for name, there in (
                ("returns", returns is not UNSET),
                ("raises", raises is not None),
                ("sequence", sequence is not None),
                ("calls", calls is not None),
            )
            if there
        ]
        if len(given) > 1 or (not given and takes is None):
            what = f"got {' and '.join(f'{name}=' for name in given)}" if given else "got none of them"
            message = f"{where}: a stub has one of returns=, raises=, sequence= and calls= (and perhaps takes=); {what}"
            raise DefinitionError(message)
        if raises is not None and not _is_exception(raises):
            message = f"{where}: raises= takes an exception or its class, such as TimeoutError('late'); got {raises!r}"
            raise DefinitionError(message)
        if isinstance(sequence, str | bytes | dict):
            message = f"{where}: sequence= takes a list with one entry an attempt; got {sequence!r}"
            raise DefinitionError(message)
        self._where = where
        self._kind = given[0] if given else "takes"
        self.real = not given
        self._value = raises if raises is not None else returns
        self._sequence = list(sequence or ())
        self._function = None if calls is None else checked_handler(where, "calls=", calls)
        self._takes = None if takes is None else seconds(takes, f"{where}: takes=")
        self._calls: dict[tuple[str, str], int] = {}

    def play(self, ctx: Context, clock: VirtualClock, faults: list[str]) -> object:
        """Answer one call. A sequence without another entry is noted in `faults`, and fails the step for good."""
        if self._takes is not None:
            left = ctx.remaining()
            if left is not None and self._takes > left:
                clock.advance(left)
                raise StepTimeout(
                    f"the attempt outlasted its time limit of {left:g} s (its stub takes {self._takes:g} s)"
                )
            clock.advance(self._takes)
        match self._kind:
            case "sequence":
                return _answer(self._next(ctx, faults))
            case "calls":
                return self._function(ctx)  # type: ignore[misc]  # there is one
            case "takes":
                return None
            case _:
                return _answer(self._value) if self._kind == "raises" else self._value

    def _next(self, ctx: Context, faults: list[str]) -> object:
        place = self._calls.get((ctx.workflow, ctx.id), 0)
        self._calls[ctx.workflow, ctx.id] = place + 1
        if place < len(self._sequence):
            return self._sequence[place]
        message = (
            f"{self._where}: its sequence has {len(self._sequence)} entries, and instance {ctx.id!r} asks for number "
            f"{place + 1} (attempt {ctx.attempt}); give it one entry for each attempt, or use returns= or raises="
        )
        faults.append(message)
        raise NonRetryable(message)


def _is_exception(value: object) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def _answer(value: object) -> object:
    """Raise an exception (or a class of them), return anything else."""
    if isinstance(value, BaseException):
        raise value.with_traceback(None)
    if isinstance(value, type) and issubclass(value, BaseException):
        raise value
    return value
