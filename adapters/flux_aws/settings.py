"""The names of what a deployment sets in the environment, each written once. It must not contain a value of one.

Whatever deploys Flux sets the same names. Region, credentials and a private endpoint (`AWS_REGION`,
`AWS_ENDPOINT_URL_DYNAMODB`, ...) are AWS's own settings and keep AWS's own names.
"""

from __future__ import annotations

import os
from typing import Final

from flux_core.errors import DefinitionError

TABLE: Final = "FLUX_TABLE"
"""The DynamoDB table that holds the instances."""
REGION: Final = "AWS_REGION"
"""Where it is. Lambda sets it; boto3 itself reads only `AWS_DEFAULT_REGION` and the profile."""

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
