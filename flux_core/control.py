"""Records that are appended without owning the instance: what verbs ask for (PROTOCOL rule 6), a child's first.

It must not decide what a verb may do (`machine.verbs` does), and it ticks nobody.
"""

from __future__ import annotations

from flux_core.episode import write_record
from flux_core.events import DefinitionChanged, RetryRequested, StepResolved
from flux_core.load import load, load_log
from flux_core.machine import decide, evolve
from flux_core.state import WorkflowState
from flux_core.trace import Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.events import Event
    from flux_core.load import Loaded
    from flux_core.ports import Clock, Entropy, InstanceRef, WorkflowStorage
    from flux_core.records import Record
    from flux_core.trace import Telemetry
    from flux_core.workflow import WorkflowDefinition

    Log = Callable[[], list[Record]]
    Request = Callable[[WorkflowState, Log], Event | None]


class Control:
    """Appends for verbs, over one store."""

    def __init__(self, storage: WorkflowStorage, clock: Clock, entropy: Entropy, telemetry: Telemetry) -> None:
        self._storage = storage
        self._clock = clock
        self._entropy = entropy
        self._telemetry = telemetry

    def request(self, ref: InstanceRef, definition: WorkflowDefinition, request: Request) -> Loaded:
        """Append what `request` makes of the instance (None: nothing); the instance with it.

        Another record that comes first is no obstacle: `request` is asked again.
        """
        while True:
            loaded = load(self._storage, ref)
            state = loaded.state
            event = request(state, lambda: load_log(self._storage, ref))
            if isinstance(event, RetryRequested | StepResolved) and state.fingerprint != definition.fingerprint:
                # These name steps, so the instance takes over the definition that they are the steps of first.
                self._append(ref, definition, loaded, DefinitionChanged())
                continue
            if event is None or self._append(ref, definition, loaded, event):
                return loaded

    def begin(self, ref: InstanceRef, definition: WorkflowDefinition, first: Record) -> WorkflowState | None:
        """Append the first record of an instance that nobody owns yet; None if there is one already."""
        state = WorkflowState(*ref)
        return state if self._write(ref, definition, state, first) else None

    def _append(self, ref: InstanceRef, definition: WorkflowDefinition, loaded: Loaded, event: Event) -> bool:
        (record,) = decide(definition, loaded.state, event, self._clock.now()).records
        return self._write(ref, definition, loaded.state, record)

    def _write(self, ref: InstanceRef, definition: WorkflowDefinition, state: WorkflowState, record: Record) -> bool:
        record.by, record.counter = self._entropy.token(), 1
        if not write_record(self._storage, ref, state, record):
            return False
        evolve(state, record)
        if not self._telemetry.idle:
            self._telemetry.recorded(Watched(ref, definition, state), record)
        return True
