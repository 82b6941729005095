"""What the answer of a condition, a selector or a number of times means for a branch or loop. It calls nothing."""

from __future__ import annotations

from flux_core.directives import Directive
from flux_core.errors import NonRetryable
from flux_core.workflow import DEFAULT, ELSE, IF, LOOP, SWITCH, THEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.workflow import StepDefinition


def choice_of(step: StepDefinition, answer: object) -> str | int:
    """The case, the number of iterations, or whether a while goes on; `NonRetryable` says what should be returned."""
    if isinstance(answer, Directive):
        message = f"{step.path!r} asks what to do, and cannot wait or sleep: put a .wait or .sleep before it"
        raise NonRetryable(message)
    if step.kind == SWITCH:
        return _case(step, answer)
    if step.kind == LOOP:
        if type(answer) is not int or answer < 0:
            message = f"the times of loop {step.path!r} must be a whole number from 0 on; got {answer!r:.80}"
            raise NonRetryable(message)
        return answer
    holds = bool(answer)
    return (THEN if holds else ELSE) if step.kind == IF else holds


def _case(step: StepDefinition, answer: object) -> str:
    bodies = step.bodies or {}
    if isinstance(answer, str):
        for case in bodies:
            if case == answer and case != DEFAULT:
                return case
    if DEFAULT in bodies:
        return DEFAULT
    message = (
        f"the selector of switch {step.path!r} returned {answer!r:.80}, and there is no such case; the cases are "
        f"{', '.join(bodies)}; add it, or a default="
    )
    raise NonRetryable(message)
