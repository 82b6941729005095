resource "aws_cloudwatch_log_group" "function" {
  for_each          = local.functions
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_lambda_function" "function" {
  for_each         = local.functions
  function_name    = "${var.name}-${each.key}"
  role             = aws_iam_role.function[each.key].arn
  filename         = var.package_path
  source_code_hash = filebase64sha256(var.package_path)
  handler          = each.value.handler
  runtime          = var.runtime
  architectures    = [var.architecture]
  memory_size      = each.value.memory
  timeout          = each.value.timeout
  kms_key_arn      = var.kms_key_arn
  publish          = true
  tags             = local.tags

  environment {
    variables = merge(var.environment, {
      FLUX_TABLE              = aws_dynamodb_table.state.name
      FLUX_PAYLOADS           = "s3://${aws_s3_bucket.payloads.id}/${local.payloads}"
      FLUX_QUEUE_URL          = aws_sqs_queue.work.url
      FLUX_SWEEPER            = "on"
      FLUX_HOP_BUDGET         = "10000" # goes with the worker's recursion setting
      FLUX_PUBLIC_URL         = local.url
      FLUX_CALLBACK_SECRET    = aws_secretsmanager_secret.callbacks.arn
      FLUX_METRICS            = "Flux"
      FLUX_LOG_LEVEL          = var.log_level
      POWERTOOLS_SERVICE_NAME = var.name
    }, each.value.environment)
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = upper(var.log_level)
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.function[each.key].name
  }
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_lambda_alias" "live" {
  for_each         = local.functions
  name             = "live"
  function_name    = aws_lambda_function.function[each.key].function_name
  function_version = aws_lambda_function.function[each.key].version
}

# A long workflow is a chain of invocations that enqueue each other; Lambda would cut it at 16.
resource "aws_lambda_function_recursion_config" "worker" {
  function_name  = aws_lambda_function.function["worker"].function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_event_source_mapping" "work" {
  event_source_arn        = aws_sqs_queue.work.arn
  function_name           = aws_lambda_alias.live["worker"].arn
  batch_size              = 1 # a long workflow must not hold up the messages behind it
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config { maximum_concurrency = var.worker_concurrency }
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_scheduler_schedule_group" "this" {
  name = var.name
  tags = local.tags
}

resource "aws_scheduler_schedule" "this" {
  for_each            = local.schedules
  name                = "${var.name}-${each.key}"
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = each.value.every
  kms_key_arn         = var.kms_key_arn
  flexible_time_window { mode = "OFF" }
  target {
    arn      = aws_lambda_alias.live[each.key].arn
    role_arn = aws_iam_role.schedule[each.key].arn
    input    = jsonencode({ action = each.value.action })
    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = each.value.stale
    }
  }
}

# What failed is not tried again: the next minute, or the next day, brings the next one.
resource "aws_lambda_function_event_invoke_config" "schedule" {
  for_each                     = local.schedules
  function_name                = aws_lambda_function.function[each.key].function_name
  qualifier                    = aws_lambda_alias.live[each.key].name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = each.value.stale
}

resource "aws_lambda_permission" "rotation" {
  count          = local.rotates ? 1 : 0
  statement_id   = "AllowSecretsManager"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.function["rotation"].function_name
  principal      = "secretsmanager.amazonaws.com"
  source_account = local.account
}

resource "aws_secretsmanager_secret_rotation" "callbacks" {
  count               = local.rotates ? 1 : 0
  secret_id           = aws_secretsmanager_secret.callbacks.id
  rotation_lambda_arn = aws_lambda_function.function["rotation"].arn
  rotate_immediately  = false # a change of the days would rotate while links of the last rotation live
  rotation_rules { automatically_after_days = var.rotation_days }
  depends_on = [aws_lambda_permission.rotation, aws_secretsmanager_secret_version.callbacks]
}
