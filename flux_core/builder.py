"""Declaring a workflow: a builder that only collects, checks the whole once, and freezes it. It runs nothing.

`create_workflow(...)` returns the builder; `.build()`, or the first use by an engine, makes the definition. Messages
of `DefinitionError` say what to change.
"""

from __future__ import annotations

from flux_core.directives import FAIL, Directive, sleep, sleep_until, wait, wait_any
from flux_core.errors import DefinitionError
from flux_core.handlers import checked_handler
from flux_core.names import check_step_name, check_workflow_name
from flux_core.options import (
    checked_exceptions,
    checked_names,
    checked_on_unknown,
    checked_retries,
    checked_retry,
    checked_timeout,
    checked_workflow_timeout,
)
from flux_core.workflow import COMMIT, SLEEP, STEP, WAIT, Compensation, StepDefinition, WorkflowDefinition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from typing import Any, overload

    from flux_core.context import Context
    from flux_core.options import Duration, OnUnknown
    from flux_core.retry import RetryPolicy
    from flux_core.workflow import Handler


def compensation(
    handler: Handler,
    *,
    retries: int | None = None,
    timeout: Duration | None = None,
    on_unknown: OnUnknown = "retry",
    retry: RetryPolicy | None = None,
) -> Compensation:
    """A compensator with options. After an unknown outcome it re-runs with the same key unless `on_unknown` differs."""
    where = "compensation(...)"
    return Compensation(
        checked_handler(where, "the compensation", handler),
        checked_retries(where, retries),
        checked_timeout(where, timeout),
        checked_on_unknown(where, on_unknown),
        checked_retry(where, retry),
    )


