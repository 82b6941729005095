"""AWS as the doctor asks it: any service, and one error for all that it does not tell. It must not judge an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_aws.clients import Client, Sessions
from flux_aws.faults import CREDENTIALS, DENIED, names_of
from flux_aws.settings import REGION
from flux_core.errors import InvocationError

if TYPE_CHECKING:
    from typing import Any

_PATIENCE: Final = 60.0
"""Seconds: a function that is asked may have to start first."""


class Refused(InvocationError):
    """AWS has not told."""


def _refused(error: Exception) -> InvocationError:
    found = names_of(error)
    if found & DENIED:
        return Refused(f"your credentials may not look at it (AWS: {error})")
    if found & CREDENTIALS:
        return Refused(f"AWS has no valid credentials from here: log in, or set AWS_PROFILE (AWS: {error})")
    if "NoRegionError" in found:
        return Refused(f"no region is named here: set {REGION} to the one that has the stack (AWS: {error})")
    return Refused(f"AWS did not tell: {error}")


class Services:
    """AWS as it is asked here."""

    def __init__(self) -> None:
        """Makes nothing yet."""
        self.sessions = Sessions()
        self._clients: dict[str, Client] = {}

    def ask(self, service: str, operation: str, **parameters: object) -> dict[str, Any]:
        """AWS's answer; `Refused` says why there is none."""
        client = self._clients.setdefault(service, Client(service, self.sessions, read_timeout=_PATIENCE))
        return client.call(operation, _refused, **parameters)


def bare(arn: str) -> str:
    """The ARN of a function without its version or alias."""
    return ":".join(arn.split(":")[:7])


def unqualified(name: str) -> str:
    """The name or ARN of a function, likewise."""
    return bare(name) if name.startswith("arn:") else name.partition(":")[0]
