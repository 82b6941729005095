"""Random lives of one instance under changing definitions, in the engine and in a model of the rules, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core import FluxEngine, InstanceRef, MemoryStorage, NonRetryable, Refused, create_workflow, wait
from flux_core.testing import SeededEntropy, VirtualClock, check_invariants
from tests.simulation.changes_model import Model, Spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from flux_core import Context, WorkflowBuilder
    from tests.simulation.changes_model import Call, Specs


class Comparison:
    """One random life of one instance, in the engine and in the model."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._storage = MemoryStorage()
        self._clock = VirtualClock()
        self._entropy = SeededEntropy(dice.randrange(1 << 30))
        self._calls: list[Call] = []
        self._keys: set[str] = set()
        self._padding = "x" * 20_000 if dice.random() < 0.1 else ""  # so that there are snapshots
        self._drawn: list[Specs] = [tuple(self._spec(name) for name in _NAMES[: dice.choice((2, 3, 4, 5))])]
        self.model = Model(self._drawn[0])
        self.told: list[str] = []
        """What was done, for the message of a failure."""

    def play(self) -> None:
        """Raise `AssertionError` as soon as the two differ."""
        dice, model = self._dice, self.model
        specs = model.specs
        model.fails = {spec.name for spec in specs if dice.random() < 0.15}
        self._compare("execute", specs)
        for _ in range(dice.choice((4, 8, 12))):
            specs = self._changed(dice.choice(self._drawn[-3:])) if dice.random() < 0.5 else dice.choice(self._drawn)
            model.fails = {spec.name for spec in specs if dice.random() < 0.2}
            possible = self._engine().check(self._workflow(specs), "o-1").possible
            assert possible == model.take_over(specs, only_look=True), f"check of {_shown(specs)} after {self.told}"
            self._do(dice.choice(_VERBS), specs)

    def _do(self, verb: str, specs: Specs) -> None:
        model, dice = self.model, self._dice
        if verb == "signal":
            self._compare(verb, specs, "go")
        elif verb == "cancel":
            if model.status != "blocked":
                self._compare(verb, model.specs)
        elif verb == "resume":
            if model.status in {"failed", "rolled_back"} and model.may_retry(specs):
                self._compare(verb, specs)
        elif verb == "retry_step":
            if model.may_retry(specs):
                self._compare(verb, specs, dice.choice(specs).name, force=dice.random() < 0.3)
        else:
            self._compare(verb, specs)

    def _compare(self, verb: str, specs: Specs, *arguments: str, **options: bool) -> None:
        model, engine, workflow = self.model, self._engine(), self._workflow(specs)
        self.told.append(" ".join((verb, *arguments, *(name for name, on in options.items() if on), _shown(specs))))
        allowed = getattr(model, verb)(specs, *arguments, **options)
        refused = ""
        try:
            if verb == "execute":
                engine.execute(workflow, None, "o-1")
            else:
                getattr(engine, verb)(workflow, "o-1", *arguments, **options)
        except Refused as error:
            refused = str(error)
        result = engine.get(workflow, "o-1")
        found = (
            not refused,
            result.status,
            {step.name: step.status for step in result.history},
            self._calls,
            {key: value for key, value in result.data.items() if key != "padding"},
        )
        wanted = (allowed, model.status, model.history(), model.calls, model.data())
        for one, other in zip(found, wanted, strict=True):
            assert one == other, f"the engine: {one}\nthe model: {other}\nafter {self.told}\n{refused}"
        check_invariants(self._storage, InstanceRef("default", "order", "o-1"), at_rest=True)

    def _engine(self) -> FluxEngine:
        return FluxEngine(self._storage, clock=self._clock, entropy=self._entropy, default_timeout=None)

    # --- definitions -----------------------------------------------------------------------------------------

    def _spec(self, name: str) -> Spec:
        dice = self._dice
        kind = dice.choice(("step", "step", "commit", "commit", "wait", "wait"))
        return Spec(name, kind == "commit", kind == "wait", dice.random() < 0.35)

    def _changed(self, specs: Specs) -> Specs:
        dice, steps = self._dice, list(specs)
        for _ in range(dice.choice((1, 1, 2))):
            free = sorted(set(_NAMES) - {step.name for step in steps})
            at, name = dice.randrange(len(steps)), dice.choice(free)
            match dice.choice(("insert", "remove", "rename", "rename", "swap", "kind", "join")):
                case "insert" if len(steps) < len(_NAMES) - 2:
                    steps.insert(dice.randrange(len(steps) + 1), self._spec(name))
                case "remove" if len(steps) > 1:
                    steps.pop(at)
                case "rename":
                    step = steps[at]
                    aliases = (step.name, *step.aliases) if dice.random() < 0.8 else ()
                    steps[at] = step._replace(name=name, aliases=aliases)
                case "swap":
                    steps.insert(dice.randrange(len(steps)), steps.pop(at))
                case "kind":
                    steps[at] = self._spec(steps[at].name)._replace(aliases=steps[at].aliases)
                case "join" if len(steps) > at + 1:
                    gone = steps.pop(at + 1)
                    steps[at] = steps[at]._replace(aliases=(*steps[at].aliases, gone.name, *gone.aliases))
                case _:
                    pass
        taken = {step.name for step in steps}
        for index, step in enumerate(steps):
            aliases = tuple(dict.fromkeys(alias for alias in step.aliases if alias not in taken))
            taken.update(aliases)
            steps[index] = step._replace(aliases=aliases)
        self._drawn.append(tuple(steps))
        return tuple(steps)

    def _workflow(self, specs: Specs) -> WorkflowBuilder:
        workflow = create_workflow("order")
        for spec in specs:
            options: dict[str, Any] = {"aliases": spec.aliases}
            if spec.undo:
                options["compensate"] = self._undoing(spec.name)
            (workflow.commit if spec.commit else workflow.step)(spec.name, self._handler(spec), **options)
        return workflow

    def _handler(self, spec: Spec) -> Callable[[Context], object]:
        def handler(ctx: Context) -> object:
            self._calls.append((spec.name, _seen(ctx)))
            if spec.name in self.model.fails:
                raise NonRetryable(spec.name)
            if not spec.waits:
                assert ctx.idempotency_key not in self._keys, f"{spec.name} has a key that was used, after {self.told}"
                self._keys.add(ctx.idempotency_key)
            ctx.data[spec.name] = self._number()
            if self._padding:
                ctx.data.padding = f"{self._padding}{len(self._calls)}"
            return wait("go") if spec.waits else None

        return handler

    def _undoing(self, name: str) -> Callable[[Context], object]:
        return lambda ctx: self._calls.append((f"undo {name}", _seen(ctx)))

    _count = 0

    def _number(self) -> int:
        self._count += 1
        return self._count


def _seen(ctx: Context) -> dict[str, object]:
    return {key: value for key, value in ctx.data.items() if key != "padding"}


def _shown(specs: Specs) -> str:
    return " ".join(
        f"{spec.name}{'!' * spec.commit}{'?' * spec.waits}{'~' * spec.undo}{''.join(f'<{a}' for a in spec.aliases)}"
        for spec in specs
    )


_NAMES = "abcdefgh"
_VERBS = (
    "signal",
    "signal",
    "signal",
    "retry_step",
    "retry_step",
    "resume",
    "resume",
    "cancel",
    "wake",
    "pause",
    "unpause",
)
