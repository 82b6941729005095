"""What every test shares: Hypothesis profiles, a Ctrl-C that works, and the services that tests run on."""

from __future__ import annotations

import os
import signal
import threading

from hypothesis import settings

pytest_plugins = [
    f"tests.services.{name}"
    for name in (
        "azure_functions",
        "azurite",
        "fake_gcs",
        "firestore",
        "functions",
        "lambda_runtime",
        "moto",
        "postgres",
        "pubsub",
    )
]

# No deadline: a property must not fail because the machine was busy. The blob reproduces a failure elsewhere.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("FLUX_REQUIRE_SERVICES") == "1" else "dev")

# A shell that is not interactive starts what it puts in the background (`make test &`) with SIGINT ignored, and every
# process the tests start would inherit that. At import, so that the workers of pytest-xdist do it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
