"""The types of CloudFormation that moto lacks and Flux's templates have, made with moto's own services.

Imported before the first stack, since moto keeps a list of what it knows. A type asks the server that it runs in, over
HTTP, as anybody would: `serve_from` says where that is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import boto3
from moto.awslambda.models import LambdaVersion
from moto.core.common_models import CloudFormationModel

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT: Final = "123456789012"
_SERVER: Final = {"endpoint": ""}
_MADE: Final[list[type]] = []
"""moto finds types by looking at the subclasses of its base class, so they must not be collected."""


class Made(NamedTuple):
    """What a type makes of its properties: what Ref gives, and what Fn::GetAtt does."""

    id: str
    attributes: dict[str, Any]


def serve_from(endpoint: str) -> None:
    """Where the server is that these types ask."""
    _SERVER["endpoint"] = endpoint


def _client(service: str, region: str) -> Any:
    return boto3.client(service, region_name=region, endpoint_url=_SERVER["endpoint"])


def _define(type_: str, name: str, create: Callable[[str, dict[str, Any], str], Made], *attributes: str) -> None:
    """Make `type_` known: `name` is the property with its name, `create` takes logical id, properties, region."""

    def __init__(self: Any, made: Made) -> None:  # noqa: N807 -- of the class below
        self.made = made

    def made_of(
        _class: Any,
        /,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        _account: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        return _class(create(resource_name, cloudformation_json.get("Properties", {}), region_name))

    def kept(_class: Any, original_resource: Any, *_: Any, **__: Any) -> Any:
        return original_resource

    def deleted(_class: Any, *_: Any, **__: Any) -> None:
        """The server ends with the tests."""

    members = {
        "__module__": "moto.cloudformation.flux",  # moto reads the service's name off it
        "__init__": __init__,
        "physical_resource_id": property(lambda self: self.made.id),
        "cloudformation_name_type": staticmethod(lambda: name),
        "cloudformation_type": staticmethod(lambda: type_),
        "has_cfn_attr": classmethod(lambda _class, attribute: attribute in attributes),
        "get_cfn_attribute": lambda self, attribute_name: self.made.attributes[attribute_name],
        "is_created": lambda _self: True,
        "create_from_cloudformation_json": classmethod(made_of),
        "update_from_cloudformation_json": classmethod(kept),
        "delete_from_cloudformation_json": classmethod(deleted),
    }
    _MADE.append(type(type_.replace("::", ""), (CloudFormationModel,), members))


def _numbers(tree: Any) -> Any:
    """CloudFormation hands numbers over as text; the SDK wants numbers."""
    if isinstance(tree, dict):
        return {key: int(value) if key in _WHOLE else _numbers(value) for key, value in tree.items()}
    return [_numbers(one) for one in tree] if isinstance(tree, list) else tree


_WHOLE: Final = frozenset(
    {
        "MaximumRetryAttempts",
        "MaximumEventAgeInSeconds",
        "Period",
        "EvaluationPeriods",
        "DatapointsToAlarm",
        "Threshold",
    }
)


def _schedule_group(logical: str, properties: dict[str, Any], region: str) -> Made:
    name = properties.get("Name", logical)
    arn = _client("scheduler", region).create_schedule_group(Name=name)["ScheduleGroupArn"]
    return Made(name, {"Arn": arn, "State": "ACTIVE"})


def _schedule(logical: str, properties: dict[str, Any], region: str) -> Made:
    asked = _numbers({"Name": logical[:64], **properties})
    return Made(asked["Name"], {"Arn": _client("scheduler", region).create_schedule(**asked)["ScheduleArn"]})


def _alarm(logical: str, properties: dict[str, Any], region: str) -> Made:
    asked = {key: value for key, value in {"AlarmName": logical, **properties}.items() if value is not None}
    _client("cloudwatch", region).put_metric_alarm(**_numbers(asked))
    return Made(asked["AlarmName"], {"Arn": f"arn:aws:cloudwatch:{region}:{ACCOUNT}:alarm:{asked['AlarmName']}"})


def _alias(_logical: str, properties: dict[str, Any], region: str) -> Made:
    asked = {name: properties[name] for name in ("Name", "FunctionName", "FunctionVersion")}
    arn = _client("lambda", region).create_alias(**asked)["AliasArn"]
    return Made(arn, {"AliasArn": arn})


def _invoke_config(logical: str, properties: dict[str, Any], region: str) -> Made:
    _client("lambda", region).put_function_event_invoke_config(**_numbers(properties))
    return Made(logical, {})


def _bucket_policy(logical: str, properties: dict[str, Any], region: str) -> Made:
    policy = json.dumps(properties["PolicyDocument"])
    _client("s3", region).put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
    return Made(logical, {})


def _queue_policy(logical: str, properties: dict[str, Any], region: str) -> Made:
    for queue in properties["Queues"]:
        attributes = {"Policy": json.dumps(properties["PolicyDocument"])}
        _client("sqs", region).set_queue_attributes(QueueUrl=queue, Attributes=attributes)
    return Made(logical, {})


def _secret(logical: str, properties: dict[str, Any], region: str) -> Made:
    client = _client("secretsmanager", region)
    recipe = properties["GenerateSecretString"]
    random = client.get_random_password(
        PasswordLength=int(recipe["PasswordLength"]), ExcludePunctuation=str(recipe["ExcludePunctuation"]) == "true"
    )["RandomPassword"]
    text = json.dumps({**json.loads(recipe["SecretStringTemplate"]), recipe["GenerateStringKey"]: random})
    return Made(client.create_secret(Name=f"{logical}-{random[:6]}", SecretString=text)["ARN"], {})


def _rotation_schedule(_logical: str, properties: dict[str, Any], region: str) -> Made:
    _client("secretsmanager", region).rotate_secret(
        SecretId=properties["SecretId"],
        RotationLambdaARN=properties["RotationLambdaARN"],
        RotationRules={"AutomaticallyAfterDays": int(properties["RotationRules"]["AutomaticallyAfterDays"])},
        RotateImmediately=str(properties["RotateImmediatelyOnUpdate"]).lower() == "true",
    )
    return Made(properties["SecretId"], {})


def _metric_filter(logical: str, properties: dict[str, Any], region: str) -> Made:
    transformations = [
        {
            "metricNamespace": one["MetricNamespace"],
            "metricName": one["MetricName"],
            "metricValue": one["MetricValue"],
            "defaultValue": float(one["DefaultValue"]),
        }
        for one in properties["MetricTransformations"]
    ]
    _client("logs", region).put_metric_filter(
        logGroupName=properties["LogGroupName"],
        filterName=logical,
        filterPattern=properties["FilterPattern"],
        metricTransformations=transformations,
    )
    return Made(logical, {})


def _api(_logical: str, properties: dict[str, Any], region: str) -> Made:
    made = _client("apigatewayv2", region).create_api(**properties)
    return Made(made["ApiId"], {"ApiId": made["ApiId"], "ApiEndpoint": made["ApiEndpoint"]})


def _integration(_logical: str, properties: dict[str, Any], region: str) -> Made:
    asked = {**properties, "TimeoutInMillis": int(properties["TimeoutInMillis"])}
    return Made(_client("apigatewayv2", region).create_integration(**asked)["IntegrationId"], {})


def _route(_logical: str, properties: dict[str, Any], region: str) -> Made:
    return Made(_client("apigatewayv2", region).create_route(**properties)["RouteId"], {})


def _stage(_logical: str, properties: dict[str, Any], region: str) -> Made:
    taken = ("ApiId", "StageName", "AutoDeploy", "AccessLogSettings")
    asked = {name: value for name, value in properties.items() if name in taken}
    _client("apigatewayv2", region).create_stage(**{**asked, "AutoDeploy": str(asked["AutoDeploy"]) == "true"})
    return Made(properties["StageName"], {})


_define("AWS::Scheduler::ScheduleGroup", "Name", _schedule_group, "Arn", "State")
_define("AWS::Scheduler::Schedule", "Name", _schedule, "Arn")
_define("AWS::CloudWatch::Alarm", "AlarmName", _alarm, "Arn")
_define("AWS::Lambda::Alias", "", _alias, "AliasArn")
_define("AWS::Lambda::EventInvokeConfig", "", _invoke_config)
_define("AWS::S3::BucketPolicy", "", _bucket_policy)
_define("AWS::SQS::QueuePolicy", "", _queue_policy)
_define("AWS::SecretsManager::Secret", "", _secret)
_define("AWS::SecretsManager::RotationSchedule", "", _rotation_schedule)
_define("AWS::Logs::MetricFilter", "", _metric_filter)
_define("AWS::ApiGatewayV2::Api", "", _api, "ApiId", "ApiEndpoint")
_define("AWS::ApiGatewayV2::Integration", "", _integration)
_define("AWS::ApiGatewayV2::Route", "", _route)
_define("AWS::ApiGatewayV2::Stage", "", _stage)

# moto has versions of functions, but not their Fn::GetAtt Version, which every alias of SAM's asks for.
_version: Any = LambdaVersion
_version.get_cfn_attribute = lambda self, _name: str(self.version)
_version.has_cfn_attr = classmethod(lambda _class, attribute: attribute in {"Version", "FunctionArn"})
