terraform {
  required_version = ">= 1.11" # write-only arguments: the callback key is in no state
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.95, < 7.0"
    }
  }
}
