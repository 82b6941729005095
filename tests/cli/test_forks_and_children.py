"""`flux` on instances that are in several places at once, and on parents and their children."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flux_cli.happenings import line
from flux_core import InstanceRef
from flux_core.load import load_log
from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

APP = """
from flux_core import FluxEngine, MemoryStorage, NonRetryable, create_workflow, flow

def stock(ctx):
    raise NonRetryable("no stock")

def item(ctx):
    if ctx.item == 517:
        raise NonRetryable("no van")

kid = create_workflow("kid").step("prepare", lambda ctx: None).wait("approve", "ok")
broken = create_workflow("broken").step("stock", stock)
mixed = create_workflow("mixed").parallel(
    "fan", flow("pay").wait("paid", "paid"), flow("ship").child("sub", kid), flow("rest").sleep("nap", 600)
)
many = create_workflow("many").map("ship", list(range(1000)), flow().step("label", item), max_concurrency=5)
waits = create_workflow("waits").map("ship", list(range(200)), flow().wait("go", "go"), max_concurrency=None)
kids = create_workflow("kids").map("ship", list(range(20)), flow().child("sub", kid), max_concurrency=None)
order = create_workflow("order").child("call", broken)
engine = FluxEngine(MemoryStorage(), workflows=[kid, broken, mixed, many, waits, kids, order])
"""


@pytest.fixture
def app(flux: Flux) -> Flux:
    flux.write_app(APP)
    return flux


def start(app: Flux, workflow: str) -> str:
    """An instance `i` of the workflow, and what `flux show` says of it."""
    module_of(app).engine.execute(workflow, None, "i")
    return show(app, workflow, "i")


def show(app: Flux, workflow: str, id_: str) -> str:
    done = app("show", "--app", app.app, workflow, id_)
    assert done.exit_code == 0, done.output
    text: str = done.stdout
    return text


def children(app: Flux, workflow: str) -> list[str]:
    return [step.child for step in module_of(app).engine.get(workflow, "i").history if step.child]


def test_every_place_that_waits_is_told(app: Flux) -> None:
    text = start(app, "mixed")
    child = children(app, "mixed")[0].replace("/", " ")
    assert "step fan.pay.paid waits for the signal paid\n" in text
    assert f"step fan.ship.sub waits until its child {child} ends\n" in text
    assert "step fan.rest.nap sleeps until" in text


def test_a_parent_names_its_child_and_the_command_that_looks_at_it(app: Flux) -> None:
    text = start(app, "mixed")
    child = children(app, "mixed")[0].replace("/", " ")
    assert f"    flux show --app {app.app} {child}\n" in text
    assert "__c-" not in text
    document = json.loads(app("show", "--app", app.app, "mixed", "i", "--json").stdout)
    workflow, _, id_ = child.partition(" ")
    assert document["children"] == [{"step": "fan.ship.sub", "workflow": workflow, "id": id_}]
    assert document["waiting_for"] == ["paid"]
    assert sorted(wait["step"] for wait in document["waits"]) == ["fan.pay.paid", "fan.rest.nap"]


def test_a_child_names_its_parent(app: Flux) -> None:
    start(app, "mixed")
    workflow, _, id_ = children(app, "mixed")[0].partition("/")
    assert "started by step fan.ship.sub of mixed i\n" in show(app, workflow, id_)
    document = json.loads(app("show", "--app", app.app, workflow, id_, "--json").stdout)
    assert document["parent"] == {"workflow": "mixed", "id": "i", "step": "fan.ship.sub"}


def test_a_child_that_failed_is_where_to_look_first(app: Flux) -> None:
    text = start(app, "order")
    child = children(app, "order")[0].replace("/", " ")
    ways = text.partition("what you can do now\n")[2].splitlines()
    assert ways[:2] == ["  see why its child in call has not completed:", f"    flux show --app {app.app} {child}"]
    assert ways[3] == f"    flux resume --app {app.app} order i"


@pytest.mark.parametrize(
    ("workflow", "told"),
    [
        ("waits", "200 steps wait for the signal go"),
        ("kids", "20 steps wait until their children of kid are at their end"),
        ("many", "at step ship[517].label: NonRetryable: no van"),
    ],
)
def test_of_many_items_those_alike_are_counted(workflow: str, told: str, app: Flux) -> None:
    text = start(app, workflow)
    assert told in text
    assert len(text.splitlines()) < 70


def test_a_log_tells_of_the_child_in_words(app: Flux) -> None:
    start(app, "mixed")
    engine, ref = module_of(app).engine, InstanceRef("default", "mixed", "i")
    child = children(app, "mixed")[0]
    engine.signal(*child.split("/"), "ok")
    told = [line(record) or "" for record in load_log(engine.storage, ref)]
    assert any(f"fan.ship.sub starts {child.replace('/', ' ')} and waits for its end" in one for one in told)
    assert told[-2].endswith("fan.ship.sub completed by its child")
    start(app, "order")
    told = [line(record) or "" for record in load_log(engine.storage, ref._replace(workflow="order"))]
    assert any("call failed: child 'broken'" in one for one in told)
