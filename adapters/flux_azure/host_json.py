"""The host.json that fits the protocol. It must not read the environment: host.json is written before there is one."""

from __future__ import annotations

from typing import Any, Final

from flux_core.errors import DefinitionError

DEATHS: Final = 5
"""So many deaths without progress make an instance `stuck` (PROTOCOL rule 10). A message has to be tried more often."""
SPARE: Final = 60
"""Seconds between an invocation's own end and the platform's: an invocation may wait for a thread of the worker."""
_LONGEST: Final = 900
"""Seconds that the engine takes an invocation to last at most, unless `longest_invocation` says otherwise."""


def host_json(budget: float = 240.0) -> dict[str, Any]:
    """What to write to host.json for invocations of `budget` seconds, as the setting FLUX_BUDGET has it.

    `DefinitionError` for a budget that is too long for the engine's default of `longest_invocation`.
    """
    if not 0 < budget <= _LONGEST - SPARE:
        raise DefinitionError(f"The budget of an invocation must be up to {_LONGEST - SPARE} seconds, not {budget!r}.")
    minutes, seconds = divmod(int(budget) + SPARE, 60)
    return {
        "version": "2.0",
        "functionTimeout": f"00:{minutes:02}:{seconds:02}",
        "extensions": {
            "http": {"routePrefix": ""},
            "queues": {
                "batchSize": 4,
                "newBatchThreshold": 0,
                "maxDequeueCount": 2 * DEATHS + 2,
                "maxPollingInterval": "00:00:02",
                "messageEncoding": "none",
                "visibilityTimeout": "00:00:15",
            },
        },
        "extensionBundle": {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"},
        "logging": {"applicationInsights": {"samplingSettings": {"isEnabled": True, "excludedTypes": "Request"}}},
    }
