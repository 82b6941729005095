"""What a workflow is: its steps in order, frozen. It must not run anything, nor check what `builder` has checked."""

from __future__ import annotations

from flux_core.errors import UnknownStep
from flux_core.retry import RetryPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from flux_core.context import Context
    from flux_core.options import OnUnknown
    from flux_core.validation import Validator

    Handler = Callable[[Context], object]

STEP: Final = "step"
COMMIT: Final = "commit"
WAIT: Final = "wait"
SLEEP: Final = "sleep"
COMMITS: Final = "cC"
UNDOABLE: Final = "SCWZ"
"""Letters of `WorkflowDefinition.kinds`: `s` step, `c` commit, `w` wait, `z` sleep, upper case with a compensation."""
UNDO: Final = "~undo"
"""The suffix of a compensation's path (PROTOCOL, Idempotency key)."""


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


class StepDefinition:
    """One node of a definition. `path` names it within the instance; at the top level it is the name itself."""

    __slots__ = (
        "aliases",
        "commit",
        "compensate",
        "give_up_on",
        "handler",
        "index",
        "inline_backoff",
        "kind",
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
        kind: str = STEP,
        retries: int | None = None,
        timeout: float | None = None,
        when: Handler | None = None,
        compensate: Compensation | None = None,
        on_unknown: OnUnknown = "quarantine",
        give_up_on: tuple[type[BaseException], ...] = (),
        retry: RetryPolicy | None = None,
        index: int = -1,
        inline_backoff: float = 2.0,
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.path = name
        self.index = index
        self.handler = handler
        self.kind = kind
        """`step`, `commit`, `wait` or `sleep`; with the name, what the fingerprint is made of."""
        self.commit = kind == COMMIT
        self.retries = retries
        self.timeout = timeout
        self.when = when
        self.compensate = compensate
        self.on_unknown = on_unknown
        self.give_up_on = give_up_on
        self.retry = retry
        self.inline_backoff = inline_backoff
        self.aliases = aliases
        """Names that the step had in earlier definitions."""

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
            kind=self.kind,
            retries=defaults.retries if self.retries is None else self.retries,
            timeout=defaults.timeout if self.timeout is None else self.timeout,
            when=self.when,
            compensate=undo,
            on_unknown=self.on_unknown,
            give_up_on=self.give_up_on,
            retry=self.retry or defaults.retry,
            index=index,
            inline_backoff=defaults.inline_backoff,
            aliases=self.aliases,
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

    __slots__ = ("by_path", "fingerprint", "name", "patches", "steps", "timeout", "types", "validator", "version")

    def __init__(
        self,
        name: str,
        version: str,
        steps: tuple[StepDefinition, ...],
        validator: Validator | None = None,
        types: tuple[type, ...] = (),
        *,
        timeout: float | None = None,
        patches: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.steps = steps
        self.validator = validator
        self.types = types
        self.timeout = timeout
        """Seconds that an instance may take from its start (or retry) to its end; None without a limit."""
        self.patches = patches
        """Names that `ctx.patch` may ask for."""
        self.by_path = {step.path: step for step in steps}
        self.fingerprint = _fingerprint(steps)
        """A hash of [(name, kind)]: equal fingerprints can continue each other's instances."""

    @property
    def kinds(self) -> str:
        """A letter a step: what an instance keeps of a definition beside the names (see `machine.adoption`)."""
        return "".join(_letter(step) for step in self.steps)

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
        return WorkflowDefinition(
            self.name, self.version, steps, self.validator, self.types, timeout=self.timeout, patches=self.patches
        )

    def describe(self) -> dict[str, Any]:
        """The definition as plain data."""
        return {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "timeout": self.timeout,
            "patches": list(self.patches),
            "steps": [step.describe() for step in self.steps],
        }

    def build(self) -> WorkflowDefinition:
        """Itself, so that builders and definitions can be passed alike."""
        return self


def _fingerprint(steps: tuple[StepDefinition, ...]) -> str:
    from hashlib import sha256

    shape = "\n".join(f"{step.name} {step.kind}" for step in steps)
    return sha256(shape.encode()).hexdigest()[:16]


_LETTERS: Final = {STEP: "s", COMMIT: "c", WAIT: "w", SLEEP: "z"}


def _letter(step: StepDefinition) -> str:
    letter = _LETTERS[step.kind]
    return letter.upper() if step.compensate is not None else letter
