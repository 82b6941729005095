"""`BlobStorage` and `BlobPayloads` keep their contracts on every service, each played by its real component."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from flux_core.testing import PayloadContract, StoreContract
from tests.blob.places import Spot, spots

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_blob import BlobPayloads, BlobStorage
    from flux_core.ports import PayloadStorage, WorkflowStorage


class InAPlace:
    """A fresh place for each test."""

    kind: ClassVar[str]
    spots: Callable[[], Spot]
    made: dict[int, Spot]

    def spot(self) -> Spot:
        return type(self).spots()


@pytest.fixture(scope="class", autouse=True)
def _service(request: pytest.FixtureRequest) -> None:
    request.cls.spots = staticmethod(spots(request.cls.kind, request))


class TestMemory(InAPlace, StoreContract):
    kind = "memory"

    def make_store(self) -> BlobStorage:
        self.place = self.spot()
        return self.place.store()

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        return store


class TestFolder(TestMemory):
    kind = "folder"

    def reopen(self, store: WorkflowStorage) -> WorkflowStorage:
        store.close()
        return self.place.store()


class TestS3(TestFolder):
    kind = "s3"
    writers, slots, churn, crowd = 12, 12, 12, 12
    long_log = 100


class TestAzure(TestS3):
    kind = "az"


class TestGoogle(TestS3):
    kind = "gs"
    long_log = 1_005  # a list of the service ends after 1,000 keys


@pytest.mark.soak
class TestS3AtFullSize(TestFolder):
    kind = "s3"


@pytest.mark.soak
class TestAzureAtFullSize(TestFolder):
    kind = "az"


@pytest.mark.soak
class TestGoogleAtFullSize(TestFolder):
    kind = "gs"


class TestPayloadsInMemory(InAPlace, PayloadContract):
    kind = "memory"

    def make_payloads(self) -> BlobPayloads:
        self.place = self.spot()
        return self.place.payloads()


class TestPayloadsInAFolder(TestPayloadsInMemory):
    kind = "folder"

    def reopen(self, payloads: PayloadStorage) -> PayloadStorage:
        payloads.close()
        return self.place.payloads()


class TestPayloadsInS3(TestPayloadsInAFolder):
    kind = "s3"


class TestPayloadsInAzure(TestPayloadsInAFolder):
    kind = "az"


class TestPayloadsInGoogle(TestPayloadsInAFolder):
    kind = "gs"
