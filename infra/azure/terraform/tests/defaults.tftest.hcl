mock_provider "azapi" {
  mock_resource "azapi_resource" {
    defaults = {
      id     = "/subscriptions/0/resourceGroups/r/providers/Microsoft.Web/sites/f"
      output = { properties = { defaultHostName = "f.azurewebsites.net" } }
    }
  }
}

mock_provider "azurerm" {
  mock_resource "azurerm_storage_account" {
    defaults = {
      id                     = "/subscriptions/0/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/s"
      primary_blob_endpoint  = "https://s.blob.core.windows.net/"
      primary_queue_endpoint = "https://s.queue.core.windows.net/"
    }
  }
  mock_resource "azurerm_key_vault" {
    defaults = { vault_uri = "https://kv.vault.azure.net/" }
  }
}

variables {
  unique        = "ab12"
  callback_keys = "k1:0123456789abcdef0123456789abcdef"
}

run "safe_defaults" {
  command = apply
  assert {
    condition     = !azurerm_storage_account.state.shared_access_key_enabled && alltrue([for one in azurerm_storage_account.host : !one.shared_access_key_enabled])
    error_message = "No account has keys."
  }
  assert {
    condition     = alltrue([for one in azapi_resource.app : one.body.properties.httpsOnly]) && alltrue([for one in azapi_resource.no_passwords : !one.body.properties.allow])
    error_message = "Only HTTPS, and no passwords for publishing."
  }
  assert {
    condition     = !contains([for one in azapi_resource.app["main"].body.properties.siteConfig.appSettings : one.name], "AzureWebJobsStorage")
    error_message = "A connection string would win over the identity."
  }
  assert {
    condition     = strcontains({ for one in azapi_resource.app["main"].body.properties.siteConfig.appSettings : one.name => one.value }["FLUX_CALLBACK_KEYS"], "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/flux-callbacks)")
    error_message = "The keys are read from the vault."
  }
  assert {
    condition     = azurerm_storage_account.state.blob_properties[0].versioning_enabled && length(azurerm_storage_account.state.blob_properties[0].restore_policy) == 1 && length(azurerm_management_lock.state) == 1
    error_message = "Instances can be restored, and are not deleted by mistake."
  }
  assert {
    condition     = alltrue([for rule in azurerm_storage_management_policy.state.rule : length(rule.actions[0].base_blob) == 0])
    error_message = "No rule removes a blob that is current."
  }
  assert {
    condition     = [for name, role in azurerm_role_definition.this : name if anytrue([for one in role.permissions[0].data_actions : strcontains(one, "delete")])] == ["unindex"]
    error_message = "Nobody deletes, save for index markers."
  }
  assert {
    condition     = strcontains(azurerm_role_assignment.state["main_unindex"].condition, "StringLike 'instances/_due/*'") && strcontains(azurerm_role_assignment.state["main_unindex"].condition, "StringLike 'instances/_list/*'")
    error_message = "Only index markers may be deleted."
  }
  assert {
    condition = length(split(" ", output.settings)) == 6 && alltrue([for one in split(" ", output.settings) :
      contains([for set in azapi_resource.app["main"].body.properties.siteConfig.appSettings : "${set.name}=${set.value}"], one)
    ])
    error_message = "An operator's machine is told what the app is told."
  }
  assert {
    condition     = keys(azapi_resource.app) == ["main", "rotation"]
    error_message = "Nothing deletes unless it is asked for."
  }
  assert {
    condition     = length(azurerm_storage_account.state.name) <= 24 && length(azurerm_key_vault.this.name) <= 24
    error_message = "Names are within Azure's limits."
  }
}

run "the_longest_names_are_within_azures_limits" {
  command = apply
  variables {
    name                = "abcdefghijkl"
    unique              = "abc123"
    purge_after_seconds = 2592000
  }
  assert {
    condition     = length(azurerm_key_vault.this.name) <= 24 && alltrue([for one in azurerm_storage_account.host : length(one.name) <= 24])
    error_message = "Names are within Azure's limits."
  }
}

run "keys_are_rotated" {
  command = apply
  assert {
    condition = { for one in azapi_resource.app["rotation"].body.properties.siteConfig.appSettings : one.name => one.value if contains(["FLUX_CALLBACK_SECRET", "FLUX_ROTATE_AFTER", "FLUX_CALLBACK_KEYS", "FLUX_QUEUE"], one.name) } == {
      FLUX_CALLBACK_SECRET = "https://kv.vault.azure.net/secrets/flux-callbacks"
      FLUX_ROTATE_AFTER    = "2592000"
    }
    error_message = "Every 30 days, by an app that has nothing else to do."
  }
  assert {
    condition     = [for app, one in azapi_resource.app : app if contains([for two in one.body.properties.siteConfig.appSettings : two.name], "FLUX_ROTATE_AFTER")] == ["rotation"]
    error_message = "Only that app is told to rotate."
  }
  assert {
    condition     = toset(azurerm_role_definition.this["rotate"].permissions[0].data_actions) == toset(["Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/setSecret/action"]) && azurerm_role_assignment.rotation[0].scope == azurerm_key_vault_secret.callbacks.resource_versionless_id
    error_message = "It reads and sets that secret, and deletes none."
  }
  assert {
    condition     = [for name, one in local.assigned_custom : name if one.app == "rotation"] == []
    error_message = "It has nothing to do with instances."
  }
}

run "a_rotation_that_is_turned_off" {
  command = apply
  variables {
    rotation_days = 0
  }
  assert {
    condition     = keys(azapi_resource.app) == ["main"] && length(azurerm_role_assignment.rotation) == 0 && !contains(keys(azurerm_monitor_scheduled_query_rules_alert_v2.this), "rotation_failed")
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
    condition     = length(azurerm_user_assigned_identity.app) == 3 && length(azapi_resource.app) == 3
    error_message = "What deletes is an app of its own, with an identity of its own."
  }
  assert {
    condition     = [for app, one in azapi_resource.app : app if contains([for two in one.body.properties.siteConfig.appSettings : two.name], "FLUX_PURGE_AFTER")] == ["purge"]
    error_message = "Only that app is told to delete."
  }
  assert {
    condition     = { for name, one in local.assigned_custom : name => one.app if one.role == "delete" } == { purge_delete = "purge" }
    error_message = "Only its identity may delete everything of an instance."
  }
}

run "a_memory_that_there_is_not_is_refused" {
  command = plan
  variables {
    instance_memory_mb = 1024
  }
  expect_failures = [var.instance_memory_mb]
}
