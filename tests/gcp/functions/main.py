"""What a user deploys."""

from flux_gcp import callback_function, cloud_event_function, http_function
from tests.gcp.functions.workflows import ALL

handler = http_function(*ALL)
events = cloud_event_function(*ALL)
callbacks = callback_function(*ALL)
