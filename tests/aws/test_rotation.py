"""The function that rotates the callback keys: the four steps of Secrets Manager, repeated as it may repeat them."""

from __future__ import annotations

import io
import json
import uuid
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_lambda_powertools.logging.logger import Logger
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from flux_aws.logging import PowertoolsLogger
from flux_aws.rotation import STEPS, rotation_handler
from flux_aws.secret import CallbackSecret
from flux_core import DefinitionError
from flux_core.callbacks import parsed_keys
from flux_core.errors import InvocationError
from flux_core.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.moto import Moto

_numbers = count(1)
ONE, TWO, THREE = "a" * 32, "b" * 32, "c" * 32
DAY = 86_400_000


class Later(SystemClock):
    """Some milliseconds after now."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


class Raw(io.BytesIO):
    """A body as the SDK reads it off the wire."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


class Rotated:
    """A secret that Secrets Manager rotates, and the function that it invokes for that."""

    def __init__(self, moto: Moto, text: str, days: int = 30, **environment: str) -> None:
        self.name = f"rotated-{next(_numbers)}"
        self.endpoint = moto.endpoint
        self.manager = boto3.client("secretsmanager", endpoint_url=moto.endpoint)
        self.arn = str(self.manager.create_secret(Name=self.name, SecretString=text)["ARN"])
        self.clock = Later()
        self.handler = rotation_handler(environment=environment, endpoint=moto.endpoint, clock=self.clock)
        self.manager.rotate_secret(
            SecretId=self.arn,
            RotationLambdaARN="arn:aws:lambda:eu-central-1:123456789012:function:rotation",
            RotationRules={"AutomaticallyAfterDays": days},
            RotateImmediately=False,
        )

    def begin(self, text: str | None = None) -> str:
        """What Secrets Manager does before it invokes the function: a version is pending, and has no text."""
        if text is None:
            return str(self.manager.rotate_secret(SecretId=self.arn)["VersionId"])
        token = str(uuid.uuid4())
        self.manager.put_secret_value(
            SecretId=self.arn, ClientRequestToken=token, VersionStages=["AWSPENDING"], SecretString=text
        )
        return token

    def step(self, step: str, token: str) -> None:
        self.handler({"SecretId": self.arn, "ClientRequestToken": token, "Step": step})

    def rotate(self, times: int = 1) -> None:
        token = self.begin()
        for step in STEPS:
            for _ in range(times):
                self.step(step, token)

    def text(self, stage: str = "AWSCURRENT") -> str:
        return str(self.manager.get_secret_value(SecretId=self.arn, VersionStage=stage)["SecretString"])

    def keys(self, stage: str = "AWSCURRENT") -> dict[str, str]:
        return parsed_keys(self.text(stage))


