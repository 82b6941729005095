"""What the SAM template promises: the store's layout, roles that allow what is needed and no more, alarms that ring."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flux_aws.dynamodb_items import DUE_INDEX, EXPIRES, LIST_INDEX
from flux_aws.dynamodb_table import DESCRIPTION
from flux_aws.handler import LambdaHandler
from flux_aws.rotation import RotationHandler
from flux_core import FluxEngine, MemoryStorage
from flux_core.hosting import HostSettings
from flux_core.machine.waking import MOST_DEATHS
from flux_core.rotation import LAG
from tests.infra import sam

if TYPE_CHECKING:
    from pathlib import Path

FUNCTIONS = ("Api", "Worker", "Sweeper", "Purge", "Rotation")
HANDLERS = ("Api", "Worker")
"""Those that run steps."""


def lint(path: Path) -> str:
    """What cfn-lint finds; empty if nothing."""
    outcome = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", "-t", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return outcome.stdout + outcome.stderr if outcome.returncode else ""


class TestLint:
    def test_the_template_is_clean(self) -> None:
        assert lint(sam.TEMPLATE) == ""

    def test_its_translation_is_clean(self, translated: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "translated.json"
        path.write_text(json.dumps(translated))
        assert lint(path) == ""

    def test_it_holds_no_alias_of_yaml_which_cloudformation_refuses(self) -> None:
        import yaml

        kinds = {type(event) for event in yaml.parse(sam.TEMPLATE.read_text())}
        assert yaml.AliasEvent not in kinds


class TestState:
    def test_the_table_is_the_one_that_the_store_would_make(self, template: dict[str, Any]) -> None:
        table = template["Resources"]["StateTable"]["Properties"]
        assert {name: table[name] for name in DESCRIPTION} == DESCRIPTION

    def test_it_can_be_restored_to_any_second_and_is_not_deleted_by_mistake(self, template: dict[str, Any]) -> None:
        table = template["Resources"]["StateTable"]
        assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
        assert table["Properties"]["DeletionProtectionEnabled"] == {"Fn::If": ["IsProtected", True, False]}
        assert template["Parameters"]["DeletionProtection"]["Default"] == "true"
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")

    def test_it_expires_by_the_attribute_that_only_tombstones_have(self, template: dict[str, Any]) -> None:
        ttl = template["Resources"]["StateTable"]["Properties"]["TimeToLiveSpecification"]
        assert ttl == {"AttributeName": EXPIRES, "Enabled": True}

    def test_no_rule_removes_a_payload_that_is_current(self, template: dict[str, Any]) -> None:
        bucket = template["Resources"]["PayloadBucket"]
        for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]:
            assert not {"ExpirationInDays", "ExpirationDate", "Expiration", "Transitions"} & rule.keys()
        assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"

    def test_everything_that_is_stored_takes_a_key_of_ones_own(self, translated: dict[str, Any]) -> None:
        kinds = {
            "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Logs::LogGroup",
            "AWS::SecretsManager::Secret", "AWS::Lambda::Function",
        }  # fmt: skip
        for name, resource in translated["Resources"].items():
            if resource["Type"] in kinds:
                assert '{"Ref": "KmsKeyArn"}' in json.dumps(resource), name


class TestQueue:
    def test_the_engine_calls_an_instance_stuck_before_the_queue_gives_up(self, template: dict[str, Any]) -> None:
        policy = template["Resources"]["WorkQueue"]["Properties"]["RedrivePolicy"]
        assert policy["maxReceiveCount"] > 2 * MOST_DEATHS

    def test_a_message_is_hidden_for_six_times_any_limit_of_the_worker(self, template: dict[str, Any]) -> None:
        limits = template["Parameters"]["WorkerTimeout"]["AllowedValues"]
        hidden = template["Mappings"]["Visibility"]
        assert {limit: hidden[limit]["Seconds"] for limit in limits} == {limit: 6 * int(limit) for limit in limits}


class TestFunctions:
    def test_a_chain_of_hand_overs_is_not_cut(self, translated: dict[str, Any]) -> None:
        worker = translated["Resources"]["WorkerFunction"]["Properties"]
        assert worker["RecursiveLoop"] == "Allow"
        assert worker["Environment"]["Variables"]["FLUX_HOP_BUDGET"] == "10000"

    def test_all_are_arm64_and_all_but_the_rotation_have_the_handler_of_the_package(
        self, translated: dict[str, Any]
    ) -> None:
        functions = sam.of_type(translated, "AWS::Lambda::Function")
        assert {name: (one["Architectures"], one["Handler"]) for name, one in functions.items()} == {
            **{f"{name}Function": (["arm64"], "app.handler") for name in FUNCTIONS},
            "RotationFunction": (["arm64"], "flux_aws.rotation.handler"),
        }

    def test_an_answer_over_http_is_given_before_the_gateway_cuts(self, template: dict[str, Any]) -> None:
        limit = template["Resources"]["ApiFunction"]["Properties"]["Timeout"]
        assert HostSettings().http_budget < limit
        assert limit * 1000 == template["Resources"]["ApiIntegration"]["Properties"]["TimeoutInMillis"]

    def test_no_invocation_is_longer_than_the_engine_believes(self, template: dict[str, Any]) -> None:
        longest = max(int(limit) for limit in template["Parameters"]["WorkerTimeout"]["AllowedValues"])
        assert longest <= HostSettings().longest_invocation

    def test_a_sweep_that_failed_is_not_tried_again_since_the_next_one_comes(self, translated: dict[str, Any]) -> None:
        configs = sam.of_type(translated, "AWS::Lambda::EventInvokeConfig").values()
        assert {one["MaximumRetryAttempts"] for one in configs} == {0}

    def test_nothing_is_deleted_unless_it_is_asked_for(
        self, template: dict[str, Any], translated: dict[str, Any]
    ) -> None:
        assert template["Parameters"]["PurgeAfterSeconds"]["Default"] == 0
        for name, resource in translated["Resources"].items():
            assert (resource.get("Condition") == "Purges") == name.startswith("Purge"), name


class TestRotation:
    def test_is_on_unless_it_is_turned_off(self, template: dict[str, Any], translated: dict[str, Any]) -> None:
        assert template["Parameters"]["RotationDays"]["Default"] == "30"
        assert template["Conditions"]["Rotates"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "RotationDays"}, "0"]}]}
        for name, resource in translated["Resources"].items():
            assert (resource.get("Condition") == "Rotates") == name.startswith("Rotation"), name

    def test_takes_days_in_which_no_link_outlives_its_key(self, template: dict[str, Any]) -> None:
        allowed = re.compile(template["Parameters"]["RotationDays"]["AllowedPattern"])
        least = (HostSettings().callback_expires + LAG) / 86400
        assert {days for days in range(1102) if allowed.search(str(days))} == {0, *range(int(least), 1001)}

    def test_is_asked_for_by_secrets_manager_of_this_account_alone(self, template: dict[str, Any]) -> None:
        permission = template["Resources"]["RotationPermission"]["Properties"]
        assert permission["Principal"] == "secretsmanager.amazonaws.com"
        assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
        schedule = template["Resources"]["RotationSchedule"]
        assert schedule["DependsOn"] == "RotationPermission"
        assert schedule["Properties"]["RotateImmediatelyOnUpdate"] is False

    def test_its_handler_is_there(self, template: dict[str, Any]) -> None:
        module, _, name = template["Resources"]["RotationFunction"]["Properties"]["Handler"].rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), RotationHandler)

    def test_only_its_role_writes_the_secret(self, template: dict[str, Any]) -> None:
        writers = {
            role
            for role in sam.of_type(template, "AWS::IAM::Role")
            for statement in sam.statements(template, role)
            for action in sam.actions(statement)
            if action.startswith("secretsmanager:") and action != "secretsmanager:GetSecretValue"
        }
        assert writers == {"RotationRole"}
        (rotate,) = [one for one in sam.statements(template, "RotationRole") if one["Sid"] == "Rotate"]
        assert rotate["Resource"] == {"Ref": "CallbackSecret"}


class TestRoles:
    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_each_function_has_one_of_its_own(self, template: dict[str, Any], function: str) -> None:
        role = template["Resources"][f"{function}Function"]["Properties"]["Role"]
        assert role == {"Fn::GetAtt": [f"{function}Role", "Arn"]}

    def test_every_resource_and_every_action_is_named(self, template: dict[str, Any]) -> None:
        for role in sam.of_type(template, "AWS::IAM::Role"):
            for statement in sam.statements(template, role):
                assert "*" not in sam.resources(statement), (role, statement)
                assert not any("*" in action for action in sam.actions(statement)), (role, statement)

    def test_what_sam_adds_is_no_role_and_no_managed_policy(self, translated: dict[str, Any]) -> None:
        assert "ManagedPolicyArns" not in json.dumps(translated)

    def test_only_the_purge_role_deletes_and_none_scans(self, template: dict[str, Any]) -> None:
        for role in sam.of_type(template, "AWS::IAM::Role"):
            may = {action for one in sam.statements(template, role) for action in sam.actions(one)}
            deletes = {action for action in may if "Delete" in action} - {"sqs:DeleteMessage"}
            assert deletes == ({"dynamodb:DeleteItem", "s3:DeleteObject"} if role == "PurgeRole" else set())
            assert not any("Scan" in action for action in may)

    @pytest.mark.parametrize("function", HANDLERS)
    def test_a_payload_can_only_be_read_and_written(self, template: dict[str, Any], function: str) -> None:
        on_payloads = {
            action
            for statement in sam.statements(template, f"{function}Role")
            for action in sam.actions(statement)
            if action.startswith("s3:")
        }
        assert on_payloads == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}

    def test_each_index_is_read_by_whom_it_is_for(self, template: dict[str, Any]) -> None:
        readers: dict[str, set[str]] = {}
        for function in FUNCTIONS:
            for statement in sam.statements(template, f"{function}Role"):
                for resource in sam.resources(statement):
                    if "/index/" in str(resource):
                        readers.setdefault(str(resource["Fn::Sub"]).rpartition("/")[2], set()).add(function)
                        assert sam.actions(statement) == ["dynamodb:Query"]
        assert readers == {LIST_INDEX: {"Api", "Purge"}, DUE_INDEX: {"Sweeper"}}

    def test_the_sweeper_writes_nothing_but_messages(self, template: dict[str, Any]) -> None:
        may = {action for one in sam.statements(template, "SweeperRole") for action in sam.actions(one)}
        assert may == {
            "logs:CreateLogStream", "logs:PutLogEvents", "dynamodb:Query", "sqs:SendMessage",
            "kms:GenerateDataKey", "kms:Decrypt",
        }  # fmt: skip

    def test_a_schedule_may_invoke_its_own_function_and_only_for_this_account(self, template: dict[str, Any]) -> None:
        for name in ("Sweeper", "Purge"):
            (statement,) = sam.statements(template, f"{name}TickRole")
            assert statement["Action"] == "lambda:InvokeFunction"
            assert statement["Resource"] == {"Ref": f"{name}Function.Alias"}
            trust = template["Resources"][f"{name}TickRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
            assert trust["Condition"]["StringEquals"].keys() == {"aws:SourceAccount", "aws:SourceArn"}


class TestHttp:
    def test_whoever_calls_has_to_be_known_unless_none_is_asked_for_by_name(self, template: dict[str, Any]) -> None:
        assert template["Parameters"]["ApiAuthorization"]["Default"] == "AWS_IAM"
        routes = sam.of_type(template, "AWS::ApiGatewayV2::Route")
        assert {one["RouteKey"]: one["AuthorizationType"] for one in routes.values()} == {
            "ANY /workflows/{proxy+}": {"Ref": "ApiAuthorization"},
            "POST /invoke": {"Ref": "ApiAuthorization"},
            "POST /callbacks/{token}": "NONE",
        }

    def test_the_open_route_is_the_most_throttled(self, template: dict[str, Any]) -> None:
        stage = template["Resources"]["ApiStage"]["Properties"]
        callbacks = stage["RouteSettings"]["POST /callbacks/{token}"]
        assert callbacks["ThrottlingRateLimit"] < stage["DefaultRouteSettings"]["ThrottlingRateLimit"]

    def test_the_access_log_holds_no_path_since_that_of_a_callback_is_its_token(self, template: dict[str, Any]) -> None:
        form = template["Resources"]["ApiStage"]["Properties"]["AccessLogSettings"]["Format"]
        assert not {"$context.path", "$context.protocol", "$context.routeKey.path"} & {*json.loads(form).values()}

    def test_plain_http_is_refused_by_bucket_and_queues(self, template: dict[str, Any]) -> None:
        for name in ("PayloadBucketPolicy", "QueuePolicy"):
            (statement,) = template["Resources"][name]["Properties"]["PolicyDocument"]["Statement"]
            assert statement["Effect"] == "Deny"
            assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


class TestAlarms:
    def test_there_is_one_for_each_way_in_which_work_may_stand_still(self, template: dict[str, Any]) -> None:
        alarms = sam.of_type(template, "AWS::CloudWatch::Alarm")
        assert alarms.keys() == {
            "DeadLetters", "OldestMessage", "SweeperSilent", "StuckWorkflows", "WorkerErrors", "RotationFailed",
        }  # fmt: skip
        for alarm in alarms.values():
            assert alarm["AlarmDescription"]
            assert alarm["AlarmActions"] == {
                "Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]
            }

    def test_a_sweeper_that_is_not_there_is_silent(self, template: dict[str, Any]) -> None:
        assert template["Resources"]["SweeperSilent"]["Properties"]["TreatMissingData"] == "breaching"

    def test_the_logs_of_all_that_run_steps_are_searched_for_stuck_instances(self, template: dict[str, Any]) -> None:
        filters = sam.of_type(template, "AWS::Logs::MetricFilter").values()
        assert {one["LogGroupName"]["Ref"] for one in filters} == {f"{name}Logs" for name in HANDLERS}
        alarm = template["Resources"]["StuckWorkflows"]["Properties"]
        for one in filters:
            (counted,) = one["MetricTransformations"]
            assert (counted["MetricNamespace"], counted["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])


class TestTheCodeThatIsDeployed:
    def test_the_example_greets_whom_it_is_told(self) -> None:
        code = runpy.run_path(str(sam.FOLDER / "src" / "app.py"))
        assert isinstance(code["handler"], LambdaHandler)
        engine = FluxEngine(MemoryStorage(), workflows=[code["greet"]])
        assert engine.execute(code["greet"], id="g-1").status == "suspended"
        assert engine.signal(code["greet"], "g-1", "name", "ann").output("greet") == "hello ann"
