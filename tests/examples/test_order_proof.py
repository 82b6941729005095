"""The proof of the demo is one: every way in which money, parcels or orders could go astray contradicts a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples.order_fulfilment import make_orders
from examples.order_fulfilment.autopsy import Attempt, settled
from examples.order_fulfilment.journal import DUPLICATE, LOOKUP, Entry, Journal, read_journal
from examples.order_fulfilment.orders import Order, parse
from examples.order_fulfilment.proof import foretold, prove
from flux_core.validation import input_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from examples.order_fulfilment.proof import Choice

FILE = Path(make_orders.__file__).with_name("orders.jsonl")


def order(id_: str = "o-1", total: int = 4200, **more: object) -> dict[str, Any]:
    return {
        "order_id": id_,
        "customer": {"name": "Ada Okafor", "email": "ada@example.com"},
        "items": [{"sku": "ST-AL", "name": "Laptop stand", "quantity": 1, "price": total}],
        "total": total,
        **more,
    }


def entry(effect: str, id_: str = "o-1", amount: int = 0, key: str | None = None) -> Entry:
    return Entry(effect, key or f"key of {effect} {id_}", id_, amount, "ref", "", False, 1, 0)


def whole(id_: str = "o-1") -> list[Entry]:
    return [entry("reserve", id_), entry("charge", id_, 4200), entry("ship", id_), entry("notify", id_)]


def contradicted(
    journal: list[Entry],
    statuses: Mapping[str, str | None],
    orders: list[dict[str, Any]] | None = None,
    choices: Mapping[str, Choice] | None = None,
) -> list[str]:
    """The claims that have offenders, by the first words of their text."""
    by_id: dict[str, object] = {raw["order_id"]: raw for raw in ([order()] if orders is None else orders)}
    return [claim.text.partition(":")[0] for claim in prove(by_id, statuses, choices or {}, journal) if claim.offenders]


COMPLETED = {"o-1": "completed"}
ROLLED_BACK = {"o-1": "rolled_back"}
REFUSED = [order(rehearse="carrier_refuses")]
UNDONE = [entry("reserve"), entry("charge", amount=4200), entry("refund", amount=4200), entry("release")]
ONE_KEY = "no idempotency key had more than one effect"


def test_an_order_that_went_well_proves_itself() -> None:
    assert contradicted(whole(), COMPLETED) == []


def test_an_order_that_was_undone_proves_itself() -> None:
    assert contradicted(UNDONE, ROLLED_BACK, REFUSED) == []


def test_suppressed_duplicates_are_no_effects() -> None:
    assert contradicted([*whole(), entry(DUPLICATE), entry("lookup")], COMPLETED) == []


def test_a_second_charge_with_the_same_key_is_seen() -> None:
    assert contradicted([*whole(), entry("charge", amount=4200)], COMPLETED) == [ONE_KEY, "completed"]


def test_a_second_charge_with_another_key_is_seen() -> None:
    assert contradicted([*whole(), entry("charge", amount=4200, key="another")], COMPLETED) == ["completed"]


def test_a_charge_of_another_amount_is_seen() -> None:
    wrong = [one._replace(amount=4100) if one.effect == "charge" else one for one in whole()]
    assert contradicted(wrong, COMPLETED) == ["completed"]


@pytest.mark.parametrize("missing", ["reserve", "ship", "notify"])
def test_an_effect_that_never_happened_is_seen(missing: str) -> None:
    assert contradicted([one for one in whole() if one.effect != missing], COMPLETED) == ["completed"]


@pytest.mark.parametrize("missing", ["refund", "release"])
def test_an_effect_that_was_not_undone_is_seen(missing: str) -> None:
    journal = [one for one in UNDONE if one.effect != missing]
    assert contradicted(journal, ROLLED_BACK, REFUSED) == ["failed or undone"]


def test_a_refund_of_another_amount_is_seen() -> None:
    wrong = [one._replace(amount=1) if one.effect == "refund" else one for one in UNDONE]
    assert contradicted(wrong, ROLLED_BACK, REFUSED) == ["failed or undone"]


def test_a_parcel_that_left_before_it_was_paid_is_seen() -> None:
    reserve, charge, ship, notify = whole()
    found = contradicted([reserve, ship, charge, notify], COMPLETED)
    assert found == ["every parcel was paid for when it left"]


def test_a_parcel_that_left_after_its_refund_is_seen() -> None:
    found = contradicted([*UNDONE, entry("ship")], ROLLED_BACK, REFUSED)
    assert found == ["failed or undone", "every parcel was paid for when it left"]


def test_an_order_without_instance_is_lost() -> None:
    assert "nothing lost" in contradicted([], {"o-1": None})


@pytest.mark.parametrize("status", ["running", "stuck", "blocked", "rolling_back"])
def test_an_order_that_neither_ended_nor_waits_is_lost(status: str) -> None:
    assert "nothing lost" in contradicted(whole(), {"o-1": status})


def test_an_order_that_ended_otherwise_than_foretold_is_seen() -> None:
    assert contradicted(UNDONE, ROLLED_BACK) == ["each order ended as its line and the decisions foretell"]


def test_an_effect_for_an_order_that_was_turned_away_is_seen() -> None:
    bad = order()
    del bad["customer"]
    found = contradicted([entry("charge", amount=4200)], {"o-1": None}, [bad])
    assert found == ["nothing happened for an order that nobody placed"]


def test_an_effect_for_an_order_that_is_not_in_the_file_is_seen() -> None:
    found = contradicted([*whole(), entry("charge", "o-9", 4200)], COMPLETED)
    assert found == ["nothing happened for an order that nobody placed"]


@pytest.mark.parametrize(
    ("choice", "status"),
    [(None, "suspended"), ("approve", "completed"), ("refuse", "rolled_back"), ("cancel", "cancelled")],
)
def test_a_large_order_ends_as_people_decide(choice: Choice | None, status: str) -> None:
    assert foretold(order(total=60_000), choice) == status


def test_the_shipped_orders_are_those_that_the_script_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == make_orders.text()


def test_the_shipped_orders_rehearse_every_end() -> None:
    orders = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert len(orders) >= 200
    assert {foretold(raw, None) for raw in orders} == {None, "failed", "rolled_back", "suspended", "completed"}
    assert {raw.get("rehearse") for raw in orders} > {"answer_lost", "carrier_busy", "carrier_refuses", "card_declined"}


def test_the_proof_and_the_workflow_agree_on_what_an_order_is() -> None:
    validator = input_validator(Order)
    assert validator is not None
    for line in FILE.read_text(encoding="utf-8").splitlines():
        raw = json.loads(line)
        try:
            accepted = validator.parse(raw)
        except Exception:  # noqa: BLE001 -- any refusal
            accepted = None
        assert parse(raw) == accepted


def test_the_journal_makes_an_effect_once_a_key_across_processes(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    one, other = Journal(path), Journal(path)  # two open files, as two processes have
    first = one.once("charge", "k", "o-1", 4200)
    assert other.once("charge", "k", "o-1", 4200) == first
    assert one.once("charge", "k2", "o-1", 4200) != first
    assert other.find("charge", "k2", "o-1") is not None
    assert other.find("charge", "k3", "o-1") is None
    effects = [(line.effect, line.of) for line in read_journal(path)]
    assert effects == [
        ("charge", ""),
        (DUPLICATE, "charge"),
        ("charge", ""),
        ("lookup", "charge"),
        ("lookup", "charge"),
    ]


def test_a_provider_that_does_not_remember_makes_it_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    refs = {journal.once("charge", "k", "o-1", 4200, remembers=False) for _ in range(2)}
    assert len(refs) == 2
    assert [line.effect for line in read_journal(tmp_path / "journal.jsonl")] == ["charge", "charge"]


CHARGE = entry("charge")
YES, NO = (entry(LOOKUP)._replace(of="charge", found=found) for found in (True, False))
AGAIN = entry(DUPLICATE)._replace(of="charge", found=True)


@pytest.mark.parametrize(
    ("happened", "later", "said"),
    [
        (True, [YES], "verify: done; not repeated"),
        (True, [YES, CHARGE], "verify: done; yet REPEATED"),
        (False, [NO, CHARGE], "verify: not done; made now"),
        (False, [NO, CHARGE, YES], "verify: not done; made now"),  # its answer was lost as well
        (False, [NO], "verify: not done"),
        (False, [CHARGE, YES], "made now"),
        (True, [CHARGE], "REPEATED"),
        (True, [AGAIN], "same key sent again: suppressed"),
        (True, [entry("charge", "o-2"), entry("ship")], "nothing more was needed"),
        (False, [entry("ship")], "step run again"),
    ],
)
def test_an_attempt_in_flight_was_settled_as_the_journal_goes_on(happened: bool, later: list[Entry], said: str) -> None:
    assert settled(Attempt("o-1", "charge", happened), later) == said
