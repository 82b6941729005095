"""Whatever is asked of one order, and wherever an invocation dies: each request happens wholly or not at all.

A reference model of a dozen lines says where the order must stand, and how many charges, once the dust has settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flux_core import state as s
from flux_core.codec import decode_record
from flux_core.testing import check_invariants
from tests.simulation.settings import commit, wait_for_go
from tests.simulation.world import REF, Setting, Step, World, playing

if TYPE_CHECKING:
    from tests.simulation.scheduler import Task

_SHAPE = (commit("charge", "verify", "retry"), wait_for_go("approval"), Step("ship"))


class Model:
    """The order as somebody would describe it who knows nothing of records."""

    def __init__(self) -> None:
        self.exists = self.approved = self.cancelled = False
        self.letters = 0
        """Signals sent and not yet received."""

    def now(self, request: str, argument: str | None) -> None:
        """`request` has happened."""
        match request:
            case "execute":
                self.exists = True
            case "signal":
                self.letters += 1
            case "cancel":
                self.cancelled = True
            case "retry":
                self.cancelled = False
                self.approved = self.approved and argument == "ship"
            case "complete" | "skip":
                self.approved = True
        self._go_on()

    def _go_on(self) -> None:
        if self.exists and not self.cancelled and not self.approved and self.letters:
            self.letters -= 1
            self.approved = True

    @property
    def status(self) -> str:
        if not self.exists:
            return s.PENDING
        if self.cancelled:
            return s.CANCELLED
        return s.COMPLETED if self.approved else s.SUSPENDED

    @property
    def charges(self) -> int:
        return int(self.exists and not self.cancelled)


_trouble = st.none() | st.tuples(st.sampled_from(("kill", "lost", "drop", "fail")), st.integers(0, 14))


class AnOrder(RuleBasedStateMachine):
    """Requests, each with or without trouble at one of its stops."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world = World(Setting(_SHAPE, (), lost=1), story=True)
        self.letters = 0
        self.before: list[bytes] = []

    # --- what may be asked -------------------------------------------------------------------------------------

    @rule(trouble=_trouble)
    def execute(self, trouble: Any) -> None:
        if self._ask(("execute",), trouble, "start"):
            self.model.now("execute", None)

    @rule(trouble=_trouble, again=st.booleans())
    def signal(self, trouble: Any, again: bool) -> None:
        if not again:
            self.letters += 1
        before = len(self.world.storage.mail(REF))
        self._ask(("signal", f"letter {self.letters}"), trouble, "")
        if len(self.world.storage.mail(REF)) > before:
            self.model.now("signal", None)
            self._settle()

    @rule(trouble=_trouble)
    def cancel(self, trouble: Any) -> None:
        if self._ask(("cancel",), trouble, "cancelreq"):
            self.model.now("cancel", None)
        self._settle()

    @rule(trouble=_trouble, step=st.sampled_from(("charge", "approval", "ship")), force=st.booleans())
    def retry(self, trouble: Any, step: str, force: bool) -> None:
        force = force and step != "charge"  # that would be a second charge on purpose
        # After a cancel the charge was undone, so everything starts over, whichever step is named.
        named = "charge" if self.model.cancelled else step
        if self._ask(("retry", step, *(("force",) if force else ())), trouble, "retry"):
            self.model.now("retry", named)
        self._settle()

    @rule(trouble=_trouble, verb=st.sampled_from(("complete", "skip")))
    def approve_by_hand(self, trouble: Any, verb: str) -> None:
        if self._ask((verb, "approval"), trouble, "resolve"):
            self.model.now(verb, None)
        self._settle()

    @rule(trouble=_trouble, verb=st.sampled_from(("wake", "recover", "resume")))
    def tick(self, trouble: Any, verb: str) -> None:
        self._ask((verb,), trouble, "")

    @rule()
    def time_passes(self) -> None:
        self.world.clock.time = self.world.next_time() or self.world.clock.time

    @rule()
    def the_dust_settles(self) -> None:
        self._settle()

    # --- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def no_rule_is_broken(self) -> None:
        self.world.judge()
        if self.world.storage.tail(REF) is not None:
            check_invariants(self.world.storage, REF, before=self.before)
        self.before = self.world.storage.read(REF)

    def _settle(self) -> None:
        self._ask(("wake",), None, "")  # who was not answered asks again
        with playing(self.world):
            self.world.settle()
        assert self.world.ledger.state.status == self.model.status
        provider = self.world.ledger.provider
        undone = [value for value in provider.values() if str(value).startswith("undone")]
        assert len(provider) - 2 * len(undone) - self._shipped() == self.model.charges

    def _shipped(self) -> int:
        return len({key for key, value in self.world.ledger.provider.items() if str(value).startswith("ship")})

    def _ask(self, spec: tuple[str, ...], trouble: tuple[str, int] | None, kind: str) -> bool:
        """Whether the request went into the log, whatever its sender was told."""
        before = self._count(kind)
        task = self.world.join(spec)
        with playing(self.world):
            _carry(self.world, task, trouble)
        return self._count(kind) > before

    def _count(self, kind: str) -> int:
        return sum(
            decode_record(raw, REF, seq).type == kind for seq, raw in enumerate(self.world.storage.read(REF))
        )  # fmt: skip


def _carry(world: World, task: Task, trouble: tuple[str, int] | None) -> None:
    """Let the task run to its end, but for the trouble at one stop."""
    stops = 0
    while task.alive:
        verb = "go"
        stop = task.stop
        if trouble is not None and stop is not None:
            fits = {
                "kill": True,
                "lost": stop.kind == "call" and stop.writes,
                "drop": stop.kind == "call",
                "fail": stop.kind == "effect",
            }
            if stops >= trouble[1] and fits[trouble[0]]:
                verb, trouble = trouble[0], None
            stops += 1
        world.step(task, verb)


TestAnOrder = AnOrder.TestCase
TestAnOrder.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
