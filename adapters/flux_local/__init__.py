"""Flux on one machine: instances in a SQLite file."""

from flux_local.sqlite import SQLiteStorage

__all__ = ["SQLiteStorage"]
