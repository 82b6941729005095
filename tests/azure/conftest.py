"""Function apps on Microsoft's engine, each test with its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.azure.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.azurite import Azurite, AzuriteQueue


@pytest.fixture
def deploy(
    tmp_path: Path, azure_runtime: Path, azurite: Azurite, azurite_queue: AzuriteQueue
) -> Iterator[Callable[..., Deployment]]:
    """Deploys an app; it is gone afterwards."""
    deployed = []

    def deploy(**options: object) -> Deployment:
        deployed.append(Deployment(tmp_path, azurite, azurite_queue, **options))  # type: ignore[arg-type]  # a test's own
        return deployed[-1]

    yield deploy
    for one in deployed:
        one.host.close()