class WorkflowBuilder:
    """Collects a workflow. Each call returns the builder; the definition is frozen at `.build()` or first use."""

    def __init__(
        self,
        name: str,
        version: str,
        retries: int | None,
        timeout: float | None,
        retry: RetryPolicy | None,
        types: tuple[type, ...],
        *,
        whole: float | None = None,
        patches: tuple[str, ...] = (),
    ) -> None:
        """`timeout` (an attempt) and `whole` (the instance) are seconds."""
        self.name = name
        self._version = version
        self._retries = retries
        self._timeout = timeout
        self._whole = whole
        self._patches = patches
        self._retry = retry
        self._types = types
        self._schema: object = None
        self._steps: list[StepDefinition] = []
        self._names: set[str] = set()
        self._undecorated: list[str] = []
        """Steps declared without a handler that have not met theirs yet."""
        self._built: WorkflowDefinition | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}: {' > '.join(step.name for step in self._steps) or 'no steps'}>"

    def input(self, schema: object) -> WorkflowBuilder:
        """What `execute` accepts: a pydantic model, dataclass, msgspec.Struct, TypedDict or a validating callable."""
        self._open("input")
        self._schema = schema
        return self

    def data(self, model: type) -> WorkflowBuilder:
        """The type of `ctx.data`, so that its values may be of the model's own registered types."""
        self._open("data")
        if not isinstance(model, type):
            message = f"workflow {self.name!r}: .data(...) takes a class, such as a TypedDict or a model; got {model!r}"
            raise DefinitionError(message)
        self._types = (*self._types, model)
        return self

    if TYPE_CHECKING:

        @overload
        def step(self, name: Handler) -> Handler: ...
        @overload
        def step(self, name: str, handler: Handler, **options: Any) -> WorkflowBuilder: ...
        @overload
        def step(self, name: str, handler: None = None, **options: Any) -> Callable[[Handler], Handler]: ...

    def step(self, name: str | Handler, handler: Handler | None = None, **options: Any) -> Any:
        """Add a step: `.step("name", handler, **options)`, or as decorator `@w.step` and `@w.step("name", ...)`.

        Options: `retries` (further attempts), `timeout` (seconds or timedelta an attempt), `when` (condition, `def`
        or `async def`), `compensate` (function or `compensation(...)`), `give_up_on` (exception types not retried),
        `retry` (`RetryPolicy`), `aliases` (names that the step had in earlier definitions, for running instances).
        """
        return self._add(name, handler, kind=STEP, options=options)

    if TYPE_CHECKING:

        @overload
        def commit(self, name: Handler) -> Handler: ...
        @overload
        def commit(self, name: str, handler: Handler, **options: Any) -> WorkflowBuilder: ...
        @overload
        def commit(self, name: str, handler: None = None, **options: Any) -> Callable[[Handler], Handler]: ...

    def commit(self, name: str | Handler, handler: Handler | None = None, **options: Any) -> Any:
        """Add a step with a side effect: its intent is durable before it runs, its success is never run again.

        Options as for `step`, and `idempotent` (True: an attempt of unknown outcome is simply retried with the same
        `ctx.idempotency_key`) and `on_unknown`: `verify(probe)`, "retry" or "quarantine" (PROTOCOL rule 9).
        """
        return self._add(name, handler, kind=COMMIT, options=options)

    def wait(
        self,
        name: str,
        signal: str,
        timeout: Duration | None = None,
        on_timeout: object = FAIL,
        **options: Any,
    ) -> WorkflowBuilder:
        """Add a node that waits for `signal`; its output is the payload. `timeout` and `on_timeout` as for `wait()`.

        Options: `when`, `aliases`, `compensate`.
        """
        return self._pause(WAIT, name, lambda: wait(signal, timeout, on_timeout), options)

    def wait_any(
        self,
        name: str,
        signals: tuple[str, ...] | list[str],
        timeout: Duration | None = None,
        on_timeout: object = FAIL,
        **options: Any,
    ) -> WorkflowBuilder:
        """Like `.wait`, for whichever of several signals comes first."""
        return self._pause(WAIT, name, lambda: wait_any(signals, timeout, on_timeout), options)

    def sleep(self, name: str, duration: Duration | Callable[[Context], Duration], **options: Any) -> WorkflowBuilder:
        """Add a node that lets time pass: seconds, timedelta, or a function of the context that tells them.

        Nothing runs meanwhile. Options: `when`, `aliases`.
        """
        if callable(duration):
            return self._asked(name, duration, sleep, options)
        return self._pause(SLEEP, name, lambda: sleep(duration), options)

    def sleep_until(self, name: str, time: datetime | Callable[[Context], datetime], **options: Any) -> WorkflowBuilder:
        """Add a node that lasts until `time`, which carries a time zone, or a function of the context that tells it."""
        if callable(time):
            return self._asked(name, time, sleep_until, options)
        return self._pause(SLEEP, name, lambda: sleep_until(time), options)

    def _pause(self, kind: str, name: str, make: Callable[[], Directive], options: dict[str, Any]) -> WorkflowBuilder:
        """A node that always returns the same directive."""
        try:
            directive = make()
        except DefinitionError as error:
            message = f"workflow {self.name!r}, {kind} {name!r}: {error}"
            raise DefinitionError(message) from None
        return self._node(kind, name, lambda _ctx: directive, options)

    def _asked(
        self, name: str, told: Callable[[Context], Any], made: Callable[[Any], Directive], options: dict[str, Any]
    ) -> WorkflowBuilder:
        """A node that asks the user's function, `def` or `async def`, how long to sleep."""
        checked_handler(f"workflow {self.name!r}, {SLEEP} {name!r}", "the time", told)

        def handler(ctx: Context) -> object:
            answer = told(ctx)
            return later(answer) if hasattr(answer, "__await__") else made(answer)

        async def later(answer: Any) -> object:
            return made(await answer)

        return self._node(SLEEP, name, handler, options)

    def _node(self, kind: str, name: str, handler: Handler, options: dict[str, Any]) -> WorkflowBuilder:
        """A node whose handler is ours."""
        for option in options:
            if option not in _PAUSE_OPTIONS:
                message = (
                    f"workflow {self.name!r}, {kind} {name!r}: there is no option {option!r}; the options are "
                    f"{', '.join(_PAUSE_OPTIONS)}"
                )
                raise DefinitionError(message)
        self._append(name, handler, kind=kind, options=options)
        return self

    def build(self) -> WorkflowDefinition:
        """Check and freeze; the same definition every time. `DefinitionError` says what to change."""
        if self._built is None:
            if self._undecorated:
                message = (
                    f"workflow {self.name!r}: step {self._undecorated[0]!r} has no handler: pass one, "
                    f".step(name, handler), or put the call as a decorator over a function"
                )
                raise DefinitionError(message)
            if not self._steps:
                message = f"workflow {self.name!r} has no steps: add at least one with .step(name, handler)"
                raise DefinitionError(message)
            self._built = self._freeze()
        return self._built

    def describe(self) -> dict[str, Any]:
        """The definition as plain data (see `WorkflowDefinition.describe`)."""
        return self.build().describe()

    def _freeze(self) -> WorkflowDefinition:
        from flux_core.registered import register_type
        from flux_core.validation import input_validator, types_of

        validator = None if self._schema is None else input_validator(self._schema)
        types: list[type] = []
        for model in (*(() if self._schema is None else (self._schema,)), *self._types):
            types += (found for found in types_of(model) if found not in types)
        for model in types:
            register_type(model)
        self._check_aliases()
        return WorkflowDefinition(
            self.name,
            self._version,
            tuple(self._steps),
            validator,
            tuple(types),
            timeout=self._whole,
            patches=self._patches,
        )

    def _check_aliases(self) -> None:
        owners: dict[str, str] = {}
        for step in self._steps:
            for alias in step.aliases:
                other = alias if alias in self._names else owners.setdefault(alias, step.name)
                if other != step.name or alias == step.name:
                    message = (
                        f"workflow {self.name!r}, step {step.name!r}: the alias {alias!r} is also the step {other!r}; "
                        f"an alias is a name that no step has any more, and belongs to one step"
                    )
                    raise DefinitionError(message)

    def _add(self, name: str | Handler, handler: Handler | None, *, kind: str, options: dict[str, Any]) -> Any:
        if callable(name):
            self._append(str(getattr(name, "__name__", "")), name, kind=kind, options=options)
            return name
        if handler is not None:
            self._append(name, handler, kind=kind, options=options)
            return self

        self._open(f"{kind} {name!r}")
        self._undecorated.append(name)

        def decorate(function: Handler) -> Handler:
            self._append(name, function, kind=kind, options=options)
            self._undecorated.remove(name)
            return function

        return decorate

    def _append(self, name: str, handler: Handler, *, kind: str, options: dict[str, Any]) -> None:
        self._open(f"{kind} {name!r}")
        check_step_name(self.name, name)
        where = f"workflow {self.name!r}, {kind} {name!r}"
        if name in self._names:
            message = f"{where}: a step of that name exists already; names are unique in a workflow, so rename one"
            raise DefinitionError(message)
        checked_handler(where, "the handler", handler)
        checked = _checked_options(where, options, commit=kind == COMMIT)
        if checked["retries"] is None:
            checked["retries"] = self._retries
        if checked["timeout"] is None:
            checked["timeout"] = self._timeout
        checked["retry"] = checked["retry"] or self._retry
        self._names.add(name)
        self._steps.append(StepDefinition(name, handler, kind=kind, index=len(self._steps), **checked))

    def _open(self, what: str) -> None:
        if self._built is not None:
            message = f"workflow {self.name!r} is frozen since its first use; declare {what} before that"
            raise DefinitionError(message)


