resource "google_logging_metric" "stuck" {
  project = var.project_id
  name    = "${var.name}-stuck"
  filter  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.name}-\" AND severity=ERROR AND jsonPayload.message=\"stuck: an operator is needed\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
  depends_on = [google_project_service.this]
}

locals {
  of_queue = "resource.type=\"cloud_tasks_queue\" AND resource.labels.queue_id=\"${google_cloud_tasks_queue.work.name}\""
  of_run   = { for name in setintersection(keys(local.functions), ["worker", "sweeper", "rotation"]) : name => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloudfunctions2_function.function[name].name}\"" }
  alarms = merge({
    stuck_workflows = {
      text   = "An instance is stuck and waits for somebody (flux list --status stuck, flux show)."
      filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.stuck.name}\""
      align  = "ALIGN_DELTA", above = 0, lasting = "0s"
    }
    tasks_waiting = {
      text   = "More than 1,000 tasks wait for five minutes. Raise max_workers, or look why workers are slow."
      filter = "${local.of_queue} AND metric.type=\"cloudtasks.googleapis.com/queue/depth\""
      align  = "ALIGN_MIN", above = 1000, lasting = "300s"
    }
    tasks_failing = { # in place of a dead-letter queue, which Cloud Tasks has not
      text   = "Tasks fail again and again. Look at the worker's log; after 30 attempts only the sweeper brings them."
      filter = "${local.of_queue} AND metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_count\" AND metric.labels.response_code!=\"200\" AND metric.labels.response_code!=\"202\""
      align  = "ALIGN_RATE", above = 0.1, lasting = "300s"
    }
    worker_errors = {
      text   = "The worker answers with errors. Look at its log."
      filter = "${local.of_run["worker"]} AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\""
      align  = "ALIGN_RATE", above = 0, lasting = "300s"
    }
    }, local.rotates ? {
    rotation_failed = {
      text   = "The keys of callback links could not be rotated, and stay as they are. Look at the log of the rotation."
      filter = "${local.of_run["rotation"]} AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class!=\"2xx\""
      align  = "ALIGN_DELTA", above = 0, lasting = "0s"
    }
  } : {})
}

resource "google_monitoring_alert_policy" "this" {
  for_each              = local.alarms
  project               = var.project_id
  display_name          = "${var.name} ${replace(each.key, "_", " ")}"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = local.labels
  documentation { content = each.value.text }
  conditions {
    display_name = each.key
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.above
      duration        = each.value.lasting
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = each.value.align
      }
    }
  }
}

resource "google_monitoring_alert_policy" "sweeper_silent" {
  project               = var.project_id
  display_name          = "${var.name} sweeper silent"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = local.labels
  documentation { content = "Long timers and instances of dead invocations stand still. Look at the scheduler's job and the sweeper's log." }
  conditions {
    display_name = "no successful sweep for ten minutes"
    condition_absent {
      filter   = "${local.of_run["sweeper"]} AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"2xx\""
      duration = "600s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_RATE"
      }
    }
  }
}
