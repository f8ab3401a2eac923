# What `python scripts/aws.py action=setup` makes, for who keeps an account in Terraform: a bucket, two roles, image
# repositories and a budget. The policies are the same files. The secret with the key of W&B is not made here, because
# its value would stand in Terraform's state: `aws secretsmanager create-secret --name stocktake/wandb` asks for it.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account  = data.aws_caller_identity.this.account_id
  region   = data.aws_region.this.region
  tags     = { project = "stocktake" }
  bucket   = var.bucket != "" ? var.bucket : "${var.name}-${local.account}-${local.region}"
  policies = "${path.module}/../src/stocktake/cloud/policies"
  names = {
    partition     = data.aws_partition.this.partition
    region        = local.region
    account       = local.account
    name          = var.name
    bucket        = local.bucket
    image_account = var.image_account
    kms_key       = var.kms_key
  }
  read = { for whom in ["job", "job_vpc", "kms", "person"] :
  whom => jsondecode(templatefile("${local.policies}/${whom}.json", local.names)).Statement }
  kms = [for statement in local.read.kms : statement if var.kms_key != ""]
  vpc = [for statement in local.read.job_vpc : statement if var.vpc]
  data = flatten([
    for data_bucket in var.data_buckets :
    jsondecode(templatefile("${local.policies}/job_data.json", merge(local.names, { data_bucket = data_bucket }))).Statement
  ])
  job_policy    = jsonencode({ Version = "2012-10-17", Statement = concat(local.read.job, local.kms, local.vpc, local.data) })
  person_policy = jsonencode({ Version = "2012-10-17", Statement = concat(local.read.person, local.kms) })
}

resource "aws_s3_bucket" "this" {
  bucket = local.bucket
  tags   = local.tags
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    bucket_key_enabled = var.kms_key != ""
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key != "" ? "aws:kms" : "AES256"
      kms_master_key_id = var.kms_key != "" ? var.kms_key : null
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = templatefile("${local.policies}/bucket.json", local.names)
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    id     = "old-checkpoints"
    status = "Enabled"
    filter {
      prefix = "stocktake/checkpoints/"
    }
    expiration {
      days = var.checkpoint_days
    }
  }
  rule {
    id     = "broken-uploads"
    status = "Enabled"
    filter {
      prefix = ""
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_iam_role" "job" {
  name               = "${var.name}-job-${local.region}"
  description        = "Stocktake: what training jobs, endpoints and batch jobs may do"
  assume_role_policy = templatefile("${local.policies}/job_trust.json", local.names)
  tags               = local.tags
}

resource "aws_iam_role_policy" "job" {
  name   = "job"
  role   = aws_iam_role.job.id
  policy = local.job_policy
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.name}-scheduler-${local.region}"
  description        = "Stocktake: with which EventBridge ends endpoints"
  assume_role_policy = templatefile("${local.policies}/scheduler_trust.json", local.names)
  tags               = local.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "scheduler"
  role   = aws_iam_role.scheduler.id
  policy = templatefile("${local.policies}/scheduler.json", local.names)
}

resource "aws_iam_policy" "person" {
  name        = "${var.name}-person-${local.region}"
  description = "Stocktake: who sends jobs and deploys; attach it to people"
  policy      = local.person_policy
  tags        = local.tags
}

resource "aws_ecr_repository" "this" {
  for_each = toset([var.name, "${var.name}-serving", "${var.name}-monitoring"])
  name     = each.key
  tags     = local.tags
  encryption_configuration {
    encryption_type = "AES256"
  }
  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_budgets_budget" "this" {
  count        = var.budget_usd > 0 ? 1 : 0
  name         = "${var.name}-${local.region}"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = var.budget_usd
  limit_unit   = "USD"
  tags         = local.tags
  dynamic "notification" {
    for_each = [["ACTUAL", 50], ["ACTUAL", 80], ["ACTUAL", 100], ["FORECASTED", 100]]
    content {
      notification_type          = notification.value[0]
      threshold                  = notification.value[1]
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = [var.budget_email]
    }
  }
}
