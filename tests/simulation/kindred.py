"""An instance and all that its steps have started, as a store has them: who they are, and what is the same about them.

The ids of children follow from their parent's, and so differ between runs. Here they have labels, which do not: the
path of the step that started them, behind the label of its instance. It must not know how a run is driven.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from flux_core import InstanceRef, WorkflowBuilder, WorkflowDefinition
from flux_core import records as r
from flux_core.codec import decode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core import WorkflowStorage


class Member(NamedTuple):
    """One instance of a family."""

    ref: InstanceRef
    label: str
    """"" for the instance that was executed, `ship` for the child of its step `ship`, `ship/down` for that one's."""


def members(store: WorkflowStorage, first: InstanceRef) -> list[Member]:
    """`first`, whether or not it is there, then every child that is, parents before children."""
    found = [Member(first, "")]
    known = {first}
    for ref, label in found:  # it grows meanwhile
        started: Counter[str] = Counter()
        for seq, raw in enumerate(store.read(ref)):
            if b'"t":"child"' not in raw:
                continue
            record = decode_record(raw, ref, seq)
            if record.type != r.CHILD:
                continue
            path, child = record.body["p"], InstanceRef(ref.tenant, record.body["wf"], record.body["id"])
            if child in known:
                continue
            known.add(child)
            started[path] += 1
            again = f"#{started[path]}" if started[path] > 1 else ""
            if store.tail(child) is not None:
                found.append(Member(child, f"{label}/{path}{again}".lstrip("/")))
    return found


def definitions(first: WorkflowDefinition) -> dict[str, WorkflowDefinition]:
    """`first` and the workflows of its children, by name."""
    found = {first.name: first}
    left = [first]
    for definition in left:  # it grows meanwhile
        for child in _children(definition):
            if child.name not in found:
                found[child.name] = child
                left.append(child)
    return found


def _children(definition: WorkflowDefinition) -> Iterator[WorkflowDefinition]:
    for step in definition.by_path.values():
        if step.child is not None and isinstance(step.child.workflow, WorkflowBuilder | WorkflowDefinition):
            yield step.child.workflow.build()


def labelled(value: object, labels: dict[str, str]) -> object:
    """`value` with the labels of children in the place of their ids."""
    match value:
        case str():
            return labels.get(value, value)
        case list():
            return [labelled(one, labels) for one in value]
        case dict():
            return {key: labelled(one, labels) for key, one in value.items()}
        case _:
            return value
