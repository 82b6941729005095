"""Flux on AWS: instances in a DynamoDB table. Importing it does not import boto3; the first call to AWS does."""

from flux_aws.dynamodb import DynamoDBStorage

__all__ = ["DynamoDBStorage"]
