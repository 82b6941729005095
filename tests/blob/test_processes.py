"""Several real processes on one place, on every service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blob.places import Spot, spots
from tests.contract.processes import Opening, RacesOfProcesses

if TYPE_CHECKING:
    from flux_blob import BlobStorage


class OnObjects(RacesOfProcesses):
    kind: str

    @pytest.fixture
    def spot(self, request: pytest.FixtureRequest) -> Spot:
        return spots(self.kind, request)()

    @pytest.fixture
    def store(self, spot: Spot) -> BlobStorage:
        made = spot.store(time_limit=120)
        made.ensure()
        return made

    @pytest.fixture
    def opening(self, spot: Spot) -> Opening:
        return Opening(
            "from flux_blob import BlobStorage\n"
            f"store = BlobStorage({spot.address!r}, options={spot.options!r}, time_limit=120)\n"
        )


class TestProcessesOnAFolder(OnObjects):
    kind = "folder"
    rivals = 64


class TestProcessesOnS3(OnObjects):
    kind = "s3"
    rivals = 4
    bred = 8


class TestProcessesOnAzure(OnObjects):
    kind = "az"
    rivals = 4
    bred = 8


class TestProcessesOnGoogle(OnObjects):
    kind = "gs"
    rivals = 4
    bred = 8
