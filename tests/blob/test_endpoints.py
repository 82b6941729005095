"""The address of a service that is somewhere else, as the environment names it."""

from __future__ import annotations

import pytest

from flux_blob import BlobPayloads
from flux_core.ports import InstanceRef
from tests.blob.places import spots
from tests.services.azurite import KEY

ORDER = InstanceRef("acme", "order", "1")
DIGEST = "0" * 64


class TestAnEmulator:
    """It speaks plain HTTP, which is never spoken unless the address says so."""

    @pytest.mark.parametrize("name", ["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"])
    def test_of_azure(self, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        spot = spots("az", request)()
        given = spot.options
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", given["account_name"])
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv(name, given["endpoint"])
        kept(spot.address)

    @pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
    def test_of_s3(self, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        spot = spots("s3", request)()
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, "testing")
        monkeypatch.setenv("AWS_REGION", spot.options["region"])
        monkeypatch.setenv(name, spot.options["endpoint"])
        kept(spot.address)


def kept(address: str) -> None:
    """Put something there and find it again, told nothing but the address."""
    payloads = BlobPayloads(address, time_limit=60.0)
    payloads.put(ORDER, DIGEST, b"content")
    assert payloads.get(ORDER, DIGEST) == b"content"
