"""Whether a changed definition can continue an instance, and what the instance becomes by that: mapping by name.

Pure like all of the machine. The rule is PROTOCOL's (Versioning): what is done keeps its order or is gone; commits that
were made, attempts of unknown outcome, open waits and whatever can be undone must still be there; the next step is the
first behind the last one done. Whatever contradicts that is a problem, and the instance is `blocked`: no step is ever
left out in silence.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.errors import Refused
from flux_core.records import Record
from flux_core.workflow import COMMITS, UNDO, UNDOABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from flux_core.state import WorkflowState
    from flux_core.workflow import WorkflowDefinition


class Continuation:
    """What a definition can do with an instance. `problems` and `notes` are sentences for the person who deploys it."""

    __slots__ = ("notes", "passed", "problems", "renamed")

    def __init__(
        self, problems: Sequence[str], notes: Sequence[str], renamed: Mapping[str, str], passed: Sequence[str]
    ) -> None:
        self.problems = list(problems)
        """Why it cannot go on, and what to write so that it can; empty if it can."""
        self.notes = list(notes)
        """What is worth knowing although it can go on."""
        self.renamed = dict(renamed)
        """Steps that have another name now, by `aliases`: old -> new."""
        self.passed = list(passed)
        """New steps that stand before one that is done, or waits: they are skipped here, unless they were done once."""

    @property
    def possible(self) -> bool:
        """Whether the instance can go on with the definition."""
        return not self.problems

    def __repr__(self) -> str:
        return f"<Continuation: {'; '.join(self.problems or self.notes) or 'unchanged'}>"


def continuation(workflow: WorkflowDefinition, state: WorkflowState) -> Continuation:
    """Hold `workflow` against what is known of the instance."""
    if state.fingerprint == workflow.fingerprint:
        return Continuation((), (), {}, ())
    return _Comparison(workflow, state).verdict()


def adopted(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Record:
    """The record by which the instance goes on with `workflow`; `Refused` with the reasons if it cannot."""
    found = continuation(workflow, state)
    if not found.possible:
        message = f"workflow {state.name!r}, id {state.id!r}: {misfit(workflow, state, found.problems)}"
        raise Refused(message)
    body: dict[str, Any] = {
        "ver": workflow.version,
        "fp": workflow.fingerprint,
        "names": [step.name for step in workflow.steps],
        "kinds": workflow.kinds,
    }
    if found.renamed:
        body["was"] = found.renamed
    if found.passed:
        body["pass"] = found.passed
    # What it rested for may be gone, or have a new step before it: nobody owns it, so somebody has to look.
    header = (s.SUSPENDED, now) if state.status == s.SUSPENDED else None
    return Record(r.ADOPT, state.epoch, now, body, header)


def misfit(workflow: WorkflowDefinition, state: WorkflowState, problems: Iterable[str]) -> str:
    """The sentence for an instance that cannot go on."""
    return (
        f"the steps of workflow {workflow.name!r} have changed since the instance started (it has "
        f"{', '.join(state.names)}; the definition now has {', '.join(step.name for step in workflow.steps)}), and it "
        f"cannot go on with them: {'; '.join(problems)}. Once a definition that fits is deployed (the earlier one "
        f"does), it goes on by itself"
    )


class _Comparison:
    """One definition against one instance."""

    def __init__(self, workflow: WorkflowDefinition, state: WorkflowState) -> None:
        self._workflow = workflow
        self._state = state
        self._place = {step.name: place for place, step in enumerate(workflow.steps)}
        old = dict(zip(state.names, state.kinds, strict=True))
        self._kinds = old
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._renamed: dict[str, str] = {}
        for step in workflow.steps:
            if step.name not in old:
                self._find_old(step.name, [alias for alias in step.aliases if alias in old])
        self._now = {name: name if name in self._place else self._renamed.get(name) for name in old}
        """What each step is called now; None if it is gone."""

    def _find_old(self, name: str, aliases: Sequence[str]) -> None:
        """A step takes the place of one; of several only where none of them has begun."""
        begun = [alias for alias in aliases if self._has_begun(alias)] if len(aliases) > 1 else []
        if begun:
            self._problems.append(
                f"step {name!r} has both {' and '.join(map(repr, aliases))} as aliases, and the instance has begun "
                f"{begun[0]!r}: one step cannot take the place of several there; keep them until it has ended"
            )
        self._renamed.update(dict.fromkeys(aliases if begun else aliases[:1], name))

    def _has_begun(self, path: str) -> bool:
        state = self._state
        step = state.steps.get(path)
        open_ = (state.completed, state.waits, state.intents, state.doubts, state.kept)
        return any(path in paths for paths in open_) or (step is not None and step.status in _DONE)

    def verdict(self) -> Continuation:
        state = self._state
        self._check_unsettled()
        self._check_done()
        passed: list[str] = []
        if not state.undoing or state.terminal:  # an instance that is being undone only looks back
            self._check_waits()
            passed = self._check_order()
        else:
            passed = [path for path, step in state.steps.items() if self._is_back(path) and step.status in _DONE]
        self._note(passed)
        return Continuation(self._problems, self._notes, self._renamed, passed)

    def _check_unsettled(self) -> None:
        state = self._state
        for path in dict.fromkeys(key.removesuffix(UNDO) for key in (*state.intents, *state.doubts)):
            what = f"step {path!r} has an attempt of unknown outcome"
            if self._is_there(path, what) and path in state.intents and self._was(path, COMMITS):
                self._is_commit(path, what)

    def _check_done(self) -> None:
        state = self._state
        for path, step in state.steps.items():
            if step.status == s.COMPENSATION_FAILED and path in self._now:
                self._is_there(path, f"the compensation of step {path!r} has failed, and nobody has settled it")
        kept = [path for path, keep in state.kept.items() if keep.how == s.COMPLETED]
        undoable = dict.fromkeys((*state.completed, *kept))
        # An instance that has been undone does not look at commits that cannot be undone any more; they stand.
        stand = [path for path, step in state.steps.items() if step.status == s.COMPLETED]
        for path in dict.fromkeys((*undoable, *stand)):
            if self._was(path, COMMITS):
                what = f"commit {path!r} has been made, and must not be made again"
                if self._is_there(path, what):
                    self._is_commit(path, what)
            elif path in undoable and self._was(path, UNDOABLE):
                self._is_there(path, f"step {path!r} is done, and must be undone if a later step fails")

    def _check_waits(self) -> None:
        for path, wait in self._state.waits.items():
            for_what = " or ".join(map(repr, wait.signals))
            self._is_there(path, f"step {path!r} waits for {f'the signal {for_what}' if for_what else 'its time'}")

    def _is_back(self, path: str) -> bool:
        return path in self._place and path not in self._now.values()

    def _was(self, path: str, kinds: str) -> bool:
        return path in self._kinds and self._kinds[path] in kinds

    def _undo_is_gone(self, path: str) -> bool:
        name = self._now[path]
        return name is not None and self._workflow.by_path[name].compensate is None

    def _is_there(self, path: str, what: str) -> bool:
        if self._now.get(path) is not None:
            return True
        problem = (
            f"{what}, but there is no such step any more: keep it, or give the one in its place aliases=[{path!r}]"
        )
        self._problems.append(problem)
        return False

    def _is_commit(self, path: str, what: str) -> None:
        name = self._now[path]
        if name is not None and not self._workflow.by_path[name].commit:
            self._problems.append(f"{what}, but {name!r} is declared as a step: declare it with .commit(...)")

    def _check_order(self) -> list[str]:
        """The order of what is done; the new steps that it has passed."""
        state, place = self._state, self._place
        last, last_name = -1, ""
        names, cursor = state.names, self._first_to_run()
        for name in names[:cursor]:
            now = self._now[name]
            if now is None:
                continue
            if place[now] < last:
                self._problems.append(
                    f"{last_name!r} and then {now!r} are done, but the definition has them the other way round: "
                    f"restore their order"
                )
            else:
                last, last_name = place[now], now
        begun, waits = last, ""
        at = names[cursor] if cursor < len(names) else None
        # It has begun: what is new before it comes too late.
        if at in state.waits or at in state.intents or at in state.doubts:
            now = self._now[at]
            if now is not None and place[now] > last:
                begun, waits = place[now], now
        for name in names[cursor:]:
            now = self._now[name]
            step = state.steps.get(name)
            if now is not None and place[now] < begun and (step is None or step.status not in _DONE):
                begins = "waits" if at in state.waits else "has begun"
                behind = f"{last_name!r}, which is done" if place[now] < last else f"{waits!r}, which {begins}"
                self._problems.append(
                    f"step {now!r} is still to come, but the definition has it before {behind}: put it behind"
                )
        there = set(self._now.values())
        return [name for name, index in place.items() if index < begun and name not in there]

    def _first_to_run(self) -> int:
        """The place of the first step that is not done, or no longer: a retry goes on where undoing has come to."""
        steps = self._state.steps
        for place, name in enumerate(self._state.names[: self._state.cursor]):
            if steps[name].status not in _DONE:
                return place
        return self._state.cursor

    def _note(self, passed: list[str]) -> None:
        state = self._state
        for name in passed:
            step = state.steps.get(name)
            back = step is not None and step.status == s.COMPLETED
            what = "is back, and done" if back else "is new before one that has begun: it is skipped here"
            self._notes.append(f"step {name!r} {what}")
        self._notes += [f"step {old!r} is now called {new!r}" for old, new in self._renamed.items()]
        self._notes += [
            f"step {name!r} is done and its compensation is gone: it will not be undone if a later step fails"
            for name in state.completed
            if self._was(name, UNDOABLE) and self._undo_is_gone(name)
        ]
        for name, now in self._now.items():
            if now is None:
                step = state.steps.get(name)
                done = step is not None and step.status in _DONE
                more = "is done and gone: its output and data stay" if done else "is gone: it will not run"
                self._notes.append(f"step {name!r} {more}")


_DONE = frozenset({s.COMPLETED, s.SKIPPED})
