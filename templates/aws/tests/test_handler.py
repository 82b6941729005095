"""The deployed handler, in this process, on DynamoDB and SQS as moto plays them."""

import importlib
import json

import boto3
import pytest
from moto import mock_aws

from flux_aws import DynamoDBStorage

TABLE = "orders"


@pytest.fixture
def queue(monkeypatch):
    """A table, a queue, and the environment of a deployed function. Nothing leaves this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        store = DynamoDBStorage(TABLE)
        store.ensure()
        store.close()
        url = boto3.client("sqs").create_queue(QueueName="work")["QueueUrl"]
        for name, value in {"FLUX_TABLE": TABLE, "FLUX_QUEUE_URL": url, "FLUX_SWEEPER": "on"}.items():
            monkeypatch.setenv(name, value)
        yield url


@pytest.fixture
def handler(queue):
    """The handler as a new environment of Lambda has it."""
    import app

    assert queue, "it is there before the handler is asked"
    return importlib.reload(app).handler


def post(path, body):
    """An event of an HTTP API."""
    http = {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "test"}
    return {
        "version": "2.0",
        "routeKey": "ANY /workflows/{proxy+}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "idempotency-key": "o-1"},
        "requestContext": {"http": http, "requestId": "r-1", "stage": "$default"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def delivered(queue):
    """What the queue brings, as an event of SQS."""
    found = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    records = [
        {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:work",
            "awsRegion": "eu-central-1",
        }
        for message in found
    ]
    return {"Records": records}


def test_a_small_order_is_answered_when_it_has_been_shipped(handler):
    answer = handler(post("/workflows/order/executions", {"sku": "tea", "total": 40}), None)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["status"] == "completed"


def test_a_large_order_waits_for_its_approval_in_the_table(handler):
    started = handler(post("/workflows/order/executions", {"sku": "tea", "total": 400}), None)
    assert started["statusCode"] == 202
    signalled = handler(post("/workflows/order/executions/o-1/signals/approved", {"yes": True, "by": "Ada"}), None)
    assert json.loads(signalled["body"])["status"] == "completed"


def test_what_is_started_by_message_goes_on_by_message(handler, queue):
    asked = {"action": "execute", "workflow": "order", "id": "o-1", "input": {"sku": "tea", "total": 40}}
    boto3.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(asked))
    assert handler(delivered(queue), None) == {"batchItemFailures": []}
    seen = handler({"action": "get", "workflow": "order", "id": "o-1"}, None)
    assert seen["status"] == "completed"


def test_an_order_without_a_total_is_refused(handler):
    answer = handler(post("/workflows/order/executions", {"sku": "tea"}), None)
    assert answer["statusCode"] == 422
    assert "total" in json.loads(answer["body"])["detail"]


def test_a_sweep_finds_nothing_to_do(handler):
    assert handler({"action": "sweep"}, None) == {"asked": 0}
