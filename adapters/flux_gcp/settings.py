"""What the Google Cloud adapter is told from outside: each environment variable is named here, and nowhere else.

`infra/` sets the same names. It must not import anything of Google's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT: Final = "FLUX_PROJECT"
DATABASE: Final = "FLUX_DATABASE"
PREFIX: Final = "FLUX_COLLECTION_PREFIX"
TIMEOUT: Final = "FLUX_STORE_TIMEOUT"
GOOGLE_PROJECT: Final = "GOOGLE_CLOUD_PROJECT"
EMULATOR: Final = "FIRESTORE_EMULATOR_HOST"
"""The last two are Google's own names."""

VARIABLES: Final = {
    PROJECT: f"the Google Cloud project of the database; without it {GOOGLE_PROJECT}, then that of the credentials",
    DATABASE: "the Firestore database; without it `(default)`",
    PREFIX: "what the names of the collections begin with; without it `flux_`",
    TIMEOUT: "seconds that one call of the store may take, retries included; without it 3",
    EMULATOR: "host and port of the emulator, which is then used instead of Google's service",
}

_PREFIX_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_PREFIX = 64


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
