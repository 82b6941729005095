terraform {
  required_version = ">= 1.11" # write-only arguments: the callback keys are in no state
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.25, < 9.0"
    }
  }
}
