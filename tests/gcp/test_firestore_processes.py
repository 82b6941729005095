"""Several real processes over one database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_gcp.settings import EMULATOR
from tests.contract.processes import Opening, RacesOfProcesses

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_gcp import FirestoreStorage


class TestProcessesOnFirestore(RacesOfProcesses):
    @pytest.fixture
    def store(self, open_store: Callable[..., FirestoreStorage], firestore_emulator: str) -> FirestoreStorage:
        return open_store(firestore_emulator)

    @pytest.fixture
    def opening(self, store: FirestoreStorage, firestore_emulator: str) -> Opening:
        return Opening(
            "from flux_gcp import FirestoreStorage\n"
            f"store = FirestoreStorage({store.settings.project!r}, timeout=120)\n",
            {EMULATOR: firestore_emulator},
        )
