# What is stored. The table is that of flux_aws.dynamodb_table.DESCRIPTION; a test compares the two.

resource "aws_dynamodb_table" "state" {
  name                        = "${var.name}-state"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "PK"
  range_key                   = "SK"
  deletion_protection_enabled = var.deletion_protection
  tags                        = local.tags

  dynamic "attribute" {
    for_each = { PK = "S", SK = "S", LP = "S", LS = "S", DP = "S", due = "N" }
    content {
      name = attribute.key
      type = attribute.value
    }
  }
  global_secondary_index {
    name               = "GSI1"
    hash_key           = "LP"
    range_key          = "LS"
    projection_type    = "INCLUDE"
    non_key_attributes = ["st", "w", "c", "u", "ep", "seq", "due"]
  }
  global_secondary_index {
    name            = "GSI2"
    hash_key        = "DP"
    range_key       = "due"
    projection_type = "KEYS_ONLY"
  }
  point_in_time_recovery {
    enabled                 = true
    recovery_period_in_days = 35
  }
  ttl {
    attribute_name = "expires_at" # only tombstones of deleted instances have it
    enabled        = true
  }
  dynamic "server_side_encryption" {
    for_each = local.has_key ? [var.kms_key_arn] : []
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}

resource "aws_s3_bucket" "payloads" {
  bucket_prefix = "${var.name}-payloads-"
  force_destroy = !var.deletion_protection
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "payloads" {
  bucket                  = aws_s3_bucket.payloads.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "payloads" {
  bucket = aws_s3_bucket.payloads.id
  rule { object_ownership = "BucketOwnerEnforced" }
}

resource "aws_s3_bucket_versioning" "payloads" {
  bucket = aws_s3_bucket.payloads.id
  versioning_configuration { status = "Enabled" }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "payloads" {
  bucket = aws_s3_bucket.payloads.id
  rule {
    bucket_key_enabled = local.has_key
    apply_server_side_encryption_by_default {
      sse_algorithm     = local.has_key ? "aws:kms" : "AES256"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# A payload belongs to its instance and goes with it: no rule may touch a current version.
resource "aws_s3_bucket_lifecycle_configuration" "payloads" {
  bucket     = aws_s3_bucket.payloads.id
  depends_on = [aws_s3_bucket_versioning.payloads]
  rule {
    id     = "drop-what-was-deleted"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration { noncurrent_days = 30 }
    abort_incomplete_multipart_upload { days_after_initiation = 1 }
  }
}

resource "aws_s3_bucket_policy" "payloads" {
  bucket = aws_s3_bucket.payloads.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyPlainHttp"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.payloads.arn, "${aws_s3_bucket.payloads.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

# The keys of callback links; the first one signs, all are accepted (README, Rotation). They are in no plan and no state.
resource "aws_secretsmanager_secret" "callbacks" {
  name_prefix = "${var.name}-callbacks-"
  kms_key_id  = var.kms_key_arn
  tags        = local.tags
}

resource "aws_secretsmanager_secret_version" "callbacks" {
  count                    = var.callback_keys_version > 0 ? 1 : 0
  secret_id                = aws_secretsmanager_secret.callbacks.id
  secret_string_wo         = var.callback_keys
  secret_string_wo_version = var.callback_keys_version

  # Rotations move AWSCURRENT on. A version without any label is deleted by AWS, and would be put again, over the
  # rotated keys: the label of its own keeps it.
  version_stages = ["AWSCURRENT", "terraform"]
  lifecycle { ignore_changes = [version_stages] }
}
