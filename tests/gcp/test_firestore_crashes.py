"""The crash matrix on Firestore: a fifth of the shapes struck once, a commit wholly; all of it by `make soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR
from tests.gcp.conftest import new_project
from tests.simulation.matrix import SINGLE, once, strike, strike_once, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.script import Shape


@pytest.fixture(scope="module")
def store(firestore_emulator: str) -> Iterator[FirestoreStorage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMULATOR, firestore_emulator)
        opened = FirestoreStorage(new_project(), timeout=60)
        opened.ensure()
    yield opened
    opened.close()


@pytest.mark.parametrize("shape", once(5, 1))
def test_a_shape_that_is_struck_once_ends_as_if_nothing_had_happened(store: FirestoreStorage, shape: Shape) -> None:
    strike_once(shape, store)


@pytest.mark.parametrize(("shape", "blow"), whole({"a commit": SINGLE}))
def test_a_fault_at_any_call_changes_nothing(store: FirestoreStorage, shape: Shape, blow: str) -> None:
    strike(shape, store, blow)
