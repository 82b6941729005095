"""Fresh places for blob stores, for each kind of service: a bucket, a container or a folder of its own each time."""

from __future__ import annotations

import secrets
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_blob import BlobPayloads, BlobStorage
from tests.services.azurite import ACCOUNT, KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

KINDS = ["s3", "az", "gs", "folder", "memory"]


class Spot(NamedTuple):
    """What a store is made with."""

    address: str
    options: dict[str, Any]

    def store(self, **settings: Any) -> BlobStorage:
        """A store; with more time than it has by itself, since a machine that runs tests may be busy."""
        return BlobStorage(self.address, options=self.options, **{"time_limit": 60.0, **settings})

    def payloads(self, **settings: Any) -> BlobPayloads:
        return BlobPayloads(self.address, options=self.options, **settings)


def spots(kind: str, request: pytest.FixtureRequest) -> Callable[[], Spot]:
    """What makes fresh, empty places of a kind; its service is started when it is first needed."""
    if kind == "s3":
        return _buckets(request.getfixturevalue("moto").endpoint)
    if kind == "az":
        return _containers(request.getfixturevalue("azurite"))
    if kind == "gs":
        endpoint = request.getfixturevalue("fake_gcs")
        return lambda: Spot(f"gs://{_name()}/some/root", {"endpoint": endpoint})
    if kind == "folder":
        factory = request.getfixturevalue("tmp_path_factory")
        return lambda: Spot(str(factory.mktemp("blob") / "store"), {})
    return lambda: Spot("memory://", {})


def _buckets(endpoint: str) -> Callable[[], Spot]:
    def make() -> Spot:
        name = _name()
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
        order = urllib.request.Request(f"{endpoint}/{name}", method="PUT", headers=signed)  # noqa: S310 -- our own server
        with urllib.request.urlopen(order, timeout=30):  # noqa: S310 -- as above
            pass
        settings = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": "x", "secret_access_key": "y"}
        return Spot(f"s3://{name}/some/root", settings)

    return make


def _containers(azurite: Any) -> Callable[[], Spot]:
    def make() -> Spot:
        name = _name()
        azurite.create_container(name)
        settings = {"endpoint": azurite.endpoint, "account_name": ACCOUNT, "account_key": KEY}
        return Spot(f"az://{name}/some/root", settings)

    return make


def _name() -> str:
    return f"flux-{secrets.token_hex(8)}"
