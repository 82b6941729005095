"""What Secrets Manager invokes to rotate the keys of callback links: the handler of a function of its own.

Secrets Manager makes a version of the secret without a text (AWSPENDING), has a function fill it, test it and make it
the current one, in four invocations that it may repeat. What the text becomes is decided by `flux_core.rotation`. It
must not write a key to anything but the secret.

    createSecret   fill the pending version      testSecret     look that functions know what will sign
    setSecret      (nothing outside has a key)   finishSecret   make it the current one
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flux_aws.clients import Client
from flux_aws.faults import CREDENTIALS, DENIED, code_of, names_of
from flux_aws.logging import PowertoolsLogger
from flux_aws.secret import KEPT
from flux_core.callbacks import parsed_keys
from flux_core.errors import CallerError, DefinitionError, InvocationError
from flux_core.hosting import HostSettings
from flux_core.rotation import checked_age, checked_period, follows, rotated, switches
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_aws.clients import Sessions
    from flux_core.ports import Clock

CURRENT: Final = "AWSCURRENT"
PENDING: Final = "AWSPENDING"
STEPS: Final = ("createSecret", "setSecret", "testSecret", "finishSecret")
_DAY: Final = 86400.0
_ABSENT: Final = "ResourceNotFoundException"
_TAKEN: Final = "ResourceExistsException"


class Version(NamedTuple):
    """A version of the secret that Secrets Manager wants to be made the current one."""

    secret: str
    id: str
    current: str
    """The id of the version that is the current one now."""
    days: int | None
    """How often the secret is rotated, where that is a number of days."""

    def __repr__(self) -> str:
        return f"version {self.id} of the secret {self.secret!r}"


class RotationHandler:
    """Called by Secrets Manager with `SecretId`, `ClientRequestToken` and `Step`; see `rotation_handler`."""

    def __init__(
        self, environment: Mapping[str, str] | None, endpoint: str | None, sessions: Sessions | None, clock: Clock
    ) -> None:
        """Reads and opens nothing."""
        self._environment = environment
        self._client = Client("secretsmanager", sessions, endpoint=endpoint)
        self._clock = clock
        self._logger: PowertoolsLogger | None = None

    def __call__(self, event: object, context: object = None) -> None:
        """Carry out one step. What it raises ends the rotation, which is tried again; the current keys stay."""
        settings = self._settings()
        if self._logger is None:
            self._logger = PowertoolsLogger(settings.log_level)
        self._logger.begin(context)
        secret, token, step = _asked(event)
        try:
            version = self._version(secret, token)
            if version is None:
                self._logger.info("the keys are rotated already", secret=secret, version=token, rotation=step)
                return
            if step == "createSecret":
                self._create(version, settings, self._logger)
            elif step == "testSecret":
                checked_days(version, settings.callback_expires)
                self._checked(version)
            elif step == "finishSecret":
                self._finish(version, self._logger)
        except (CallerError, InvocationError) as error:
            self._logger.error("a rotation failed", secret=secret, version=token, rotation=step, error=str(error))
            raise

    def _settings(self) -> HostSettings:
        if self._environment is None:
            import os

            return HostSettings.from_mapping(os.environ)
        return HostSettings.from_mapping(self._environment)

    def _version(self, secret: str, token: str) -> Version | None:
        """The version to be made; None if it is the current one already."""
        told = self._call("describe_secret", secret)
        stages = told.get("VersionIdsToStages") or {}
        held = stages.get(token, ())
        if CURRENT in held:
            return None
        if not told.get("RotationEnabled"):
            raise DefinitionError(f"The secret {secret!r} is not rotated: there is no rotation to carry out for it.")
        if PENDING not in held:
            raise DefinitionError(
                f"Version {token} of the secret {secret!r} is not the one that is pending, so it is not made the "
                f"current one. Only Secrets Manager invokes this function, by `aws secretsmanager rotate-secret`."
            )
        current = next((one for one, labels in stages.items() if CURRENT in labels), "")
        return Version(secret, token, current, (told.get("RotationRules") or {}).get("AutomaticallyAfterDays"))

    def _create(self, version: Version, settings: HostSettings, logger: PowertoolsLogger) -> None:
        checked_days(version, settings.callback_expires)
        if self._text(version) is not None:
            return  # the step is repeated: what was made by the first time stays
        told = self._call("get_secret_value", version.secret, VersionStage=CURRENT)
        text = _text_of(told, version.secret)
        age = self._clock.now() / 1000 - told["CreatedDate"].timestamp()
        checked_age(text, age, settings.callback_expires + KEPT)
        after = rotated(text, secrets.token_hex(32))
        try:
            self._call(
                "put_secret_value",
                version.secret,
                ClientRequestToken=version.id,
                SecretString=after,
                VersionStages=[PENDING],
            )
        except InvocationError as error:
            if _code(error) != _TAKEN:
                raise
            return  # another invocation of the same step was faster
        logger.info(
            "the keys are to be rotated",
            secret=version.secret,
            version=version.id,
            keys=len(parsed_keys(after)),
            another_signs=switches(text),
        )

    def _finish(self, version: Version, logger: PowertoolsLogger) -> None:
        if not self._checked(version):
            raise InvocationError(f"There is no text in {version!r} yet: createSecret comes first.")
        self._call(
            "update_secret_version_stage",
            version.secret,
            VersionStage=CURRENT,
            MoveToVersionId=version.id,
            RemoveFromVersionId=version.current,
        )
        logger.info("the keys are rotated", secret=version.secret, version=version.id)

    def _checked(self, version: Version) -> bool:
        """Whether there is a text, which may take the place of the current one.

        There is none where Secrets Manager only tries what a schedule has been set to.
        """
        text = self._text(version)
        if text is None:
            return False
        current = _text_of(self._call("get_secret_value", version.secret, VersionStage=CURRENT), version.secret)
        if not follows(text, current):
            raise DefinitionError(
                f"In {version!r} a key signs that no function knows yet: links would be refused. The version was not "
                f"made by this function, or the secret was changed meanwhile; cancel the rotation, and begin another."
            )
        return True

    def _text(self, version: Version) -> str | None:
        """What is in the pending version; None if nothing is."""
        try:
            told = self._call("get_secret_value", version.secret, VersionId=version.id, VersionStage=PENDING)
        except InvocationError as error:
            if _code(error) == _ABSENT:
                return None
            raise
        return _text_of(told, version.secret)

    def _call(self, operation: str, secret: str, **parameters: object) -> dict[str, Any]:
        def fault(error: Exception) -> InvocationError:
            names = names_of(error)
            advice = ""
            if names & DENIED:
                advice = " The function's role lacks what the rotation needs (docs/handlers-aws.md)."
            elif names & CREDENTIALS:
                advice = " AWS has no valid credentials from here."
            # Without the SDK's own words on parameters, which could quote the text.
            return InvocationError(f"{operation} failed for the secret {secret!r} (AWS: {code_of(error)}).{advice}")

        return self._client.call(operation, fault, SecretId=secret, **parameters)


def rotation_handler(
    *,
    environment: Mapping[str, str] | None = None,
    endpoint: str | None = None,
    sessions: Sessions | None = None,
    clock: Clock | None = None,
) -> RotationHandler:
    """The handler of the function that rotates the keys of callback links; the environment is that of the process.

    It reads `FLUX_CALLBACK_EXPIRES` and `FLUX_LOG_LEVEL`, and raises `DefinitionError` for what cannot work (a period
    in which links would outlive their keys, a version that is not pending) and `InvocationError` for what may work
    later.
    """
    return RotationHandler(environment, endpoint, sessions, clock or SystemClock())


handler: Final = rotation_handler()
"""What Lambda calls, by the name `flux_aws.rotation.handler`."""


def checked_days(version: Version, expires: float) -> None:
    """`DefinitionError` if the secret is rotated so often that links, which live for `expires`, outlive their keys."""
    if version.days is not None:
        checked_period(version.days * _DAY, expires, f"The rotation of the secret {version.secret!r}")


def _code(error: InvocationError) -> str:
    cause = error.__cause__
    return code_of(cause) if isinstance(cause, Exception) else ""


def _asked(event: object) -> tuple[str, str, str]:
    given = event if isinstance(event, dict) else {}
    secret, token, step = (given.get(name) for name in ("SecretId", "ClientRequestToken", "Step"))
    if not (isinstance(secret, str) and isinstance(token, str) and step in STEPS):
        raise DefinitionError(
            "This function rotates the keys of callback links, and Secrets Manager invokes it, with SecretId, "
            "ClientRequestToken and Step (createSecret, setSecret, testSecret, finishSecret). Give others app.handler."
        )
    return secret, token, str(step)


def _text_of(told: Mapping[str, Any], secret: str) -> str:
    text = told.get("SecretString")
    if not isinstance(text, str):
        raise DefinitionError(f"The secret {secret!r} holds no text; it has to hold id:secret[,id:secret].")
    return text
