data "aws_caller_identity" "this" {}

locals {
  tags     = merge({ app = "flux" }, var.tags)
  account  = data.aws_caller_identity.this.account_id
  alarms   = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  purges   = var.purge_after_seconds > 0
  rotates  = var.rotation_days > 0
  has_key  = var.kms_key_arn != null
  url      = coalesce(var.public_url, aws_apigatewayv2_api.http.api_endpoint)
  payloads = "payloads" # the folder of the bucket

  # All have the same code; they differ by what invokes them and by what they may do.
  functions = merge(
    {
      api     = { handler = var.handler, timeout = 29, memory = var.memory_mb, environment = {} }
      worker  = { handler = var.handler, timeout = var.worker_timeout, memory = var.memory_mb, environment = {} }
      sweeper = { handler = var.handler, timeout = 50, memory = 256, environment = {} }
    },
    local.purges ? {
      purge = { handler = var.handler, timeout = 900, memory = 256, environment = { FLUX_PURGE_AFTER = tostring(var.purge_after_seconds) } }
    } : {},
    local.rotates ? { # Secrets Manager speaks to it in its own way
      rotation = { handler = "flux_aws.rotation.handler", timeout = 30, memory = 256, environment = {} }
    } : {},
  )
  schedules = { for name, one in {
    sweeper = { every = "rate(1 minute)", action = "sweep", stale = 60 }
    purge   = { every = "rate(1 day)", action = "purge", stale = 3600 }
  } : name => one if contains(keys(local.functions), name) }
}
