"""Every rule about what may happen to an instance, and nothing else.

Rule 1: time, jitter and what the outside answered are arguments; nothing here reads a clock, draws a number or
does I/O. Rule 2: `decide` returns records and an action and changes nothing; the shell makes the records durable,
folds them with `evolve`, and only then carries out the action. Rule 3: after any crash, folding the log and asking
`decide(..., ADVANCED)` continues where the log ends; only what was in memory may be lost.

    StepSucceeded --decide--> [step] + Proceed --append, evolve--> ADVANCED --decide--> [intent] + RunStep ...
"""

from flux_core.machine.adoption import Continuation, continuation
from flux_core.machine.decision import decide
from flux_core.machine.evolution import evolve, fold
from flux_core.machine.lanes import current, said
from flux_core.machine.rewind import failed_step
from flux_core.machine.verbs import VERBS, check_verb
from flux_core.machine.waiting import MOST_SIGNALS
from flux_core.machine.waking import MOST_DEATHS, is_due, may_start, renewal, start, takeover_at, timer, unowned_start

__all__ = [
    "MOST_DEATHS",
    "MOST_SIGNALS",
    "VERBS",
    "Continuation",
    "check_verb",
    "continuation",
    "current",
    "decide",
    "evolve",
    "failed_step",
    "fold",
    "is_due",
    "may_start",
    "renewal",
    "said",
    "start",
    "takeover_at",
    "timer",
    "unowned_start",
]
