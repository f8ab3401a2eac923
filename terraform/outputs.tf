output "STOCKTAKE_BUCKET" {
  value = aws_s3_bucket.this.id
}

output "STOCKTAKE_ROLE" {
  value = aws_iam_role.job.arn
}

output "scheduler_role_arn" {
  value = aws_iam_role.scheduler.arn
}

output "person_policy_arn" {
  description = "Attach it to who sends jobs and deploys."
  value       = aws_iam_policy.person.arn
}
