"""Flux on Google Cloud: instances in Firestore. Importing it loads nothing of Google's; the first call does."""

from flux_gcp.firestore import FirestoreStorage
from flux_gcp.settings import FirestoreSettings

__all__ = ["FirestoreSettings", "FirestoreStorage"]
