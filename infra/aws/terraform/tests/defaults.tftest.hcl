mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:mock", url = "https://sqs.eu-west-1.amazonaws.com/123456789012/mock" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:mock" }
  }
  mock_resource "aws_lambda_alias" {
    defaults = {
      arn        = "arn:aws:lambda:eu-west-1:123456789012:function:mock:live"
      invoke_arn = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:123456789012:function:mock:live/invocations"
    }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:mock" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::mock" }
  }
  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/mock" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock" }
  }
  mock_resource "aws_scheduler_schedule_group" {
    defaults = { arn = "arn:aws:scheduler:eu-west-1:123456789012:schedule-group/mock" }
  }
  mock_resource "aws_apigatewayv2_api" {
    defaults = {
      execution_arn = "arn:aws:execute-api:eu-west-1:123456789012:mock"
      api_endpoint  = "https://mock.execute-api.eu-west-1.amazonaws.com"
    }
  }
}

variables {
  package_path  = "tests/package.txt"
  callback_keys = "k1:0123456789abcdef0123456789abcdef"
}

run "safe_defaults" {
  command = apply
  assert {
    condition = { for key, route in aws_apigatewayv2_route.api : key => route.authorization_type } == {
      "ANY /workflows/{proxy+}" = "AWS_IAM"
      "POST /invoke"            = "AWS_IAM"
      "POST /callbacks/{token}" = "NONE"
    }
    error_message = "Only callbacks are open to everybody."
  }
  assert {
    condition     = aws_sqs_queue.work.visibility_timeout_seconds == 6 * aws_lambda_function.function["worker"].timeout
    error_message = "A message is hidden for six times the worker's limit."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.work.redrive_policy).maxReceiveCount > 2 * 5
    error_message = "The engine calls an instance stuck, after five deaths, before the queue gives up."
  }
  assert {
    condition     = aws_dynamodb_table.state.point_in_time_recovery[0].enabled && aws_dynamodb_table.state.deletion_protection_enabled
    error_message = "The table can be restored, and is not deleted by mistake."
  }
  assert {
    condition     = aws_dynamodb_table.state.ttl[0].attribute_name == "expires_at"
    error_message = "Only tombstones expire."
  }
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.payloads.rule : length(rule.expiration) == 0 && length(rule.transition) == 0])
    error_message = "No rule removes or moves a payload that is current."
  }
  assert {
    condition     = aws_lambda_function_recursion_config.worker.recursive_loop == "Allow" && aws_lambda_function.function["worker"].environment[0].variables.FLUX_HOP_BUDGET == "10000"
    error_message = "A chain of hand-overs is not cut."
  }
  assert {
    condition     = alltrue([for function in aws_lambda_function.function : function.architectures == tolist(["arm64"])])
    error_message = "All functions are arm64."
  }
  assert {
    condition     = toset(keys(aws_lambda_function.function)) == toset(["api", "rotation", "sweeper", "worker"])
    error_message = "Nothing deletes unless it is asked for."
  }
  assert {
    condition     = length(aws_iam_role.function) == length(aws_lambda_function.function)
    error_message = "Each function has a role of its own."
  }
  assert {
    condition = alltrue(flatten([for policy in output.role_policies : [for one in policy.Statement : [
      for resource in one.Resource : resource != "*"
    ]]]))
    error_message = "Every resource is named."
  }
  assert {
    condition = alltrue(flatten([for policy in output.role_policies : [for one in policy.Statement : [
      for action in one.Action : !strcontains(action, "*") && !strcontains(action, "Scan") && (!strcontains(action, "Delete") || action == "sqs:DeleteMessage")
    ]]]))
    error_message = "Nobody scans or deletes."
  }
  assert {
    condition     = toset([for one in output.role_policies["sweeper"].Statement : one.Sid]) == toset(["Logs", "FindDue", "Wake"])
    error_message = "The sweeper writes nothing but messages."
  }
  assert {
    condition     = jsondecode(aws_scheduler_schedule.this["sweeper"].target[0].input) == { action = "sweep" }
    error_message = "The schedule asks the sweeper for a sweep."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.sweeper_silent.treat_missing_data == "breaching" && length(aws_cloudwatch_metric_alarm.this) == 5
    error_message = "There is an alarm for each way in which work may stand still."
  }
}

