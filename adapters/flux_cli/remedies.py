"""What an operator can do about an instance now, as commands to paste. It asks the engine's rules and has none itself.

A command is named only if the machine would take it: `decide` is pure, so asking it changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flux_cli.failures import failure
from flux_cli.standing import child_of, overdue
from flux_cli.targets import command
from flux_core import Refused
from flux_core import state as s
from flux_core.context import history
from flux_core.events import DefinitionChanged, RetryRequested, StepResolved
from flux_core.machine import check_verb, decide, failed_step, fold, timer
from flux_core.machine.verbs import NO_OP
from flux_core.workflow import UNDO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_cli.inspection import Inspection
    from flux_core.events import Event


_MOST_WAITS: Final = 3
"""Of so many open waits the commands are told."""


class Remedy(NamedTuple):
    """One way on."""

    command: str
    does: str


def remedies(seen: Inspection) -> list[Remedy]:
    """The ways on from here, the likeliest first."""
    return ways(seen)[0]


def ways(seen: Inspection) -> tuple[list[Remedy], str | None]:
    """The ways on, and why one that would be likely is closed, if one is."""
    asked = _Ways(seen)
    found: dict[str, Remedy] = {}
    for remedy in asked.all():
        found.setdefault(remedy.command, remedy)
    return list(found.values()), asked.hindrance


class _Ways:
    def __init__(self, seen: Inspection) -> None:
        self._seen = seen
        self._state = seen.state
        self._log = seen.log
        self._adopted = False
        self._say = seen.target.command
        self._reset: list[str] = []
        """The steps that the verb which was asked about last starts over."""
        self._kept = {letter.mail.name for letter in seen.letters()}
        self.hindrance: str | None = None
        """Why the first step that was asked about cannot be retried, completed or skipped."""

    def all(self) -> Iterator[Remedy]:
        state = self._state
        yield from self._unpause()
        yield from self._unsettled()
        yield from self._wait()
        yield from self._back_off()
        match state.status:
            case s.STUCK:
                yield from self._stuck()
            case s.BLOCKED:
                if self._may("resume"):
                    yield Remedy(self._say("resume"), "look again at once, when a definition that fits is deployed")
            case s.FAILED | s.ROLLED_BACK:
                path = failed_step(state)
                if path in state.steps and state.steps[path].child:
                    yield self._look(path, f"see why its child in {path} has not completed")
                if self._may("retry_step", path):
                    does = f"go on from {path}, once its trouble is mended{self._anew(path)}"
                    yield Remedy(self._say("resume"), does)
                yield from self._again(path)
        yield from self._tick()
        yield from self._stop()
        yield from self._force()

    def _unpause(self) -> Iterator[Remedy]:
        if self._state.paused:
            does = "go on" if self._state.status == s.PAUSED else "take the pause back before it begins"
            yield Remedy(self._say("unpause"), does)

    def _unsettled(self) -> Iterator[Remedy]:
        """Compensations that have failed, for good or for all that is known."""
        for step in history(self._state):
            name = step.path
            if step.status == s.COMPENSATION_FAILED:
                if self._may("complete_step", name):
                    yield Remedy(self._say("complete", name), f"put on record that {name} was undone by hand")
                if self._may("skip_step", name):
                    yield Remedy(self._say("skip", name), f"put on record that {name} is left as it is, not undone")

    def _wait(self) -> Iterator[Remedy]:
        for path, wait in list(self._state.waits.items())[:_MOST_WAITS]:
            if path in self._state.children:
                yield self._look(path, f"see what its child in {path} waits for, and go on with that")
            for signal in () if path in self._state.children else wait.signals:
                if signal not in self._kept and self._may("signal"):
                    yield Remedy(self._say("signal", signal), f"send what {path} waits for; --payload gives it a value")
            if self._may("complete_step", path):
                yield Remedy(self._say("complete", path), f"end {path} by hand; --output gives it a value")
            if self._may("skip_step", path):
                yield Remedy(self._say("skip", path), f"go on without {path}")

    def _look(self, path: str, does: str) -> Remedy:
        child = child_of(self._state.steps[path])
        app = self._seen.target.app
        return Remedy(command(app, "show", [child["workflow"], child["id"]]), does)

    def _back_off(self) -> Iterator[Remedy]:
        """Steps that failed and will be tried again."""
        for path in self._state.retry_at:
            if not path.endswith(UNDO) and self._may("retry_step", path):
                yield Remedy(self._say("retry", path), f"run {path} now, its attempts counted anew")

    def _stuck(self) -> Iterator[Remedy]:
        state = self._state
        reason, path = (state.stuck or [None, None])[:2]
        if path is None:
            return
        undo = path + UNDO in state.intents
        if reason == "unknown_outcome":
            done = f"the compensation of {path}" if undo else path
            if self._may("complete_step", path):
                does = f"you have seen that {done} took effect" + ("" if undo else "; --output gives its result")
                yield Remedy(self._say("complete", path), does)
            if not undo and self._may("retry_step", path):
                yield Remedy(self._say("retry", path), f"you have seen that {path} did not take effect: run it again")
            if self._may("skip_step", path):
                yield Remedy(self._say("skip", path), f"leave {path} as it is" if undo else f"go on without {path}")
        else:
            yield from self._again(path)

    def _again(self, path: str) -> Iterator[Remedy]:
        if self._may("retry_step", path):
            does = f"run {path} and the later steps; --data changes the data first{self._anew(path)}"
            yield Remedy(self._say("retry", path), does)
        if self._may("complete_step", path):
            does = f"go on as if {path} had succeeded; --output gives its result{self._anew(path)}"
            yield Remedy(self._say("complete", path), does)
        if self._may("skip_step", path):
            yield Remedy(self._say("skip", path), f"go on without {path}{self._anew(path)}")

    def _anew(self, path: str) -> str:
        """Where the repair of `path` that was asked about last begins: what was undone is made again first."""
        first = self._reset[0] if self._reset else path
        step = self._state.steps.get(first)
        if first == path or step is None or step.status != s.COMPENSATED:
            return ""
        return f" (it starts over at {first}, because that was undone)"

    def _tick(self) -> Iterator[Remedy]:
        state = self._state
        if overdue(state, self._seen.now):
            yield Remedy(command(self._seen.target.app, "recover"), "go on with everything that is due, this one too")
        elif state.owned:
            yield Remedy(self._say("show", options=("--follow",)), "watch it")
        elif timer(state) is not None and state.status in {s.SUSPENDED, s.ROLLING_BACK}:
            yield Remedy(command(self._seen.target.app, "recover"), "go on with everything that is due, once it is")

    def _stop(self) -> Iterator[Remedy]:
        if self._may("pause") and not self._state.paused:
            yield Remedy(self._say("pause"), "hold it until it is unpaused")
        if self._may("cancel"):
            yield Remedy(self._say("cancel"), "stop it, and undo what it has done")

    def _force(self) -> Iterator[Remedy]:
        if self._state.status in {s.COMPLETED, s.CANCELLED}:
            first = self._state.names[0]
            if self._may("retry_step", first, force=True):
                again = " (a commit: its effect happens once more)" if self._seen.definition.steps[0].commit else ""
                does = f"run {first}{again} and the later steps again; other commits that succeeded are kept"
                yield Remedy(self._say("retry", first, options=("--force",)), does)

    def _may(self, verb: str, step: str | None = None, *, force: bool = False) -> bool:
        """Whether the engine would take the verb now."""
        try:
            if check_verb(verb, self._state, force=force, step=step) == NO_OP:
                return False
            if step is not None:
                self._ask(verb, step, force=force)
        except Refused:
            return False
        return True

    def _ask(self, verb: str, step: str, *, force: bool) -> None:
        try:
            self._adopt()
            event = self._event(verb, step, force=force)
            (record,) = decide(self._seen.definition, self._state, event, self._seen.now).records
            self._reset = record.body.get("reset", [])
        except Refused as error:
            self.hindrance = self.hindrance or str(failure(error))
            raise

    def _adopt(self) -> None:
        """A verb that names a step takes over a definition that has changed, before anything else."""
        if self._adopted or self._state.fingerprint == self._seen.definition.fingerprint:
            return
        (record,) = decide(self._seen.definition, self._state, DefinitionChanged(), self._seen.now).records
        self._log = [*self._log, record]
        self._state = fold(self._seen.target.ref, self._log)
        self._adopted = True

    def _event(self, verb: str, step: str, *, force: bool) -> Event:
        log = self._log
        if verb == "retry_step":
            return RetryRequested(step, log, force=force)
        return StepResolved(step, s.COMPLETED if verb == "complete_step" else s.SKIPPED, None, None, None, log)
