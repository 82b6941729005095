"""What is said of an attempt that is late, and what becomes of the value it still brings.

This module must not know by which road the attempt was called.
"""

from __future__ import annotations

from types import CoroutineType

from flux_core.errors import StepTimeout


def outlasted(seconds: float) -> StepTimeout:
    """The error of an attempt that was cut or disowned at its limit of `seconds`."""
    return StepTimeout(f"the attempt outlasted its time limit of {seconds:g} s")


def drop(value: object) -> None:
    """Let go of a late value. A coroutine nobody will await is closed, else Python warns that it never was."""
    if isinstance(value, CoroutineType):
        value.close()
