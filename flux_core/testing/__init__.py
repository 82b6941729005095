"""What a project needs to test its workflows, and a store author to prove a store. Nothing here runs in production."""

from flux_core.testing.attempts import Attempt
from flux_core.testing.clock import SeededEntropy, VirtualClock
from flux_core.testing.crashes import CrashReport, crash_at_every_write
from flux_core.testing.faults import (
    CRASH_AFTER,
    CRASH_BEFORE,
    FAULTS,
    LOST_RESPONSE,
    UNAVAILABLE,
    Call,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    RecordingPayloads,
    RecordingStorage,
)
from flux_core.testing.flux_test import FluxTest
from flux_core.testing.invariants import check_invariants
from flux_core.testing.journal import Effect, Journal
from flux_core.testing.payload_contract import PayloadContract
from flux_core.testing.run import Run
from flux_core.testing.store_contract import StoreContract
from flux_core.testing.story import story

__all__ = [
    "CRASH_AFTER",
    "CRASH_BEFORE",
    "FAULTS",
    "LOST_RESPONSE",
    "UNAVAILABLE",
    "Attempt",
    "Call",
    "CrashReport",
    "Effect",
    "FaultPlan",
    "FaultyStorage",
    "FluxTest",
    "InvocationDied",
    "Journal",
    "PayloadContract",
    "RecordingPayloads",
    "RecordingStorage",
    "Run",
    "SeededEntropy",
    "StoreContract",
    "VirtualClock",
    "check_invariants",
    "crash_at_every_write",
    "story",
]
