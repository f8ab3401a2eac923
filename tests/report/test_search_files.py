"""What a search leaves: its files, the table at 80 columns, honest last words, and the summary."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console
from searches import LR_DROPOUT, make_search, make_ugly_space

from stocktake.config import composed
from stocktake.metrics.estimate import Estimate
from stocktake.report.search_files import finish_search, trials_table
from stocktake.tuning.search_results import read_trials

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def conf(tmp_path) -> Path:
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf")
    return tmp_path / "conf"


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "sweep=lr_dropout", "experiment=demo"])


def with_run_folders(result, folder: Path):
    """Returns the search with folders of its trials as train.py leaves them, as far as a search looks into them."""
    trials = [replace(trial, folder=str(folder / str(trial.number))) for trial in result.trials]
    best = Path(replace(result, trials=trials).ranked[0].folder)
    (best / "checkpoints").mkdir(parents=True)
    (best / "checkpoints/best.ckpt").touch()
    (best / "config.yaml").write_text("trainer:\n  max_epochs: 15\n")
    return replace(result, trials=trials)


def test_everything_is_there_and_says_the_same(tmp_path, conf, typed, capsys):
    result = with_run_folders(make_search(LR_DROPOUT), tmp_path / "sweep")
    summary = finish_search(result, tmp_path / "sweep", conf)
    best = result.ranked[0]
    assert summary == {
        "trials": 30,
        "complete": 24,
        "pruned": 2,
        "failed": 3,
        "best": {"trial": best.number, "score": best.score, "values": best.values, "folder": best.folder},
        "metric": "valid/accuracy",
        "report": str(tmp_path / "sweep/search.html"),
        "experiment": str(conf / "experiment/demo_lr_dropout_best.yaml"),
    }
    assert json.loads(json.dumps(summary)) == summary
    assert {"trials.parquet", "best.yaml", "search.html"} <= {path.name for path in (tmp_path / "sweep").iterdir()}
    assert read_trials((tmp_path / "sweep/trials.parquet").read_bytes()) == replace(result, trials=list(result.trials))
    assert (tmp_path / "sweep/best.yaml").read_text() == Path(summary["experiment"]).read_text()
    cfg = composed(str(conf), "train", ["experiment=demo_lr_dropout_best"])
    assert cfg.model.optimizer.lr == best.values["model.optimizer.lr"] and cfg.trainer.max_epochs == 2
    printed, page = capsys.readouterr().out, (tmp_path / "sweep/search.html").read_text()
    for line in (
        "python train.py -m sweep=lr_dropout experiment=demo",
        "python train.py experiment=demo_lr_dropout_best trainer.max_epochs=30",
        f"python scripts/evaluate.py checkpoint={best.folder}/checkpoints/best.ckpt",
        f"python scripts/evaluate.py checkpoint={best.folder}/checkpoints/best.ckpt split=valid",
    ):
        assert f"    {line}\n" in printed and f">{line}<" in page
    assert "It is optimistic" in printed and "were not asked" in printed
    assert "Failed: CUDA out of memory: tried to allocate 2.00 GiB (trial 17)" in printed


def test_a_test_figure_is_in_the_summary_and_in_the_last_words(tmp_path, conf, typed, capsys):
    result = make_search(LR_DROPOUT, test=Estimate(0.744, 0.71, 0.779))
    summary = finish_search(result, tmp_path / "sweep", conf)
    assert summary["test"] == {"value": 0.744, "low": 0.71, "high": 0.779}
    assert "On the test bins, which chose nothing, it is 74.4" in capsys.readouterr().out


def test_a_search_without_a_complete_trial_leaves_its_table_and_no_experiment(tmp_path, conf, typed, capsys):
    result = make_search(LR_DROPOUT)
    result = replace(result, trials=[trial for trial in result.trials if trial.state == "failed"])
    before = sorted((conf / "experiment").iterdir())
    summary = finish_search(result, tmp_path / "sweep", conf)
    assert (summary["best"], summary["experiment"], summary["failed"]) == (None, None, 3)
    assert sorted((conf / "experiment").iterdir()) == before
    printed = capsys.readouterr().out
    assert "the process ended with 137 (killed) (trials 7, 27)" in printed and "so there is no best one" in printed
    assert pyarrow.parquet.read_table(tmp_path / "sweep/trials.parquet").num_rows == 3


def test_anothers_experiment_is_left_alone_and_the_commands_do_without_it(tmp_path, conf, typed, capsys):
    taken = conf / "experiment/demo_lr_dropout_best.yaml"
    taken.write_text("# @package _global_\nname: demo_lr_dropout_best\n")
    summary = finish_search(make_search(LR_DROPOUT), tmp_path / "sweep", conf)
    assert taken.read_text() == "# @package _global_\nname: demo_lr_dropout_best\n"
    assert summary["experiment"] == str(tmp_path / "sweep/best.yaml")
    printed = capsys.readouterr().out
    assert f"{taken} is not of this search and was left alone" in printed
    assert "python train.py experiment=demo trainer.max_epochs=2 model.optimizer.lr=0.000" in printed
    taken.unlink()
    summary = finish_search(make_search(LR_DROPOUT), tmp_path / "sweep", conf)
    first = taken.read_text()
    finish_search(make_search(LR_DROPOUT, 40), tmp_path / "sweep", conf)  # the same search, gone on with
    assert summary["experiment"] == str(taken) and taken.read_text() != first


def test_a_folder_of_configuration_that_cannot_be_written_costs_nothing_else(tmp_path, typed, capsys):
    conf = tmp_path / "conf"
    shutil.copytree(REPOSITORY / "conf", conf)
    shutil.rmtree(conf / "experiment")
    (conf / "experiment").write_text("no folder")
    summary = finish_search(make_search(LR_DROPOUT), tmp_path / "sweep", conf)
    assert summary["experiment"] == str(tmp_path / "sweep/best.yaml")
    assert "could not be written, so the best experiment is" in capsys.readouterr().out


@pytest.mark.parametrize("space", [LR_DROPOUT, make_ugly_space()], ids=["usual", "ugly"])
@pytest.mark.parametrize("with_costs", [False, True])
def test_the_table_fits_80_columns(space, with_costs):
    result = make_search(space, 200)
    if with_costs:
        result = replace(result, trials=[replace(trial, cost_usd=123.456) for trial in result.trials])
    file = io.StringIO()
    Console(file=file, width=80).print(trials_table(result))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "\x1b" not in file.getvalue()
    assert "…" not in file.getvalue(), "nothing is cut"
    assert f"{result.ranked[0].number} " in "".join(lines[:6])
    assert "180 more trials are in trials.parquet." in file.getvalue()


def test_reasons_cannot_steer_the_terminal(tmp_path, conf, typed, capsys):
    result = make_search(LR_DROPOUT)
    trials = [
        replace(one, reason="[red]x[/]\x1b[2J\nline " + "y" * 999) if one.number == 7 else one for one in result.trials
    ]
    finish_search(replace(result, trials=trials), tmp_path / "sweep", conf)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and r"[red]x[/]\x1b[2J line y" in " ".join(printed.split())
    assert printed.count("y") < 300


def test_secrets_stay_out(tmp_path, conf, monkeypatch, capsys):
    secret = "+compute.environment.API_KEY=verysecret"
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "sweep=lr_dropout", secret])
    result = make_search(LR_DROPOUT, fixed=["experiment=demo", secret])
    finish_search(result, tmp_path / "sweep", conf)
    files = [*(tmp_path / "sweep").iterdir(), conf / "experiment/demo_lr_dropout_best.yaml"]
    assert "verysecret" not in capsys.readouterr().out
    assert [path.name for path in files if b"verysecret" in path.read_bytes()] == []


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = "('torch', 'optuna', 'sklearn', 'boto3', 'botocore', 'sagemaker', 'pandas', 'pytorch_lightning')"
    code = f"import sys, stocktake.report.search_files; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
