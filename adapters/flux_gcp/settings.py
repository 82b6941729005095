"""What the Google Cloud adapter is told from outside: each environment variable is named here, and nowhere else.

`infra/` sets the same names. It must not import anything of Google's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError
from flux_core.hosting import BUDGET, PAYLOADS, ROTATE_AFTER, STORAGE, HostSettings, number

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT: Final = "FLUX_PROJECT"
DATABASE: Final = "FLUX_DATABASE"
PREFIX: Final = "FLUX_COLLECTION_PREFIX"
TIMEOUT: Final = "FLUX_STORE_TIMEOUT"
GOOGLE_PROJECT: Final = "GOOGLE_CLOUD_PROJECT"
EMULATOR: Final = "FIRESTORE_EMULATOR_HOST"
"""The last two are Google's own names."""

QUEUE: Final = "FLUX_TASKS_QUEUE"
WORKER_URL: Final = "FLUX_WORKER_URL"
ACCOUNT: Final = "FLUX_TASKS_ACCOUNT"
TASKS_EMULATOR: Final = "CLOUD_TASKS_EMULATOR_HOST"
"""Not Flux's own."""
SECRET: Final = "FLUX_CALLBACK_SECRET"  # noqa: S105 -- the name of a setting
CLOUD_RUN_TIMEOUT: Final = "CLOUD_RUN_TIMEOUT_SECONDS"
"""`CLOUD_RUN_TIMEOUT_SECONDS` is not Flux's own; the functions-framework reads it, too."""

VARIABLES: Final = {
    PROJECT: f"the Google Cloud project of the database; without it {GOOGLE_PROJECT}, then that of the credentials",
    DATABASE: "the Firestore database; without it `(default)`",
    PREFIX: "what the names of the collections begin with; without it `flux_`",
    TIMEOUT: "seconds that one call of the store may take, retries included; without it 3",
    EMULATOR: "host and port of the emulator, which is then used instead of Google's service",
}

FUNCTION_VARIABLES: Final = {
    QUEUE: "the queue, `projects/PROJECT/locations/LOCATION/queues/QUEUE`; without it only the sweeper wakes",
    WORKER_URL: "the address of the function that runs the workflows: tasks are delivered to it",
    ACCOUNT: "the service account whose identity tasks have (OIDC); without it the function must be public",
    TASKS_EMULATOR: "host and port of a fake of Cloud Tasks, which is then used instead of Google's service",
    SECRET: "the secret of the callback keys, `projects/PROJECT/secrets/NAME`; for the function that rotates them",
    CLOUD_RUN_TIMEOUT: "seconds until Cloud Run ends a request; the budget must end before",
}
"""What a function is told beside the variables of the store and those of every cloud (`flux_core.hosting`)."""

_PREFIX_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_PREFIX = 64
_DEFAULT_BUDGET: Final = 50.0
"""Seconds; a function that says nothing else has 60."""
_PARTS: Final = 4
"""Of a secret's name."""
_SAVING: Final = 5.0
"""Seconds before Cloud Run's time-out that are left for the answer."""


