"""What a test does about a component that cannot be had: skip loudly, or fail where it was promised to be there."""

from __future__ import annotations

import os
from typing import Final, NoReturn

import pytest

Missing: Final = pytest.skip.Exception
"""What is raised where skipping is allowed; a benchmark leaves its topic out then."""


def missing(component: str, install: str) -> NoReturn:
    """Skip and say why; fail if `FLUX_REQUIRE_SERVICES=1` forbids skipping."""
    message = f"{component} cannot be had here. To run this test: {install}"
    if os.environ.get("FLUX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{message} (FLUX_REQUIRE_SERVICES=1 forbids skipping)", pytrace=False)
    pytest.skip(message)
