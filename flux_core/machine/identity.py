"""By which keys others know what a step does: idempotency keys, the ids of children, and the signal of a child's end.

Pure like all of the machine.
"""

from __future__ import annotations

from flux_core.keys import idempotency_key
from flux_core.paths import renamed
from flux_core.workflow import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.state import WorkflowState


def key_of(state: WorkflowState, path: str) -> str:
    """The idempotency key of a step's next attempt or open one, of its compensation's if `path` says so."""
    step = path.removesuffix(UNDO)
    origin = renamed(step, state.origins) if state.origins else step  # a renamed step keeps its key
    k = state.discarded.get(step, 0)
    return idempotency_key(state.tenant, state.name, state.id, origin + path[len(step) :], k)


def child_id(state: WorkflowState, path: str) -> str:
    """The id of the child that a step starts: another one once the step's success was undone (PROTOCOL rule 18)."""
    return f"c-{key_of(state, path)}"


def end_signal(child: str) -> str:
    """The name of the mail that tells of a child's end; no signal of a user's can have it."""
    return f"__{child}__"


def end_id(child: WorkflowState) -> str:
    """What its end is known by: one that was opened again ends again, and so does one under the id of a deleted one."""
    return f"{child.id}.{child.created_at}.{child.generation}"


def is_end_signal(name: str) -> bool:
    """Whether mail of that name (or of a key that begins with it) tells of a child's end."""
    return name.startswith("__c-")
