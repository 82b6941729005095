"""What a workflow is: its steps in order, checked once and then frozen. It must not run anything.

`create_workflow(...)` returns a builder that only collects; `.build()`, or the first use by an engine, checks the
whole and freezes it. Messages of `DefinitionError` say what to change.
"""

from __future__ import annotations

from flux_core.directives import Verify
from flux_core.errors import DefinitionError, UnknownStep
from flux_core.names import check_step_name, check_workflow_name
from flux_core.retry import RetryPolicy, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any, Final, Literal, overload

    from flux_core.context import Context
    from flux_core.validation import Validator

    Handler = Callable[[Context], object]
    Duration = float | timedelta
    OnUnknown = Verify | Literal["retry", "quarantine"]

STEP: Final = "step"
COMMIT: Final = "commit"
UNDO: Final = "~undo"
"""The suffix of a compensation's path (PROTOCOL, Idempotency key)."""

_MOST_RETRIES = 1000


class Defaults:
    """What a step does not say for itself: the engine's settings, applied when a definition is bound to it."""

    __slots__ = ("inline_backoff", "retries", "retry", "timeout")

    def __init__(
        self,
        retries: int = 3,
        timeout: float | None = 30.0,
        retry: RetryPolicy | None = None,
        inline_backoff: float = 2.0,
    ) -> None:
        """`timeout` and `inline_backoff` (the longest back-off slept inside an invocation) are seconds."""
        self.retries = retries
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self.inline_backoff = inline_backoff


class Compensation:
    """How to undo a step, with limits of its own. `compensate=fn` is short for `compensate=compensation(fn)`."""

    __slots__ = ("handler", "on_unknown", "retries", "retry", "timeout")

    def __init__(
        self,
        handler: Handler,
        retries: int | None,
        timeout: float | None,
        on_unknown: OnUnknown,
        retry: RetryPolicy | None,
    ) -> None:
        self.handler = handler
        self.retries = retries
        self.timeout = timeout
        self.on_unknown = on_unknown
        self.retry = retry


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
    if not callable(handler):
        message = f"{where} needs a function that takes the context; got {handler!r}"
        raise DefinitionError(message)
    return Compensation(
        handler,
        _checked_retries(where, retries),
        checked_timeout(where, timeout),
        _checked_on_unknown(where, on_unknown),
        checked_retry(where, retry),
    )


