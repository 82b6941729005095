resource "google_storage_bucket" "source" {
  project                     = var.project_id
  name                        = "${var.project_id}-${var.name}-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
  labels                      = local.labels
  versioning { enabled = true }
  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "flux-${filesha256(var.package_path)}.zip"
  source = var.package_path
}

# Not google_cloud_run_v2_service: that takes an image, and this a zip.
resource "google_cloudfunctions2_function" "function" {
  for_each     = local.functions
  project      = var.project_id
  location     = var.region
  name         = "${var.name}-${each.key}"
  kms_key_name = var.kms_key_name
  labels       = local.labels

  build_config {
    runtime         = var.runtime
    entry_point     = each.value.entry
    service_account = google_service_account.build.id
    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }
  service_config {
    service_account_email            = google_service_account.function[each.key].email
    timeout_seconds                  = each.value.timeout
    available_memory                 = "512Mi"
    available_cpu                    = "1"
    max_instance_request_concurrency = each.value.concurrency
    max_instance_count               = each.value.max
    ingress_settings                 = each.value.ingress
    all_traffic_on_latest_revision   = true
    environment_variables = merge(var.environment, {
      FLUX_PROJECT       = var.project_id
      FLUX_DATABASE      = google_firestore_database.state.name
      FLUX_PAYLOADS      = "gs://${google_storage_bucket.payloads.name}/payloads"
      FLUX_TASKS_QUEUE   = local.queue
      FLUX_WORKER_URL    = local.url["worker"]
      FLUX_TASKS_ACCOUNT = google_service_account.invoker.email
      FLUX_SWEEPER       = "on"
      FLUX_BUDGET        = tostring(each.value.budget)
      FLUX_LOG_LEVEL     = var.log_level
      THREADS            = tostring(each.value.concurrency) # of the functions-framework

      DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA = "true" # else it asks for the bucket, which nobody may
      }, local.callbacks ? {
      FLUX_PUBLIC_URL       = local.url["callbacks"]
      CALLBACK_KEYS_VERSION = tostring(var.callback_keys_version) # nobody reads it: with other keys there are new instances
    } : {}, each.value.environment)
    dynamic "secret_environment_variables" {
      for_each = contains(local.signers, each.key) ? [1] : []
      content {
        key        = "FLUX_CALLBACK_KEYS"
        project_id = var.project_id
        secret     = google_secret_manager_secret.callbacks[0].secret_id
        version    = "latest" # when an instance starts; rotations are made so that older ones go on
      }
    }
  }
  depends_on = [
    google_project_iam_member.build, google_project_iam_member.state, google_secret_manager_secret_iam_member.callbacks,
    google_secret_manager_secret_iam_member.rotation, google_secret_manager_secret_version.callbacks,
  ]
}

# Cloud Tasks has no dead-letter queue. What can never go well is answered 200 and logged; what died five times is stuck;
# a task that is given up loses nothing, since the due index has its instance and the sweeper finds it.
resource "google_cloud_tasks_queue" "work" {
  project  = var.project_id
  location = var.region
  name     = "${var.name}-work"
  rate_limits {
    max_concurrent_dispatches = local.threads * var.max_workers
    max_dispatches_per_second = 500
  }
  retry_config {
    max_attempts       = 30
    min_backoff        = "1s"
    max_backoff        = "300s"
    max_doublings      = 8
    max_retry_duration = "0s"
  }
  stackdriver_logging_config { sampling_ratio = 1.0 }
  depends_on = [google_project_service.this]
}

resource "google_cloud_scheduler_job" "this" {
  for_each         = local.schedules
  project          = var.project_id
  region           = var.region
  name             = "${var.name}-${each.key}"
  schedule         = each.value.every
  time_zone        = "Etc/UTC"
  attempt_deadline = each.value.deadline
  retry_config { retry_count = 0 }
  http_target {
    http_method = "POST"
    uri         = "${google_cloudfunctions2_function.function[each.key].service_config[0].uri}/invoke"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ action = each.value.action }))
    oidc_token {
      service_account_email = google_service_account.invoker.email
      audience              = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    }
  }
  depends_on = [google_cloud_run_v2_service_iam_member.invoker]
}
