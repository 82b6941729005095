"""The keys of callback tokens, out of Secrets Manager. It must not keep them longer than it says, nor write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_aws import settings
from flux_aws.clients import Client
from flux_aws.faults import CREDENTIALS, DENIED, names_of
from flux_core.callbacks import parsed_keys
from flux_core.errors import DefinitionError, InvocationError
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_aws.clients import Sessions
    from flux_core.ports import Clock

KEPT: Final = 300.0
"""Seconds until the secret is fetched again, so that a rotation needs no new deployment."""


class CallbackSecret:
    """Called, it gives the keys by their ids, the one that signs first: what `Callbacks(keys=...)` takes.

    `name` is the ARN or the name of a secret whose text is `id:secret[,id:secret]`. While Secrets Manager does not
    answer, keys that were fetched before go on being used.
    """

    def __init__(
        self,
        name: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        sessions: Sessions | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Fetches nothing yet."""
        self.name = name
        self._clock: Clock = clock or SystemClock()
        self._client = Client("secretsmanager", sessions, region, endpoint)
        self._keys: Mapping[str, str] | None = None
        self._fetched = 0.0

    def __call__(self) -> Mapping[str, str]:
        """The keys. `InvocationError` if they cannot be had now, `DefinitionError` if the text has another form."""
        now = self._clock.monotonic()
        if self._keys is not None and now - self._fetched < KEPT:
            return self._keys
        try:
            answer = self._client.call("get_secret_value", self._fault, SecretId=self.name)
        except InvocationError:
            if self._keys is None:
                raise
            return self._keys
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise DefinitionError(f"The secret {self.name!r} holds no text; it has to hold id:secret[,id:secret].")
        self._keys, self._fetched = parsed_keys(text), now
        return self._keys

    def _fault(self, error: Exception) -> InvocationError:
        names = names_of(error)
        if "ResourceNotFoundException" in names:
            advice = f"does not exist. Check {settings.CALLBACK_SECRET} and {settings.REGION}."
        elif names & DENIED:
            advice = "may not be read: the function's role lacks secretsmanager:GetSecretValue on it."
        elif names & CREDENTIALS:
            advice = "cannot be asked for: AWS has no valid credentials from here."
        else:
            advice = "could not be fetched. The invocation may be repeated."
        return InvocationError(f"The secret of the callback keys ({self.name}) {advice} (AWS: {error})")
