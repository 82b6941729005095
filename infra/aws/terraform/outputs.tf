output "api_url" {
  description = "Base of the routes."
  value       = aws_apigatewayv2_api.http.api_endpoint
}

output "table" {
  description = "FLUX_TABLE for `flux` on your machine."
  value       = aws_dynamodb_table.state.name
}

output "payloads" {
  description = "FLUX_PAYLOADS for `flux` on your machine."
  value       = "s3://${aws_s3_bucket.payloads.id}/${local.payloads}"
}

output "queue_url" {
  description = "The work queue."
  value       = aws_sqs_queue.work.url
}

output "dead_letter_queue_url" {
  description = "What was never handled."
  value       = aws_sqs_queue.dead.url
}

output "function_aliases" {
  description = "By function, what to invoke; `api` takes direct invocations."
  value       = { for name, alias in aws_lambda_alias.live : name => alias.arn }
}

output "role_policies" {
  description = "By function, what it may do."
  value       = { for name, policy in aws_iam_role_policy.function : name => jsondecode(policy.policy) }
}

output "callback_secret" {
  description = "The secret with the keys of callback links."
  value       = aws_secretsmanager_secret.callbacks.arn
}
