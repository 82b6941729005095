variable "name" {
  description = "What the names of all resources begin with; unique in an account and region."
  type        = string
  default     = "flux-dev"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,24}$", var.name))
    error_message = "2 to 25 characters: lower-case letters, digits, hyphens."
  }
}

variable "package_path" {
  description = "The zip with the code: app.py with `handler`, your workflows and what they need, for the architecture."
  type        = string
}

variable "handler" {
  description = "What Lambda calls in the package. All functions have the same code."
  type        = string
  default     = "app.handler"
}

variable "runtime" {
  description = "Lambda's name of the Python."
  type        = string
  default     = "python3.13"
}

variable "architecture" {
  description = "arm64 costs less; x86_64 for packages that have no arm64 wheels."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "arm64 or x86_64."
  }
}

variable "worker_timeout" {
  description = "Seconds of one invocation; a workflow takes as many as it needs. The queue hides messages six times as long."
  type        = number
  default     = 300
  validation {
    condition     = var.worker_timeout >= 10 && var.worker_timeout <= 900
    error_message = "10 to 900."
  }
}

variable "worker_concurrency" {
  description = "Workers that the queue may start at once."
  type        = number
  default     = 10
  validation {
    condition     = var.worker_concurrency >= 2 && var.worker_concurrency <= 1000
    error_message = "2 to 1000, as SQS has it."
  }
}

variable "memory_mb" {
  description = "Megabytes of the API's and the worker's functions."
  type        = number
  default     = 512
}

variable "api_authorization" {
  description = "Who may call all routes but /callbacks. NONE opens them to everybody, and has to be asked for by name."
  type        = string
  default     = "AWS_IAM"
  validation {
    condition     = contains(["AWS_IAM", "NONE"], var.api_authorization)
    error_message = "AWS_IAM or NONE."
  }
}

variable "public_url" {
  description = "Base of callback links, where a domain of your own stands before the API; null: the API's own address."
  type        = string
  default     = null
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
  description = "Raise it to have callback_keys put into the secret again; 0: the secret is yours to fill."
  type        = number
  default     = 1
}

variable "rotation_days" {
  description = "After how many days the keys of callback links are rotated; 0: never."
  type        = number
  default     = 30
  validation {
    condition     = var.rotation_days == 0 || (floor(var.rotation_days) == var.rotation_days && var.rotation_days <= 1000 && var.rotation_days * 86400 >= tonumber(lookup(var.environment, "FLUX_CALLBACK_EXPIRES", "604800")) + 86400)
    error_message = "0, or whole days up to 1000, at least one more than callback links live (FLUX_CALLBACK_EXPIRES in environment, seconds; 7 days by default): no link may outlive its key."
  }
}

variable "purge_after_seconds" {
  description = "Above 0 a function deletes, once a day, what ended so many seconds ago (2592000 are 30 days). 0: nothing is ever deleted."
  type        = number
  default     = 0
  validation {
    condition     = var.purge_after_seconds >= 0
    error_message = "0 or more."
  }
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted, and `terraform destroy` leaves a bucket that is not empty."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "A key of your own for everything that is stored; null: AWS's keys."
  type        = string
  default     = null
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms are sent to; null: they are only shown."
  type        = string
  default     = null
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
  description = "Further environment variables of all functions: those of your workflows."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
