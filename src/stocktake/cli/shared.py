"""Rules of keys that several commands have."""

from stocktake.cli.rules import Rule, above, choice, list_of, map_of, number, switch, text, whole

AUTO_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
PRECISIONS = (
    *("auto", "32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true"),
    *("transformer-engine", "transformer-engine-float16", "32", "16", "64", "bf16", 32, 16, 64, None),
)
ACCELERATOR, PRECISION = choice(*AUTO_ACCELERATORS), choice(*PRECISIONS)
CHECKPOINT = "runs/demo/latest/checkpoints/best.ckpt"
NUM_WORKERS = whole(0, words=[None], example=2)
LIMIT = whole(1, words=[None], example=100)
COUNTS = list_of(whole(0), [1, 2, 3, 4, 5], least=2)


def under(prefix: str, rules: dict[str, Rule]) -> dict[str, Rule]:
    """Returns the rules with their keys below `prefix`."""
    return {f"{prefix}.{key}": rule for key, rule in rules.items()}


STORAGE = under(
    "storage",
    {
        "anonymous": switch(None),
        "endpoint": text("http://127.0.0.1:9000", None),
        "profile": text("default", None),
        "region": text("us-east-1", None),
        "requester_pays": switch(example=False),
        "max_retries": whole(0, example=8),
        "retry_timeout_s": above(0, example=60),
        "request_timeout_s": above(0, example=30),
    },
)

SPLIT = under(
    "split",
    {
        "rule": choice("grouped", "random", "none"),
        "block": whole(1, example=30),
        "fractions": map_of(number(0, 1, example=0.7), {"train": 0.7, "valid": 0.15, "test": 0.15}),
        "seed": whole(0, 2**32 - 1),
    },
)
