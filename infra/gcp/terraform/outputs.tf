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

output "settings" {
  description = "What the functions are told, for `flux` on your machine: export $(terraform output -raw settings)."
  value = join(" ", [for name, value in merge({
    FLUX_PROJECT       = var.project_id
    FLUX_DATABASE      = google_firestore_database.state.name
    FLUX_PAYLOADS      = "gs://${google_storage_bucket.payloads.name}/payloads"
    FLUX_TASKS_QUEUE   = local.queue
    FLUX_WORKER_URL    = local.url["worker"]
    FLUX_TASKS_ACCOUNT = google_service_account.invoker.email
    FLUX_SWEEPER       = "on"
  }, local.purges ? { FLUX_PURGE_AFTER = tostring(var.purge_after_seconds) } : {}) : "${name}=${value}"])
}
