"""What type checkers are told beyond plain classes: type variables, kinds of handlers, the options of a step.

At run time it is one class, so that `Context[Order]` may stand in an annotation that is evaluated: `typing` costs more
than the rest of the core. It must not hold anything that runs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from typing import Any, Generic, TypedDict, final

    from typing_extensions import TypeVar

    from flux_core.context import Context
    from flux_core.directives import Directive
    from flux_core.options import Duration, OnUnknown
    from flux_core.retry import RetryPolicy
    from flux_core.workflow import Compensation

    Input = TypeVar("Input", default=Any)
    DataT = TypeVar("DataT", default=Any)
    Input_co = TypeVar("Input_co", default=Any, covariant=True)
    DataT_co = TypeVar("DataT_co", default=Any, covariant=True)
    Input_contra = TypeVar("Input_contra", default=Any, contravariant=True)
    DataT_contra = TypeVar("DataT_contra", default=Any, contravariant=True)
    Model = TypeVar("Model")
    Output = TypeVar("Output")

    Handler = Callable[[Context[Input, DataT]], object]
    Suspending = Callable[..., Awaitable[Directive] | Directive]
    """A handler whose output is what a signal brings."""
    Async = Callable[..., Coroutine[Any, Any, Output]]
    Plain = Callable[..., Output]

    @final
    class NoInput:
        """The input of a workflow that declares none: only such a workflow is executed without one."""

    class PauseOptions(TypedDict, Generic[Input, DataT], total=False):
        """The options of `.wait` and `.sleep`."""

        when: Handler[Input, DataT] | None
        compensate: Handler[Input, DataT] | Compensation[Input, DataT] | None
        aliases: Iterable[str]

    class StepOptions(PauseOptions[Input, DataT], total=False):
        """The options of `.step`."""

        retries: int | None
        timeout: Duration | None
        give_up_on: type[BaseException] | tuple[type[BaseException], ...] | list[type[BaseException]]
        retry: RetryPolicy | None

    class CommitOptions(StepOptions[Input, DataT], total=False):
        """The options of `.commit`."""

        idempotent: bool
        on_unknown: OnUnknown[Input, DataT]

else:
    Input = DataT = Input_co = DataT_co = Input_contra = DataT_contra = None

    class Generic:
        """A base that can be written with types in brackets, which change nothing."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))


__all__ = [
    "DataT",
    "DataT_co",
    "DataT_contra",
    "Generic",
    "Input",
    "Input_co",
    "Input_contra",
]
