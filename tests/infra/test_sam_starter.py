"""The starter for SAM on Lambda's own runtime, with the resources of its own stack in moto."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from flux_core.callbacks import parsed_keys
from tests.infra import sam
from tests.infra.on_lambda import OnLambda
from tests.infra.orders import Orders, link, waiting
from tests.infra.stack import Stack
from tests.templates.starter import files_of, undefined, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto

STACK = "orders"


@pytest.fixture(scope="module")
def stack(moto_cloud: Moto, translated: dict[str, Any]) -> Stack:
    return Stack.create(moto_cloud, STACK, translated)


@pytest.fixture(scope="module")
def deployed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnLambda]:
    folder = tmp_path_factory.mktemp("starter")
    made = stack.made()
    stack.speak_plain_http(made["PayloadBucket"])
    platform = OnLambda(stack, made["Api"], made["Schedules"], written("aws", folder) / "src", folder)
    yield platform
    platform.close()


class TestOrders(Orders):
    """On Lambda."""

    def test_a_link_holds_on_when_the_keys_of_the_stack_rotate(self, deployed: OnLambda) -> None:
        before, path = parsed_keys(deployed.keys), link(deployed, waiting(deployed))
        deployed.rotate()
        after = parsed_keys(deployed.keys)
        assert next(iter(after.items())) == next(iter(before.items())), "the new one has to be known before it signs"
        assert len(after) == len(before) + 1
        assert deployed.call_unknown("POST", path, {"yes": True}).status == 202


def test_its_template_is_the_one_that_the_stack_was_made_of() -> None:
    assert files_of("aws")[PurePosixPath("template.yaml")] == sam.TEMPLATE.read_bytes()


def test_its_samconfig_gives_the_stack_its_name() -> None:
    assert f'stack_name = "{STACK}"' in files_of("aws")[PurePosixPath("samconfig.toml")].decode()


def test_every_handler_is_one_that_its_entry_point_defines(translated: dict[str, Any]) -> None:
    functions = sam.of_type(translated, "AWS::Lambda::Function")
    assert undefined("aws", {one["Handler"] for one in functions.values()}) == set()
    assert len(functions) >= 4
