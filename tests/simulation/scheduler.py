"""Runs several invocations of the real engine as one deterministic program: who goes next is a choice.

Each invocation is a greenlet. It stops *before* every storage call, every effect of a handler and every pause, and
goes on when the schedule says so: the call happens, or does not and the caller is told that the store did not answer
(`drop`), or happens and he is told so all the same (`lost`), or the invocation dies there (`kill`). Nothing happens
between a call's effect and the next stop but computing, so a death after a call is a death before the next stop.

It must not know what a workflow is; `world` does.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from greenlet import getcurrent, greenlet

from flux_core.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class Killed(BaseException):
    """The platform ended the invocation here. No code may catch it and go on."""


class Stop(NamedTuple):
    """Where an invocation stands: before a storage call, an effect, or a pause."""

    kind: str
    """`call`, `effect` or `sleep`."""
    name: str
    """The method of the store, or the step's path."""
    writes: bool


class Choice(NamedTuple):
    """One thing that may happen next."""

    verb: str
    """go, kill, drop, lost, fail, unknown: what happens to the task at its stop; `time`: the clock moves."""
    task: int
    """Its place among the tasks; -1 for `time`."""


class Schedule(Protocol):
    """Where the choices come from."""

    def choose(self, options: list[Choice], state: Callable[[], Hashable]) -> int | None:
        """The place of the chosen one among `options`; None ends the run here, since its future is known."""
        ...

    def knows(self, state: Callable[[], Hashable]) -> bool:
        """Whether what follows the end of the play was seen before."""
        ...


def digest_of(what: str) -> int:
    """Good enough to be added up: of Python's own hashes of tuples that differ in two places the sums may be equal."""
    return int.from_bytes(blake2b(what.encode(), digest_size=8).digest())


class Task:
    """One invocation: what it was asked, where it stands, what came of it."""

    __slots__ = (
        "_base", "_read", "body", "digest", "dirty", "error", "fiber", "haunting", "index", "name", "result", "spec",
        "status", "stop",
    )  # fmt: skip

    def __init__(self, index: int, spec: tuple[str, ...], body: Callable[[Task], object]) -> None:
        self.index = index
        self.spec = spec
        """What it was asked: a verb and its arguments."""
        self.name = f"{index}:{'-'.join(spec)}" if index >= 0 else spec[0]
        self.body = body
        self.fiber: greenlet | None = None
        self.status = "new"
        """new, parked, returned, raised, killed."""
        self.stop: Stop | None = None
        self.result: object = None
        self.error: BaseException | None = None
        self.digest = 0
        """The hash of what it was told and has not forgotten: with equal digests and stacks, equal locals."""
        self._base = self._read = 0
        self.haunting: list[Stop] = []
        """What it tried to do after its death."""
        self.dirty = False
        """Whether it has changed anything: before that, its death shows nothing."""

    @property
    def alive(self) -> bool:
        return self.status in {"new", "parked"}

    def park(self, stop: Stop) -> str:
        """From inside: wait for the schedule's word."""
        if self.status == "killed":
            self.haunting.append(stop)
            raise Killed
        self.stop = stop
        self.status = "parked"
        stage = getcurrent().parent
        assert stage is not None, "an invocation of the play runs on a fiber of its own"
        verdict: str = stage.switch()
        return verdict

    def hear(self, *what: Hashable) -> None:
        """From inside: it has learned `what`."""
        self.digest = hash((self.digest, what))

    def forget(self, *what: Hashable) -> None:
        """From inside: it has made a record durable; from here on it knows what the log says, and nothing else."""
        self._read = 0
        self.digest = hash((self._base, what))

    def hear_log(self, *what: Hashable) -> None:
        """From inside: it has read a whole log, and forgets all but the one before and its `due` entry."""
        self._read, before = hash(what), self._read
        self.digest = hash((self._base, before, self._read))

    def hear_due(self, *what: Hashable) -> None:
        """From inside: it has learned what is due, and keeps that in mind."""
        self._base = hash((self._base, what))
        self.hear(*what)

    def place(self) -> int:
        """The stack it stands in: which calls, at which instructions."""
        if self.status != "parked":
            return hash(self.status)
        frame = self.fiber.gr_frame if self.fiber is not None else None
        stack = []
        while frame is not None:
            stack.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return hash(tuple(stack))

    def start(self) -> None:
        """Run up to the first stop."""
        self.fiber = greenlet(self._run)
        self.fiber.switch()

    def go(self, verdict: str) -> None:
        """Run from this stop to the next."""
        assert self.fiber is not None
        self.fiber.switch(verdict)

    def kill(self) -> None:
        """End it here. Whatever its `finally` blocks try to do with the store finds it dead."""
        if self.status == "parked":
            assert self.fiber is not None
            self.status = "killed"
            self.fiber.throw(Killed)
        self.status = "killed"

    def _run(self) -> None:
        try:
            self.result = self.body(self)
            end = "returned"
        except Killed as error:
            self.error, end = error, "killed"
        except Exception as error:  # noqa: BLE001 -- what a verb raises is its outcome, judged by the world
            self.error, end = error, "raised"
        if self.status != "killed":
            self.status = end
        self.stop = None
        self.digest = 0


