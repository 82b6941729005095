"""Settings and schedules drawn from a seed: the same seed is the same run, on every machine."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.simulation.world import Setting, Step, Violated, World

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tests.simulation.scheduler import Choice


def drawn_steps(dice: Random) -> tuple[Step, ...]:
    """One to four steps of every kind."""
    steps = []
    for name in "abcd"[: dice.choice((1, 2, 2, 3, 3, 4))]:
        kind = dice.choices(("step", "commit", "wait", "sleep"), (8, 7, 4, 2))[0]
        undo = dice.choice((None, None, "retry", "quarantine", "verify"))
        policy = dice.choice(("quarantine", "verify", "retry"))
        timeout = dice.choice((None, 50.0, 200.0)) if kind == "wait" else 50.0 if kind == "sleep" else None
        steps.append(Step(name, kind, policy, undo, timeout, dice.choice((0, 1, 2)), dice.random() < 0.07))
    return tuple(steps)


def _drawn_tasks(dice: Random, steps: tuple[Step, ...], *, started: bool) -> tuple[tuple[str, ...], ...]:
    tasks: list[tuple[str, ...]] = [] if started else [("execute",)]
    for _ in range(dice.choice((1, 1, 2, 2, 3))):
        verb = dice.choices(_VERBS, _WEIGHTS)[0]
        if verb == "signal":
            tasks.append((verb, dice.choice(("s1", "s1", "s2"))))
        elif verb in {"retry", "complete", "skip"}:
            tasks.append(
                (verb, dice.choice(steps).name, *(("force",) if verb == "retry" and dice.random() < 0.3 else ()))
            )
        else:
            tasks.append((verb,))
    return tuple(tasks)


_VERBS = ("execute", "signal", "cancel", "retry", "resume", "wake", "recover", "complete", "skip", "pause", "unpause")
_WEIGHTS = (2, 5, 4, 3, 2, 1, 5, 1, 1, 3, 2)


def drawn_setting(dice: Random) -> Setting:
    """A shape, what happened before, who comes, and what may go wrong."""
    steps = drawn_steps(dice)
    if dice.random() < 0.4:
        return _operators(dice, steps)
    setup: list[tuple[str, ...]] = []
    started = dice.random() < 0.4
    if started:
        if dice.random() < 0.6:
            setup.append(("fail", dice.choice(steps).name))
        setup.append(("execute",))
        if dice.random() < 0.3:
            setup.append(("signal", "s0"))
        if dice.random() < 0.2:
            setup += [("pass",), ("recover",)]
    hurried = dice.random() < 0.15
    return Setting(
        steps,
        _drawn_tasks(dice, steps, started=started),
        tuple(setup),
        kill=dice.choice((0, 0, 1, 1, 2, 3)),
        time=dice.choice((0, 1, 2, 3)),
        drop=dice.choice((0, 0, 0, 1, 2)),
        lost=dice.choice((0, 0, 1, 2, 2)),
        fail=dice.choice((0, 0, 1, 2)),
        fatal=dice.choice((0, 0, 1)),
        unknown=dice.choice((0, 0, 0, 1)),
        near=dice.random() < 0.3,
        inline=dice.choice((0.0, 2.0)),
        deadline=15.0 if hurried else None,
        work=dice.choice((0.0, 3.0, 8.0)) if hurried else 0.0,
        limit=dice.choice((20.0, 120.0, 300.0)) if dice.random() < 0.2 else None,
        snapshots=dice.random() < 0.15,
    )


def _operators(dice: Random, steps: tuple[Step, ...]) -> Setting:
    """An instance that has run, and several people who mend it at the same time."""

    def request() -> tuple[str, ...]:
        verb = dice.choice(_BY_HAND)
        if verb == "signal":
            return verb, dice.choice(("s1", "s2", "s3"))
        if verb in {"retry", "complete", "skip"}:
            return verb, dice.choice(steps).name, *(("force",) if verb == "retry" and dice.random() < 0.5 else ())
        return (verb,)

    setup: list[tuple[str, ...]] = [("fail", dice.choice(steps).name)] if dice.random() < 0.6 else []
    setup.append(("execute",))
    more = range(dice.choice((0, 1, 2, 3)))
    setup += [request() if dice.random() < 0.8 else ("fail", dice.choice(steps).name) for _ in more]
    return Setting(
        steps,
        tuple(request() for _ in range(dice.choice((2, 3, 4)))),
        tuple(setup),
        kill=dice.choice((0, 0, 1, 2)),
        time=dice.choice((0, 1, 2, 3)),
        drop=dice.choice((0, 0, 1, 2)),
        lost=dice.choice((0, 0, 1, 2)),
        fail=dice.choice((0, 1, 2)),
        fatal=dice.choice((0, 1)),
        unknown=dice.choice((0, 0, 1)),
        near=dice.random() < 0.3,
        inline=dice.choice((0.0, 2.0)),
        snapshots=dice.random() < 0.15,
    )


_BY_HAND = (
    "retry", "retry", "complete", "skip", "resume", "cancel", "signal", "recover", "execute", "pause", "unpause",
)  # fmt: skip


class Drawn:
    """Mostly lets somebody go on, preferably the one who went last; now and then something goes wrong."""

    def __init__(self, dice: Random) -> None:
        self._random = dice.random
        self._sticky = dice.choice((0.0, 0.5, 0.9))
        self._trouble = dice.choice((0.05, 0.15, 0.4))
        self._last = -1

    def choose(self, options: list[Choice], state: Callable[[], Hashable]) -> int | None:
        random = self._random
        going = [place for place, option in enumerate(options) if option.verb == "go"]
        if len(going) < len(options) and random() < self._trouble:
            others = [place for place, option in enumerate(options) if option.verb != "go"]
            return others[int(random() * len(others))]
        if random() < self._sticky:
            for place in going:
                if options[place].task == self._last:
                    return place
        place = going[int(random() * len(going))]
        self._last = options[place].task
        return place

    def knows(self, state: Callable[[], Hashable]) -> bool:
        return False


def play(seed: int, *, story: bool = False, change: Callable[[Setting], Setting] | None = None) -> World:
    """The run of `seed`; `Violated` tells how to see it again."""
    dice = Random(seed)
    setting = drawn_setting(dice)
    world = World(setting if change is None else change(setting), story=story)
    try:
        world.run(Drawn(dice))
    except Violated as broken:
        raise Violated(f"FLUX_SIM_SEED={seed}: {broken}") from broken
    return world
