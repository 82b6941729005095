"""The engine with one rule about forks or children broken: what a shape or a race must catch. For tests only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core import loop
from flux_core import records as r
from flux_core.episode import Episode
from flux_core.errors import LeaseLost
from flux_core.family import Errand, Family
from flux_core.machine import children, decision, evolve, forks, rewind, waiting
from flux_core.machine.children import needed
from flux_core.machine.lanes import dropped
from flux_core.state import Starting
from tests.simulation.mutants import Patch, _instead_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.actions import Decision
    from flux_core.family import Errands
    from flux_core.ports import InstanceRef
    from flux_core.records import Record
    from flux_core.state import Fork, Frame, WorkflowState


def _child_before_its_record() -> list[Patch]:
    record_all = loop._Run._record

    def hasty(self: Any, records: tuple[Record, ...]) -> int:
        for record in records:
            if record.type == r.CHILD:
                body, state = record.body, self.episode.state
                starting = _starting(state.seq + 1, body)
                self._family.start(self.episode.ref, state, starting, self.errands)
        return record_all(self, records)

    return [(loop._Run, "_record", hasty)]


def _starting(seq: int, body: dict[str, Any]) -> Starting:
    return Starting(seq, body["p"], body["wf"], body["id"], body["ih"], "wait" in body, body["in"])


def _end_without_entry() -> list[Patch]:
    end = decision._end

    def bare(state: WorkflowState, status: str, now: int) -> Decision:
        made = end(state, status, now)
        for record in made.records:
            record.header = (status, None)
        return made

    return [(decision, "_end", bare)]


def _needs_one_too_many() -> list[Patch]:
    def more(state: WorkflowState) -> int:
        return needed(state) + 1

    return _instead_of(needed, more)


def _no_conflicts() -> list[Patch]:
    def none(owner: str, frame: Frame) -> dict[str, list[str]]:
        return {}

    return _instead_of(forks.conflicts, none)


def _failed_lanes_go_on() -> list[Patch]:
    def undropped(state: WorkflowState, lane_path: str, fork: Fork, error: Any, at: int) -> None:
        dropped(state, lane_path, fork, error, at)
        del fork.failed[lane_path]

    return _instead_of(dropped, undropped)


def _lets_go_at_once() -> list[Patch]:
    return [(loop, "_LETTING_GO", ())]


def _data_of_no_lane() -> list[Patch]:
    def of_the_fork(state: WorkflowState, path: str) -> dict[str, object]:
        return dict(state.data)

    return _instead_of(forks.seen_data, of_the_fork)


def _open_children_are_left() -> list[Patch]:
    return _instead_of(children.undone_first, lambda *args: None)


def _forgets_other_doubts() -> list[Patch]:
    return [(rewind, "_is_beside", lambda *args: False)]


def _entry_removed(before: str) -> list[Patch]:
    """A child's entry leaves the index before its parent is told (`mail`), or ticked (`tick`)."""

    def tell(self: Family, ref: InstanceRef, state: WorkflowState, errands: Errands) -> None:
        header = self._storage.header(ref)
        assert header is not None
        if header.due is not None and before == "mail":
            self._storage.settle(ref, header.seq, header.due, None)
        elif header.due is not None:
            errands.add(Errand(ref, (header.seq, header.due)))
        told(self, ref, state, errands)

    told = Family.tell
    return [(Family, "tell", tell)]


def _no_second_look() -> list[Patch]:
    suspend = waiting.suspend
    return _instead_of(suspend, lambda state, now, due, *, mail, running=False: suspend(state, now, due, mail=False))


def _more_lanes_than_the_limit() -> list[Patch]:
    def all_at_once(owner: str, frame: Frame, running: list[str]) -> list[str]:
        fork = frame.fork
        assert fork is not None
        limit, fork.limit = fork.limit, 0
        try:
            return list(beginning(owner, frame, running))
        finally:
            fork.limit = limit

    beginning = forks._beginning
    return [(forks, "_beginning", all_at_once), *_instead_of(forks.beginning, lambda *args: (None, False))]


def _goes_on_without_its_lease() -> list[Patch]:
    append = Episode._append

    def deaf(self: Episode, record: Record) -> bool:
        try:
            return append(self, record)
        except LeaseLost:
            if not self.state.frames:
                raise
            evolve(self.state, record)
            return True

    return [(Episode, "_append", deaf)]


MUTANTS: dict[str, tuple[Callable[[], list[Patch]], str]] = {
    "a child ends without an entry in the index": (_end_without_entry, "a child that waits itself"),
    "a parent waits for one child too many": (_needs_one_too_many, "a map of children"),
    "what branches write against each other just comes together": (_no_conflicts, "branches that write the same"),
    "a branch that has failed goes on": (_failed_lanes_go_on, "a failure held back until all branches have ended"),
    "the instance is let go while attempts are under way": (_lets_go_at_once, "a branch settled by hand"),
    "a compensator sees the data of the fork, not of its branch": (_data_of_no_lane, "a map of which one item fails"),
    "a parent is undone before its open children": (_open_children_are_left, "cancel with an open child"),
    "a retry is refused while another branch is in doubt": (_forgets_other_doubts, "a branch settled by hand"),
}
"""How each is broken, and the shape in which that shows."""

RACE_MUTANTS: dict[str, tuple[Callable[[], list[Patch]], str, str]] = {
    "a child is created before its record": (
        _child_before_its_record,
        "a child's end, its parent's suspend and a death",
        "rule 18",
    ),
    "a child ends without an entry in the index": (
        _end_without_entry,
        "a child's end, its parent's suspend and a death",
        "I7",
    ),
    "a child's entry is removed before its parent is told": (
        lambda: _entry_removed("mail"),
        "a child's end, a sweeper and a death",
        "I7",
    ),
    "a child's entry is removed before its parent is ticked": (
        lambda: _entry_removed("tick"),
        "a child's end, a sweeper and a death",
        "L1",
    ),
    "a parent that suspends does not look again for the end of its child": (
        _no_second_look,
        "a child's end, its parent's suspend and a death",
        "L1",
    ),
    "a parent waits for one child too many": (_needs_one_too_many, "the ends of two children of a map", "L"),
    "a parent is undone before its open children": (_open_children_are_left, "cancel and a child's end", "rule 18"),
    "an invocation that has lost its lease goes on in a fork": (
        _goes_on_without_its_lease,
        "a lease is stolen while two of three branches run",
        "I6",
    ),
    "a fork lets more branches begin than it may": (
        _more_lanes_than_the_limit,
        "a lease is stolen while two of three branches run",
        "I11",
    ),
}
"""How each is broken, the race in which that shows, and the rule that is seen broken."""
