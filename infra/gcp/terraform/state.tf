# What is stored. Indexes and exemptions are those of flux_gcp.firestore_indexes; a test compares the two.

locals {
  definitions = jsondecode(file("${path.module}/firestore.indexes.json"))
}

resource "google_firestore_database" "state" {
  project                           = var.project_id
  name                              = var.name
  location_id                       = var.firestore_location
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "PESSIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "ABANDON" : "DELETE"
  dynamic "cmek_config" {
    for_each = var.firestore_kms_key_name == null ? [] : [var.firestore_kms_key_name]
    content { kms_key_name = cmek_config.value }
  }
  depends_on = [google_project_service.this]
}

resource "google_firestore_backup_schedule" "daily" {
  project   = var.project_id
  database  = google_firestore_database.state.name
  retention = "1209600s"
  daily_recurrence {}
}

resource "google_firestore_index" "this" {
  for_each = { for index in local.definitions.indexes :
    join(",", [for field in index.fields : field.fieldPath]) => index
  }
  project     = var.project_id
  database    = google_firestore_database.state.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope
  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }
}

resource "google_firestore_field" "this" {
  for_each   = { for one in local.definitions.fieldOverrides : "${one.collectionGroup} ${one.fieldPath}" => one }
  project    = var.project_id
  database   = google_firestore_database.state.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath
  index_config {}
  dynamic "ttl_config" { # only tombstones of deleted instances have that field
    for_each = try(each.value.ttl, false) ? [1] : []
    content {}
  }
}

# A payload belongs to its instance and goes with it: the rules touch only what was deleted.
resource "google_storage_bucket" "payloads" {
  project                     = var.project_id
  name                        = "${var.project_id}-${var.name}-payloads"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection
  labels                      = local.labels
  versioning { enabled = true }
  soft_delete_policy { retention_duration_seconds = 604800 }
  lifecycle_rule {
    action { type = "Delete" }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }
  lifecycle_rule {
    action { type = "AbortIncompleteMultipartUpload" }
    condition { age = 1 }
  }
  dynamic "encryption" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
    content { default_kms_key_name = encryption.value }
  }
  depends_on = [google_project_service.this]
}

# The keys of callback links; the first one signs, all are accepted (README, Rotation). They are in no plan and no state.
resource "google_secret_manager_secret" "callbacks" {
  count     = local.callbacks ? 1 : 0
  project   = var.project_id
  secret_id = "${var.name}-callbacks"
  labels    = local.labels
  replication {
    auto {}
  }
  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "callbacks" {
  count                  = local.callbacks ? 1 : 0
  secret                 = google_secret_manager_secret.callbacks[0].id
  secret_data_wo         = var.callback_keys
  secret_data_wo_version = var.callback_keys_version
}
