# An identity for each app. Azure's own roles would let them delete; those made here do not, save for purge, and allow
# what the apps ask for and no more (tests/infra/test_azure_permissions.py).

locals {
  blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
  state = azurerm_storage_container.state.resource_manager_id

  custom_roles = merge(
    {
      # write, not add/action: who has only that is refused where he should be told that a name is taken
      write   = { text = "Reads and puts blobs, and deletes none.", actions = ["${local.blobs}/read", "${local.blobs}/write"] }
      unindex = { text = "Deletes blobs. Assigned with a condition on their path only.", actions = ["${local.blobs}/delete"] }
    },
    local.purges ? {
      delete = { text = "Reads, puts and deletes blobs.", actions = ["${local.blobs}/read", "${local.blobs}/write", "${local.blobs}/delete"] }
    } : {},
    local.rotates ? {
      rotate = { text = "Reads a secret and sets another version.", actions = ["Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/setSecret/action"] }
    } : {},
  )

  # Index markers are hints, and the only blobs that the app may delete.
  index_markers_only = join(" ", [
    "((!(ActionMatches{'${local.blobs}/delete'})) OR (",
    join(" OR ", [for folder in ["_due", "_list"] : "@Resource[${local.blobs}:path] StringLike '${local.instances}/${folder}/*'"]),
    "))",
  ])

  assigned = merge(
    merge([for app, _ in local.apps : {
      "${app}_host_blobs"  = { app = app, scope = azurerm_storage_account.host[app].id, role = "Storage Blob Data Owner" }
      "${app}_host_tables" = { app = app, scope = azurerm_storage_account.host[app].id, role = "Storage Table Data Contributor" }
      "${app}_telemetry"   = { app = app, scope = azurerm_application_insights.this.id, role = "Monitoring Metrics Publisher" }
    }]...),
    { main_host_queues = { app = "main", scope = azurerm_storage_account.host["main"].id, role = "Storage Queue Data Contributor" } },
    { main_keys = { app = "main", scope = azurerm_key_vault_secret.callbacks.resource_versionless_id, role = "Key Vault Secrets User" } },
  )
  assigned_custom = merge(
    {
      main_write   = { app = "main", role = "write", condition = null }
      main_unindex = { app = "main", role = "unindex", condition = local.index_markers_only }
    },
    local.purges ? { purge_delete = { app = "purge", role = "delete", condition = null } } : {},
  )
}

resource "azurerm_role_definition" "this" {
  for_each          = local.custom_roles
  name              = "${var.name} ${var.unique} ${each.key}"
  scope             = azurerm_resource_group.this.id
  description       = each.value.text
  assignable_scopes = [azurerm_resource_group.this.id]
  permissions {
    data_actions = each.value.actions
  }
}

resource "azurerm_role_assignment" "app" {
  for_each             = local.assigned
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.app[each.value.app].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "state" {
  for_each           = local.assigned_custom
  scope              = local.state
  role_definition_id = azurerm_role_definition.this[each.value.role].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.app[each.value.app].principal_id
  principal_type     = "ServicePrincipal"
  condition          = each.value.condition
  condition_version  = each.value.condition == null ? null : "2.0"
}

# Azure's own role for this, Key Vault Secrets Officer, could delete the secret.
resource "azurerm_role_assignment" "rotation" {
  count              = local.rotates ? 1 : 0
  scope              = azurerm_key_vault_secret.callbacks.resource_versionless_id
  role_definition_id = azurerm_role_definition.this["rotate"].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.app["rotation"].principal_id
  principal_type     = "ServicePrincipal"
}

# Whoever applies this puts the keys into the vault.
resource "azurerm_role_assignment" "deployer" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}
