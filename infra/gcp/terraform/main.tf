data "google_project" "this" {
  project_id = var.project_id
}

locals {
  labels    = merge({ app = "flux" }, var.labels)
  queue     = "projects/${var.project_id}/locations/${var.region}/queues/${var.name}-work"
  callbacks = var.callback_keys_version > 0
  purges    = var.purge_after_seconds > 0
  rotates   = local.callbacks && var.rotation_days > 0
  threads   = 8 # requests that an instance of API or worker takes at once

  # All have the same code; they differ by who calls them and by what they may do.
  functions = merge(
    {
      api     = { entry = "handler", timeout = 60, budget = 50, concurrency = local.threads, max = 20, ingress = "ALLOW_ALL", environment = {} }
      worker  = { entry = "handler", timeout = var.worker_timeout, budget = var.worker_timeout - 10, concurrency = local.threads, max = var.max_workers, ingress = "ALLOW_INTERNAL_ONLY", environment = {} }
      sweeper = { entry = "handler", timeout = 60, budget = 50, concurrency = 1, max = 1, ingress = "ALLOW_INTERNAL_ONLY", environment = {} }
    },
    local.callbacks ? {
      callbacks = { entry = "callbacks", timeout = 60, budget = 50, concurrency = local.threads, max = 5, ingress = "ALLOW_ALL", environment = {} }
    } : {},
    local.purges ? {
      purge = { entry = "handler", timeout = 900, budget = 880, concurrency = 1, max = 1, ingress = "ALLOW_INTERNAL_ONLY", environment = { FLUX_PURGE_AFTER = tostring(var.purge_after_seconds) } }
    } : {},
    local.rotates ? {
      rotation = {
        entry = "rotation", timeout = 60, budget = 50, concurrency = 1, max = 1, ingress = "ALLOW_INTERNAL_ONLY"
        environment = {
          FLUX_CALLBACK_SECRET = "projects/${var.project_id}/secrets/${google_secret_manager_secret.callbacks[0].secret_id}"
          FLUX_ROTATE_AFTER    = tostring(var.rotation_days * 86400)
        }
      }
    } : {},
  )
  on_state = setsubtract(keys(local.functions), ["rotation"]) # functions that have to do with instances

  # Addresses that are known before the functions are there: they have to know each other's.
  url = { for name in ["worker", "callbacks"] : name => "https://${var.name}-${name}-${data.google_project.this.number}.${var.region}.run.app" }

  schedules = { for name, one in {
    sweeper  = { every = "* * * * *", action = "sweep", deadline = "60s" }
    purge    = { every = "17 3 * * *", action = "purge", deadline = "900s" }
    rotation = { every = "41 3 * * *", action = "rotate", deadline = "60s" } # once a day it looks whether it is time
  } : name => one if contains(keys(local.functions), name) }

  services = var.enable_apis ? toset([
    "artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "cloudtasks",
    "firestore", "iam", "logging", "monitoring", "run", "secretmanager", "storage",
  ]) : toset([])
}

resource "google_project_service" "this" {
  for_each           = local.services
  project            = var.project_id
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}
