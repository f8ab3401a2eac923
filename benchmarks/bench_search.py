"""How many trials a search needs for what random search finds in thirty, on made-up trainings of known optimum.

    python benchmarks/bench_search.py [--seeds=20] [--sampler=tpe] [--pruner=median]

A training is a curve: it nears its final accuracy, which is best at one point of the space, as validations come. Each
seed counts the trials, pruned ones too, until the search is as good as the best of random search's thirty.
"""

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path

import optuna

from stocktake.tuning.search import Outcome, Search
from stocktake.tuning.search_space import SearchSpace
from stocktake.tuning.study import SearchStudy

SPACE = SearchSpace.of(
    {
        "lr": {"range": [1e-5, 1e-1], "log": True},
        "weight_decay": {"range": [1e-5, 1.0], "log": True},
        "drop_rate": {"range": [0.0, 0.7]},
    }
)
BEST = {"lr": 2e-3, "weight_decay": 2e-2, "drop_rate": 0.25}  # where the accuracy would be 0.9
NUM_VALIDATIONS = 8
NUM_RANDOM = 30
MOST_TRIALS = 60
OTHER_SEEDS = 1000


def final_accuracy(values: dict) -> float:
    """Returns what a training ends with: a bowl, as wide as learning rates and weight decays have them."""
    misses = (
        math.log10(values["lr"] / BEST["lr"]) / 1.2,
        math.log10(values["weight_decay"] / BEST["weight_decay"]) / 3,
        (values["drop_rate"] - BEST["drop_rate"]) / 0.6,
    )
    return 0.9 * math.exp(-sum(miss**2 for miss in misses))


def search(sampler: str, pruner: str, seed: int, num_trials: int, until: float = math.inf) -> tuple[float, int, int]:
    """Returns the best accuracy, the trials and the validations that a search took, ended where it got to `until`."""
    wanted = Search(
        "made up", "valid/accuracy", SPACE, sampler=sampler, pruner=pruner, seed=seed, num_trials=num_trials
    )
    study, best, num_validations = SearchStudy(wanted, Path("none"), journal=None), 0.0, 0
    for number in range(num_trials):
        trial = study.ask()
        accuracy, is_pruned = final_accuracy(trial.values), False
        for validation in range(1, NUM_VALIDATIONS + 1):
            num_validations += 1
            reached = accuracy * (1 - math.exp(-validation / 2))
            if validation < NUM_VALIDATIONS and study.report(number, validation, reached):
                is_pruned = True
                break
        if is_pruned:
            study.tell(number, Outcome("pruned", ""))
            continue
        study.tell(number, Outcome("complete", "", accuracy))
        best = max(best, accuracy)
        if best >= until:
            return best, number + 1, num_validations
    return best, num_trials, num_validations


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="median")
    options = parser.parse_args()

    started_s, trials, validations = time.monotonic(), [], []
    print(
        f"{'seed':>4}  {'random, best of 30':>18}  {options.sampler + ', ' + options.pruner:>14}  {'validations':>11}"
    )
    for seed in range(options.seeds):
        # Of another seed: the first trials of TPE are random ones, too, and would be the same.
        target, _, num_random_validations = search("random", "none", seed + OTHER_SEEDS, NUM_RANDOM)
        best, num_trials, num_validations = search(options.sampler, options.pruner, seed, MOST_TRIALS, until=target)
        trials.append(num_trials)
        validations.append(num_validations)
        shown = f"{num_trials} trials" if best >= target else f"not in {num_trials}"
        print(f"{seed:>4}  {target:>18.4f}  {shown:>14}  {num_validations:>4} of {num_random_validations}", flush=True)
    summary = {
        "sampler": options.sampler,
        "pruner": options.pruner,
        "seeds": options.seeds,
        "median_trials": statistics.median(trials),
        "most_trials": max(trials),
        "random_trials": NUM_RANDOM,
        "median_validations": statistics.median(validations),
        "random_validations": NUM_RANDOM * NUM_VALIDATIONS,
        "optuna": optuna.__version__,
        "machine": platform.machine(),
        "duration_s": round(time.monotonic() - started_s, 1),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
