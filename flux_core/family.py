"""Parents and children: creating a child, telling a parent of its end, cancelling. It must not contain a rule.

What has to be ticked because of it is left as errands for whoever holds the invocation; should that one die, the due
index leads the next one there (PROTOCOL rule 18).
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_record, encode_payload
from flux_core.errors import PurgeUnfinished, Refused, StorageUnavailable, UnknownInstance
from flux_core.events import CancelRequested, RetryRequested
from flux_core.keys import mail_id
from flux_core.load import load
from flux_core.machine import check_verb, failed_step, unowned_start
from flux_core.machine.children import end_of
from flux_core.machine.identity import end_id, end_signal, is_end_signal
from flux_core.machine.verbs import ALLOWED, NO_OP
from flux_core.ports import InstanceRef, Mail
from flux_core.state import ErrorInfo, WorkflowState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.control import Control, Log
    from flux_core.events import Event
    from flux_core.ports import Clock, WorkflowStorage
    from flux_core.records import Record
    from flux_core.state import Starting
    from flux_core.workflow import WorkflowDefinition


class Errand:
    """What is left to do once an invocation has let go of its instance: a tick, or an entry that is done with."""

    __slots__ = ("downward", "if_enough", "ref", "settles")

    def __init__(
        self,
        ref: InstanceRef,
        settles: tuple[int, int] | None = None,
        *,
        if_enough: bool = False,
        downward: bool = False,
    ) -> None:
        self.ref = ref
        self.downward = downward
        """Whether it is the tick of a child, which need not be done in this invocation."""
        self.settles = settles
        """The sequence number and the due entry to remove; None: tick the instance."""
        self.if_enough = if_enough
        """Tick it only if the mailbox has as many ends of children as it waits for."""


class Errands:
    """The errands of one invocation, in order. A tick that is already to come is not put behind once more."""

    def __init__(self) -> None:
        self._queue: list[Errand] = []
        self._ticks: dict[InstanceRef, Errand] = {}
        self.downward = 0
        """How many of them are ticks of children."""

    def add(self, errand: Errand) -> None:
        """To be done after those that are there."""
        if errand.settles is None:
            known = self._ticks.setdefault(errand.ref, errand)
            if known is not errand:
                known.if_enough = known.if_enough and errand.if_enough
                return
        self.downward += errand.downward
        self._queue.append(errand)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def next(self) -> Errand:
        """The first one, which is taken out."""
        errand = self._queue.pop(0)
        self.downward -= errand.downward
        if errand.settles is None:
            del self._ticks[errand.ref]
        return errand


class Family:
    """The relations between instances of one store."""

    def __init__(
        self,
        storage: WorkflowStorage,
        clock: Clock,
        control: Control,
        definition_of: Callable[[object], WorkflowDefinition],
    ) -> None:
        """`definition_of` finds a workflow by what a child step says: an object or a name; `UnknownWorkflow`."""
        self._storage = storage
        self._clock = clock
        self._control = control
        self.definition_of = definition_of

    def start(self, parent: InstanceRef, state: WorkflowState, starting: Starting, errands: Errands) -> None:
        """Create the child that is asked for; one that is there already goes on, if it has failed before."""
        definition = self.definition_of(starting.workflow)
        ref = InstanceRef(parent.tenant, starting.workflow, starting.id)
        kin = [parent.workflow, parent.id, starting.path] if starting.waits else None
        first = unowned_start(definition, starting.input, starting.input_hash, kin, self._clock.now())
        try:
            child = self._begun_or_found(ref, definition, first, state)
        except PurgeUnfinished as error:
            if not starting.waits:
                message = f"{parent.workflow}/{parent.id} cannot start a child yet: {error}"
                raise StorageUnavailable(message) from error
            # Nobody can create it before it is gone: the step fails, and says what to do.
            gone = _gone(ref, f"{error}; then retry the step {starting.path!r} of {parent.workflow}/{parent.id}")
            self._put_end(parent, gone, f"{ref.id}.deleted.{starting.seq}")
            return
        if child is not None and starting.waits and child.terminal and _has_heard(state, child):
            # It was cancelled, or cannot go on, and stays so: the step hears of it once more, and fails again.
            self._put_end(parent, child, f"{end_id(child)}.{state.generation}")
        errands.add(Errand(ref, downward=True))

    def _begun_or_found(
        self, ref: InstanceRef, definition: WorkflowDefinition, first: Record, parent: WorkflowState
    ) -> WorkflowState | None:
        """None for a child that is now created, else the one that was there, opened again if it is to be."""
        while self._control.begin(ref, definition, first) is None:
            try:
                return self._control.request(ref, definition, lambda child, log: _again(child, log, parent)).state
            except Refused:  # somebody has to settle something there first, a compensation that failed for example
                return load(self._storage, ref).state
            except PurgeUnfinished:
                raise
            except UnknownInstance:  # its deletion has come to its end just now: create it
                continue
        return None

    def cancel(self, parent: InstanceRef, child: str, errands: Errands) -> None:
        """Cancel a child (`workflow/id`), unless it has ended."""
        workflow, _, id_ = child.partition("/")
        ref = InstanceRef(parent.tenant, workflow, id_)

        def request(state: WorkflowState, _log: Log) -> Event | None:
            if state.terminal or state.undoing or check_verb("cancel", state) == NO_OP:
                return None
            return CancelRequested(f"its parent {parent.workflow}/{parent.id} is being undone", None)

        try:
            self._control.request(ref, self.definition_of(workflow), request)
        except UnknownInstance:
            # It was deleted, or left behind when its parent was imported: nobody but us can tell of an end.
            self._put_end(parent, _gone(ref, "it is not in the store"), f"{id_}.gone")
            return
        errands.add(Errand(ref, downward=True))

    def tell(self, ref: InstanceRef, state: WorkflowState, errands: Errands) -> None:
        """Put the end of an instance into its parent's mailbox, and have the parent ticked if that is of use."""
        assert state.parent is not None  # noqa: S101 -- only children tell
        workflow, id_, _ = state.parent
        parent = InstanceRef(ref.tenant, workflow, id_)
        if self._tail(parent) is not None:
            self._put_end(parent, state, end_id(state))
            errands.add(Errand(parent, if_enough=state.status == s.COMPLETED))
        header = self._storage.header(ref)
        if header is not None and header.due is not None:
            errands.add(Errand(ref, (header.seq, header.due)))

    def _tail(self, parent: InstanceRef) -> tuple[int, bytes] | None:
        try:
            return self._storage.tail(parent)
        except PurgeUnfinished:
            return None  # whoever is being deleted need not hear of anything

    def _put_end(self, parent: InstanceRef, state: WorkflowState, id_: str) -> None:
        mail = Mail(end_signal(state.id), mail_id(id_), self._clock.now(), encode_payload(end_of(state)))
        self._storage.put_mail(parent, mail)

    def is_enough(self, parent: InstanceRef) -> bool:
        """Whether a tick finds as many ends of children as the parent waits for, read after the mail (rules 5, 18)."""
        tail = self._tail(parent)
        if tail is None:
            return False
        last = decode_record(tail[1], parent, tail[0])
        need = last.body.get("need", 1) if last.type == r.SUSP else 1
        return need == 1 or sum(is_end_signal(mail.name) for mail in self._storage.mail(parent)) >= need


def _again(child: WorkflowState, log: Log, parent: WorkflowState) -> Event | None:
    """A child whose failure its parent has heard of goes on where it failed; nothing to do for any other."""
    if (
        not _has_heard(parent, child)
        or not child.terminal
        or child.status == s.CANCELLED
        or check_verb("resume", child) != ALLOWED
    ):
        return None
    why = f"its parent {parent.name}/{parent.id} retries the step"
    return RetryRequested(failed_step(child), log(), why, None, force=False)


def _gone(ref: InstanceRef, why: str) -> WorkflowState:
    """A child that is not there any more, as its parent hears of it."""
    state = WorkflowState(*ref)
    state.status, state.error = s.CANCELLED, ErrorInfo("UnknownInstance", why, None)
    return state


def _has_heard(parent: WorkflowState, child: WorkflowState) -> bool:
    return f"{end_signal(child.id)}/{mail_id(end_id(child))}" in parent.consumed
