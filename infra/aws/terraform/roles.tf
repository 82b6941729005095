# A role for each function: what it calls, on the resources it calls it on.

locals {
  log_statement = { for name, group in aws_cloudwatch_log_group.function : name => {
    Sid      = "Logs"
    Effect   = "Allow"
    Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    Resource = ["${group.arn}:*"]
  } }
  may = {
    state = {
      Sid    = "State"
      Effect = "Allow"
      Action = [
        "dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem",
      ]
      Resource = [aws_dynamodb_table.state.arn]
    }
    list = {
      Sid      = "List"
      Effect   = "Allow"
      Action   = ["dynamodb:Query"]
      Resource = ["${aws_dynamodb_table.state.arn}/index/GSI1"]
    }
    find_due = {
      Sid      = "FindDue"
      Effect   = "Allow"
      Action   = ["dynamodb:Query"]
      Resource = ["${aws_dynamodb_table.state.arn}/index/GSI2"]
    }
    payloads = {
      Sid      = "Payloads"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = ["${aws_s3_bucket.payloads.arn}/${local.payloads}/*"]
    }
    find_payloads = { # without it S3 says "forbidden" of an object that is not there
      Sid       = "FindPayloads"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = [aws_s3_bucket.payloads.arn]
      Condition = { StringLike = { "s3:prefix" = "${local.payloads}/*" } }
    }
    wake = {
      Sid      = "Wake"
      Effect   = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = [aws_sqs_queue.work.arn]
    }
    consume = {
      Sid      = "Consume"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      Resource = [aws_sqs_queue.work.arn]
    }
    keys = {
      Sid      = "CallbackKeys"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [aws_secretsmanager_secret.callbacks.arn]
    }
    rotate = {
      Sid    = "Rotate"
      Effect = "Allow"
      Action = [
        "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecretVersionStage",
      ]
      Resource = [aws_secretsmanager_secret.callbacks.arn]
    }
    delete = {
      Sid    = "Delete"
      Effect = "Allow"
      Action = [
        "dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem",
        "dynamodb:ConditionCheckItem",
      ]
      Resource = [aws_dynamodb_table.state.arn]
    }
    delete_payloads = {
      Sid      = "DeletePayloads"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:DeleteObject"]
      Resource = ["${aws_s3_bucket.payloads.arn}/${local.payloads}/*"]
    }
    key = {
      Sid      = "Key"
      Effect   = "Allow"
      Action   = ["kms:GenerateDataKey", "kms:Decrypt"]
      Resource = [var.kms_key_arn]
    }
  }
  allowed = {
    api      = ["state", "list", "payloads", "find_payloads", "wake", "keys"]
    worker   = ["consume", "state", "payloads", "find_payloads", "wake", "keys"]
    sweeper  = ["find_due", "wake"]
    purge    = ["list", "delete", "delete_payloads", "find_payloads"]
    rotation = ["rotate"]
  }
}

resource "aws_iam_role" "function" {
  for_each    = local.functions
  name_prefix = "${var.name}-${each.key}-"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions
  name     = "flux"
  role     = aws_iam_role.function[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [local.log_statement[each.key]],
      [for name in local.allowed[each.key] : local.may[name]],
      [for name in ["key"] : local.may[name] if local.has_key],
    )
  })
}

resource "aws_iam_role" "schedule" {
  for_each    = local.schedules
  name_prefix = "${var.name}-${each.key}-tick-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = { StringEquals = {
        "aws:SourceAccount" = local.account
        "aws:SourceArn"     = aws_scheduler_schedule_group.this.arn
      } }
    }]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "schedule" {
  for_each = local.schedules
  name     = "invoke"
  role     = aws_iam_role.schedule[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [aws_lambda_alias.live[each.key].arn] }]
  })
}
