"""Flux on AWS: Lambda functions over DynamoDB and SQS. Importing it does not import boto3; the first call does."""

from flux_aws.dynamodb import DynamoDBStorage
from flux_aws.handler import lambda_handler
from flux_aws.scheduler import SqsScheduler

__all__ = ["DynamoDBStorage", "SqsScheduler", "lambda_handler"]
