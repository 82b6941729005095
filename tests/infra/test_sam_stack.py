"""The SAM template, translated, makes a stack in moto with every resource in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.stack import Stack

if TYPE_CHECKING:
    from tests.services.moto import Moto

PURGE = {"PurgeFunction", "PurgeRole", "PurgeLogs", "PurgeTickRole"}
"""What is there only if something is to be deleted; SAM adds the function's version, alias, schedule and settings."""


@pytest.fixture(scope="module")
def stack(moto_cloud: Moto, translated: dict[str, Any]) -> Stack:
    return Stack.create(moto_cloud, "flux-plain", translated)


@pytest.fixture(scope="module")
def whole(moto_cloud: Moto, translated: dict[str, Any]) -> Stack:
    return Stack.create(
        moto_cloud,
        "flux-whole",
        translated,
        PurgeAfterSeconds=2_592_000,
        WorkerTimeout=900,
        PublicUrl="https://example.org/flux",
        AlarmTopicArn="arn:aws:sns:eu-central-1:123456789012:alarms",
        KmsKeyArn="arn:aws:kms:eu-central-1:123456789012:key/k-1",
        RotationDays=90,
    )


@pytest.fixture(scope="module")
def unrotated(moto_cloud: Moto, translated: dict[str, Any]) -> Stack:
    return Stack.create(moto_cloud, "flux-unrotated", translated, RotationDays=0)


class TestResources:
    def test_all_of_them_are_made_but_those_that_delete(self, stack: Stack, translated: dict[str, Any]) -> None:
        wanted = {name for name, one in translated["Resources"].items() if one.get("Condition") != "Purges"}
        assert stack.made().keys() == wanted
        assert not PURGE & wanted

    def test_all_of_them_are_made_when_something_is_to_be_deleted(
        self, whole: Stack, translated: dict[str, Any]
    ) -> None:
        assert whole.made().keys() == translated["Resources"].keys()
        assert translated["Resources"].keys() >= PURGE

    def test_the_outputs_name_what_a_command_line_needs(self, stack: Stack) -> None:
        made, outputs = stack.made(), stack.outputs()
        assert outputs["Table"] == made["StateTable"]
        assert outputs["Payloads"] == f"s3://{made['PayloadBucket']}/payloads"
        assert outputs["QueueUrl"] == made["WorkQueue"]
        assert outputs["ApiFunctionAlias"].endswith(":live")
        assert outputs["WorkerFunctionName"] == made["WorkerFunction"]
        assert outputs["SweeperFunctionName"] == made["SweeperFunction"]


class TestFunctions:
    def test_each_has_its_own_role_and_its_published_alias(self, whole: Stack) -> None:
        functions = whole.client("lambda")
        roles = set()
        for name in ("Api", "Worker", "Sweeper", "Purge", "Rotation"):
            of = whole.made()[f"{name}Function"]
            told = functions.get_function_configuration(FunctionName=of)
            roles.add(told["Role"])
            assert told["Handler"] == ("flux_aws.rotation.handler" if name == "Rotation" else "app.handler")
            assert [one["Name"] for one in functions.list_aliases(FunctionName=of)["Aliases"]] == ["live"]
        assert len(roles) == 5

    def test_their_environment_names_the_resources_of_the_stack(self, stack: Stack) -> None:
        made = stack.made()
        told = stack.client("lambda").get_function_configuration(FunctionName=made["WorkerFunction"])
        settings = told["Environment"]["Variables"]
        assert settings["FLUX_TABLE"] == made["StateTable"]
        assert settings["FLUX_QUEUE_URL"] == made["WorkQueue"]
        assert settings["FLUX_CALLBACK_SECRET"] == made["CallbackSecret"]
        assert settings["FLUX_PUBLIC_URL"] == f"https://{made['Api']}.execute-api.eu-central-1.amazonaws.com"
        assert "FLUX_PURGE_AFTER" not in settings

    def test_only_the_purge_function_is_told_to_delete(self, whole: Stack) -> None:
        told = {
            name: whole.client("lambda").get_function_configuration(FunctionName=whole.made()[f"{name}Function"])
            for name in ("Api", "Worker", "Sweeper", "Purge")
        }
        after = {name: one["Environment"]["Variables"].get("FLUX_PURGE_AFTER") for name, one in told.items()}
        assert after == {"Api": None, "Worker": None, "Sweeper": None, "Purge": 2_592_000}

    def test_a_domain_of_ones_own_is_the_base_of_callback_links(self, whole: Stack) -> None:
        told = whole.client("lambda").get_function_configuration(FunctionName=whole.made()["ApiFunction"])
        assert told["Environment"]["Variables"]["FLUX_PUBLIC_URL"] == "https://example.org/flux"


