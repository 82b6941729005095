output "api_url" {
  description = "Base of the routes; callers need roles/run.invoker."
  value       = google_cloudfunctions2_function.function["api"].service_config[0].uri
}

output "callbacks_url" {
  description = "Base of callback links; null without them."
  value       = local.callbacks ? local.url["callbacks"] : null
}

output "database" {
  description = "FLUX_DATABASE for `flux` on your machine."
  value       = google_firestore_database.state.name
}

output "payloads" {
  description = "FLUX_PAYLOADS for `flux` on your machine."
  value       = "gs://${google_storage_bucket.payloads.name}/payloads"
}

output "queue" {
  description = "The work queue."
  value       = local.queue
}
