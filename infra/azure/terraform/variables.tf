variable "name" {
  description = "What the names of all resources begin with."
  type        = string
  default     = "flux-dev"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,11}$", var.name))
    error_message = "3 to 12 characters (storage accounts and vaults have 24 at most): lower-case letters, digits, hyphens."
  }
}

variable "unique" {
  description = "2 to 6 lower-case letters or digits that make names unique in the world: of storage accounts, vault, apps."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]{2,6}$", var.unique))
    error_message = "2 to 6 lower-case letters or digits."
  }
}

variable "location" {
  description = "An Azure region with Flex Consumption and zone-redundant storage."
  type        = string
  default     = "westeurope"
}

variable "python_version" {
  description = "Of the functions."
  type        = string
  default     = "3.12"
  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.python_version)
    error_message = "3.11, 3.12 or 3.13."
  }
}

variable "budget_seconds" {
  description = "Seconds of one invocation; a workflow takes as many as it needs. host.json's functionTimeout is a minute more."
  type        = number
  default     = 240
  validation {
    condition     = var.budget_seconds >= 30 && var.budget_seconds <= 840
    error_message = "30 to 840: the engine takes an invocation to last 15 minutes at most."
  }
}

variable "instance_memory_mb" {
  description = "Megabytes of an instance."
  type        = number
  default     = 2048
  validation {
    condition     = contains([512, 2048, 4096], var.instance_memory_mb)
    error_message = "Flex Consumption offers 512, 2048 and 4096."
  }
}

variable "maximum_instances" {
  description = "Instances of the app at once."
  type        = number
  default     = 40
}

variable "replication" {
  description = "Of the storage accounts: ZRS keeps three copies in three zones, LRS in one."
  type        = string
  default     = "ZRS"
}

variable "restore_days" {
  description = "How far back the containers of instances can be restored."
  type        = number
  default     = 7
}

variable "callback_keys" {
  description = "Keys of callback links, id:secret[,id:secret], the one that signs first. Needed by the first apply, and by one with another callback_keys_version; it is in no plan and no state. TF_VAR_callback_keys=\"k1:$(openssl rand -hex 32)\""
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
  validation {
    condition     = can(regex("^[^:,]+:[^,]{32,}(,[^:,]+:[^,]{32,})*$", coalesce(var.callback_keys, "k1:00000000000000000000000000000000")))
    error_message = "id:secret[,id:secret], each secret of 32 characters or more."
  }
}

variable "callback_keys_version" {
  description = "Raise it to have callback_keys put into the vault again."
  type        = number
  default     = 1
}

variable "rotation_days" {
  description = "After how many days the keys of callback links are rotated, by an app of its own; 0: never."
  type        = number
  default     = 30
  validation {
    condition     = var.rotation_days == 0 || (floor(var.rotation_days) == var.rotation_days && var.rotation_days <= 365 && var.rotation_days * 86400 >= tonumber(lookup(var.environment, "FLUX_CALLBACK_EXPIRES", "604800")) + 86400)
    error_message = "0, or whole days up to 365, at least one more than callback links live (FLUX_CALLBACK_EXPIRES in environment, seconds; 7 days by default): no link may outlive its key."
  }
}

variable "purge_after_seconds" {
  description = "Above 0 there is an app of its own that may delete what ended so many seconds ago (2592000 are 30 days). 0: nothing is ever deleted."
  type        = number
  default     = 0
  validation {
    condition     = var.purge_after_seconds >= 0
    error_message = "0 or more."
  }
}

variable "deletion_protection" {
  description = "Whether a lock keeps the storage account of instances from being deleted."
  type        = bool
  default     = true
}

variable "action_group_ids" {
  description = "Where alerts are sent; none: they are only shown."
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "log_level" {
  description = "debug, info, warn or error."
  type        = string
  default     = "info"
  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "debug, info, warn or error."
  }
}

variable "environment" {
  description = "Further app settings: those of your workflows."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
