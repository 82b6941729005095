# Two accounts: the Functions host may do anything in its own one, and in that of the instances nothing.

resource "azurerm_storage_account" "host" {
  for_each                        = local.apps
  name                            = "st${local.short}${each.value.letter}${var.unique}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = var.location
  account_tier                    = "Standard"
  account_replication_type        = var.replication
  min_tls_version                 = "TLS1_2"
  shared_access_key_enabled       = false
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false
  tags                            = local.tags
  blob_properties {
    delete_retention_policy { days = 7 }
    container_delete_retention_policy { days = 7 }
  }
}

resource "azurerm_storage_account" "state" {
  name                            = "st${local.short}s${var.unique}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = var.location
  account_tier                    = "Standard"
  account_replication_type        = var.replication
  min_tls_version                 = "TLS1_2"
  shared_access_key_enabled       = false
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false
  tags                            = local.tags
  blob_properties {
    versioning_enabled  = true
    change_feed_enabled = true
    delete_retention_policy { days = var.restore_days + 1 }
    container_delete_retention_policy { days = var.restore_days + 1 }
    restore_policy { days = var.restore_days }
  }
}

# Not prevent_destroy: it takes no variable, and `terraform test` could not clean up.
resource "azurerm_management_lock" "state" {
  count      = var.deletion_protection ? 1 : 0
  name       = "flux-state"
  scope      = azurerm_storage_account.state.id
  lock_level = "CanNotDelete"
}

resource "azurerm_storage_container" "state" {
  name               = local.container
  storage_account_id = azurerm_storage_account.state.id
}

# What belongs to an instance goes when the instance is deleted: the rule touches only what was.
resource "azurerm_storage_management_policy" "state" {
  storage_account_id = azurerm_storage_account.state.id
  rule {
    name    = "drop-what-was-deleted"
    enabled = true
    filters { blob_types = ["blockBlob"] }
    actions {
      version { delete_after_days_since_creation = 30 }
    }
  }
}

resource "azurerm_storage_container" "deploy" {
  for_each           = local.apps
  name               = "deployments"
  storage_account_id = azurerm_storage_account.host[each.key].id
}

# The host puts a message that failed twelve times into the queue with the second name.
resource "azurerm_storage_queue" "work" {
  for_each           = toset([local.queue, "${local.queue}-poison"])
  name               = each.value
  storage_account_id = azurerm_storage_account.host["main"].id
}

# The keys of callback links; the first one signs, all are accepted (README, Rotation). They are in no plan and no state.
resource "azurerm_key_vault" "this" {
  name                       = "kv-${var.name}-${var.unique}"
  resource_group_name        = azurerm_resource_group.this.name
  location                   = var.location
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = var.deletion_protection
  soft_delete_retention_days = 30
  tags                       = local.tags
}

resource "azurerm_key_vault_secret" "callbacks" {
  name             = "flux-callbacks"
  content_type     = "text/plain" # id:secret[,id:secret]
  key_vault_id     = azurerm_key_vault.this.id
  value_wo         = var.callback_keys
  value_wo_version = var.callback_keys_version
  depends_on       = [azurerm_role_assignment.deployer]
}
