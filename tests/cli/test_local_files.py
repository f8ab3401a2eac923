"""Files and folders that are not there: told before torch is imported, and with what is there instead."""

import pathlib

import pytest
from hydra import compose, initialize_config_dir

from stocktake.cli.local_files import missing_files

CONF = pathlib.Path(__file__).parents[2] / "conf"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """A working directory with a dataset, a run and an exported model, of which only the names are real."""
    for name in ("data/abid/manifest.parquet", "run/checkpoints/best.ckpt", "run/model/model.json", "w.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def missing(name: str, *words: str, **swept) -> list[str]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [*missing_files(compose(name, list(words), return_hydra_config=True), swept)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", ["experiment=resnet50", "data.root=data/abid", "model.weights=w.safetensors"]),
        ("train", ["experiment=resnet50", "data.root=s3://bins/abid", "model.weights=s3://bins/w.safetensors"]),
        ("train", ["experiment=resnet50_finetune", "data.root=data/abid", "checkpoint=run"]),
        ("train", ["experiment=demo"]),
        ("train", ["experiment=demo", "data.root=new", "data.draw=true"]),
        ("evaluate", ["checkpoint=run", "root=data/abid"]),
        ("evaluate", ["checkpoint=run/checkpoints/best.ckpt"]),
        ("export", ["checkpoint=run/checkpoints/", "metrics=null"]),
        ("ensemble", ["checkpoints=[run,s3://bins/run]"]),
        ("predict", ["images=[x.jpg]", "exported=run/model"]),
        ("prepare", ["source=data", "root=new"]),
    ],
)
def test_what_is_there_or_is_made_is_no_problem(name, words):
    assert missing(name, *words) == []


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        (
            "train",
            ["data.root=data/abdi", "experiment=resnet50"],
            "no dataset in data.root=data/abdi: in {}/data there is",
        ),
        ("train", ["data.root=run", "experiment=resnet50"], "data.root=run: {}/run holds no manifest.parquet."),
        ("train", ["data.root=nope", "experiment=resnet50"], "source=s3://aft-vbi-pds root=nope"),
        ("train", ["data.root=nope", "experiment=demo"], "to draw 2,000 bins into it, add data.draw=true"),
        ("train", ["data.root=nope", "+data.draw=false"], "no dataset in data.root=nope"),
        (
            "train",
            ["model.weights=v.safetensors"],
            "model.weights=v.safetensors does not exist: in {} there is w.safet",
        ),
        ("train", ["+checkpoint=rum"], "checkpoint=rum does not exist: in {} there is run/"),
        ("tune", ["data.root=nope", "find=lr"], "no dataset in data.root=nope"),
        ("evaluate", ["checkpoint=data"], "checkpoint=data holds no checkpoints/best.ckpt. Type the path of a run's"),
        ("evaluate", ["checkpoint=run", "root=my data"], """no dataset in 'root="my data"'"""),
        ("export", ["checkpoint=run", "metrics=m.json"], "metrics=m.json does not exist"),
        ("ensemble", ["checkpoints=[run,ran]"], "checkpoints=ran does not exist: in {} there is run/"),
        ("predict", ["images=[x]", "exported=run"], "exported=run holds no model.json. Type the folder that"),
        (
            "predict",
            ["images=[x]", "exported=file://{}/nope"],
            "exported=file://{}/nope does not exist: in {} there is",
        ),
    ],
)
def test_what_is_not_there_is_told(folder, name, words, told):
    (line,) = missing(name, *(word.replace("{}", str(folder)) for word in words))
    assert told.replace("{}", str(folder)) in line


def test_each_folder_of_a_sweep_is_looked_for():
    swept = {"data.root": ["data/abid", "nope", "s3://bins/abid", "nowhere"]}
    lines = missing("train", "experiment=resnet50", "data.root=data/abid", **swept)
    assert [line.split()[5].rstrip(":") for line in lines] == ["data.root=nope", "data.root=nowhere"]


def test_a_finished_run_needs_its_bins_no_more(folder):
    words = ("experiment=resnet50_spot", "data.root=gone")
    assert len(missing("train", *words)) == 1
    run_dir = folder / "runs/resnet50_spot/default"
    run_dir.mkdir(parents=True)
    (run_dir / "metrics.json").touch()
    assert missing("train", *words) == []
