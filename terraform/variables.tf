variable "name" {
  description = "Begins the names of all that is made."
  type        = string
  default     = "stocktake"
}

variable "bucket" {
  description = "Name of the bucket; empty makes one of name, account and region."
  type        = string
  default     = ""
}

variable "kms_key" {
  description = "ARN of a key of KMS's, which encrypts the bucket and which jobs may use; empty leaves it to S3's own keys."
  type        = string
  default     = ""
}

variable "vpc" {
  description = "Whether jobs may run in subnets."
  type        = bool
  default     = false
}

variable "data_buckets" {
  description = "Buckets that jobs may read beside their own."
  type        = list(string)
  default     = []
}

variable "checkpoint_days" {
  description = "After so many days a checkpoint of a spot job is deleted."
  type        = number
  default     = 30
}

variable "image_account" {
  description = "Account of AWS's PyTorch images in the region: src/stocktake/cloud/training_images.py lists them."
  type        = string
  default     = "763104351884"
}

variable "budget_usd" {
  description = "A month, of the whole account; 0 makes no budget. Not in aws-us-gov."
  type        = number
  default     = 10
}

variable "budget_email" {
  description = "Is told at 50, 80 and 100 % of the budget, and where 100 % are foreseen."
  type        = string
  default     = ""

  validation {
    condition     = var.budget_usd == 0 || var.budget_email != ""
    error_message = "Set budget_email, or budget_usd = 0 for no budget."
  }
}