class TestARotation:
    def test_adds_a_key_to_one_that_is_alone(self, moto: Moto) -> None:
        secret = Rotated(moto, f'{{"k1": "{ONE}"}}')
        secret.rotate()
        keys = secret.keys()
        assert list(keys) == ["k1", "k2"]
        assert keys["k1"] == ONE
        assert len(keys["k2"]) == 64

    def test_has_the_key_sign_that_functions_know_by_then(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE},k2:{TWO}")
        secret.clock.ahead = 30 * DAY
        secret.rotate()
        assert list(secret.keys()) == ["k2", "k3", "k1"]
        assert list(secret.keys("AWSPREVIOUS")) == ["k1", "k2"]

    def test_is_read_by_the_functions(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        secret.rotate()
        assert CallbackSecret(secret.arn, endpoint=secret.endpoint)() == secret.keys()

    def test_makes_another_key_each_time(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        secret.rotate()
        made = secret.keys()["k2"]
        secret.clock.ahead = 30 * DAY
        secret.rotate()
        assert len({made, *secret.keys().values()}) == 3

    def test_comes_out_the_same_when_each_step_is_repeated(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        secret.rotate(times=3)
        assert list(secret.keys()) == ["k1", "k2"]

    def test_keeps_what_the_first_time_of_a_repeated_step_has_made(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        token = secret.begin()
        secret.step("createSecret", token)
        made = secret.text("AWSPENDING")
        secret.step("createSecret", token)
        assert secret.text("AWSPENDING") == made

    def test_leaves_a_version_to_the_invocation_that_was_faster(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        asked = []

        def refuse(request: AWSPreparedRequest, **_: object) -> AWSResponse:
            asked.append(request.headers["X-Amz-Target"])
            body = json.dumps({"__type": "ResourceExistsException", "message": "the token is in use"}).encode()
            return AWSResponse(request.url, 400, {"Content-Type": "application/x-amz-json-1.1"}, Raw(body))

        events = secret.handler._client.client.meta.events
        events.register("before-send.secrets-manager.PutSecretValue", refuse)
        secret.step("createSecret", secret.begin())
        assert len(asked) == 1

    def test_changes_nothing_before_its_last_step(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        token = secret.begin()
        for step in STEPS[:-1]:
            secret.step(step, token)
        assert secret.text() == f"k1:{ONE}"


class TestAScheduleThatIsTried:
    def test_is_right_if_the_pending_text_is_the_current_one(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        secret.step("testSecret", secret.begin(secret.text()))

    def test_is_right_if_there_is_no_pending_text(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        secret.step("testSecret", secret.begin())

    def test_is_refused_if_links_live_longer_than_it_says(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}", days=7)
        with pytest.raises(DefinitionError, match=r"rotated every 7 days.*live for 7 days.*8 days or more"):
            secret.step("testSecret", secret.begin())

    def test_is_right_if_links_are_told_to_live_shorter(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}", days=7, FLUX_CALLBACK_EXPIRES="86400")
        secret.step("testSecret", secret.begin())


class TestWhatIsRefused:
    def test_a_period_in_which_links_would_outlive_their_keys(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}", FLUX_CALLBACK_EXPIRES=str(30 * 86400))
        with pytest.raises(DefinitionError, match="FLUX_CALLBACK_EXPIRES"):
            secret.rotate()
        assert secret.text() == f"k1:{ONE}"

    def test_another_rotation_while_links_of_the_last_one_live(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE},k2:{TWO}")
        secret.clock.ahead = 6 * DAY
        with pytest.raises(InvocationError, match=r"changed 6 days ago"):
            secret.rotate()
        assert list(secret.keys()) == ["k1", "k2"]

    def test_a_version_that_is_not_pending(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        for token in (str(uuid.uuid4()), "of-another-secret"):
            with pytest.raises(DefinitionError, match="not the one that is pending"):
                secret.step("createSecret", token)

    def test_a_secret_that_nobody_has_set_a_rotation_for(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        token = secret.begin()
        secret.manager.cancel_rotate_secret(SecretId=secret.arn)
        with pytest.raises(DefinitionError, match="is not rotated"):
            secret.step("createSecret", token)

    def test_the_last_step_before_the_first(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        with pytest.raises(InvocationError, match="createSecret comes first"):
            secret.step("finishSecret", secret.begin())
        assert secret.text() == f"k1:{ONE}"

    @pytest.mark.parametrize("step", ["testSecret", "finishSecret"])
    def test_a_pending_text_whose_key_no_function_knows(self, moto: Moto, step: str) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        token = secret.begin(f"k3:{THREE},k1:{ONE}")
        with pytest.raises(DefinitionError, match="no function knows yet") as told:
            secret.step(step, token)
        assert THREE not in str(told.value)
        assert secret.text() == f"k1:{ONE}"

    def test_a_rotation_that_had_begun_before_a_leaked_key_was_taken_away(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE}")
        token = secret.begin()
        secret.step("createSecret", token)
        secret.manager.put_secret_value(SecretId=secret.arn, SecretString=f"k9:{THREE}")
        with pytest.raises(DefinitionError, match="was changed meanwhile"):
            secret.step("finishSecret", token)
        assert secret.text() == f"k9:{THREE}"

    @pytest.mark.parametrize(
        "event", [None, {}, {"action": "sweep"}, {"SecretId": "s", "ClientRequestToken": "t", "Step": "sweep"}]
    )
    def test_an_event_of_anybody_else(self, moto: Moto, event: Any) -> None:
        with pytest.raises(DefinitionError, match=r"Give others app\.handler"):
            rotation_handler(environment={}, endpoint=moto.endpoint)(event)

    def test_a_secret_of_another_form(self, moto: Moto) -> None:
        secret = Rotated(moto, ONE)
        with pytest.raises(DefinitionError, match="id:secret") as told:
            secret.rotate()
        assert ONE not in str(told.value)


class TestWhatIsTold:
    def test_no_line_of_the_log_holds_a_key(self, moto: Moto) -> None:
        secret = Rotated(moto, f"k1:{ONE},k2:{TWO}", FLUX_LOG_LEVEL="debug")
        lines = io.StringIO()
        secret.handler._logger = PowertoolsLogger("debug", Logger(service=secret.name, level="DEBUG", stream=lines))
        token = secret.begin()
        with pytest.raises(InvocationError):
            secret.step("createSecret", token)
        secret.clock.ahead = 30 * DAY
        for step in STEPS:
            secret.step(step, token)
        written = lines.getvalue()
        assert "the keys are rotated" in written
        assert "a rotation failed" in written
        assert not [key for key in (ONE, TWO, *secret.keys().values()) if key in written]

    def test_a_secret_that_is_not_there_is_named_with_awss_code(self, moto: Moto) -> None:
        event = {"SecretId": "nowhere", "ClientRequestToken": str(uuid.uuid4()), "Step": "createSecret"}
        with pytest.raises(InvocationError, match=r"'nowhere' \(AWS: ResourceNotFoundException\)"):
            rotation_handler(environment={}, endpoint=moto.endpoint)(event)
