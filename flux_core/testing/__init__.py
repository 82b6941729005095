"""What a project needs to test its workflows, and a store author to prove a store. Nothing here runs in production."""

from flux_core.testing.clock import SeededEntropy, VirtualClock
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
    RecordingStorage,
)
from flux_core.testing.invariants import check_invariants
from flux_core.testing.journal import Effect, Journal
from flux_core.testing.store_contract import StoreContract
from flux_core.testing.story import story

__all__ = [
    "CRASH_AFTER",
    "CRASH_BEFORE",
    "FAULTS",
    "LOST_RESPONSE",
    "UNAVAILABLE",
    "Call",
    "Effect",
    "FaultPlan",
    "FaultyStorage",
    "InvocationDied",
    "Journal",
    "RecordingStorage",
    "SeededEntropy",
    "StoreContract",
    "VirtualClock",
    "check_invariants",
    "story",
]
