"""What is taken for a secret, and what is not."""

import pytest

from stocktake.cloud.secrets import looks_secret, masked, masked_override, typed_command


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "x"),
        ("MY_API_KEY", "x"),
        ("OPENAI_APIKEY", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SESSION_TOKEN", "x"),
        ("client_secret", "x"),
        ("DB_PASSWORD", "x"),
        ("GITHUB_PAT", "x"),
        ("compute.environment.HF_TOKEN", "x"),
        ("NOTE", "AKIA0123456789ABCDEF"),
        ("NOTE", "0123456789abcdef0123456789abcdef01234567"),
        ("NOTE", "ghp_0123456789abcdef0123456789abcdef0123"),
        ("NOTE", "hf_0123456789abcdefghijABCDEFGHIJ"),
        ("URL", "postgres://me:hunter2@db.example.com/x"),
        ("NOTE", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_a_secret_is_seen_by_its_name_or_its_value(name, value):
    assert looks_secret(name, value)
    assert masked({name: value}) == {name: "***"}
    assert masked_override(f"{name}={value}") == f"{name}=***"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("WANDB_SECRET_ID", "stocktake/wandb"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("STOCKTAKE_COMMIT", "0123456789abcdef0123456789abcdef01234567"),
        ("MONKEYS", "3"),
        ("COMPASS", "x"),
        ("NUM_TOKENS_SEEN", "5"),
        ("URL", "https://example.com/a?b=c"),
        ("WANDB_RUN_ID", "resnet50-spot-1128-0930"),
    ],
)
def test_what_is_none_stays_readable(name, value):
    assert not looks_secret(name, value)
    assert masked({name: value}) == {name: value}
    assert masked_override(f"{name}={value}") == f"{name}={value}"


def test_what_was_typed_can_be_typed_again_but_for_the_secrets():
    typed = typed_command(["scripts/promote.py", "challenger=my runs/b", "+environment.HF_TOKEN=hf_abc"])
    assert typed == "python scripts/promote.py 'challenger=my runs/b' '+environment.HF_TOKEN=***'"