class TestTriggers:
    def test_the_queue_brings_its_messages_to_the_workers_alias(self, stack: Stack) -> None:
        made = stack.made()
        (mapping,) = [
            one
            for one in stack.client("lambda").list_event_source_mappings()["EventSourceMappings"]
            if one["EventSourceArn"].endswith(made["WorkQueue"].rpartition("/")[2])
        ]
        assert made["WorkerFunction"] in mapping["FunctionArn"]
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]

    def test_the_schedule_asks_the_sweeper_for_a_sweep_every_minute(self, stack: Stack) -> None:
        schedules = stack.client("scheduler")
        (name,) = [one["Name"] for one in schedules.list_schedules(GroupName=stack.name)["Schedules"]]
        told = schedules.get_schedule(Name=name, GroupName=stack.name)
        assert told["ScheduleExpression"] == "rate(1 minute)"
        assert json.loads(told["Target"]["Input"]) == {"action": "sweep"}
        assert stack.made()["SweeperFunction"] in told["Target"]["Arn"]

    def test_the_purge_is_asked_for_once_a_day(self, whole: Stack) -> None:
        schedules = whole.client("scheduler")
        told = [
            schedules.get_schedule(Name=one["Name"], GroupName=whole.name)
            for one in schedules.list_schedules(GroupName=whole.name)["Schedules"]
        ]
        assert {one["ScheduleExpression"]: json.loads(one["Target"]["Input"]) for one in told} == {
            "rate(1 minute)": {"action": "sweep"},
            "rate(1 day)": {"action": "purge"},
        }

    def test_only_callbacks_are_open_to_everybody(self, stack: Stack) -> None:
        routes = stack.client("apigatewayv2").get_routes(ApiId=stack.made()["Api"])["Items"]
        assert {one["RouteKey"]: one["AuthorizationType"] for one in routes} == {
            "ANY /workflows/{proxy+}": "AWS_IAM",
            "POST /invoke": "AWS_IAM",
            "POST /callbacks/{token}": "NONE",
        }


class TestQueue:
    @pytest.mark.parametrize(("which", "visible_again"), [("stack", 1800), ("whole", 5400)])
    def test_a_message_is_hidden_for_six_times_the_workers_limit(
        self, request: pytest.FixtureRequest, which: str, visible_again: int
    ) -> None:
        of: Stack = request.getfixturevalue(which)
        queue = of.client("sqs").get_queue_attributes(QueueUrl=of.made()["WorkQueue"], AttributeNames=["All"])
        assert int(queue["Attributes"]["VisibilityTimeout"]) == visible_again

    def test_what_is_never_handled_goes_to_the_dead_letter_queue(self, stack: Stack) -> None:
        made = stack.made()
        queue = stack.client("sqs").get_queue_attributes(QueueUrl=made["WorkQueue"], AttributeNames=["RedrivePolicy"])
        policy = json.loads(queue["Attributes"]["RedrivePolicy"])
        assert policy["deadLetterTargetArn"].endswith(made["DeadLetterQueue"].rpartition("/")[2])
        assert int(policy["maxReceiveCount"]) == 12


class TestRotation:
    @pytest.mark.parametrize(("which", "days"), [("stack", 30), ("whole", 90)])
    def test_secrets_manager_invokes_the_function_after_so_many_days(
        self, request: pytest.FixtureRequest, which: str, days: int
    ) -> None:
        of: Stack = request.getfixturevalue(which)
        told = of.client("secretsmanager").describe_secret(SecretId=of.made()["CallbackSecret"])
        assert told["RotationEnabled"] is True
        assert told["RotationRules"] == {"AutomaticallyAfterDays": days}
        assert told["RotationLambdaARN"].endswith(of.made()["RotationFunction"])

    def test_nothing_of_it_is_there_when_it_is_turned_off(self, unrotated: Stack) -> None:
        made = unrotated.made()
        assert not [name for name, id_ in made.items() if name.startswith("Rotation") and id_]
        told = unrotated.client("secretsmanager").describe_secret(SecretId=made["CallbackSecret"])
        assert not told.get("RotationEnabled")


class TestSecret:
    def test_its_text_is_what_the_handlers_read(self, stack: Stack) -> None:
        from flux_core.callbacks import parsed_keys

        told = stack.client("secretsmanager").get_secret_value(SecretId=stack.made()["CallbackSecret"])
        keys = parsed_keys(told["SecretString"])
        assert list(keys) == ["k1"]
        assert len(keys["k1"]) == 64


class TestAlarms:
    def test_they_are_sent_to_the_topic(self, whole: Stack) -> None:
        alarms = whole.client("cloudwatch").describe_alarms()["MetricAlarms"]
        sent = [one for one in alarms if one["AlarmActions"]]
        assert len(sent) == 6
