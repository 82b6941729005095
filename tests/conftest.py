"""What every test shares: Hypothesis profiles, a Ctrl-C that works, and what to do about a service that is missing."""

from __future__ import annotations

import os
import signal
import threading
from typing import Protocol

import pytest
from hypothesis import settings

pytest_plugins = [f"tests.services.{name}" for name in ("azurite", "fake_gcs", "firestore", "moto", "postgres")]

# No deadline: a property must not fail because the machine was busy. The blob reproduces a failure elsewhere.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("FLUX_REQUIRE_SERVICES") == "1" else "dev")

# A shell that is not interactive starts what it puts in the background (`make test &`) with SIGINT ignored, and every
# process the tests start would inherit that. At import, so that the workers of pytest-xdist do it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


class RequireService(Protocol):
    """`unavailable` says why the service cannot be used, None that it can; `install` is what would change that."""

    def __call__(self, name: str, unavailable: str | None, install: str) -> None: ...


def _require_service(name: str, unavailable: str | None, install: str) -> None:
    if unavailable is None:
        return
    message = f"{name} is not usable here: {unavailable}. To run this test: {install}"
    if os.environ.get("FLUX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{message} (FLUX_REQUIRE_SERVICES=1 forbids skipping)", pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def require_service() -> RequireService:
    """Skip loudly when a service is missing; fail instead where FLUX_REQUIRE_SERVICES=1 promises that it is there."""
    return _require_service
