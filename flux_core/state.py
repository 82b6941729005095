"""What is known of one instance after folding its log. It holds values; it must not contain a rule.

Times are milliseconds since the epoch. `machine.evolve` is the only writer.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any, Final

PENDING: Final = "pending"
RUNNING: Final = "running"
PAUSED: Final = "paused"
SUSPENDED: Final = "suspended"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
ROLLING_BACK: Final = "rolling_back"
ROLLED_BACK: Final = "rolled_back"
CANCELLED: Final = "cancelled"
STUCK: Final = "stuck"
BLOCKED: Final = "blocked"
SKIPPED: Final = "skipped"
COMPENSATING: Final = "compensating"
COMPENSATED: Final = "compensated"
COMPENSATION_FAILED: Final = "compensation_failed"

STATUSES: Final = (
    PENDING,
    RUNNING,
    PAUSED,
    SUSPENDED,
    COMPLETED,
    FAILED,
    ROLLING_BACK,
    ROLLED_BACK,
    CANCELLED,
    STUCK,
    BLOCKED,
)
TERMINAL: Final = frozenset({COMPLETED, FAILED, ROLLED_BACK, CANCELLED})
"""Nothing runs any more; only retry (and complete or skip of a failed step) opens the instance again."""


DONE: Final = frozenset({COMPLETED, SKIPPED})
"""Of a step: its turn is over."""
SETTLED: Final = DONE | {COMPENSATED, COMPENSATION_FAILED}
"""Of a step: its turn is over, whatever became of it when it was undone."""


class Lease:
    """How long an invocation may own an instance: `ms` from each of its records on, never past `cap`."""

    __slots__ = ("cap", "ms")

    def __init__(self, ms: int, cap: int | None = None) -> None:
        self.ms = ms
        self.cap = cap
        """When the platform has ended the invocation for certain (ms since the epoch); None if it never does."""

    def end(self, now: int) -> int:
        """When a lease extended at `now` ends, in ms since the epoch."""
        return now + self.ms if self.cap is None else min(now + self.ms, self.cap)


class ErrorInfo:
    """An error as it is kept: the type's name, the message, and the step it came from. `str()` is the message."""

    __slots__ = ("message", "step", "type")

    def __init__(self, type: str, message: str, step: str | None = None) -> None:
        self.type = type
        self.message = message
        self.step = step

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"ErrorInfo({self.type!r}, {self.message!r}, step={self.step!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorInfo) and self.to_tree() == other.to_tree()

    def __hash__(self) -> int:
        return hash((self.type, self.message, self.step))

    def to_tree(self) -> list[str | None]:
        """As records keep it."""
        return [self.type, self.message, self.step]

    @classmethod
    def of(cls, tree: list[Any]) -> ErrorInfo:
        """From a record."""
        return cls(tree[0], tree[1], tree[2])


class StepExecution:
    """What became of one step: an entry of `result.history`."""

    __slots__ = (
        "attempt",
        "child",
        "compensated_ms",
        "decision",
        "ended_ms",
        "error",
        "letter",
        "nested",
        "output",
        "path",
        "run_ms",
        "started_ms",
        "status",
        "undo_attempt",
        "waiting_for",
    )

    def __init__(
        self,
        path: str,
        status: str = PENDING,
        attempt: int = 0,
        started_ms: int | None = None,
        ended_ms: int | None = None,
        run_ms: float | None = None,
        output: object = None,
    ) -> None:
        self.path = path
        """Its name, and in branches and loops where it is: `poll[17].fetch`."""
        self.nested = type(path) is str and "." in path  # a damaged record may say anything
        self.status = status
        self.attempt = attempt
        self.undo_attempt = 0
        self.output = output
        self.error: str | None = None
        self.started_ms = started_ms
        self.ended_ms = ended_ms
        self.compensated_ms: int | None = None
        self.run_ms = run_ms
        self.waiting_for: tuple[str, ...] = ()
        self.decision: str | int | bool | None = None
        """What a branch or loop last decided: the case, the number of iterations, or whether there is another one."""
        self.child: str | None = None
        """The instance that the step has started, as `workflow/id`."""
        self.letter = ""
        """The letter (`workflow` lists them) of a nested commit, or step that can be undone: its lane may be gone."""

    @property
    def name(self) -> str:
        """The step's name."""
        return self.path.rpartition(".")[2]

    @property
    def retries(self) -> int:
        """Attempts after the first."""
        return self.attempt - 1 if self.attempt > 1 else 0

    @property
    def started_at(self) -> datetime | None:
        """When the last attempt started, in UTC."""
        return _time(self.started_ms)

    @property
    def completed_at(self) -> datetime | None:
        """When the step completed, failed or was skipped, in UTC."""
        return _time(self.ended_ms)

    @property
    def compensated_at(self) -> datetime | None:
        """When the step was undone, in UTC."""
        return _time(self.compensated_ms)

    @property
    def duration(self) -> float | None:
        """Seconds the last attempt ran."""
        return None if self.run_ms is None else self.run_ms / 1000

    def __repr__(self) -> str:
        return f"StepExecution({self.path!r}, {self.status}, retries={self.retries})"


