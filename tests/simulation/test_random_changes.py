"""Random changes of a definition under random verbs: the engine and a small model of the rules agree on all of it.

`FLUX_SIM_SEED=123 pytest tests/simulation/test_random_changes.py -s` plays that life again and tells it.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

from tests.simulation.changing import Comparison

_LIVES = 400


def _play(seed: int) -> Comparison:
    life = Comparison(Random(seed))
    try:
        life.play()
    except BaseException as error:
        error.add_note(f"FLUX_SIM_SEED={seed}")
        raise
    return life


def test_engine_and_model_agree_in_random_lives() -> None:
    statuses = Counter(_play(seed).model.status for seed in range(_LIVES))
    print(f"seeds 0 to {_LIVES - 1}: {dict(statuses)}")  # noqa: T201 -- shown by pytest -s
    assert statuses.keys() == {"completed", "failed", "rolled_back", "cancelled", "suspended", "blocked", "paused"}


def test_a_seed_is_the_same_life_every_time() -> None:
    seed = int(os.environ.get("FLUX_SIM_SEED", "7"))
    once, again = (_play(seed) for _ in range(2))
    print(f"seed {seed}:", *once.told, sep="\n")  # noqa: T201 -- the story somebody asked for
    assert (once.told, once.model.calls) == (again.told, again.model.calls)
