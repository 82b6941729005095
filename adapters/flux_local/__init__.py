"""Flux on one machine: instances in a SQLite file, large payloads in a folder."""

from flux_local.folder_payloads import FolderPayloads
from flux_local.sqlite import SQLiteStorage

__all__ = ["FolderPayloads", "SQLiteStorage"]
