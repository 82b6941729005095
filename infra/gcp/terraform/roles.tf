# A service account for each function. Google's own roles would let them delete, and more; those made here allow what the
# functions call, and only purge's to delete (tests/infra/test_gcp_permissions.py).

locals {
  read_and_write = [
    "datastore.entities.create", "datastore.entities.get", "datastore.entities.list", "datastore.entities.update",
  ]
  custom_roles = merge(
    {
      state    = local.read_and_write
      find_due = ["datastore.entities.get", "datastore.entities.list"]
      # list: without it Cloud Storage says "forbidden" of an object that is not there
      payloads = ["storage.objects.create", "storage.objects.get", "storage.objects.list"]
      wake     = ["cloudtasks.tasks.create"]
      lend     = ["iam.serviceAccounts.actAs"]
    },
    local.callbacks ? { sign = ["secretmanager.versions.access"] } : {},
    local.purges ? {
      delete          = concat(local.read_and_write, ["datastore.entities.delete"])
      delete_payloads = ["storage.objects.delete", "storage.objects.get", "storage.objects.list"]
    } : {},
    local.rotates ? {
      rotate = ["secretmanager.versions.access", "secretmanager.versions.add", "secretmanager.versions.get"]
    } : {},
  )
  state_role   = { api = "state", worker = "state", callbacks = "state", sweeper = "find_due", purge = "delete" }
  payload_role = { api = "payloads", worker = "payloads", callbacks = "payloads", purge = "delete_payloads" }
  wakers       = setintersection(keys(local.functions), ["api", "worker", "callbacks", "sweeper"])
  signers      = local.callbacks ? toset(["api", "worker", "callbacks"]) : toset([])
  called       = toset([for name in keys(local.functions) : name if contains(["worker", "sweeper", "purge", "rotation"], name)])
}

resource "google_project_iam_custom_role" "this" {
  for_each    = local.custom_roles
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_${each.key}"
  title       = "${var.name} ${replace(each.key, "_", " ")}"
  description = "What functions of Flux call, and no more."
  permissions = each.value
  depends_on  = [google_project_service.this]
}

resource "google_service_account" "function" {
  for_each     = local.functions
  project      = var.project_id
  account_id   = "${var.name}-${each.key}"
  display_name = "Flux: ${each.key}"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "invoker" {
  project      = var.project_id
  account_id   = "${var.name}-invoker"
  display_name = "Flux: the identity of tasks and schedules"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.name}-build"
  display_name = "Flux: Cloud Build"
  depends_on   = [google_project_service.this]
}

resource "google_project_iam_member" "build" {
  for_each = toset(["roles/logging.logWriter", "roles/artifactregistry.writer", "roles/storage.objectViewer"])
  project  = var.project_id
  role     = each.value
  member   = google_service_account.build.member
}

# Firestore has no policy of a database's own: the project's, with a condition on the database.
resource "google_project_iam_member" "state" {
  for_each = local.on_state
  project  = var.project_id
  role     = google_project_iam_custom_role.this[local.state_role[each.key]].name
  member   = google_service_account.function[each.key].member
  condition {
    title      = "only-this-database"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.state.name}\""
  }
}

resource "google_storage_bucket_iam_member" "payloads" {
  for_each = { for name, role in local.payload_role : name => role if contains(keys(local.functions), name) }
  bucket   = google_storage_bucket.payloads.name
  role     = google_project_iam_custom_role.this[each.value].name
  member   = google_service_account.function[each.key].member
}

resource "google_cloud_tasks_queue_iam_member" "wake" {
  for_each = local.wakers
  project  = var.project_id
  location = google_cloud_tasks_queue.work.location
  name     = google_cloud_tasks_queue.work.name
  role     = google_project_iam_custom_role.this["wake"].name
  member   = google_service_account.function[each.key].member
}

# Who makes a task says whose identity it has.
resource "google_service_account_iam_member" "wake" {
  for_each           = local.wakers
  service_account_id = google_service_account.invoker.name
  role               = google_project_iam_custom_role.this["lend"].name
  member             = google_service_account.function[each.key].member
}

resource "google_secret_manager_secret_iam_member" "callbacks" {
  for_each  = local.signers
  project   = var.project_id
  secret_id = google_secret_manager_secret.callbacks[0].secret_id
  role      = google_project_iam_custom_role.this["sign"].name
  member    = google_service_account.function[each.key].member
}

# It adds versions, and can neither disable nor destroy one.
resource "google_secret_manager_secret_iam_member" "rotation" {
  count     = local.rotates ? 1 : 0
  project   = var.project_id
  secret_id = google_secret_manager_secret.callbacks[0].secret_id
  role      = google_project_iam_custom_role.this["rotate"].name
  member    = google_service_account.function["rotation"].member
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = local.called
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.invoker.member
}

resource "google_cloud_run_v2_service_iam_member" "api" {
  for_each = var.api_invokers
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function["api"].name
  role     = "roles/run.invoker"
  member   = each.value
}

# The one function that everybody may call: a link is signed, names its one wait and expires.
resource "google_cloud_run_v2_service_iam_member" "callbacks" {
  count    = local.callbacks ? 1 : 0
  project  = var.project_id
  location = var.region
  name     = google_cloudfunctions2_function.function["callbacks"].name
  role     = "roles/run.invoker"
  member   = "allUsers"
}
