# The handlers write metrics by workflow. An alarm cannot add up over workflows, so these filters count them once more.
resource "aws_cloudwatch_log_metric_filter" "stuck" {
  for_each       = toset(["api", "worker"])
  name           = "${var.name}-${each.key}-stuck"
  log_group_name = aws_cloudwatch_log_group.function[each.key].name
  pattern        = "{ $.WorkflowStuck[0] > 0 }"
  metric_transformation {
    namespace     = "Flux/${var.name}"
    name          = "WorkflowsStuck"
    value         = "1"
    default_value = "0"
  }
}

locals {
  alarm_of = merge({
    dead_letters = {
      text       = "A message was received 12 times and never handled. Look at the worker's log, then redrive the queue"
      namespace  = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", periods = 1, above = 0
      dimensions = { QueueName = aws_sqs_queue.dead.name }
    }
    oldest_message = {
      text       = "Messages wait for more than five minutes. Raise worker_concurrency, or look why workers are slow"
      namespace  = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum", periods = 5, above = 300
      dimensions = { QueueName = aws_sqs_queue.work.name }
    }
    stuck_workflows = {
      text       = "An instance is stuck and waits for somebody (flux list --status stuck, flux show)"
      namespace  = "Flux/${var.name}", metric = "WorkflowsStuck", statistic = "Sum", periods = 1, above = 0
      dimensions = {}
    }
    worker_errors = {
      text       = "Invocations of the worker fail as a whole, not single messages. Look at its log"
      namespace  = "AWS/Lambda", metric = "Errors", statistic = "Sum", periods = 3, above = 0
      dimensions = { FunctionName = aws_lambda_function.function["worker"].function_name }
    }
    }, local.rotates ? {
    rotation_failed = {
      text       = "The keys of callback links could not be rotated, and stay as they are. Look at the rotation's log"
      namespace  = "AWS/Lambda", metric = "Errors", statistic = "Sum", periods = 1, above = 0
      dimensions = { FunctionName = aws_lambda_function.function["rotation"].function_name }
    }
  } : {})
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarm_of
  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = each.value.text
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = 60
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarms
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "sweeper_silent" {
  alarm_name          = "${var.name}-sweeper-silent"
  alarm_description   = "No sweep succeeded for ten minutes. Long timers and instances of dead invocations stand still"
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarms
  tags                = local.tags

  metric_query {
    id          = "swept"
    expression  = "FILL(run, 0) - FILL(failed, 0)"
    label       = "successful sweeps"
    return_data = true
  }
  dynamic "metric_query" {
    for_each = { run = "Invocations", failed = "Errors" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/Lambda"
        metric_name = metric_query.value
        period      = 300
        stat        = "Sum"
        dimensions  = { FunctionName = aws_lambda_function.function["sweeper"].function_name }
      }
    }
  }
}
