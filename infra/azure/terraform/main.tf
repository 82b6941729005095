data "azurerm_client_config" "current" {}

locals {
  tags      = merge({ app = "flux" }, var.tags)
  short     = replace(var.name, "-", "")
  queue     = "flux-work"
  container = "flux"
  instances = "instances" # the folders of the container
  payloads  = "payloads"
  purges    = var.purge_after_seconds > 0
  rotates   = var.rotation_days > 0

  # The app, the one that rotates keys, and the one that deletes. They have the same code; settings and identity make the
  # difference. The letter is of the account that the Functions host works in.
  apps = merge(
    { main = { suffix = "", letter = "h" } },
    local.rotates ? { rotation = { suffix = "-rotation", letter = "r" } } : {},
    local.purges ? { purge = { suffix = "-purge", letter = "p" } } : {},
  )
}

resource "azurerm_resource_group" "this" {
  name     = "rg-${var.name}"
  location = var.location
  tags     = local.tags
}

resource "azurerm_user_assigned_identity" "app" {
  for_each            = local.apps
  name                = "id-${var.name}${each.value.suffix}"
  resource_group_name = azurerm_resource_group.this.name
  location            = var.location
  tags                = local.tags
}
