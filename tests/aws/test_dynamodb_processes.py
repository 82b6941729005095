"""Several real processes on one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.processes import Opening, RacesOfProcesses

if TYPE_CHECKING:
    from flux_aws import DynamoDBStorage
    from tests.services.moto import Moto


class TestProcessesOnDynamoDB(RacesOfProcesses):
    bred = 12

    @pytest.fixture
    def opening(self, moto: Moto, store: DynamoDBStorage) -> Opening:
        return Opening(
            "from flux_aws import DynamoDBStorage\n"
            f"store = DynamoDBStorage({store.table!r}, endpoint={moto.endpoint!r}, call_timeout=120)\n",
            moto.environment,
        )
