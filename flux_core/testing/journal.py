"""What the outside world has seen of an instance: effects, journalled by the handlers of tests.

It must not judge; `check_invariants` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.workflow import UNDO

if TYPE_CHECKING:
    from flux_core.context import Context
    from flux_core.ports import WorkflowStorage

RUN: Final = "run"
"""`Effect.what` of a handler's effect."""
UNDONE: Final = "undo"
"""`Effect.what` of a compensator's effect."""


class Effect(NamedTuple):
    """One effect on the outside world, as a handler or compensator journalled it when it began."""

    path: str
    """The step's path; compensations have the suffix `~undo`."""
    attempt: int
    key: str
    """The idempotency key the other side was given."""
    what: str
    """`run` or `undo`."""
    epoch: int | None = None
    """The epoch of the owner that caused it."""
    tail: int | None = None
    """The number of the newest record when it began; None if the journal has no store to look at."""


class Journal(list[Effect]):
    """What the outside world has seen of one instance. Handlers call `note`; `check_invariants` reads it."""

    def __init__(self, storage: WorkflowStorage | None = None) -> None:
        """`storage` (the store itself, not a faulty connection to it) tells how long the log was at each effect."""
        super().__init__()
        self._storage = storage

    def note(self, ctx: Context, what: str = RUN) -> Effect:
        """Put on paper that the handler (or, with "undo", the compensator) of `ctx` has an effect now."""
        around = ctx._live()  # noqa: SLF001 -- the journal compares what the engine believed with what the store has
        tail = None if self._storage is None else self._storage.tail(around.ref)
        effect = Effect(
            f"{ctx.path}{UNDO if what == UNDONE else ''}",
            ctx.attempt,
            ctx.idempotency_key,
            what,
            around.state.epoch,
            None if tail is None else tail[0],
        )
        self.append(effect)
        return effect