run "keys_are_rotated" {
  command = apply
  assert {
    condition     = aws_secretsmanager_secret_rotation.callbacks[0].rotation_rules[0].automatically_after_days == 30 && !aws_secretsmanager_secret_rotation.callbacks[0].rotate_immediately
    error_message = "Every 30 days, and not because a setting was changed."
  }
  assert {
    condition     = { for name, function in aws_lambda_function.function : name => function.handler } == { api = "app.handler", worker = "app.handler", sweeper = "app.handler", rotation = "flux_aws.rotation.handler" }
    error_message = "Secrets Manager has a handler of its own."
  }
  assert {
    condition     = aws_lambda_permission.rotation[0].source_account == "123456789012"
    error_message = "Only the secrets of this account are rotated."
  }
  assert {
    condition = [for name, policy in output.role_policies : name if length(setintersection(
      flatten([for one in policy.Statement : one.Action]), ["secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"]
    )) > 0] == ["rotation"]
    error_message = "Only the rotation's role writes the secret."
  }
  assert {
    condition     = contains(aws_secretsmanager_secret_version.callbacks[0].version_stages, "terraform")
    error_message = "The first version has a label that no rotation moves, or the next apply would put the first keys again."
  }
}

run "a_rotation_that_is_turned_off" {
  command = apply
  variables {
    rotation_days = 0
  }
  assert {
    condition     = length(aws_secretsmanager_secret_rotation.callbacks) == 0 && !contains(keys(aws_lambda_function.function), "rotation")
    error_message = "Nothing of it is there."
  }
}

run "a_period_that_is_shorter_than_links_live_is_refused" {
  command = plan
  variables {
    rotation_days = 7
  }
  expect_failures = [var.rotation_days]
}

run "a_period_has_to_fit_the_links_that_are_asked_for" {
  command = plan
  variables {
    environment = { FLUX_CALLBACK_EXPIRES = "2592000" }
  }
  expect_failures = [var.rotation_days]
}

run "a_purge_that_is_asked_for" {
  command = apply
  variables {
    purge_after_seconds = 2592000
    kms_key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/k-1"
  }
  assert {
    condition     = { for name, function in aws_lambda_function.function : name => lookup(function.environment[0].variables, "FLUX_PURGE_AFTER", "") } == { api = "", worker = "", sweeper = "", rotation = "", purge = "2592000" }
    error_message = "Only the purge function is told to delete."
  }
  assert {
    condition = [for name, policy in output.role_policies : name if length(setintersection(
      flatten([for one in policy.Statement : one.Action]), ["dynamodb:DeleteItem", "s3:DeleteObject"]
    )) > 0] == ["purge"]
    error_message = "Only the purge role deletes."
  }
  assert {
    condition     = jsondecode(aws_scheduler_schedule.this["purge"].target[0].input) == { action = "purge" }
    error_message = "The schedule asks for a purge."
  }
  assert {
    condition     = alltrue([for policy in output.role_policies : contains([for one in policy.Statement : one.Sid], "Key")])
    error_message = "Everybody may use the key."
  }
}

run "an_open_api_has_to_be_asked_for_by_its_name" {
  command = plan
  variables {
    api_authorization = "OPEN"
  }
  expect_failures = [var.api_authorization]
}

run "a_worker_may_not_take_longer_than_lambda_lets_it" {
  command = plan
  variables {
    worker_timeout = 901
  }
  expect_failures = [var.worker_timeout]
}

run "a_callback_key_that_is_too_short_is_refused" {
  command = plan
  variables {
    callback_keys = "k1:short"
  }
  expect_failures = [var.callback_keys]
}
