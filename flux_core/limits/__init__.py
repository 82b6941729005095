"""The roads by which a handler is called within a time limit."""

from flux_core.limits.time_limit import call_within

__all__ = ["call_within"]