class OpenWait:
    """A step that waits: for one of `signals`, or, without any, for its timer alone (a sleep)."""

    __slots__ = ("default", "due", "signals")

    def __init__(self, signals: tuple[str, ...], due: int | None, default: list[Any] | None) -> None:
        self.signals = signals
        self.due = due
        self.default = default
        """`[value]`: the output if the time passes; None: the step fails then."""


class Writes:
    """What was written to `ctx.data` in one branch or item since its parallel or map began."""

    __slots__ = ("set", "unset")

    def __init__(self, set_: dict[str, object] | None = None, unset: Iterable[str] = ()) -> None:
        self.set = {} if set_ is None else dict(set_)
        self.unset: dict[str, None] = dict.fromkeys(unset)

    def take(self, set_: Mapping[str, object], unset: Iterable[str]) -> None:
        """Further writes, later than these."""
        for key in unset:
            self.set.pop(key, None)
            self.unset[key] = None
        for key, value in set_.items():
            self.unset.pop(key, None)
            self.set[key] = value

    def over(self, data: dict[str, object]) -> None:
        """Make them in `data`."""
        for key in self.unset:
            data.pop(key, None)
        data.update(self.set)

    def to_tree(self) -> list[Any]:
        """As records and snapshots keep it."""
        return [self.set, list(self.unset)]


