"""The names of what a deployment sets in the environment, each written once. It must not contain a value of one.

Whatever deploys Flux sets the same names; those that every cloud has are in `flux_core.hosting`. Region, credentials
and a private endpoint (`AWS_REGION`, `AWS_ENDPOINT_URL_DYNAMODB`, ...) are AWS's own settings and keep AWS's own names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core.hosting import HostSettings

TABLE: Final = "FLUX_TABLE"
"""The DynamoDB table that holds the instances."""
QUEUE_URL: Final = "FLUX_QUEUE_URL"
"""The SQS queue that wakes instances; the function is its consumer."""
HOP_BUDGET: Final = "FLUX_HOP_BUDGET"
"""How many invocations in a row may enqueue each other before the sweeper has to begin a new chain."""
CALLBACK_SECRET: Final = "FLUX_CALLBACK_SECRET"  # noqa: S105 -- the name of a setting
"""The ARN or name of the secret in Secrets Manager whose text is that of `FLUX_CALLBACK_KEYS`."""
METRICS: Final = "FLUX_METRICS"
"""The namespace in CloudWatch of the workflows' metrics; without it none are written."""
REGION: Final = "AWS_REGION"
"""Where all of it is. Lambda sets it; boto3 itself reads only `AWS_DEFAULT_REGION` and the profile."""


class Settings(NamedTuple):
    """What a function on Lambda is told by its environment."""

    host: HostSettings
    table: str | None = None
    queue_url: str | None = None
    hop_budget: int | None = None
    callback_secret: str | None = None
    metrics: str | None = None

    @classmethod
    def from_mapping(cls, given: Mapping[str, str]) -> Settings:
        """The settings; what is absent or empty is as above. `DefinitionError` names a variable that is wrong."""
        from flux_core.hosting import HostSettings, whole

        return cls(
            host=HostSettings.from_mapping(given),
            table=given.get(TABLE) or None,
            queue_url=given.get(QUEUE_URL) or None,
            hop_budget=whole(given, HOP_BUDGET, 0) if given.get(HOP_BUDGET) else None,
            callback_secret=given.get(CALLBACK_SECRET) or None,
            metrics=given.get(METRICS) or None,
        )

    @classmethod
    def from_env(cls) -> Settings:
        """The settings of this process."""
        return cls.from_mapping(os.environ)


ENDPOINT: Final = "AWS_ENDPOINT_URL_DYNAMODB"
"""AWS's own name for another address of DynamoDB: that of an emulator, for example."""


def required(name: str, what: str) -> str:
    """The value of the variable `name`, or `DefinitionError` that says what it has to hold."""
    value = os.environ.get(name, "")
    if not value:
        raise DefinitionError(f"The environment variable {name} is not set: it has to hold {what}.")
    return value


def region() -> str | None:
    """The region that the environment names for functions; None leaves the choice to boto3."""
    return os.environ.get(REGION) or None
