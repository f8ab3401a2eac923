"""Which credentials a run would find here, and where; without a request to anybody, and never shown."""

import netrc
import os

# Keys of a profile in the AWS configuration, in the order in which boto3 looks:
# https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
PROFILE_KEYS = {
    "role_arn": "a role to assume",
    "web_identity_token_file": "a web identity",
    "sso_session": "single sign-on",
    "sso_start_url": "single sign-on",
    "aws_access_key_id": "access keys",
    "login_session": "a console login",
    "credential_process": "a program that gives them",
}
VARIABLES = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "a web identity",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "the container's role",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "the container's role",
}


def wandb_key_source() -> str | None:
    """Returns where W&B would find a key without asking: a variable, or the file of an earlier `wandb login`."""
    return _wandb()[0]


def wandb_key() -> str | None:
    """Returns the key itself, for the one who hands it on."""
    return _wandb()[1]


def _wandb() -> tuple[str | None, str | None]:
    if key := os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY", key
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        login = netrc.netrc(path).authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        return None, None
    return (path, login[2]) if login and login[2] else (None, None)


def aws_source() -> str | None:
    """Returns by which method boto3 would find AWS credentials; an EC2 instance's role cannot be seen from here.

    Raises:
        ValueError: `AWS_PROFILE` names a profile that does not exist.
    """
    import botocore.session
    from botocore.exceptions import BotoCoreError

    if os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return "access keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    session = botocore.session.Session()
    try:
        profile = session.get_scoped_config()
    except BotoCoreError as error:  # no such profile, or a file that cannot be parsed
        raise ValueError(str(error)) from error
    ways = [f"{way} in profile {session.profile or 'default'}" for key, way in PROFILE_KEYS.items() if key in profile]
    ways += [f"{way} in {name}" for name, way in VARIABLES.items() if os.environ.get(name)]
    return ways[0] if ways else None
