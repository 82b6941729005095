"""What to do next, in the imperative: the outputs of `machine.decide`. They are values without behaviour."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from flux_core.records import Record
    from flux_core.state import ErrorInfo
    from flux_core.workflow import StepDefinition


class Proceed:
    """Make the records durable, then ask again."""

    __slots__ = ()


class RunStep:
    """Call the step's handler (with `undo`, its compensator), condition first unless `held`."""

    __slots__ = ("attempt", "held", "step", "undo")

    def __init__(self, step: StepDefinition, attempt: int, *, undo: bool = False, held: bool = False) -> None:
        self.step = step
        self.attempt = attempt
        self.undo = undo
        self.held = held


class EvaluateCondition:
    """Call only the commit's condition: an intent may not be written for a step that is skipped."""

    __slots__ = ("attempt", "step")

    undo = False

    def __init__(self, step: StepDefinition, attempt: int) -> None:
        self.step = step
        self.attempt = attempt


class Probe:
    """Ask what became of an attempt of unknown outcome."""

    __slots__ = ("attempt", "error", "retryable", "step", "undo")

    def __init__(
        self, step: StepDefinition, attempt: int, error: ErrorInfo, *, undo: bool, retryable: bool = True
    ) -> None:
        self.step = step
        self.attempt = attempt
        self.error = error
        self.undo = undo
        self.retryable = retryable
        """Whether the attempt may be repeated if it turns out that it had no effect."""


class BackOff:
    """Sleep `seconds` inside the invocation before attempt number `attempt`."""

    __slots__ = ("attempt", "error", "path", "seconds", "undo", "unresolved")

    def __init__(
        self, path: str, attempt: int, seconds: float, error: ErrorInfo, *, undo: bool, unresolved: bool
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.seconds = seconds
        self.error = error
        self.undo = undo
        self.unresolved = unresolved


class Join:
    """Ask the merge functions of a parallel or map what becomes of the keys that several have written."""

    __slots__ = ("attempt", "step", "written")

    undo = False

    def __init__(self, step: StepDefinition, attempt: int, written: dict[str, list[object]]) -> None:
        self.step = step
        self.attempt = attempt
        self.written = written
        """By key, the values that were written, in the order of the branches or items."""


class StartChild:
    """Create the child that the state says was asked for, unless it is there already; before anything else happens."""

    __slots__ = ()


class CancelChildren:
    """Cancel the children that these steps wait for."""

    __slots__ = ("paths",)

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths


class TellParent:
    """The instance has ended: tell the one whose step waits for that."""

    __slots__ = ()


class Await:
    """Nothing new can begin while attempts are under way: wait for one to end, or until `until` (None: no longer)."""

    __slots__ = ("until",)

    def __init__(self, until: int | None = None) -> None:
        self.until = until
        """Milliseconds since the epoch."""


class ReadMail:
    """Read the mailbox. `resting`: the instance is not owned; its due entry is `due`, if that is known."""

    __slots__ = ("due", "idle", "resting")

    def __init__(self, *, resting: bool, due: int | None = None, idle: bool = True) -> None:
        self.resting = resting
        self.due = due
        self.idle = idle
        """Nothing can begin but what the mail brings."""


class Rest:
    """Nothing can run. The due entry (`due`, if that is known) becomes `then`, if nobody has moved it since."""

    __slots__ = ("due", "then")

    def __init__(self, due: int | None, then: int | None) -> None:
        self.due = due
        self.then = then


class HandOver:
    """Let another invocation go on."""

    __slots__ = ()


class Finish:
    """The instance has ended, or is stuck."""

    __slots__ = ()


class Ignore:
    """There is nothing to do for this invocation. `due` is when the instance needs a tick, if it does."""

    __slots__ = ("due", "why")

    def __init__(self, why: str, due: int | None) -> None:
        self.why = why
        self.due = due


PROCEED: Final = Proceed()
HAND_OVER: Final = HandOver()
FINISH: Final = Finish()

Call = RunStep | EvaluateCondition | Probe | Join
START_CHILD: Final = StartChild()
TELL_PARENT: Final = TellParent()

Kin = StartChild | CancelChildren | TellParent
Action = Proceed | Call | Kin | BackOff | Await | ReadMail | Rest | HandOver | Finish | Ignore


class Decision:
    """Records to make durable, in order, and the action to carry out after that."""

    __slots__ = ("abreast", "action", "records")

    def __init__(self, action: Action, *records: Record) -> None:
        self.records = records
        self.action = action
        self.abreast = False
        """Of a call: something else may be under way at the same time."""
