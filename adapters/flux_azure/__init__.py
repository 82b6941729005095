"""Flux on Azure Functions: `blueprint(...)` makes the functions of an app, `host_json()` the host.json that fits it."""

from flux_azure.handler import blueprint
from flux_azure.host_json import host_json
from flux_azure.logger import AzureLogger
from flux_azure.scheduler import QueueScheduler
from flux_azure.settings import AzureSettings

__all__ = ["AzureLogger", "AzureSettings", "QueueScheduler", "blueprint", "host_json"]
