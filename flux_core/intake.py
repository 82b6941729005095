"""An input as records keep it: checked against the workflow, encoded, and hashed. It starts nothing."""

from __future__ import annotations

from flux_core.errors import InputInvalid, Unserialisable
from flux_core.keys import content_hash
from flux_core.values import canonical, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.workflow import WorkflowDefinition


def checked_input(definition: WorkflowDefinition, given: object) -> tuple[object, str]:
    """What a start record keeps of `given`, and its hash; `InputInvalid` says what does not fit."""
    validator = definition.validator
    try:
        raw = encode(given if validator is None else validator.raw(given), "the input").value
        if validator is not None:
            validator.parse(raw)
        return raw, content_hash(canonical(raw))
    except Unserialisable as error:
        message = f"workflow {definition.name!r}: {error}"
        raise InputInvalid(message) from error
