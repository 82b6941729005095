"""What the answer of a condition, a selector, a number of times or a function of items means. It calls nothing."""

from __future__ import annotations

from flux_core.directives import Directive
from flux_core.errors import NonRetryable
from flux_core.workflow import DEFAULT, ELSE, IF, LOOP, PARALLEL, SWITCH, THEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flux_core.workflow import StepDefinition


def choice_of(step: StepDefinition, answer: object) -> str | int:
    """The case, the number of iterations or branches, or whether a while goes on; `NonRetryable` if it is none."""
    if step.kind == PARALLEL:
        return len(step.bodies or ())
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


def items_of(step: StepDefinition, answer: object) -> list[object]:
    """What a map goes through; `NonRetryable` says what should be returned."""
    if isinstance(answer, (str, bytes, dict, Directive)) or not hasattr(answer, "__iter__"):
        message = f"the items of map {step.path!r} must be a list, or something else to go through; got {answer!r:.80}"
        raise NonRetryable(message)
    return list(answer)


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