class StepDefinition:
    """One node of a definition. `path` names it within the instance; at the top level it is the name itself."""

    __slots__ = (
        "commit",
        "compensate",
        "give_up_on",
        "handler",
        "index",
        "inline_backoff",
        "name",
        "on_unknown",
        "path",
        "retries",
        "retry",
        "timeout",
        "when",
    )

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        commit: bool = False,
        retries: int | None = None,
        timeout: float | None = None,
        when: Handler | None = None,
        compensate: Compensation | None = None,
        on_unknown: OnUnknown = "quarantine",
        give_up_on: tuple[type[BaseException], ...] = (),
        retry: RetryPolicy | None = None,
        index: int = -1,
        inline_backoff: float = 2.0,
    ) -> None:
        self.name = name
        self.path = name
        self.index = index
        self.handler = handler
        self.commit = commit
        self.retries = retries
        self.timeout = timeout
        self.when = when
        self.compensate = compensate
        self.on_unknown = on_unknown
        self.give_up_on = give_up_on
        self.retry = retry
        self.inline_backoff = inline_backoff

    @property
    def kind(self) -> str:
        """`step` or `commit`; with the name, what the fingerprint is made of."""
        return COMMIT if self.commit else STEP

    def bound(self, defaults: Defaults, index: int) -> StepDefinition:
        """A copy in which every option has a value."""
        undo = self.compensate
        if undo is not None:
            undo = Compensation(
                undo.handler,
                defaults.retries if undo.retries is None else undo.retries,
                defaults.timeout if undo.timeout is None else undo.timeout,
                undo.on_unknown,
                undo.retry or defaults.retry,
            )
        return StepDefinition(
            self.name,
            self.handler,
            commit=self.commit,
            retries=defaults.retries if self.retries is None else self.retries,
            timeout=defaults.timeout if self.timeout is None else self.timeout,
            when=self.when,
            compensate=undo,
            on_unknown=self.on_unknown,
            give_up_on=self.give_up_on,
            retry=self.retry or defaults.retry,
            index=index,
            inline_backoff=defaults.inline_backoff,
        )

    def time_limit(self, *, undo: bool) -> float | None:
        """Seconds that an attempt of the step, or of its compensation, may take; None without a limit."""
        return self.compensate.timeout if undo and self.compensate is not None else self.timeout

    def describe(self) -> dict[str, Any]:
        """The node as plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "commit": self.commit,
            "retries": self.retries,
            "timeout": self.timeout,
            "has_condition": self.when is not None,
            "has_compensation": self.compensate is not None,
        }


class WorkflowDefinition:
    """A frozen workflow. Engines bind it to their defaults; everybody else reads it."""

    __slots__ = ("_fingerprint", "by_path", "name", "steps", "types", "validator", "version")

    def __init__(
        self,
        name: str,
        version: str,
        steps: tuple[StepDefinition, ...],
        validator: Validator | None = None,
        types: tuple[type, ...] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.steps = steps
        self.validator = validator
        self.types = types
        self.by_path = {step.path: step for step in steps}
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """A hash of [(name, kind)]: equal fingerprints can continue each other's instances."""
        if self._fingerprint is None:
            from hashlib import sha256

            shape = "\n".join(f"{step.name} {step.kind}" for step in self.steps)
            self._fingerprint = sha256(shape.encode()).hexdigest()[:16]
        return self._fingerprint

    def step(self, name: str) -> StepDefinition:
        """The step of that name, or `UnknownStep` listing those there are."""
        found = self.by_path.get(name)
        if found is None:
            message = f"workflow {self.name!r} has no step {name!r}; its steps are {', '.join(self.by_path)}"
            raise UnknownStep(message)
        return found

    def bound(self, defaults: Defaults) -> WorkflowDefinition:
        """A copy in which every step has its retries, timeout and back-off, from itself or from `defaults`."""
        steps = tuple(step.bound(defaults, index) for index, step in enumerate(self.steps))
        return WorkflowDefinition(self.name, self.version, steps, self.validator, self.types)

    def describe(self) -> dict[str, Any]:
        """The definition as plain data."""
        return {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "steps": [step.describe() for step in self.steps],
        }

    def build(self) -> WorkflowDefinition:
        """Itself, so that builders and definitions can be passed alike."""
        return self


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
    ) -> None:
        self.name = name
        self._version = version
        self._retries = retries
        self._timeout = timeout
        self._retry = retry
        self._types = types
        self._schema: object = None
        self._steps: list[StepDefinition] = []
        self._names: set[str] = set()
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
        `retry` (`RetryPolicy`).
        """
        return self._add(name, handler, commit=False, options=options)

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
        return self._add(name, handler, commit=True, options=options)

    def build(self) -> WorkflowDefinition:
        """Check and freeze; the same definition every time. `DefinitionError` says what to change."""
        if self._built is None:
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
        return WorkflowDefinition(self.name, self._version, tuple(self._steps), validator, tuple(types))

    def _add(self, name: str | Handler, handler: Handler | None, *, commit: bool, options: dict[str, Any]) -> Any:
        if callable(name):
            self._append(str(getattr(name, "__name__", "")), name, commit=commit, options=options)
            return name
        if handler is not None:
            self._append(name, handler, commit=commit, options=options)
            return self

        def decorate(function: Handler) -> Handler:
            self._append(name, function, commit=commit, options=options)
            return function

        return decorate

    def _append(self, name: str, handler: Handler, *, commit: bool, options: dict[str, Any]) -> None:
        verb = COMMIT if commit else STEP
        self._open(f"{verb} {name!r}")
        check_step_name(self.name, name)
        where = f"workflow {self.name!r}, {verb} {name!r}"
        if name in self._names:
            message = f"{where}: a step of that name exists already; names are unique in a workflow, so rename one"
            raise DefinitionError(message)
        if not callable(handler):
            message = f"{where}: the handler must be a function that takes the context; got {handler!r}"
            raise DefinitionError(message)
        checked = _checked_options(where, options, commit=commit)
        if checked["retries"] is None:
            checked["retries"] = self._retries
        if checked["timeout"] is None:
            checked["timeout"] = self._timeout
        checked["retry"] = checked["retry"] or self._retry
        self._names.add(name)
        self._steps.append(StepDefinition(name, handler, commit=commit, index=len(self._steps), **checked))

    def _open(self, what: str) -> None:
        if self._built is not None:
            message = f"workflow {self.name!r} is frozen since its first use; declare {what} before that"
            raise DefinitionError(message)


def create_workflow(
    name: str,
    *,
    version: str = "1",
    retries: int | None = None,
    step_timeout: Duration | None = None,
    retry: RetryPolicy | None = None,
    types: Iterable[type] = (),
) -> WorkflowBuilder:
    """Start declaring a workflow.

    `version` is yours, kept with every instance. `retries`, `step_timeout` (seconds or timedelta an attempt) and
    `retry` are defaults for its steps. `types` are dataclasses, models or enums that may be stored in `ctx.data` and
    outputs; those of `.input(...)` and `.data(...)` are known already.
    """
    check_workflow_name(name)
    where = f"workflow {name!r}"
    if type(version) is not str or not version:
        message = f'{where}: version must be a non-empty string such as "1"; got {version!r}'
        raise DefinitionError(message)
    checked = checked_retry(where, retry)
    return WorkflowBuilder(
        name, version, _checked_retries(where, retries), checked_timeout(where, step_timeout), checked, tuple(types)
    )


_OPTIONS = ("retries", "timeout", "when", "compensate", "give_up_on", "retry")
_COMMIT_OPTIONS = (*_OPTIONS, "idempotent", "on_unknown")


def _checked_options(where: str, options: dict[str, Any], *, commit: bool) -> dict[str, Any]:
    known = _COMMIT_OPTIONS if commit else _OPTIONS
    for option in options:
        if option not in known:
            hint = "; only a commit has it, so declare it with .commit(...)" if option in _COMMIT_OPTIONS else ""
            message = f"{where}: there is no option {option!r}{hint}; the options are {', '.join(known)}"
            raise DefinitionError(message)
    when = options.get("when")
    if when is not None and not callable(when):
        message = f"{where}: when must be a function that takes the context; got {when!r}"
        raise DefinitionError(message)
    undo = options.get("compensate")
    if undo is not None and not isinstance(undo, Compensation):
        if not callable(undo):
            message = f"{where}: compensate must be a function that takes the context, or compensation(...)"
            raise DefinitionError(message)
        undo = compensation(undo)
    checked: dict[str, Any] = {
        "retries": _checked_retries(where, options.get("retries")),
        "timeout": checked_timeout(where, options.get("timeout")),
        "when": when,
        "compensate": undo,
        "give_up_on": _checked_exceptions(where, options.get("give_up_on", ())),
        "retry": checked_retry(where, options.get("retry")),
    }
    if commit:
        idempotent = options.get("idempotent", False)
        if not isinstance(idempotent, bool):
            message = f"{where}: idempotent must be True or False; got {idempotent!r}"
            raise DefinitionError(message)
        default = "retry" if idempotent else "quarantine"
        checked["on_unknown"] = _checked_on_unknown(where, options.get("on_unknown", default))
    return checked


def _checked_retries(where: str, retries: object) -> int | None:
    if retries is None:
        return None
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
        message = f"{where}: retries must be a whole number from 0 to {_MOST_RETRIES}; got {retries!r}"
        raise DefinitionError(message)
    return retries


def checked_timeout(where: str, timeout: Duration | None) -> float | None:
    """The time limit of an attempt in seconds, None for none; `DefinitionError` for one that no platform can keep."""
    if timeout is None:
        return None
    limit = seconds(timeout, f"{where}: timeout")
    if limit <= 0:
        message = f"{where}: timeout must be more than 0 seconds; leave it out for the engine's default"
        raise DefinitionError(message)
    if limit > LONGEST_STEP:
        message = (
            f"{where}: no platform lets a function run for {limit:.0f} s (the longest is {LONGEST_STEP:.0f} s); "
            f"split the step, or return wait(...) or sleep(...) and let the instance be suspended meanwhile"
        )
        raise DefinitionError(message)
    return limit


LONGEST_STEP = 3600.0
"""Seconds: the longest a function runs on any of the three clouds (Cloud Run functions over HTTP: 60 minutes)."""


def _checked_on_unknown(where: str, on_unknown: object) -> OnUnknown:
    if isinstance(on_unknown, Verify) or on_unknown == "retry" or on_unknown == "quarantine":  # noqa: PLR1714 -- mypy narrows literals only so
        return on_unknown
    message = f'{where}: on_unknown must be verify(probe), "retry" or "quarantine"; got {on_unknown!r}'
    raise DefinitionError(message)


def _checked_exceptions(where: str, types: object) -> tuple[type[BaseException], ...]:
    listed = types if isinstance(types, tuple | list) else (types,)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            message = f"{where}: give_up_on must name exception types; got {kind!r}"
            raise DefinitionError(message)
    return tuple(listed)


def checked_retry(where: str, retry: object) -> RetryPolicy | None:
    """`retry`, or `DefinitionError` if it is no policy."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    message = f"{where}: retry must be a RetryPolicy(...); got {retry!r}"
    raise DefinitionError(message)
