"""The names of what a deployment on Azure sets in the environment, each written once. It must not hold a value of one.

Whatever deploys Flux sets the same names. Those that are the same on every cloud are in `flux_core.hosting`, those of
the storage account in `flux_azure.account`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_azure.account import CONNECTION
from flux_core.errors import DefinitionError
from flux_core.hosting import CALLBACK_KEYS, PAYLOADS, PURGE_AFTER, ROTATE_AFTER, STORAGE, HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

POSTGRES: Final = "FLUX_POSTGRES"
QUEUE: Final = "FLUX_QUEUE"
SCHEDULE: Final = "FLUX_SWEEP_SCHEDULE"
SECRET: Final = "FLUX_CALLBACK_SECRET"  # noqa: S105 -- the name of a setting
IDENTITY: Final = "AZURE_CLIENT_ID"
"""Azure's own name for which of an app's identities is meant."""

VARIABLES: Final = {
    STORAGE: "where instances are kept in Blob Storage: az://container/prefix",
    POSTGRES: "or in PostgreSQL: its connection string",
    QUEUE: "the storage queue by which instances are woken, in the account of AzureWebJobsStorage; without it only the "
    "sweep wakes them",
    SECRET: "the secret of the callback keys, https://VAULT.vault.azure.net/secrets/NAME, for the app that rotates it",
    SCHEDULE: "when the sweep runs, as Azure writes it: {second} {minute} {hour} {day} {month} {day of week}; without "
    "it every minute",
}

BUDGET: Final = 240.0
"""Seconds that an invocation may take, where FLUX_BUDGET does not say otherwise; `host_json()` goes with it."""

_UNRESOLVED: Final = "@Microsoft.KeyVault("
"""What Azure leaves in a setting whose reference it cannot resolve. Taken for a key, it could be guessed."""
_EVERY_MINUTE: Final = "0 * * * * *"
PURGE_SCHEDULE: Final = "0 17 3 * * *"
"""When the app that deletes does so: once a day."""
_FIELDS: Final = 6
_PARTS: Final = 5
"""Of a secret's address, between its slashes."""
_LONGEST_NAME: Final = 63
_SHORTEST_NAME: Final = 3


class Triggers(NamedTuple):
    """What the functions are bound to: needed when the app is indexed, before the first event."""

    queue: str | None
    schedule: str
    purges: bool = False
    """Whether this is the app that deletes what ended long ago, and does nothing else."""
    rotates: bool = False
    """Whether this is the app that rotates the callback keys, and does nothing else."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Triggers:
        """As the environment says; `DefinitionError` names the variable that is wrong."""
        given = os.environ if environment is None else environment
        queue = given.get(QUEUE, "").strip() or None
        if queue is not None and not _is_queue(queue):
            raise DefinitionError(
                f"{QUEUE} must be the name of a storage queue (3 to 63 of a-z, 0-9 and single hyphens), not {queue!r}."
            )
        schedule = given.get(SCHEDULE, "").strip() or _EVERY_MINUTE
        if len(schedule.split()) != _FIELDS:
            raise DefinitionError(
                f"{SCHEDULE} must have six fields, of which the first are seconds, such as {_EVERY_MINUTE!r}, not "
                f"{schedule!r}."
            )
        purges, rotates = (bool(given.get(name, "").strip()) for name in (PURGE_AFTER, ROTATE_AFTER))
        if purges and rotates:
            raise DefinitionError(
                f"{PURGE_AFTER} and {ROTATE_AFTER} are both set: an app either deletes or rotates keys, since each "
                f"needs an identity that may do no more. Remove one of them."
            )
        return cls(queue, schedule, purges, rotates)


class RotationSettings(NamedTuple):
    """What the app that rotates the callback keys is told."""

    secret: str
    period: float
    """Seconds."""
    client_id: str
    log_level: str

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> RotationSettings:
        """As the environment says; `DefinitionError` names the variable that is wrong or missing."""
        given = os.environ if environment is None else environment
        host = HostSettings.from_mapping(given)
        secret = given.get(SECRET, "").strip().rstrip("/")
        if not secret.startswith(("https://", "http://")) or len(secret.split("/")) != _PARTS:
            raise DefinitionError(
                f"{SECRET} must be the secret to rotate, https://VAULT.vault.azure.net/secrets/NAME, without a "
                f"version; got {secret!r}."
            )
        if host.rotate_after is None:
            raise DefinitionError(
                f"{ROTATE_AFTER} is not set: it says after how many seconds the callback keys are rotated, such as "
                f"2592000."
            )
        return cls(secret, host.rotate_after, given.get(IDENTITY, "").strip(), host.log_level)


class AzureSettings(NamedTuple):
    """All that the handler is told from outside."""

    triggers: Triggers
    host: HostSettings
    postgres: str | None = None
    """A connection string, where instances are in PostgreSQL."""

    def __repr__(self) -> str:
        """Without the connection string, which may hold a password."""
        postgres = None if self.postgres is None else "[redacted]"
        return f"AzureSettings(triggers={self.triggers!r}, host={self.host!r}, postgres={postgres!r})"

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> AzureSettings:
        """As the environment says; `DefinitionError` names the variable that is wrong.

        The app always has a sweeper: the blueprint brings it. A store in memory is left to whoever builds the engine.
        """
        given = os.environ if environment is None else environment
        for name in (CALLBACK_KEYS, POSTGRES, CONNECTION):
            if given.get(name, "").lstrip().startswith(_UNRESOLVED):
                raise DefinitionError(
                    f"{name} is a reference to Key Vault that Azure could not resolve: give the app's identity the "
                    f"role Key Vault Secrets User on the vault, and check the secret's address."
                )
        host = HostSettings.from_mapping(given)
        host = host._replace(budget=host.budget or BUDGET, sweeper=True)
        return cls(Triggers.from_env(given), host, given.get(POSTGRES, "").strip() or None).checked()

    def checked(self) -> AzureSettings:
        """These settings, or `DefinitionError` for what cannot work."""
        for name, address in ((STORAGE, self.host.storage), (PAYLOADS, self.host.payloads)):
            if address is not None and not address.startswith("az://"):
                raise DefinitionError(f"{name} must be an address such as az://container/prefix, not {address!r}.")
        if self.host.storage is not None and self.postgres is not None:
            raise DefinitionError(f"{STORAGE} and {POSTGRES} are both set: an app has one store. Remove one of them.")
        return self


def _is_queue(name: str) -> bool:
    plain = name.replace("-", "")
    return (
        _SHORTEST_NAME <= len(name) <= _LONGEST_NAME
        and plain.isascii()
        and plain.isalnum()
        and plain == plain.lower()
        and "--" not in name
        and not name.startswith("-")
        and not name.endswith("-")
    )
