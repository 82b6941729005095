variable "project_id" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Of functions, queue and buckets; Cloud Tasks and Cloud Scheduler have to be offered there."
  type        = string
  default     = "europe-west1"
}

variable "firestore_location" {
  description = "A region or multi-region (eur3, nam5); it cannot be changed later."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "What the names of all resources begin with."
  type        = string
  default     = "flux-dev"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{3,18}$", var.name))
    error_message = "4 to 19 characters (ids of service accounts have 30 at most): lower-case letters, digits, hyphens."
  }
}

variable "package_path" {
  description = "The zip with the code: main.py with `handler`, `callbacks` and `rotation`, your workflows, requirements.txt."
  type        = string
}

variable "runtime" {
  description = "Google's name of the Python."
  type        = string
  default     = "python313"
}

variable "worker_timeout" {
  description = "Seconds of one invocation; a workflow takes as many as it needs. Cloud Tasks waits for 30 minutes at most."
  type        = number
  default     = 540
  validation {
    condition     = var.worker_timeout >= 30 && var.worker_timeout <= 900
    error_message = "30 to 900: the engine takes an invocation to last 15 minutes at most."
  }
}

variable "max_workers" {
  description = "Instances of the worker at once; each takes 8 tasks at once."
  type        = number
  default     = 10
}

variable "api_invokers" {
  description = "IAM members that may call the API. allUsers has to be asked for by name."
  type        = set(string)
  default     = []
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
  description = "Raise it to have callback_keys taken again; 0: no callback links, and nothing that is open to everybody."
  type        = number
  default     = 1
}

variable "rotation_days" {
  description = "After how many days the keys of callback links are rotated; 0: never."
  type        = number
  default     = 30
  validation {
    condition     = var.rotation_days == 0 || (floor(var.rotation_days) == var.rotation_days && var.rotation_days <= 365 && var.rotation_days * 86400 >= tonumber(lookup(var.environment, "FLUX_CALLBACK_EXPIRES", "604800")) + 86400)
    error_message = "0, or whole days up to 365, at least one more than callback links live (FLUX_CALLBACK_EXPIRES in environment, seconds; 7 days by default): no link may outlive its key."
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
  description = "Whether the database refuses to be deleted, and `terraform destroy` leaves a bucket that is not empty."
  type        = bool
  default     = true
}

variable "kms_key_name" {
  description = "A key of your own for buckets and functions; null: Google's keys."
  type        = string
  default     = null
}

variable "firestore_kms_key_name" {
  description = "The same for Firestore, which is behind an allow-list of Google's."
  type        = string
  default     = null
}

variable "notification_channels" {
  description = "Where alerts are sent; none: they are only shown."
  type        = list(string)
  default     = []
}

variable "enable_apis" {
  description = "Whether the services of the project are enabled here."
  type        = bool
  default     = true
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

variable "labels" {
  description = "Labels of all resources."
  type        = map(string)
  default     = {}
}