class FirestoreSettings(NamedTuple):
    """Where a `FirestoreStorage` keeps instances, and how long it may take."""

    project: str | None = None
    """None: as `GOOGLE_CLOUD_PROJECT` or the credentials say."""
    database: str = "(default)"
    prefix: str = "flux_"
    """What the names of its collections begin with. Index exemptions hold for all collections of a name."""
    timeout: float = MARGIN
    """Seconds that one call may take, retries included: the margin that the engine keeps before a deadline."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> FirestoreSettings:
        """As the environment says; `DefinitionError` names the variable that is wrong."""
        given = os.environ if environment is None else environment
        text = given.get(TIMEOUT) or str(cls().timeout)
        try:
            timeout = float(text)
        except ValueError:
            raise DefinitionError(f"{TIMEOUT} must be a number of seconds, not {text!r}.") from None
        settings = cls(
            given.get(PROJECT) or None,
            given.get(DATABASE) or cls().database,
            given.get(PREFIX, cls().prefix),
            timeout,
        )
        return settings.checked()

    def checked(self) -> FirestoreSettings:
        """These settings, or `DefinitionError` for what cannot work."""
        if not self.timeout > 0:
            raise DefinitionError(
                f"The timeout of a FirestoreStorage ({TIMEOUT}) must be a positive number of seconds, "
                f"not {self.timeout!r}."
            )
        if len(self.prefix) > _LONGEST_PREFIX or not _PREFIX_CHARACTERS.issuperset(self.prefix):
            raise DefinitionError(
                f"The collection prefix of a FirestoreStorage ({PREFIX}) may have up to {_LONGEST_PREFIX} of "
                f"A-Z a-z 0-9 _ -, not {self.prefix!r}."
            )
        for name, value in ((DATABASE, self.database), (PROJECT, self.project)):
            if value is not None and (not value or "/" in value):
                raise DefinitionError(f"{value!r} is no name of a Google Cloud project or database ({name}).")
        return self


class RotationSettings(NamedTuple):
    """What the function that rotates the callback keys is told."""

    secret: str
    period: float
    """Seconds."""
    log_level: str

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> RotationSettings:
        """As the environment says; `DefinitionError` names the variable that is wrong or missing."""
        given = os.environ if environment is None else environment
        host = HostSettings.from_mapping(given)
        secret = given.get(SECRET) or ""
        parts = secret.split("/")
        if len(parts) != _PARTS or not all(parts) or parts[::2] != ["projects", "secrets"]:
            raise DefinitionError(
                f"{SECRET} must be the secret to rotate, projects/PROJECT/secrets/NAME, not {secret!r}."
            )
        if host.rotate_after is None:
            raise DefinitionError(
                f"{ROTATE_AFTER} is not set: this function rotates the callback keys, and has to know after how many "
                f"seconds, such as 2592000."
            )
        return cls(secret, host.rotate_after, host.log_level)


class FunctionSettings(NamedTuple):
    """What a function is told: by the names that all clouds share, its store, and its queue."""

    host: HostSettings
    """Its `budget` is set."""
    store: FirestoreSettings
    queue: str | None = None
    worker_url: str | None = None
    account: str | None = None
    tasks_emulator: str | None = None
    project: str | None = None
    """Where the traces are, as far as it is known without asking anybody."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> FunctionSettings:
        """As the environment says; `DefinitionError` names the variable that is wrong or missing."""
        given = os.environ if environment is None else environment
        host = HostSettings.from_mapping(given)
        settings = cls(
            host._replace(budget=_budget(host.budget, given)),
            FirestoreSettings.from_env(given),
            given.get(QUEUE) or None,
            given.get(WORKER_URL) or None,
            given.get(ACCOUNT) or None,
            given.get(TASKS_EMULATOR) or None,
            given.get(PROJECT) or given.get(GOOGLE_PROJECT) or _project_of(given.get(QUEUE) or ""),
        )
        if settings.queue and not settings.worker_url:
            raise DefinitionError(
                f"{QUEUE} is set, but not {WORKER_URL}: set it to the address of the function that runs the workflows, "
                "which tasks are to be delivered to; `gcloud run services describe NAME` shows it."
            )
        for name, address in ((STORAGE, host.storage), (PAYLOADS, host.payloads)):
            if address is not None and not address.startswith("gs://"):
                # A folder would be taken, too, and Cloud Run keeps those in the memory of one instance.
                raise DefinitionError(f"{name} must be an address such as gs://bucket/root, not {address!r}.")
        return settings


def _project_of(queue: str) -> str | None:
    parts = queue.split("/")
    return parts[1] if parts[0] == "projects" and len(parts) > 1 else None


def _budget(asked: float | None, given: Mapping[str, str]) -> float:
    """Seconds that an invocation may take.

    Cloud Run answers for a function that is late, and lets its code run on: so the budget must end before.
    """
    limit = number(given, CLOUD_RUN_TIMEOUT, 0.0)
    if asked is None:
        return min(limit * 0.9, limit - _SAVING) if limit > 2 * _SAVING else limit / 2 or _DEFAULT_BUDGET
    if limit and asked >= limit:
        raise DefinitionError(
            f"{BUDGET} is {asked:g} s, but Cloud Run ends a request after {limit:g} s ({CLOUD_RUN_TIMEOUT}) without "
            "stopping its code: give the budget a few seconds less, or the function a longer time-out."
        )
    return asked
