# The stack of {{name}}. `flux build aws` makes the package; flux/variables.tf says what else can be set.

terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.95, < 7.0"
    }
  }
}

variable "callback_keys" {
  description = "Keys of callback links, id:secret[,id:secret]; see flux/variables.tf."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted."
  type        = bool
  default     = true
}

module "flux" {
  source              = "./flux"
  name                = "{{name}}"
  package_path        = "${path.module}/build/aws.zip"
  callback_keys       = var.callback_keys
  deletion_protection = var.deletion_protection
}

output "stack" {
  value = module.flux
}
