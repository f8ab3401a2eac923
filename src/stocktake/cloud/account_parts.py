"""The parts of an account before the first job: bucket, roles, image repositories, secret, budget; nothing asks AWS."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stocktake.cloud.account import Account
from stocktake.cloud.account_part import Ask, Part, Setting
from stocktake.cloud.deployment import Call
from stocktake.cloud.endpoint_requests import tag_list

SECRET_VALUE = "***"  # noqa: S105  (what stands in a plan for the value of a secret)
ALARMS_PERCENT = {"ACTUAL": (50, 80, 100), "FORECASTED": (100,)}  # of the budget, at which a mail is sent
NO_BUDGETS = "aws-us-gov"  # AWS Budgets is with the standard account that pays for one of GovCloud
DAYS_OF_UNTAGGED_IMAGES = 14
DAYS_OF_BROKEN_UPLOADS = 7


def parts(account: Account, has_secret: bool, has_budget: bool) -> list[Part]:
    """Returns all parts, in the order in which they are made.

    Args:
        has_secret: A secret for the W&B key, whose value stands as SECRET_VALUE in the call that makes it.
        has_budget: A budget with alarms; not every partition has them.
    """
    found = [_bucket(account), *_roles(account), *(_repository(account, name) for name in account.repositories)]
    found += [secret(account)] if has_secret else []
    return found + ([budget(account)] if has_budget else [])


def _bucket(account: Account) -> Part:
    name = account.bucket
    where = {"Bucket": name}
    location = {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
    make = where if account.region == "us-east-1" else where | location
    return Part(
        "bucket",
        name,
        Call("s3", "HeadBucket", where),
        [Call("s3", "CreateBucket", make), Call("s3", "PutBucketTagging", where | {"Tagging": {"TagSet": _tags()}})],
        lambda ask: _by_key(ask("s3", "GetBucketTagging", **where)["TagSet"]),
        [*_bucket_settings(account, where)],
        "0.023 USD a GB and month",
        f"aws s3api put-bucket-tagging --bucket {name} --tagging 'TagSet=[{{Key=project,Value=stocktake}}]'",
    )


def _bucket_settings(account: Account, where: Mapping[str, str]) -> Iterator[Setting]:
    algorithm = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": account.kms_key} if account.kms_key else None
    rule = {"ApplyServerSideEncryptionByDefault": algorithm or {"SSEAlgorithm": "AES256"}}
    yield _of_bucket(
        where,
        "encrypted",
        "BucketEncryption",
        "ServerSideEncryptionConfiguration",
        {"Rules": [rule | ({"BucketKeyEnabled": True} if account.kms_key else {})]},
    )
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    field = "PublicAccessBlockConfiguration"
    yield _of_bucket(where, "private", "PublicAccessBlock", field, dict.fromkeys(blocks, True))
    ownership = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    yield _of_bucket(where, "without ACLs", "BucketOwnershipControls", "OwnershipControls", ownership)
    policy = account.document("bucket")
    yield Setting(
        "TLS only",
        lambda ask: json.loads(ask("s3", "GetBucketPolicy", **where)["Policy"]),
        policy,
        [Call("s3", "PutBucketPolicy", {**where, "Policy": json.dumps(policy)})],
        is_exact=True,
    )
    rules = [
        {
            "ID": "old-checkpoints",
            "Filter": {"Prefix": "stocktake/checkpoints/"},
            "Status": "Enabled",
            "Expiration": {"Days": account.checkpoint_days},
        },
        {
            "ID": "broken-uploads",
            "Filter": {"Prefix": ""},
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": DAYS_OF_BROKEN_UPLOADS},
        },
    ]
    yield Setting(
        f"checkpoints go after {account.checkpoint_days} days",
        lambda ask: ask("s3", "GetBucketLifecycleConfiguration", **where)["Rules"],
        rules,
        [Call("s3", "PutBucketLifecycleConfiguration", {**where, "LifecycleConfiguration": {"Rules": rules}})],
    )


def _of_bucket(where: Mapping[str, str], title: str, operation: str, field: str, wanted: Any) -> Setting:
    """Returns a setting that S3 gives and takes under one name."""
    write = Call("s3", f"Put{operation}", {**where, field: wanted})
    return Setting(title, lambda ask: ask("s3", f"Get{operation}", **where)[field], wanted, [write])


def _roles(account: Account) -> Iterator[Part]:
    yield _role(account, account.job_role, "job", "what training jobs, endpoints and batch jobs may do")
    yield _role(account, account.scheduler_role, "scheduler", "with which EventBridge ends endpoints")


def _role(account: Account, name: str, whom: str, description: str) -> Part:
    where, policy = {"RoleName": name}, account.policy(whom)
    trust = account.document(f"{whom}_trust")
    document = {**where, "PolicyName": whom}
    make = {**where, "AssumeRolePolicyDocument": json.dumps(trust), "Description": f"Stocktake: {description}"}
    return Part(
        "role",
        name,
        Call("iam", "GetRole", where),
        [Call("iam", "CreateRole", make | {"Tags": _tags()})],
        lambda ask: _by_key(ask("iam", "GetRole", **where)["Role"].get("Tags", [])),
        [
            Setting(
                "trusted by its service alone",
                lambda ask: ask("iam", "GetRole", **where)["Role"]["AssumeRolePolicyDocument"],
                trust,
                [Call("iam", "UpdateAssumeRolePolicy", {**where, "PolicyDocument": json.dumps(trust)})],
                is_made=True,
                is_exact=True,
            ),
            Setting(
                description,
                lambda ask: ask("iam", "GetRolePolicy", **document)["PolicyDocument"],
                policy,
                [Call("iam", "PutRolePolicy", {**document, "PolicyDocument": json.dumps(policy)})],
                is_exact=True,
            ),
        ],
        how_to_tag=f"aws iam tag-role --role-name {name} --tags Key=project,Value=stocktake",
    )


def _repository(account: Account, name: str) -> Part:
    where, arn = {"repositoryName": name}, f"arn:{account.partition}:ecr:{account.region}:{account.account}"
    scan = {"scanOnPush": True}
    rule = {
        "rulePriority": 1,
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": DAYS_OF_UNTAGGED_IMAGES,
        },
        "action": {"type": "expire"},
    }
    policy = {"rules": [rule]}
    make = {**where, "imageScanningConfiguration": scan, "encryptionConfiguration": {"encryptionType": "AES256"}}
    return Part(
        "image repository",
        name,
        Call("ecr", "DescribeRepositories", {"repositoryNames": [name]}),
        [Call("ecr", "CreateRepository", make | {"tags": _tags()})],
        lambda ask: _by_key(ask("ecr", "ListTagsForResource", resourceArn=f"{arn}:repository/{name}")["tags"]),
        [
            Setting(
                "scanned",
                lambda ask: ask("ecr", "DescribeRepositories", repositoryNames=[name])["repositories"][0][
                    "imageScanningConfiguration"
                ],
                scan,
                [Call("ecr", "PutImageScanningConfiguration", {**where, "imageScanningConfiguration": scan})],
                is_made=True,
            ),
            Setting(
                f"images without a tag go after {DAYS_OF_UNTAGGED_IMAGES} days",
                lambda ask: json.loads(ask("ecr", "GetLifecyclePolicy", **where)["lifecyclePolicyText"]),
                policy,
                [Call("ecr", "PutLifecyclePolicy", {**where, "lifecyclePolicyText": json.dumps(policy)})],
            ),
        ],
        "0.10 USD a GB and month",
        f"aws ecr tag-resource --resource-arn {arn}:repository/{name} --tags Key=project,Value=stocktake",
    )


def secret(account: Account) -> Part:
    name = account.secret
    make = {"Name": name, "SecretString": SECRET_VALUE, "Tags": _tags(), "Description": "Stocktake: key of W&B"}
    return Part(
        "secret",
        name,
        Call("secretsmanager", "DescribeSecret", {"SecretId": name}),
        [Call("secretsmanager", "CreateSecret", make)],
        lambda ask: _by_key(ask("secretsmanager", "DescribeSecret", SecretId=name).get("Tags", [])),
        price="0.40 USD a month",
        how_to_tag=f"aws secretsmanager tag-resource --secret-id {name} --tags Key=project,Value=stocktake",
    )


def budget(account: Account) -> Part:
    where = {"AccountId": account.account, "BudgetName": account.budget}
    wanted = {"BudgetName": account.budget, "BudgetType": "COST", "TimeUnit": "MONTHLY"}
    wanted |= {"BudgetLimit": {"Amount": str(float(account.budget_usd or 0)), "Unit": "USD"}}  # as AWS gives it back
    mail = {"SubscriptionType": "EMAIL", "Address": account.budget_email or ""}
    alarms = [
        {
            "Notification": {
                "NotificationType": kind,
                "ComparisonOperator": "GREATER_THAN",
                "Threshold": float(percent),
                "ThresholdType": "PERCENTAGE",
            },
            "Subscribers": [mail],
        }
        for kind, percents in ALARMS_PERCENT.items()
        for percent in percents
    ]

    def read(ask: Ask) -> dict[str, Any]:
        found = ask("budgets", "DescribeNotificationsForBudget", **where).get("Notifications", [])
        notifications = [{key: each[key] for key in alarms[0]["Notification"]} for each in found]
        heard = [
            ask("budgets", "DescribeSubscribersForNotification", **where, Notification=each) for each in notifications
        ]
        mailed = [
            {"Notification": each, "Subscribers": who["Subscribers"]}
            for each, who in zip(notifications, heard, strict=True)
        ]
        return {"Budget": ask("budgets", "DescribeBudget", **where)["Budget"], "Alarms": _sorted(mailed)}

    make = {"AccountId": account.account, "Budget": wanted, "NotificationsWithSubscribers": alarms}
    create = Call("budgets", "CreateBudget", make | {"ResourceTags": _tags()})
    title = f"mail to {account.budget_email} as the account's {account.budget_usd} USD a month are reached"
    again = [Call("budgets", "DeleteBudget", where), create]
    alarmed = Setting(title, read, {"Budget": wanted, "Alarms": _sorted(alarms)}, again, is_made=True)
    look = Call("budgets", "DescribeBudget", where)
    return Part("budget", account.budget, look, [create], settings=[alarmed] if account.budget_email else [])


def _sorted(alarms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        alarms, key=lambda alarm: (alarm["Notification"]["NotificationType"], alarm["Notification"]["Threshold"])
    )


def _tags() -> list[dict[str, str]]:
    return tag_list(None)


def _by_key(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
