"""The SAM template as the tests look at it: read, translated as AWS does it, and its policies by function."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "infra" / "aws" / "sam"
TEMPLATE: Final = FOLDER / "template.yaml"
ARTIFACTS: Final = "artifacts"
"""The bucket that `sam deploy` would put the code into."""
PACKAGE: Final = "app.zip"


def read() -> dict[str, Any]:
    """The template, its short forms (!Ref ...) written out."""
    from samtranslator.yaml_helper import yaml_parse

    return dict(yaml_parse(TEMPLATE.read_text()))


def translate() -> dict[str, Any]:
    """What CloudFormation gets: SAM's resources made into those of AWS."""
    import boto3
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    template = read()
    for function in of_type(template, "AWS::Serverless::Function").values():
        function["CodeUri"] = {"Bucket": ARTIFACTS, "Key": PACKAGE}
    session = boto3.session.Session(region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")  # noqa: S106
    return dict(Translator({}, Parser(), boto_session=session).translate(template, {}))


def statements(template: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """What a role may do; of a statement under a condition, that with the condition true."""
    return [
        statement["Fn::If"][1] if "Fn::If" in statement else statement
        for policy in template["Resources"][role]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def actions(statement: dict[str, Any]) -> list[str]:
    """Its actions, as a list however it was written."""
    given = statement["Action"]
    return [given] if isinstance(given, str) else list(given)


def resources(statement: dict[str, Any]) -> list[Any]:
    """Its resources, as a list however it was written."""
    given = statement["Resource"]
    return list(given) if isinstance(given, list) else [given]


def of_type(template: dict[str, Any], type_: str) -> dict[str, dict[str, Any]]:
    """The resources of one type by their logical ids: their properties."""
    return {
        name: resource.get("Properties", {})
        for name, resource in template["Resources"].items()
        if resource["Type"] == type_
    }
