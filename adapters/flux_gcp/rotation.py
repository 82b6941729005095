"""`rotation_function`: the function that Cloud Scheduler calls once a day to rotate the keys of callback links.

What the text of the secret becomes is decided by `flux_core.rotation`. It must not open an engine, nor write a key to
anything but the secret.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from flux_core.rotation import rotate_newest
from flux_core.system import SystemClock
from flux_gcp import events
from flux_gcp.logger import GoogleLogger, traced
from flux_gcp.secret_versions import SERVICE, SecretVersions
from flux_gcp.serving import not_served
from flux_gcp.settings import RotationSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import flask
    from google.auth.transport.requests import AuthorizedSession

    from flux_core.ports import Clock
    from flux_gcp.events import Answer

_JSON: Final = {"content-type": "application/json"}


def rotation_function(
    *,
    environment: Mapping[str, str] | None = None,
    session: AuthorizedSession | None = None,
    service: str = SERVICE,
    clock: Clock | None = None,
) -> Callable[[flask.Request], Answer]:
    """An HTTP function that rotates the keys, if they are older than `FLUX_ROTATE_AFTER`; it takes no workflows.

    Any request asks for that, and two at once do no harm. It does not check who calls: deploy it so that only a
    schedule may. The answer says whether something was rotated. What went wrong is a line of the log and a 5xx.
    """
    ticking = clock or SystemClock()

    def handler(request: flask.Request) -> Answer:
        with traced(events.trace(request.headers)):
            try:
                settings = RotationSettings.from_env(environment)
                told = _rotate(settings, SecretVersions(settings.secret, session, service), ticking)
            except Exception as error:  # noqa: BLE001 -- whatever it is must be read in the log, and be an error of the schedule
                return not_served(error)
            return json.dumps(told).encode(), 200, dict(_JSON)

    return handler


def _rotate(settings: RotationSettings, versions: SecretVersions, clock: Clock) -> dict[str, Any]:
    logger = GoogleLogger(level=settings.log_level)
    now = clock.now() / 1000
    left = rotate_newest(versions, settings.secret, settings.period, now, secrets.token_hex(32), logger)
    return {"rotated": True} if left is None else {"rotated": False, "left": max(0, round(left))}
