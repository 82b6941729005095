# The stack of {{name}}. `flux build azure` makes the package; flux/variables.tf says what else can be set.

terraform {
  required_version = ">= 1.11"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.42, < 6.0"
    }
    azapi = {
      source  = "Azure/azapi"
      version = ">= 2.2, < 3.0"
    }
  }
}

variable "unique" {
  description = "2 to 6 lower-case letters or digits that make names unique in the world."
  type        = string
}

variable "location" {
  description = "An Azure region with Flex Consumption."
  type        = string
  default     = "westeurope"
}

variable "callback_keys" {
  description = "Keys of callback links, id:secret[,id:secret]; see flux/variables.tf."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "deletion_protection" {
  description = "Whether a lock keeps the account of the instances from being deleted."
  type        = bool
  default     = true
}

provider "azurerm" {
  storage_use_azuread = true
  features {}
}

module "flux" {
  source              = "./flux"
  name                = "{{name}}"
  unique              = var.unique
  location            = var.location
  callback_keys       = var.callback_keys
  deletion_protection = var.deletion_protection
}

output "stack" {
  value = module.flux
}
