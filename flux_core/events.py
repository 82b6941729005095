"""What happened, in the past tense: the inputs of `machine.decide`. They are values without behaviour."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from flux_core.data import Delta
    from flux_core.directives import Directive
    from flux_core.ports import Mail
    from flux_core.records import Record
    from flux_core.state import ErrorInfo, Lease


class Advanced:
    """The records of the last decision are durable, and the question is what comes next."""

    __slots__ = ()


ADVANCED: Final = Advanced()


class WokenUp:
    """Somebody ticked the instance: a timer, a signal, a sweeper, an operator."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        self.lease = lease


class StepSucceeded:
    """A handler (or, with `undo`, a compensator) returned."""

    __slots__ = ("attempt", "commit", "delta", "directive", "output", "output_text", "path", "run_ms", "undo")

    def __init__(
        self,
        path: str,
        attempt: int,
        run_ms: float,
        output: object,
        output_text: str | None,
        delta: Delta | None,
        directive: Directive | None = None,
        *,
        undo: bool = False,
        commit: bool = False,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.run_ms = run_ms
        self.output = output
        self.output_text = output_text
        self.delta = delta
        self.directive = directive
        self.undo = undo
        self.commit = commit
        """With a directive: the effect has been made although the step goes on waiting."""


class StepFailed:
    """An attempt raised, timed out or produced what cannot be stored."""

    __slots__ = ("attempt", "cut", "error", "jitter", "path", "remaining", "retryable", "run_ms", "undo", "unknown")

    def __init__(
        self,
        path: str,
        attempt: int,
        run_ms: float,
        error: ErrorInfo,
        jitter: float,
        remaining: float | None,
        *,
        retryable: bool,
        unknown: bool,
        cut: bool = False,
        undo: bool = False,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.run_ms = run_ms
        self.error = error
        self.jitter = jitter
        self.remaining = remaining
        """Seconds a back-off may still be slept in this invocation; None without a limit."""
        self.cut = cut
        """The invocation's deadline ended the attempt, not the step's own time limit."""
        self.retryable = retryable
        self.unknown = unknown
        """The effect may have happened (PROTOCOL rule 9). Only asked of commits and compensations."""
        self.undo = undo


class StepSkipped:
    """The step's condition did not hold."""

    __slots__ = ("path", "run_ms")

    def __init__(self, path: str, run_ms: float) -> None:
        self.path = path
        self.run_ms = run_ms


class Decided:
    """A branch's condition or selector, or a loop's condition or number, has answered."""

    __slots__ = ("attempt", "choice", "path", "run_ms")

    def __init__(self, path: str, attempt: int, run_ms: float, choice: str | int) -> None:
        self.path = path
        self.attempt = attempt
        self.run_ms = run_ms
        self.choice = choice
        """The case (`then`, `else`), the number of iterations, or whether there is another one."""


class ConditionHeld:
    """A commit's condition held: its intent may be written."""

    __slots__ = ("attempt", "path")

    def __init__(self, path: str, attempt: int) -> None:
        self.path = path
        self.attempt = attempt


class Probed:
    """A probe answered. `verdict` is `done`, `not_done` or `unknown`."""

    __slots__ = (
        "attempt",
        "delta",
        "error",
        "jitter",
        "output",
        "output_text",
        "path",
        "remaining",
        "retryable",
        "undo",
        "verdict",
    )

    def __init__(
        self,
        path: str,
        attempt: int,
        verdict: str,
        jitter: float,
        remaining: float | None,
        error: ErrorInfo,
        output: object = None,
        output_text: str | None = None,
        delta: Delta | None = None,
        *,
        retryable: bool = True,
        undo: bool = False,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.verdict = verdict
        self.jitter = jitter
        self.remaining = remaining
        self.error = error
        """What made the outcome unknown."""
        self.output = output
        self.output_text = output_text
        self.delta = delta
        self.retryable = retryable
        self.undo = undo


class BackedOff:
    """The pause before the next attempt is over."""

    __slots__ = ("attempt", "error", "path", "undo", "unresolved")

    def __init__(self, path: str, attempt: int, error: ErrorInfo, *, undo: bool, unresolved: bool) -> None:
        self.path = path
        self.attempt = attempt
        """The attempt to come."""
        self.error = error
        """How the attempt before it ended."""
        self.undo = undo
        self.unresolved = unresolved


class MailRead:
    """The mailbox as it is. `resting`: the instance is not owned (a tick, or the second read after `susp`)."""

    __slots__ = ("due", "lease", "mails", "resting")

    def __init__(
        self, mails: Sequence[tuple[Mail, object]], lease: Lease, *, resting: bool, due: int | None = None
    ) -> None:
        self.mails = mails
        """Each with its decoded payload, ordered by sender time, then id; of each awaited name at least the first."""
        self.lease = lease
        self.resting = resting
        self.due = due
        """The due entry as the reader knows it, if he does."""


class InputRejected:
    """The workflow's `.input(...)` no longer accepts the input that the instance was started with."""

    __slots__ = ("detail", "path")

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        self.detail = detail


class Interrupted:
    """A handler was ended by Ctrl-C or `sys.exit()`: this invocation ends, and knows it."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class TimeRanOut:
    """What is left of the invocation is too short for the next action (PROTOCOL rule 15)."""

    __slots__ = ("after",)

    def __init__(self, after: BackedOff | None = None) -> None:
        self.after = after
        """The pause that the next attempt would have followed."""


class DefinitionChanged:
    """A verb needs the instance to go on with a definition other than the one it has."""

    __slots__ = ()


class _Requested:
    """A verb that names no step: all there is to it is who asked for it, and why."""

    __slots__ = ("by", "why")

    def __init__(self, why: str | None, by: str | None) -> None:
        self.why = why
        self.by = by


class CancelRequested(_Requested):
    """The verb `cancel`."""

    __slots__ = ()


class PauseRequested(_Requested):
    """The verb `pause`."""

    __slots__ = ()


class UnpauseRequested(_Requested):
    """The verb `unpause`."""

    __slots__ = ()


class RetryRequested:
    """The verbs `retry_step` and `resume`. `log` is the whole log: earlier data is computed from it."""

    __slots__ = ("by", "data", "force", "log", "path", "why")

    def __init__(
        self,
        path: str,
        log: Sequence[Record],
        why: str | None = None,
        by: str | None = None,
        *,
        force: bool,
        data: dict[str, object] | None = None,
    ) -> None:
        self.path = path
        self.log = log
        self.why = why
        self.by = by
        self.force = force
        self.data = data
        """Keys that the operator sets on top of what the data was before the step."""


class StepResolved:
    """The verbs `complete_step` and `skip_step`."""

    __slots__ = ("by", "how", "log", "output", "path", "why")

    def __init__(
        self, path: str, how: str, output: object, by: str | None, why: str | None, log: Sequence[Record]
    ) -> None:
        self.path = path
        self.how = how
        self.output = output
        self.by = by
        self.why = why
        self.log = log


Event = (
    Advanced
    | WokenUp
    | StepSucceeded
    | StepFailed
    | StepSkipped
    | Decided
    | ConditionHeld
    | Probed
    | BackedOff
    | MailRead
    | InputRejected
    | Interrupted
    | TimeRanOut
    | DefinitionChanged
    | CancelRequested
    | PauseRequested
    | UnpauseRequested
    | RetryRequested
    | StepResolved
)
