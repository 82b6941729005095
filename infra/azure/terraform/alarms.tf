# Log queries: of a storage queue Azure counts the messages once an hour, and all queues of an account together.

locals {
  alarms = merge({
    dead_letters = {
      text  = "A message failed twelve times and is in the poison queue. Look at the app's log, then put it back."
      query = "AppTraces | where Message has 'MaxDequeueCount'", operator = "GreaterThan", than = 0, window = "PT5M", severity = 1
    }
    stuck_workflows = {
      text  = "An instance is stuck and waits for somebody (flux list --status stuck, flux show)."
      query = "AppTraces | where Message has 'stuck: an operator is needed'", operator = "GreaterThan", than = 0, window = "PT5M", severity = 1
    }
    sweeper_silent = {
      text  = "No sweep succeeded for fifteen minutes. Long timers and instances of dead invocations stand still."
      query = "AppRequests | where Name == 'flux_sweep' and Success == true", operator = "LessThan", than = 1, window = "PT15M", severity = 1
    }
    worker_errors = {
      text  = "Messages of the queue fail. Look at the app's log."
      query = "AppRequests | where Name == 'flux_work' and Success == false", operator = "GreaterThan", than = 5, window = "PT5M", severity = 2
    }
    }, local.rotates ? {
    rotation_failed = {
      text  = "The keys of callback links could not be rotated, and stay as they are. Look at the log of the rotation's app."
      query = "AppRequests | where Name == 'flux_rotate' and Success == false", operator = "GreaterThan", than = 0, window = "PT5M", severity = 2
    }
  } : {})
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each             = local.alarms
  name                 = "${var.name}-${replace(each.key, "_", "-")}"
  description          = each.value.text
  resource_group_name  = azurerm_resource_group.this.name
  location             = var.location
  scopes               = [azurerm_log_analytics_workspace.this.id]
  severity             = each.value.severity
  evaluation_frequency = "PT5M"
  window_duration      = each.value.window
  tags                 = local.tags
  criteria {
    query                   = each.value.query
    time_aggregation_method = "Count"
    operator                = each.value.operator
    threshold               = each.value.than
  }
  dynamic "action" {
    for_each = length(var.action_group_ids) > 0 ? [var.action_group_ids] : []
    content { action_groups = action.value }
  }
}

resource "azurerm_monitor_metric_alert" "messages_waiting" {
  name                = "${var.name}-messages-waiting"
  description         = "More than 1,000 messages wait. Raise maximum_instances, or look why the app is slow."
  resource_group_name = azurerm_resource_group.this.name
  scopes              = ["${azurerm_storage_account.host["main"].id}/queueServices/default"]
  severity            = 2
  frequency           = "PT1H"
  window_size         = "PT1H"
  tags                = local.tags
  criteria {
    metric_namespace = "Microsoft.Storage/storageAccounts/queueServices"
    metric_name      = "QueueMessageCount"
    aggregation      = "Average"
    operator         = "GreaterThan"
    threshold        = 1000
  }
  dynamic "action" {
    for_each = toset(var.action_group_ids)
    content { action_group_id = action.value }
  }
}

resource "azurerm_monitor_diagnostic_setting" "app" {
  for_each                   = local.apps
  name                       = "to-log-analytics"
  target_resource_id         = azapi_resource.app[each.key].id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id
  enabled_log { category = "FunctionAppLogs" }
}
