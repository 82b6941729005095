"""Stores in object storage: `BlobStorage` keeps instances, `BlobPayloads` what is too large for another store."""

from __future__ import annotations

from flux_blob.payloads import BlobPayloads
from flux_blob.storage import BlobStorage

__all__ = ["BlobPayloads", "BlobStorage"]
