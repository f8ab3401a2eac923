"""Rules of the keys below `hydra.sweeper` that `hydra/sweeper=sagemaker` has beside those of every search."""

from stocktake.cli.rules import above, choice, list_of, number, switch, text, under, whole

TUNING = under(
    "hydra.sweeper",
    {
        "strategy": choice("bayesian", "random", "grid", "hyperband"),
        "early_stopping": switch(),
        "min_resource": whole(1, example=1),
        "max_resource": whole(1, 20_000, literals=[None], example=31),
        "target": number(None, literals=[None], example=0.9),
        "patience": whole(3, literals=[None], example=5),
        "converged": switch(),
        "warm_start": list_of(text("lr-dropout-1129-050000"), ["lr-dropout-1129-050000"], most=5),
        "other_data": switch(),
        "start_by": choice("auto", "toolkit", "image"),
        "job_name": text("lr-dropout-1129-050000", None),
        "dry_run": switch(None),
        "poll_s": above(0, literals=[None], example=10),
    },
)
