resource "azurerm_log_analytics_workspace" "this" {
  name                = "log-${var.name}"
  resource_group_name = azurerm_resource_group.this.name
  location            = var.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_retention_days
  tags                = local.tags
}

resource "azurerm_application_insights" "this" {
  name                = "appi-${var.name}"
  resource_group_name = azurerm_resource_group.this.name
  location            = var.location
  application_type    = "web"
  workspace_id        = azurerm_log_analytics_workspace.this.id
  tags                = local.tags
}

# A plan of Flex Consumption holds one app.
resource "azurerm_service_plan" "this" {
  for_each            = local.apps
  name                = "asp-${var.name}${each.value.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = var.location
  os_type             = "Linux"
  sku_name            = "FC1"
  tags                = local.tags
}

locals {
  app_name = { for app, one in local.apps : app => "func-${var.name}${one.suffix}-${var.unique}" }
  settings_of = { for app, _ in local.apps : app => merge(
    var.environment,
    {
      AzureWebJobsStorage__accountName          = azurerm_storage_account.host[app].name
      AzureWebJobsStorage__credential           = "managedidentity"
      AzureWebJobsStorage__clientId             = azurerm_user_assigned_identity.app[app].client_id
      AZURE_STORAGE_ACCOUNT_NAME                = azurerm_storage_account.state.name # of the blobs
      AZURE_CLIENT_ID                           = azurerm_user_assigned_identity.app[app].client_id
      FLUX_STORAGE                              = "az://${local.container}/${local.instances}"
      FLUX_PAYLOADS                             = "az://${local.container}/${local.payloads}"
      FLUX_BUDGET                               = tostring(var.budget_seconds)
      FLUX_LOG_LEVEL                            = var.log_level
      APPLICATIONINSIGHTS_CONNECTION_STRING     = azurerm_application_insights.this.connection_string
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "Authorization=AAD;ClientId=${azurerm_user_assigned_identity.app[app].client_id}"
    },
    app == "main" ? {
      FLUX_QUEUE         = local.queue
      FLUX_PUBLIC_URL    = "https://${local.app_name["main"]}.azurewebsites.net"
      FLUX_CALLBACK_KEYS = "@Microsoft.KeyVault(SecretUri=${azurerm_key_vault.this.vault_uri}secrets/${azurerm_key_vault_secret.callbacks.name})"
    } : {},
    app == "purge" ? { FLUX_PURGE_AFTER = tostring(var.purge_after_seconds) } : {},
    app == "rotation" ? {
      FLUX_CALLBACK_SECRET = "${azurerm_key_vault.this.vault_uri}secrets/${azurerm_key_vault_secret.callbacks.name}"
      FLUX_ROTATE_AFTER    = tostring(var.rotation_days * 86400)
    } : {},
  ) }
}

# azapi, not azurerm_function_app_flex_consumption: up to 5.2.0 that one writes an AzureWebJobsStorage connection string
# with an empty key even where identities are used (hashicorp/terraform-provider-azurerm#29693).
resource "azapi_resource" "app" {
  for_each  = local.apps
  type      = "Microsoft.Web/sites@2024-04-01"
  name      = local.app_name[each.key]
  parent_id = azurerm_resource_group.this.id
  location  = var.location
  tags      = local.tags
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.app[each.key].id]
  }
  body = {
    kind = "functionapp,linux"
    properties = {
      serverFarmId              = azurerm_service_plan.this[each.key].id
      httpsOnly                 = true
      keyVaultReferenceIdentity = azurerm_user_assigned_identity.app[each.key].id
      functionAppConfig = {
        deployment = {
          storage = {
            type  = "blobContainer"
            value = "${azurerm_storage_account.host[each.key].primary_blob_endpoint}${azurerm_storage_container.deploy[each.key].name}"
            authentication = {
              type                           = "UserAssignedIdentity"
              userAssignedIdentityResourceId = azurerm_user_assigned_identity.app[each.key].id
            }
          }
        }
        runtime = { name = "python", version = var.python_version }
        scaleAndConcurrency = {
          maximumInstanceCount = var.maximum_instances
          instanceMemoryMB     = var.instance_memory_mb
        }
      }
      siteConfig = {
        minTlsVersion = "1.2"
        http20Enabled = true
        appSettings   = [for name, value in local.settings_of[each.key] : { name = name, value = value }]
      }
    }
  }
  response_export_values = ["properties.defaultHostName"]
  depends_on = [
    azurerm_role_assignment.app, azurerm_role_assignment.state, azurerm_role_assignment.rotation, azurerm_storage_queue.work,
  ]
}

resource "azapi_resource" "no_passwords" {
  for_each = { for pair in setproduct(keys(local.apps), ["ftp", "scm"]) : join(" ", pair) => { app = pair[0], way = pair[1] } }

  type      = "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01"
  name      = each.value.way
  parent_id = azapi_resource.app[each.value.app].id
  body      = { properties = { allow = false } }
}
