"""What a search leaves: trials.parquet, search.html, its best trial as an experiment, a table, what to type next."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stocktake.cloud.secrets import masked_override, typed_command
from stocktake.console import printable
from stocktake.report.search import NUM_BEST, render_search
from stocktake.report.search_text import (
    count_states,
    describe_edges,
    describe_optimism,
    describe_search,
    reasons_of,
    short_keys,
    show_duration,
    show_score,
    show_value,
)
from stocktake.report.validations import read_test_figure, read_validations
from stocktake.run_folder import BEST_KEY, CONFIG_NAME
from stocktake.s3 import StorageError
from stocktake.shell import command
from stocktake.storage import Folder, join_url
from stocktake.tuning.best_experiment import BestExperiment, best_experiment
from stocktake.tuning.importance import measure_importance
from stocktake.tuning.search_results import trials_file
from stocktake.tuning.trials import SearchResult, Trial

TRIALS_NAME, EXPERIMENT_NAME, PAGE_NAME = "trials.parquet", "best.yaml", "search.html"
NUM_SHOWN = 20  # trials in the terminal, where there are more
EPOCHS = "trainer.max_epochs"


def finish_search(result: SearchResult, folder: Path, config_folder: Path) -> dict[str, Any]:
    """Writes a search's files, prints its table and what to type next; returns what the last line of JSON is to say.

    Args:
        result: As far as it got: also of a search that was ended, or whose trials all failed. Where it has no test
            figure, that of an evaluation in the best trial's folder is taken.
        folder: Of the search; its files of before are replaced.
        config_folder: `conf`, in whose folder `experiment` the best trial becomes one, too, unless another's is there.

    Raises:
        StorageError: The folder could not be written.
    """
    date = datetime.now(UTC).date().isoformat()
    files, notes, kept, experiment = {}, [], None, None
    if (best := result.best) is not None:
        experiment = best_experiment(result, best, folder, config_folder, date)
        files[EXPERIMENT_NAME] = experiment.content.encode()
        kept, notes = _keep(experiment, folder, config_folder)
    result = replace(result, fixed=[*map(masked_override, result.fixed)])
    if result.test is None:
        figure, missed = read_test_figure(result)
        result, notes = replace(result, test=figure), [*notes, *missed]
    files[TRIALS_NAME] = trials_file(result)
    validations = read_validations(result, result.ranked[:NUM_BEST])
    commands = _next_commands(result, experiment if kept else None, has_interval=bool(validations.intervals))
    page = render_search(
        result, measure_importance(result), validations, commands, typed_command(sys.argv), date, notes
    )
    Folder(str(folder)).write_together(files | {PAGE_NAME: page.encode()})
    Console().print(trials_table(result))
    lines = [*describe_search(result, validations.stability), describe_optimism(result), *describe_edges(result)]
    for line in filter(None, [*lines, *validations.notes, *notes]):
        print(line)
    for what, line in commands:
        print(f"{what}:\n    {line}")
    print(f"Open {folder / PAGE_NAME}")
    summary = {
        "trials": len(result.trials),
        **{state: len(result.of_state(state)) for state in ("complete", "pruned", "failed")},
        "best": best
        and {"trial": best.number, "score": best.score, "values": dict(best.values), "folder": best.folder},
        "metric": result.metric,
        "report": str(folder / PAGE_NAME),
        "experiment": str(kept or folder / EXPERIMENT_NAME) if experiment else None,
    }
    return summary if result.test is None else summary | {"test": result.test.to_json()}


def trials_table(result: SearchResult) -> Table:
    """Returns a rich table that fits 80 columns however many parameters there are: the best trials first."""
    metric, short = result.definition, short_keys(result.space.keys)
    others = [trial for trial in result.trials if trial not in result.ranked]
    shown = [*result.ranked, *others]
    if len(shown) > NUM_SHOWN:
        shown = [*result.ranked[:NUM_BEST], *others[: NUM_SHOWN - NUM_BEST]]
    title = f"{result.name}: {result.metric}, {metric.better} is better ({count_states(result)})"
    drawn = Table(title=escape(title), title_justify="left", caption_justify="left", min_width=min(len(title), 79))
    for name in ("trial", "state", "score", "time"):
        drawn.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    has_costs = any(trial.cost_usd is not None for trial in result.trials)
    if has_costs:
        drawn.add_column("USD", justify="right", no_wrap=True)
    drawn.add_column("values", overflow="fold")
    for trial in shown:
        values = " ".join(f"{short[key]}={show_value(value)}" for key, value in trial.values.items())
        lasted = "" if trial.duration_s is None else show_duration(trial.duration_s)
        cost = [] if not has_costs else ["" if trial.cost_usd is None else f"{trial.cost_usd:.2f}"]
        score = "" if trial.score is None else show_score(trial.score, metric)
        cells = [str(trial.number), trial.state, score, lasted, *cost, escape(printable(values))]
        drawn.add_row(*cells, style="bold" if trial is result.best else "")
    captions = [
        f"Failed: {reason} (trial{'s' if numbers[1:] else ''} {', '.join(map(str, numbers))})"
        for reason, numbers in reasons_of(result.of_state("failed")).items()
    ]
    if len(shown) < len(result.trials):
        captions.append(f"{len(result.trials) - len(shown)} more trials are in {TRIALS_NAME}.")
    drawn.caption = escape("\n".join(captions)) or None
    return drawn


def _keep(experiment: BestExperiment, folder: Path, config_folder: Path) -> tuple[Path | None, list[str]]:
    """Writes the experiment where it can be chosen by its name; returns its file, or None and why not."""
    target = config_folder / "experiment" / f"{experiment.name}.yaml"
    here = folder / EXPERIMENT_NAME
    try:
        if not experiment.may_replace(target):
            return None, [
                f"{target} is not of this search and was left alone: this one's best experiment is {here}. To choose "
                f"it by a name, copy it to {target.parent} under another."
            ]
        Folder(str(target.parent)).write(target.name, experiment.content.encode())
    except (StorageError, OSError) as error:
        return None, [f"{target} could not be written, so the best experiment is {here} alone: {error}"]
    return target, []


def _next_commands(
    result: SearchResult, experiment: BestExperiment | None, has_interval: bool
) -> list[tuple[str, str]]:
    """Returns lines to type, each with what it does."""
    commands, best = [], result.best
    if len(result.trials) - len(result.of_state("running")) < result.num_trials:
        commands.append(("Go on with the trials that are missing", typed_command(sys.argv)))
    if best is None:
        return commands
    train = [*result.fixed, *result.space.overrides(best.values)]
    if experiment is not None:
        train = [f"experiment={experiment.name}", *experiment.left_out]
    what = "Train with its values"
    if (num_epochs := _num_epochs(best)) and EPOCHS not in best.values:
        train = [one for one in train if not one.startswith(f"{EPOCHS}=")]
        train.append(f"{EPOCHS}={2 * num_epochs}")
        what = "Train the best twice as long"
    commands.append((what, typed_command(["train.py", *train])))
    checkpoint = join_url(best.folder, BEST_KEY)
    if best.folder and Path(checkpoint).is_file():
        evaluate = {"checkpoint": checkpoint}
        if result.test is None:
            commands.append(("Measure it on the test bins", command("scripts/evaluate.py", evaluate)))
        if not has_interval:
            line = command("scripts/evaluate.py", evaluate | {"split": "valid"})
            commands.append(("Evaluate it on the validation bins, and type the search again, for an interval", line))
    return commands


def _num_epochs(trial: Trial) -> int | None:
    """Returns how long a trial was meant to train, from the configuration in its folder, if it is there."""
    path = Path(trial.folder, CONFIG_NAME)
    if not trial.folder or not path.is_file():
        return None
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    num_epochs = (config.get("trainer") or {}).get("max_epochs") if isinstance(config, dict) else None
    return num_epochs if type(num_epochs) is int and num_epochs > 0 else None
