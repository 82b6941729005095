"""The rotation of the keys of callback links in Key Vault, which a timer asks for once a day.

What the text of the secret becomes is decided by `flux_core.rotation`. It must not open an engine, nor write a key to
anything but the secret.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flux_azure.identity import VAULT, Identity
from flux_azure.logger import AzureLogger
from flux_azure.settings import RotationSettings
from flux_azure.vault_secret import VaultSecret
from flux_core.rotation import rotate_newest
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core.ports import Clock


def rotate(environment: Mapping[str, str] | None = None, clock: Clock | None = None) -> bool:
    """Rotate the keys, if they are older than `FLUX_ROTATE_AFTER`; whether that was so. Two at once do no harm.

    `DefinitionError` for a setting or a text that cannot work, `InvocationError` for what may work another time.
    """
    settings = RotationSettings.from_env(environment)
    secret = VaultSecret(settings.secret, Identity(settings.client_id, environment, VAULT))
    now = (clock or SystemClock()).now() / 1000
    logger = AzureLogger(settings.log_level)
    return rotate_newest(secret, settings.secret, settings.period, now, secrets.token_hex(32), logger) is None
