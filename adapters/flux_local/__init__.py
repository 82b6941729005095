"""Flux on one machine: instances in a SQLite file or in PostgreSQL, large payloads in a folder."""

from flux_local.folder_payloads import FolderPayloads
from flux_local.postgres import PostgresStorage
from flux_local.sqlite import SQLiteStorage

__all__ = ["FolderPayloads", "PostgresStorage", "SQLiteStorage"]
