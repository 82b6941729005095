"""What the orders of a starter go through once it is deployed: the same on every cloud. It must not know one.

A test module of a cloud has a fixture `deployed`, and a class that inherits the tests of `Orders`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from flux_core.callbacks import Callbacks, Ticket, parsed_keys
from flux_core.hosting import PAYLOADS, PUBLIC_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

PATH: Final = "/workflows/order/executions"
KEYS: Final = "k1:0123456789abcdef0123456789abcdef"
LARGE: Final = "tea" * 40_000
"""An article's name that is kept in the bucket of payloads: no store keeps it in a record."""
HOUR: Final = 3_600_000
TRIES: Final = 3
UNAVAILABLE: Final = 503


class Answer(NamedTuple):
    """To a request."""

    status: int
    body: Any
    """JSON, or None if it is none."""


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask; again where it is told to come again, since what plays a store may be late on a busy machine."""
    for _ in range(TRIES - 1):
        answer = ask()
        if answer.status != UNAVAILABLE:
            return answer
    return ask()


class Deployed(Protocol):
    """A starter that is deployed: what a caller, the platform and an operator can do."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What the function that serves the routes is told."""

    @property
    def keys(self) -> str:
        """The text of the secret that signs callback links."""

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """A request of somebody who is allowed to."""

    def call_unknown(self, method: str, path: str, body: object = None) -> Answer:
        """A request of somebody whom nobody knows."""

    def bring(self, done: Callable[[], bool]) -> None:
        """Let the queue deliver until it is done."""

    def losing(self) -> AbstractContextManager[None]:
        """While it lasts, the queue loses what it is given."""

    def sweep(self) -> Any:
        """Do what the schedule does every minute; the answer, where the platform has one."""

    def objects(self, folder: str) -> int:
        """How many objects there are below an address such as s3://bucket/prefix."""


def status(deployed: Deployed, id_: str) -> str:
    """How an order stands."""
    return str(deployed.call("GET", f"{PATH}/{id_}").body["status"])


def ordered(deployed: Deployed, sku: str, total: int, mode: str = "async") -> str:
    """Order something: its id."""
    answer = deployed.call("POST", f"{PATH}?mode={mode}", {"sku": sku, "total": total})
    assert answer.status == (202 if mode == "async" or total > 100 else 200), answer
    return str(answer.body["id"])


def waiting(deployed: Deployed, sku: str = "tea") -> str:
    """Order something that has to be approved, and let it go until it waits: its id."""
    id_ = ordered(deployed, sku, 400)
    deployed.bring(lambda: status(deployed, id_) == "suspended")
    return id_


def link(deployed: Deployed, id_: str) -> str:
    """A link that answers the approval, signed with the deployment's own key; from its path on."""
    url = deployed.settings[PUBLIC_URL]
    ticket = Ticket("default", "order", id_, "approved", "approval", 0, 0, int(time.time() * 1000) + HOUR)
    return Callbacks(url, parsed_keys(deployed.keys)).url(ticket).removeprefix(url)


class Orders:
    """The tests."""

    def test_a_small_one_is_shipped_when_it_is_answered(self, deployed: Deployed) -> None:
        assert deployed.call("GET", f"{PATH}/none").status == 404, (
            "the first event loads the libraries, which takes long"
        )
        answer = deployed.call("POST", PATH, {"sku": "tea", "total": 40})
        assert (answer.status, answer.body["status"]) == (200, "completed")

    def test_one_that_cannot_be_read_is_refused(self, deployed: Deployed) -> None:
        answer = deployed.call("POST", PATH, {"sku": "tea"})
        assert answer.status == 422
        assert "total" in answer.body["detail"]

    def test_a_large_one_goes_on_by_the_queue_and_waits_for_its_approval(self, deployed: Deployed) -> None:
        id_ = waiting(deployed)
        told = deployed.call("GET", f"{PATH}/{id_}?include=history").body
        assert told["waiting_for"] == ["approved"]
        signalled = deployed.call("POST", f"{PATH}/{id_}/signals/approved?mode=async", {"yes": True, "by": "Ada"})
        assert signalled.status == 202
        deployed.bring(lambda: status(deployed, id_) == "completed")

    def test_what_is_too_large_for_the_store_is_among_the_payloads(self, deployed: Deployed) -> None:
        folder = deployed.settings[PAYLOADS]
        before = deployed.objects(folder)
        id_ = waiting(deployed, LARGE)
        assert deployed.objects(folder) > before
        deployed.call("POST", f"{PATH}/{id_}/signals/approved", {"yes": True})
        told = deployed.call("GET", f"{PATH}/{id_}?include=history").body
        assert told["status"] == "completed"
        assert told["history"][-1]["output"] == f"parcel with {LARGE}"

    def test_a_refused_one_is_undone_and_goes_through_when_it_is_retried(self, deployed: Deployed) -> None:
        id_ = waiting(deployed)
        refused = deployed.call("POST", f"{PATH}/{id_}/signals/approved", {"yes": False, "by": "Ada"})
        assert (refused.status, refused.body["status"]) == (202, "rolling_back"), "a request has no time to undo"
        deployed.bring(lambda: status(deployed, id_) == "rolled_back")
        retried = deployed.call("POST", f"{PATH}/{id_}/steps/charge/retry", {"who": "Bob", "why": "Ada was wrong"})
        assert (retried.status, retried.body["status"]) == (202, "suspended"), "what was undone is done again"
        approved = deployed.call("POST", f"{PATH}/{id_}/signals/approved", {"yes": True, "by": "Bob"})
        assert (approved.status, approved.body["status"]) == (200, "completed")

    def test_a_link_that_the_stacks_own_key_has_signed_answers_for_somebody_unknown(self, deployed: Deployed) -> None:
        id_ = waiting(deployed)
        path = link(deployed, id_)
        assert deployed.call_unknown("POST", f"{path}x", {"yes": True}).status == 403
        answer = deployed.call_unknown("POST", path, {"yes": True, "by": "Eve"})
        assert (answer.status, answer.body["id"]) == (202, id_)
        deployed.bring(lambda: status(deployed, id_) == "completed")

    def test_links_are_all_that_somebody_unknown_can_use(self, deployed: Deployed) -> None:
        id_ = "unknown"
        execute = {"action": "execute", "workflow": "order", "id": id_, "input": {"sku": "tea", "total": 40}}
        requests: list[tuple[str, str, object]] = [
            ("POST", PATH, {"sku": "tea", "total": 40}),
            ("GET", PATH, None),
            ("POST", "/invoke", execute),
        ]
        answers = [deployed.call_unknown(*one).status for one in requests]
        assert set(answers) <= {401, 403, 404}
        assert deployed.call("GET", f"{PATH}/{id_}").status == 404

    def test_one_whose_message_the_queue_has_lost_is_found_by_the_sweep(self, deployed: Deployed) -> None:
        with deployed.losing():
            id_ = ordered(deployed, "tea", 40)
        deployed.sweep()
        deployed.bring(lambda: status(deployed, id_) == "completed")
