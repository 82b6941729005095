"""Flux on Google Cloud: functions, instances in Firestore, wakes through Cloud Tasks.

Importing it loads nothing of Google's; the first call does.
"""

from flux_gcp.firestore import FirestoreStorage
from flux_gcp.handler import callback_function, cloud_event_function, http_function
from flux_gcp.logger import GoogleLogger
from flux_gcp.rotation import rotation_function
from flux_gcp.scheduler import CloudTasksScheduler
from flux_gcp.settings import FirestoreSettings, FunctionSettings

__all__ = [
    "CloudTasksScheduler",
    "FirestoreSettings",
    "FirestoreStorage",
    "FunctionSettings",
    "GoogleLogger",
    "callback_function",
    "cloud_event_function",
    "http_function",
    "rotation_function",
]