_WRITES = frozenset({"append", "put_mail", "settle", "nudge", "put_snapshot", "purge"})


class Store:
    """A `WorkflowStorage` as one task sees it: it stops before every call."""

    ephemeral = True
    snapshot_records = 0

    def __init__(
        self, task: Task, perform: Callable[[Task, str, tuple[Any, ...]], Any], at_once: frozenset[str] | None
    ) -> None:
        """`at_once`: the calls that are no stops; None: none is."""
        self._task = task
        self._perform = perform
        self._at_once = at_once

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return self._call(name, args)

        self.__dict__[name] = call
        return call

    def _call(self, name: str, args: tuple[Any, ...]) -> Any:
        task = self._task
        if self._at_once is None or name in self._at_once:
            return self._perform(task, name, args)
        writes = name in _WRITES
        verdict = task.park(Stop("call", name, writes))
        if verdict == "drop":
            task.hear("drop")
            raise StorageUnavailable("the store did not answer")
        result = self._perform(task, name, args)
        if writes:
            task.dirty = True
        if verdict == "lost":
            task.hear("lost")
            raise StorageUnavailable("the store's answer was lost")
        return result


class Exhaustive:
    """Depth-first over all choices, by running again; a state seen before is not entered twice."""

    def __init__(self, most: int = 200_000) -> None:
        self._path: list[tuple[int, int]] = []
        self._depth = 0
        self._seen: set[Hashable] = set()
        self._most = most
        self.schedules = 0
        self.pruned = 0
        self.complete = False

    @property
    def states(self) -> int:
        return len(self._seen)

    @property
    def taken(self) -> list[int]:
        """The choices of the schedule under way."""
        return [taken for taken, _ in self._path]

    def runs(self) -> Iterator[Exhaustive]:
        """One item a schedule, until all were run."""
        while self.schedules < self._most:
            self._depth = 0
            self.schedules += 1
            yield self
            while self._path and self._path[-1][0] + 1 == self._path[-1][1]:
                self._path.pop()
            if not self._path:
                self.complete = True
                return
            taken, width = self._path.pop()
            self._path.append((taken + 1, width))

    def choose(self, options: list[Choice], state: Callable[[], Hashable]) -> int | None:
        if self._depth < len(self._path):
            taken = self._path[self._depth][0]
            self._depth += 1
            return taken
        key = state()
        if key in self._seen:
            self.pruned += 1
            return None
        self._seen.add(key)
        self._path.append((0, len(options)))
        self._depth += 1
        return 0

    def knows(self, state: Callable[[], Hashable]) -> bool:
        key = "end", state()
        if key in self._seen:
            return True
        self._seen.add(key)
        return False


class Scripted:
    """The choices of a list, by number; then the first that is there."""

    def __init__(self, taken: list[int]) -> None:
        self._taken = iter(taken)

    def choose(self, options: list[Choice], state: Callable[[], Hashable]) -> int | None:
        return min(next(self._taken, 0), len(options) - 1)

    def knows(self, state: Callable[[], Hashable]) -> bool:
        return False
