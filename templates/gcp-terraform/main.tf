# The stack of {{name}}. `flux build gcp` makes the package; flux/variables.tf says what else can be set.

terraform {
  required_version = ">= 1.11"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.25, < 9.0"
    }
  }
}

variable "project_id" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Of functions, queue and buckets."
  type        = string
  default     = "europe-west1"
}

variable "api_invokers" {
  description = "IAM members that may call the API, such as user:ann@example.com."
  type        = set(string)
  default     = []
}

variable "callback_keys" {
  description = "Keys of callback links, id:secret[,id:secret]; see flux/variables.tf."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "deletion_protection" {
  description = "Whether the database refuses to be deleted."
  type        = bool
  default     = true
}

provider "google" {
  project = var.project_id
  region  = var.region
}

module "flux" {
  source              = "./flux"
  name                = "{{name}}"
  project_id          = var.project_id
  region              = var.region
  firestore_location  = var.region
  api_invokers        = var.api_invokers
  package_path        = "${path.module}/build/gcp.zip"
  callback_keys       = var.callback_keys
  deletion_protection = var.deletion_protection
}

output "stack" {
  value = module.flux
}

output "settings" {
  value = module.flux.settings
}
