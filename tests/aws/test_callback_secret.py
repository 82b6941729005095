"""The callback keys out of Secrets Manager: fetched when needed, kept five minutes, and used on while it is away."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest

from flux_aws.secret import CallbackSecret
from flux_core import DefinitionError
from flux_core.errors import InvocationError
from flux_core.testing import VirtualClock

if TYPE_CHECKING:
    from tests.services.moto import Moto

_numbers = count(1)
ONE, OTHER = "a" * 32, "b" * 32


class Secret:
    """A secret, and who reads it."""

    def __init__(self, moto: Moto, text: str) -> None:
        self.name = f"callbacks-{next(_numbers)}"
        self.manager = boto3.client("secretsmanager", endpoint_url=moto.endpoint)
        self.manager.create_secret(Name=self.name, SecretString=text)
        self.clock = VirtualClock()
        self.keys = CallbackSecret(self.name, endpoint=moto.endpoint, clock=self.clock)

    def change(self, text: str) -> None:
        self.manager.put_secret_value(SecretId=self.name, SecretString=text)


def test_it_is_read_in_the_form_of_the_setting(moto: Moto) -> None:
    assert list(Secret(moto, f"k2:{OTHER},k1:{ONE}").keys().items()) == [("k2", OTHER), ("k1", ONE)]


def test_a_rotation_is_seen_within_five_minutes(moto: Moto) -> None:
    secret = Secret(moto, f"k1:{ONE}")
    secret.keys()
    secret.change(f"k2:{OTHER},k1:{ONE}")
    secret.clock.advance(299)
    assert list(secret.keys()) == ["k1"]
    secret.clock.advance(2)
    assert list(secret.keys()) == ["k2", "k1"]


def test_known_keys_go_on_being_used_while_it_does_not_answer(moto: Moto) -> None:
    secret = Secret(moto, f"k1:{ONE}")
    secret.keys()
    secret.manager.delete_secret(SecretId=secret.name, ForceDeleteWithoutRecovery=True)
    secret.clock.advance(301)
    assert list(secret.keys()) == ["k1"]


def test_one_that_is_not_there_names_the_setting(moto: Moto) -> None:
    keys = CallbackSecret("nowhere", endpoint=moto.endpoint)
    with pytest.raises(InvocationError, match=r"does not exist\. Check FLUX_CALLBACK_SECRET and AWS_REGION"):
        keys()


def test_a_text_of_another_form_is_refused_without_being_repeated(moto: Moto) -> None:
    secret = Secret(moto, ONE)
    with pytest.raises(DefinitionError, match=r"id:secret\[,id:secret\]") as told:
        secret.keys()
    assert ONE not in str(told.value)
