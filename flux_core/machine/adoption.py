"""Whether a changed definition can continue an instance, and what the instance becomes by that: mapping by name.

Pure like all of the machine. The rule is PROTOCOL's (Versioning): what is done keeps its order or is gone; commits that
were made, attempts of unknown outcome, open waits and whatever can be undone must still be there; the next step is the
first behind the last one done. Whatever contradicts that is a problem, and the instance is `blocked`: no step is ever
left out in silence. In branches and loops the same holds at each level.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.errors import Refused
from flux_core.machine.forks import MAP_LETTER
from flux_core.machine.lanes import letter_of
from flux_core.paths import declared, renamed
from flux_core.records import Record
from flux_core.workflow import BODY, COMMITS, CONCURRENT, NUMBERED, UNDO, UNDOABLE, letter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from flux_core.state import Frame, WorkflowState
    from flux_core.workflow import StepDefinition, WorkflowDefinition


class Continuation:
    """What a definition can do with an instance. `problems` and `notes` are sentences for the person who deploys it."""

    __slots__ = ("forks", "gone", "lanes", "notes", "passed", "problems", "renamed")

    def __init__(
        self, problems: Sequence[str], notes: Sequence[str], renamed: Mapping[str, str], passed: Sequence[str]
    ) -> None:
        self.problems = list(problems)
        """Why it cannot go on, and what to write so that it can; empty if it can."""
        self.notes = list(notes)
        """What is worth knowing although it can go on; empty if it cannot."""
        self.renamed = dict(renamed)
        """Steps that have another name now, by `aliases`: old -> new."""
        self.passed = list(passed)
        """New steps that stand before one that is done, or waits: they are skipped here, unless they were done once."""
        self.lanes: dict[str, list[Any]] = {}
        """What the bodies of open branches and loops become: path -> names and kinds."""
        self.forks: dict[str, dict[str, list[Any]]] = {}
        """What the lanes of open parallels and maps run: path -> bodies."""
        self.gone: list[str] = []
        """Nested steps that have run and are no more, by the paths that they would have now."""

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
    if found.lanes:
        body["lanes"] = found.lanes
    if found.forks:
        body["forks"] = found.forks
    if found.gone:
        body["gone"] = found.gone
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
    """One definition against one instance, level by level: the top, and each open branch and iteration."""

    def __init__(self, workflow: WorkflowDefinition, state: WorkflowState) -> None:
        self._workflow = workflow
        self._state = state
        self._known = _known(state)
        self._was: dict[str, str] = {}
        """Nodes that have another name now, by their declared paths."""
        self._problems: list[str] = []
        self._notes: list[str] = []
        self.forks: dict[str, dict[str, list[Any]]] = {}
        self._find_renamed(workflow.steps, "")

    def _places_taken(self, name: str, aliases: list[str]) -> list[str]:
        """Whose place a step takes: that of one, and of several only where none of them has begun."""
        begun = [alias for alias in aliases if self._has_begun(alias)] if len(aliases) > 1 else []
        if begun:
            self._problems.append(
                f"step {name!r} has both {' and '.join(map(repr, aliases))} as aliases, and the instance has begun "
                f"{begun[0]!r}: one step cannot take the place of several there; keep them until it has ended"
            )
        return aliases if begun else aliases[:1]

    def _has_begun(self, path: str) -> bool:
        """`path` is as the definition had it."""
        state = self._state
        open_ = (*state.completed, *state.waits, *state.intents, *state.doubts, *state.kept)
        done = (step.path for step in state.steps.values() if step.status in s.DONE)
        return any(declared(other) == path for other in (*open_, *done))

    def _find_renamed(self, nodes: Iterable[StepDefinition], lane: str) -> None:
        """`lane` is as the instance knows it."""
        known = self._known.get(lane, set())
        names = {node.name for node in nodes}
        for node in nodes:
            before = node.name
            if before not in known:
                aliases = [_joined(lane, alias) for alias in node.aliases if alias in known and alias not in names]
                for alias in self._places_taken(node.name, aliases):
                    before = alias.rpartition(".")[2]
                    self._was[alias] = node.declared
            for key, body in (node.bodies or {}).items():
                inside = _joined(lane, before)
                self._find_renamed(body.nodes, inside if node.kind in NUMBERED else f"{inside}.{key}")

    def _now(self, path: str) -> str | None:
        """What a step is called now; None if it is gone."""
        now = renamed(path, self._was)
        return None if self._workflow.place(now) is None else now

    def verdict(self) -> Continuation:
        state = self._state
        self._check_unsettled()
        self._check_done()
        passed: list[str] = []
        lanes: dict[str, list[Any]] = {}
        if not state.undoing or state.terminal:  # an instance that is being undone only looks back
            self._check_waits()
            lanes = self._check_frames()
            names = [step.name for step in self._workflow.steps]
            passed = self._check_order(state.names, self._first_to_run(), "", names)
            for path, lane in state.lanes.items():
                fitting = lanes.get(renamed(path, self._was))
                if fitting is not None:
                    passed += self._check_order(lane.names, lane.cursor, path, fitting[0])
        else:
            there = {self._now(name) for name in state.names}
            back = [step.name for step in self._workflow.steps if step.name not in there]
            passed = [path for path in back if path in state.steps and state.steps[path].status in s.DONE]
        paths = dict.fromkeys((*state.steps, *state.completed, *state.kept))
        gone = [path for path in paths if "." in path and self._now(path) is None]
        if not self._problems:
            self._note(passed, gone)
        found = Continuation(self._problems, self._notes, self._was, passed)
        found.lanes = lanes
        found.forks = self.forks
        found.gone = [renamed(path, self._was) for path in gone]
        return found

    def _check_unsettled(self) -> None:
        state = self._state
        for path in dict.fromkeys(key.removesuffix(UNDO) for key in (*state.intents, *state.doubts)):
            what = f"step {path!r} has an attempt of unknown outcome"
            if self._is_there(path, what) and path in state.intents and self._was_one(path, COMMITS):
                self._is_commit(path, what)

    def _check_done(self) -> None:
        state = self._state
        for path, step in state.steps.items():
            if step.status == s.COMPENSATION_FAILED and (path in state.names or "." in path):
                self._is_there(path, f"the compensation of step {path!r} has failed, and nobody has settled it")
        kept = [path for path, keep in state.kept.items() if keep.how != s.SKIPPED]
        undoable = dict.fromkeys((*state.completed, *kept))
        # An instance that has been undone does not look at commits that cannot be undone any more; they stand.
        stand = [path for path, step in state.steps.items() if step.status == s.COMPLETED]
        for path in dict.fromkeys((*undoable, *stand)):
            if self._was_one(path, COMMITS):
                what = f"commit {path!r} has been made, and must not be made again"
                if self._is_there(path, what):
                    self._is_commit(path, what)
            elif path in undoable and self._was_one(path, UNDOABLE):
                self._is_there(path, f"step {path!r} is done, and must be undone if a later step fails")
            elif path in state.kept and "." in path:
                self._is_there(path, f"step {path!r} has been made, and is kept by a retry")

    def _check_waits(self) -> None:
        for path, wait in self._state.waits.items():
            if path in self._state.children:
                self._is_there(path, f"step {path!r} waits for its child {self._state.steps[path].child}")
                continue
            for_what = " or ".join(map(repr, wait.signals))
            self._is_there(path, f"step {path!r} waits for {f'the signal {for_what}' if for_what else 'its time'}")

    def _check_frames(self) -> dict[str, list[Any]]:
        """What the open bodies become: names and kinds by path, as they are now."""
        lanes: dict[str, list[Any]] = {}
        for path, frame in self._state.frames.items():
            now = self._now(path)
            node = None if now is None else self._workflow.by_path[now]
            if node is None or node.bodies is None or letter(node) != frame.kind:
                if not self._is_there(path, f"the instance is inside {path!r}"):
                    continue
                problem = f"the instance is inside {path!r}, but {now!r} is of another kind now: restore it"
                self._problems.append(problem)
                continue
            if node.kind in CONCURRENT:
                self._check_fork(path, frame, node)
            for lane_path in frame.open:
                key = BODY if node.kind in NUMBERED else lane_path.rpartition(".")[2]
                body = node.bodies.get(key)
                if body is None:
                    problem = f"the instance is inside {lane_path!r}, but {now!r} has no such branch any more: keep it"
                    self._problems.append(problem)
                else:
                    lanes[renamed(lane_path, self._was)] = [body.names, body.kinds]
        return lanes

    def _check_fork(self, path: str, frame: Frame, node: StepDefinition) -> None:
        """What those lanes of an open fork run that have not begun: the same branches, with their steps of now."""
        fork, bodies = frame.fork, node.bodies or {}
        if fork is None:
            return
        if list(bodies) != list(fork.bodies):
            problem = (
                f"the instance is inside {path!r}, whose branches are {', '.join(fork.bodies)}, and now are "
                f"{', '.join(bodies)}: keep them until it has ended"
            )
            self._problems.append(problem)
            return
        self.forks[renamed(path, self._was)] = {key: [body.names, body.kinds] for key, body in bodies.items()}

    def _was_one(self, path: str, kinds: str) -> bool:
        sign = letter_of(self._state, path)
        return bool(sign) and sign in kinds

    def _undo_is_gone(self, path: str) -> bool:
        name = self._now(path)
        return name is not None and self._workflow.by_path[name].compensate is None

    def _is_there(self, path: str, what: str) -> bool:
        if self._now(path) is not None:
            return True
        name = path.rpartition(".")[2]
        problem = (
            f"{what}, but there is no such step any more: keep it, or give the one in its place aliases=[{name!r}]"
        )
        self._problems.append(problem)
        return False

    def _is_commit(self, path: str, what: str) -> None:
        name = self._now(path)
        if name is not None and not self._workflow.by_path[name].keeps:
            self._problems.append(f"{what}, but {name!r} is declared as a step: declare it with .commit(...)")

    def _check_order(self, names: list[str], cursor: int, lane: str, new: list[str]) -> list[str]:
        """The order of what is done in a lane; the new steps that it has passed."""
        state = self._state
        place = {_joined(renamed(lane, self._was), name): index for index, name in enumerate(new)}
        last, last_name = -1, ""
        paths = [_joined(lane, name) for name in names]
        for path in paths[:cursor]:
            now = self._now(path)
            if now is None:
                continue
            if place[now] < last:
                self._problems.append(
                    f"{last_name!r} and then {now!r} are done, but the definition has them the other way round: "
                    f"restore their order"
                )
            else:
                last, last_name = place[now], now
        begun, since = last, ""
        doing = self._doing(paths[cursor]) if cursor < len(paths) else ""
        if doing:  # what is new before it comes too late
            now = self._now(paths[cursor])
            if now is not None and place[now] > last:
                begun, since = place[now], f"{now!r}, {doing}"
        for path in paths[cursor:]:
            now = self._now(path)
            step = state.steps.get(path)
            if now is not None and place[now] < begun and (step is None or step.status not in s.DONE):
                which = f"{last_name!r}, which is done" if place[now] < last else since
                problem = f"step {now!r} is still to come, but the definition has it before {which}: put it behind"
                self._problems.append(problem)
        there = {self._now(path) for path in paths}
        return [path for path, index in place.items() if index < begun and path not in there]

    def _first_to_run(self) -> int:
        """The place of the first step that is not done, or no longer: a retry goes on where undoing has come to."""
        steps = self._state.steps
        for place, name in enumerate(self._state.names[: self._state.cursor]):
            if steps[name].status not in s.DONE:
                return place
        return self._state.cursor

    def _doing(self, path: str) -> str:
        """How a step that is not done has begun nevertheless; "" if it has not."""
        state = self._state
        if path in state.waits:
            return "which waits"
        if path in state.frames:
            return "which has begun"
        return "which has an attempt of unknown outcome" if path in state.intents or path in state.doubts else ""

    def _note(self, passed: list[str], gone: list[str]) -> None:
        state = self._state
        for name in passed:
            known = state.steps.get(name)
            back = known is not None and known.status == s.COMPLETED
            what = "is back, and done" if back else "is new before one that has begun: it is skipped here"
            self._notes.append(f"step {name!r} {what}")
        self._notes += [f"step {old!r} is now called {new!r}" for old, new in self._was.items()]
        undoable = [path for path in state.completed if self._was_one(path, UNDOABLE) and self._undo_is_gone(path)]
        self._notes += [
            f"step {name!r} is done and its compensation is gone: it will not be undone if a later step fails"
            for name in dict.fromkeys(map(declared, undoable))
        ]
        for name in (*state.names, *dict.fromkeys(map(declared, gone))):
            if self._now(name) is None and (name in state.names or name not in self._workflow.by_path):
                step = state.steps.get(name)
                done = "." in name or (step is not None and step.status in s.DONE)
                more = "is done and gone: its output and data stay" if done else "is gone: it will not run"
                self._notes.append(f"step {name!r} {more}")


def _known(state: WorkflowState) -> dict[str, set[str]]:
    """The names that the instance knows at each level, by the declared path of its lane."""
    known = {"": set(state.names)}
    for path, lane in state.lanes.items():
        known.setdefault(declared(path), set()).update(lane.names)
    for path, frame in state.frames.items():
        for key, (names, _) in () if frame.fork is None else frame.fork.bodies.items():
            inside = declared(path) if frame.kind == MAP_LETTER else f"{declared(path)}.{key}"
            known.setdefault(inside, set()).update(names)
    for path in (*state.steps, *state.kept, *state.discarded):
        if "." in path:
            lane_path, _, name = declared(path).rpartition(".")
            known.setdefault(lane_path, set()).add(name)
    return known


def _joined(lane: str, name: str) -> str:
    return f"{lane}.{name}" if lane else name
