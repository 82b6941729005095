"""What the tests of the infrastructure share: the translated SAM template, and a server that takes whole stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra import sam
from tests.services.moto import Moto, start

if TYPE_CHECKING:
    from collections.abc import Iterator


pytest.register_assert_rewrite("tests.infra.orders", "tests.infra.on_lambda")


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The SAM template as it is written."""
    return sam.read()


@pytest.fixture(scope="session")
def translated() -> dict[str, Any]:
    """The SAM template as CloudFormation gets it."""
    return sam.translate()


@pytest.fixture(scope="session")
def moto_cloud() -> Iterator[Moto]:
    """AWS as moto plays it, with the types of CloudFormation that moto lacks."""
    process, server = start("tests.services.moto_cloud")
    with process:
        yield server
        process.kill()