def create_workflow(
    name: str,
    *,
    version: str = "1",
    timeout: Duration | None = None,
    retries: int | None = None,
    step_timeout: Duration | None = None,
    retry: RetryPolicy | None = None,
    types: Iterable[type] = (),
    patches: Iterable[str] = (),
) -> WorkflowBuilder:
    """Start declaring a workflow.

    `version` is yours, kept with every instance. `timeout` (seconds or timedelta) bounds the whole: an instance that
    has not ended by then notices at its next checkpoint or timer, is undone and fails with `WorkflowTimeout`; a retry
    gives it the same time again, and an instance keeps the limit that it was started with. `retries`, `step_timeout`
    (seconds or timedelta an attempt) and `retry` are defaults for its steps. `types` are dataclasses, models or enums
    that may be stored in `ctx.data` and outputs; those of `.input(...)` and `.data(...)` are known already. `patches`
    are names for `ctx.patch(name)`: true in instances that were started since the name was declared here.
    """
    check_workflow_name(name)
    where = f"workflow {name!r}"
    if type(version) is not str or not version:
        message = f'{where}: version must be a non-empty string such as "1"; got {version!r}'
        raise DefinitionError(message)
    checked = checked_retry(where, retry)
    return WorkflowBuilder(
        name,
        version,
        checked_retries(where, retries),
        checked_timeout(where, step_timeout, "step_timeout"),
        checked,
        tuple(types),
        whole=checked_workflow_timeout(where, timeout),
        patches=checked_names(where, "patches", patches),
    )


_OPTIONS = ("retries", "timeout", "when", "compensate", "give_up_on", "retry", "aliases")
_PAUSE_OPTIONS = ("when", "aliases", "compensate")
_COMMIT_OPTIONS = (*_OPTIONS, "idempotent", "on_unknown")


def _checked_options(where: str, options: dict[str, Any], *, commit: bool) -> dict[str, Any]:
    known = _COMMIT_OPTIONS if commit else _OPTIONS
    for option in options:
        if option not in known:
            hint = "; only a commit has it, so declare it with .commit(...)" if option in _COMMIT_OPTIONS else ""
            message = f"{where}: there is no option {option!r}{hint}; the options are {', '.join(known)}"
            raise DefinitionError(message)
    when = options.get("when")
    if when is not None:
        checked_handler(where, "when", when)
    undo = options.get("compensate")
    if undo is not None and not isinstance(undo, Compensation):
        undo = compensation(checked_handler(where, "compensate", undo))
    checked: dict[str, Any] = {
        "retries": checked_retries(where, options.get("retries")),
        "timeout": checked_timeout(where, options.get("timeout")),
        "when": when,
        "compensate": undo,
        "give_up_on": checked_exceptions(where, options.get("give_up_on", ())),
        "retry": checked_retry(where, options.get("retry")),
        "aliases": checked_names(where, "aliases", options.get("aliases", ())),
    }
    if commit:
        idempotent = options.get("idempotent", False)
        if not isinstance(idempotent, bool):
            message = f"{where}: idempotent must be True or False; got {idempotent!r}"
            raise DefinitionError(message)
        default = "retry" if idempotent else "quarantine"
        checked["on_unknown"] = checked_on_unknown(where, options.get("on_unknown", default))
    return checked