class Fork:
    """What a frame has if its lanes run at the same time: that of a parallel or a map."""

    __slots__ = ("begun", "bodies", "failed", "left", "limit", "wait_all", "writes")

    def __init__(
        self,
        bodies: dict[str, list[Any]],
        left: int,
        limit: int = 0,
        wait_all: bool = False,  # noqa: FBT001, FBT002 -- as the snapshot has it
        begun: Iterable[int] = (),
        failed: dict[str, list[Any]] | None = None,
        writes: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self.bodies = bodies
        """Names and kinds of each branch, in order; of a map those of the one body."""
        self.left = left
        """Lanes that have neither ended nor failed."""
        self.limit = limit
        """So many lanes may be in progress at a time; 0 without a limit."""
        self.wait_all = wait_all
        """A lane that fails lets the others go on; the whole fails when all have ended."""
        self.begun: dict[int, None] = dict.fromkeys(begun)
        """Lanes that have begun behind `Frame.number`, which is the first that has not."""
        self.failed: dict[str, list[Any]] = {} if failed is None else dict(failed)
        """With `wait_all`: lanes that have failed, with the error."""
        self.writes = {lane: Writes(*tree) for lane, tree in (writes or {}).items()}
        """What was written to `ctx.data` in each lane so far; it comes together when all lanes have ended."""

    def written(self, lane: str) -> Writes:
        """The writes of a lane, to be added to."""
        writes = self.writes.get(lane)
        if writes is None:
            writes = self.writes[lane] = Writes()
        return writes

    def to_tree(self) -> list[Any]:
        """As records and snapshots keep it, but for the users' values: the last part is `writes`."""
        return [
            self.bodies, self.left, self.limit, self.wait_all, list(self.begun), self.failed,
            {lane: writes.to_tree() for lane, writes in self.writes.items()},
        ]  # fmt: skip


class Frame:
    """A branch, loop, parallel or map that was entered and has not ended."""

    __slots__ = ("choice", "fork", "kind", "last", "number", "open")

    def __init__(
        self,
        kind: str,
        choice: str | int,
        number: int = 0,
        last: str | None = None,
        open: Iterable[str] = (),
        fork: list[Any] | None = None,
    ) -> None:
        self.kind = kind
        """Its letter, as `workflow` has them."""
        self.choice = choice
        """The case, the number of iterations of a loop, True for a while, the number of branches or items."""
        self.number = number
        """The iteration it is in; of a while that is about to decide, the one before; of a fork, its first lane that
        has not begun."""
        self.last = last
        """The path of the last step of the last lane that has ended; of a fork None."""
        self.open: dict[str, None] = dict.fromkeys(open)
        """The paths of its open lanes."""
        self.fork = None if fork is None else Fork(*fork)

    def to_tree(self) -> list[Any]:
        """As records and snapshots keep it."""
        tree = [self.kind, self.choice, self.number, self.last, list(self.open)]
        return tree if self.fork is None else [*tree, self.fork.to_tree()]


class Lane:
    """An open body of a branch or loop: its steps, and which of them comes next."""

    __slots__ = ("cursor", "kinds", "names", "owner")

    def __init__(self, owner: str, names: list[str], kinds: str, cursor: int = 0) -> None:
        self.owner = owner
        """The path of the branch or loop."""
        self.names = names
        self.kinds = kinds
        self.cursor = cursor

    def to_tree(self) -> list[Any]:
        """As records and snapshots keep it."""
        return [self.owner, self.names, self.kinds, self.cursor]


class Starting:
    """A child that was asked for, and has perhaps not been created yet."""

    __slots__ = ("id", "input", "input_hash", "path", "seq", "waits", "workflow")

    def __init__(
        self,
        seq: int,
        path: str,
        workflow: str,
        id: str,
        input_hash: str,
        waits: bool,  # noqa: FBT001 -- as the snapshot has it
        input_: object,
    ) -> None:
        self.seq = seq
        """The number of the record that says so."""
        self.path = path
        self.workflow = workflow
        self.id = id
        self.input_hash = input_hash
        self.waits = waits
        self.input = input_

    def to_tree(self) -> list[Any]:
        """As snapshots keep it, but for the input."""
        return [self.seq, self.path, self.workflow, self.id, self.input_hash, self.waits]


class OpenIntent:
    """A commit's (or compensation's) attempt that began and has no recorded outcome yet (PROTOCOL rule 9)."""

    __slots__ = ("attempt", "error", "undo")

    def __init__(self, attempt: int, *, undo: bool, error: ErrorInfo | None = None) -> None:
        self.attempt = attempt
        self.undo = undo
        self.error = error
        """What made the outcome unknown, once the instance is stuck with it."""


class Kept:
    """What a retry keeps of a step it passes again: re-applied at its turn instead of running it (rule 17)."""

    __slots__ = ("attempt", "how", "output", "set", "unset")

    def __init__(self, how: str, output: object, set_: dict[str, object], unset: list[str], attempt: int) -> None:
        self.how = how
        """`completed`, `skipped`, or `suspended`: a commit whose effect is made, and whose wait begins anew."""
        self.output = output
        self.set = set_
        self.unset = unset
        self.attempt = attempt

    def to_tree(self) -> list[Any]:
        """As records and snapshots keep it."""
        return [self.how, self.output, self.set, self.unset, self.attempt]


class WorkflowState:
    """The whole of one instance."""

    __slots__ = (
        "cancel",
        "children",
        "completed",
        "completed_at",
        "consumed",
        "created_at",
        "cursor",
        "data",
        "deaths",
        "discarded",
        "doubts",
        "epoch",
        "error",
        "expires",
        "failure",
        "fingerprint",
        "frames",
        "generation",
        "id",
        "input",
        "input_hash",
        "intents",
        "items",
        "joins",
        "kept",
        "kinds",
        "lanes",
        "lease",
        "lease_until",
        "name",
        "names",
        "origins",
        "owned",
        "parent",
        "patches",
        "paused",
        "pauses",
        "rests",
        "retry_at",
        "seq",
        "starting",
        "status",
        "steps",
        "stuck",
        "tenant",
        "time_limit",
        "undoing",
        "updated_at",
        "version",
        "waits",
    )

    def __init__(self, tenant: str, name: str, id: str) -> None:  # noqa: PLR0915 -- one statement a field
        self.tenant = tenant
        self.name = name
        self.id = id
        self.version = ""
        self.fingerprint = ""
        self.names: list[str] = []
        self.kinds = ""
        """A letter for each of `names`, as `workflow` has them."""
        self.origins: dict[str, str] = {}
        """Steps that were renamed: declared path -> the one that their idempotency key is made of (see `paths`)."""
        self.patches: list[str] = []
        """The `patches` that the definition had when the instance started."""
        self.input: object = None
        self.input_hash = ""
        self.status = PENDING
        self.seq = -1
        self.epoch = 0
        self.owned = False
        self.lease = Lease(0)
        self.lease_until = 0
        self.paused = False
        """A pause is in force, or will be once the running step has ended."""
        self.pauses = 0
        """Ticks that found the instance blocked since it last ran."""
        self.deaths = 0
        """Claims of an owned instance since the last progress (PROTOCOL rule 10)."""
        self.time_limit: int | None = None
        """Milliseconds that a generation may take from its beginning on; None without a limit."""
        self.expires: int | None = None
        """When that time has passed."""
        self.created_at = 0
        self.updated_at = 0
        self.completed_at: int | None = None
        self.data: dict[str, object] = {}
        self.steps: dict[str, StepExecution] = {}
        self.cursor = 0
        """The index of the first top-level step that is neither completed nor skipped."""
        self.frames: dict[str, Frame] = {}
        """What was entered and has not ended (a branch, loop, parallel or map), by path, the outer before the inner."""
        self.items: dict[str, list[object]] = {}
        """What each map that was entered goes through, by path; a compensation asks for it when it has ended."""
        self.joins = 0
        """How often what lanes of a fork had written has come together, since this was loaded."""
        self.lanes: dict[str, Lane] = {}
        """Their open bodies, by path: `check.then`, `poll[17]`."""
        self.completed: dict[str, None] = {}
        """Steps whose effects stand and may have to be undone, in order of completion."""
        self.parent: list[str] | None = None
        """`[workflow, id, path]` of the step that waits for this instance's end."""
        self.children: dict[str, None] = {}
        """Steps that wait for the end of a child."""
        self.starting: Starting | None = None
        self.rests = False
        """Nothing has happened since the owner let go of it because nothing could go on."""
        self.waits: dict[str, OpenWait] = {}
        self.retry_at: dict[str, int] = {}
        """Durable back-offs: path (compensations with their suffix) -> due."""
        self.intents: dict[str, OpenIntent] = {}
        self.doubts: dict[str, None] = {}
        """Paths with an earlier attempt of unknown outcome that nothing has settled yet."""
        self.consumed: dict[str, None] = {}
        """Mail taken so far, `name/id`, in order."""
        self.generation = 0
        self.kept: dict[str, Kept] = {}
        self.discarded: dict[str, int] = {}
        """Successes of a path that were since undone or discarded: k of the idempotency key."""
        self.undoing = False
        self.failure: ErrorInfo | None = None
        self.cancel: list[str | None] | None = None
        """`[reason]` once a cancel was requested."""
        self.stuck: list[str | None] | None = None
        """`[reason, path, detail]` while the instance is stuck or blocked."""
        self.error: ErrorInfo | None = None

    @property
    def terminal(self) -> bool:
        """Whether nothing runs any more."""
        return self.status in TERMINAL

    @property
    def awaited(self) -> tuple[str, ...]:
        """The signals that open waits are for, each once. How a child ends is told by none that anybody can send."""
        waits = (wait for path, wait in self.waits.items() if path not in self.children)
        return tuple(dict.fromkeys(name for wait in waits for name in wait.signals))


def _time(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC)
