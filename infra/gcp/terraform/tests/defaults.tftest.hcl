mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "sa@p.iam.gserviceaccount.com"
      member = "serviceAccount:sa@p.iam.gserviceaccount.com"
      name   = "projects/p/serviceAccounts/sa@p.iam.gserviceaccount.com"
    }
  }
}

variables {
  project_id    = "p"
  package_path  = "tests/package.txt"
  callback_keys = "k1:0123456789abcdef0123456789abcdef"
}

run "safe_defaults" {
  command = apply
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.api) == 0
    error_message = "Nobody may call the API unless it is asked for."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.callbacks[0].name == "flux-dev-callbacks" && google_cloudfunctions2_function.function["callbacks"].build_config[0].entry_point == "callbacks"
    error_message = "Only callbacks are open to everybody, and their function takes nothing else."
  }
  assert {
    condition     = alltrue([for name in ["worker", "sweeper", "rotation"] : google_cloudfunctions2_function.function[name].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"])
    error_message = "Worker, sweeper and rotation do not face the internet."
  }
  assert {
    condition     = google_firestore_database.state.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" && google_firestore_database.state.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The database can be restored, and is not deleted by mistake."
  }
  assert {
    condition     = [for key, field in google_firestore_field.this : key if length(field.ttl_config) > 0] == ["flux_log expire_at"]
    error_message = "Only tombstones expire."
  }
  assert {
    condition     = alltrue([for rule in google_storage_bucket.payloads.lifecycle_rule : one(rule.action).type != "Delete" || one(rule.condition).with_state == "ARCHIVED"])
    error_message = "No rule removes a payload that is current."
  }
  assert {
    condition     = alltrue(flatten([for role in google_project_iam_custom_role.this : [for one in role.permissions : !strcontains(one, "delete")]]))
    error_message = "Nobody deletes."
  }
  assert {
    condition     = length(google_service_account.function) == length(google_cloudfunctions2_function.function)
    error_message = "Each function has an account of its own."
  }
  assert {
    condition     = alltrue([for one in google_project_iam_member.state : length(one.condition) == 1])
    error_message = "Each may use this database and no other."
  }
  assert {
    condition     = google_cloud_tasks_queue.work.retry_config[0].max_attempts > 2 * 5
    error_message = "The engine calls an instance stuck, after five deaths, before the queue gives up."
  }
  assert {
    condition = alltrue([for function in google_cloudfunctions2_function.function :
      tonumber(function.service_config[0].environment_variables.FLUX_BUDGET) < function.service_config[0].timeout_seconds
    ])
    error_message = "An invocation ends itself before Cloud Run ends it."
  }
  assert {
    condition     = google_cloudfunctions2_function.function["worker"].service_config[0].environment_variables.FLUX_WORKER_URL == "https://flux-dev-worker-123456789012.europe-west1.run.app"
    error_message = "The worker's address is the one that Cloud Run gives it."
  }
  assert {
    condition = length(split(" ", output.settings)) == 7 && alltrue([for one in split(" ", output.settings) :
      google_cloudfunctions2_function.function["worker"].service_config[0].environment_variables[split("=", one)[0]] == split("=", one)[1]
    ])
    error_message = "What an operator's machine is told is what the worker is told."
  }
  assert {
    condition     = base64decode(google_cloud_scheduler_job.this["sweeper"].http_target[0].body) == "{\"action\":\"sweep\"}"
    error_message = "The schedule asks for a sweep."
  }
  assert {
    condition     = !contains(keys(google_cloudfunctions2_function.function), "purge")
    error_message = "Nothing deletes unless it is asked for."
  }
}

run "keys_are_rotated" {
  command = apply
  assert {
    condition     = google_cloudfunctions2_function.function["rotation"].service_config[0].environment_variables.FLUX_ROTATE_AFTER == "2592000" && google_cloudfunctions2_function.function["rotation"].build_config[0].entry_point == "rotation"
    error_message = "Every 30 days, by a function of its own."
  }
  assert {
    condition     = google_cloud_scheduler_job.this["rotation"].schedule == "41 3 * * *" && google_cloud_run_v2_service_iam_member.invoker["rotation"].role == "roles/run.invoker"
    error_message = "Once a day the schedule asks, and it may."
  }
  assert {
    condition     = toset(google_project_iam_custom_role.this["rotate"].permissions) == toset(["secretmanager.versions.access", "secretmanager.versions.add", "secretmanager.versions.get"])
    error_message = "It reads and adds versions, and changes none."
  }
  assert {
    condition     = toset(keys(google_project_iam_member.state)) == toset(["api", "callbacks", "sweeper", "worker"]) && !contains(keys(google_storage_bucket_iam_member.payloads), "rotation") && !contains(keys(google_cloud_tasks_queue_iam_member.wake), "rotation")
    error_message = "It has nothing to do with instances."
  }
  assert {
    condition = alltrue([for name in ["api", "worker", "callbacks"] :
      google_cloudfunctions2_function.function[name].service_config[0].secret_environment_variables[0].version == "latest"
    ])
    error_message = "An instance that starts reads the newest keys."
  }
}

run "a_rotation_that_is_turned_off" {
  command = apply
  variables {
    rotation_days = 0
  }
  assert {
    condition     = !contains(keys(google_cloudfunctions2_function.function), "rotation") && length(google_secret_manager_secret_iam_member.rotation) == 0 && !contains(keys(google_monitoring_alert_policy.this), "rotation_failed")
    error_message = "Nothing of it is there."
  }
}

run "a_period_that_is_shorter_than_links_live_is_refused" {
  command = plan
  variables {
    rotation_days = 7
  }
  expect_failures = [var.rotation_days]
}

run "a_purge_that_is_asked_for" {
  command = apply
  variables {
    purge_after_seconds = 2592000
  }
  assert {
    condition     = { for name, function in google_cloudfunctions2_function.function : name => lookup(function.service_config[0].environment_variables, "FLUX_PURGE_AFTER", "") } == { api = "", callbacks = "", purge = "2592000", rotation = "", sweeper = "", worker = "" }
    error_message = "Only the purge function is told to delete."
  }
  assert {
    condition     = toset([for name, role in google_project_iam_custom_role.this : name if anytrue([for one in role.permissions : strcontains(one, "delete")])]) == toset(["delete", "delete_payloads"])
    error_message = "Deleting is a role of its own."
  }
  assert {
    condition     = [for name, one in local.state_role : name if one == "delete"] == ["purge"] && [for name, one in local.payload_role : name if one == "delete_payloads"] == ["purge"]
    error_message = "Only the purge function has it."
  }
}

run "no_callbacks_and_nothing_is_open" {
  command = apply
  variables {
    callback_keys_version = 0
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.callbacks) == 0 && length(google_secret_manager_secret.callbacks) == 0 && !contains(keys(google_cloudfunctions2_function.function), "rotation")
    error_message = "Without callback links nothing is open to everybody, and no keys are rotated."
  }
}

run "a_worker_may_not_take_longer_than_the_engine_believes" {
  command = plan
  variables {
    worker_timeout = 901
  }
  expect_failures = [var.worker_timeout]
}
