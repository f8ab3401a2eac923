"""Every experiment composes, and every `_target_` takes exactly the keys that stand beside it."""

import pathlib
import re
import shlex

import pytest
from omegaconf import OmegaConf

from stocktake.config import build, build_all
from stocktake.training.job_check import binding_errors

REPOSITORY = pathlib.Path(__file__).parents[1]
CONF = REPOSITORY / "conf"


def plain(cfg) -> dict:
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_binds(compose, name):
    cfg = plain(compose("train", f"experiment={name}"))
    assert cfg["name"] == name
    assert binding_errors(cfg) == []


@pytest.mark.parametrize("find", choices("find"))
def test_every_search_binds(compose, find):
    assert binding_errors(plain(compose("tune", "experiment=mobilenet_transfer", f"find={find}"))) == []


@pytest.mark.parametrize("experiment", ["demo", "mobilenet_transfer"])
@pytest.mark.parametrize("name", choices("sweep"))
def test_every_sweep_searches_keys_that_there_are(compose, name, experiment):
    """Each choice, each end of a range and each start composes, binds and follows the rules."""
    from stocktake.cli.check import problems
    from stocktake.cli.command_keys import COMMANDS
    from stocktake.tuning.search_space import SearchSpace

    sweeper = OmegaConf.to_container(OmegaConf.load(CONF / "sweep" / f"{name}.yaml"))["hydra"]["sweeper"]
    space = SearchSpace.of(sweeper["space"])
    points = [dict(point) for point in sweeper.get("start", [])]
    for index in range(5):
        point = {}
        for parameter in space.parameters:
            if space.active(parameter, point):
                ends = parameter.choices or (parameter.low, parameter.high)
                point[parameter.key] = ends[index % len(ends)]
        points.append(point)
    for point in points:
        space.check(point)
        words = [f"experiment={experiment}", f"sweep={name}", *space.overrides(point)]
        words += ["model.weights=none"] if experiment != "demo" else []
        cfg = compose("train", *words)
        assert binding_errors(plain(cfg)) == [] and problems(cfg, COMMANDS["train"]) == []


@pytest.mark.parametrize("turn", range(4))
def test_every_choice_binds(compose, turn):
    groups = ("data", "model", "head", "trainer", "callbacks", "logger", "storage", "scheduler")
    words = [f"{group}={names[turn % len(names)]}" for group in groups if (names := choices(group))]
    assert max(len(choices(group)) for group in groups) <= 4, "raise the number of turns"
    assert binding_errors(plain(compose("train", "experiment=resnet50", *words))) == []


@pytest.mark.parametrize("name", choices("."))
def test_every_entry_configuration_composes(compose, name):
    assert binding_errors(plain(compose(name))) == []


@pytest.mark.parametrize("name", choices("split_rule"))
def test_every_split_binds(compose, name):
    assert binding_errors(plain(compose("prepare", f"split_rule={name}"))) == []


def written_commands() -> list[tuple[str, ...]]:
    """Returns what documents, train.py and scripts/ tell a reader to type: the configuration's name, then its words."""
    documents = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    files = [*documents, REPOSITORY / "train.py", *sorted((REPOSITORY / "scripts").glob("*.py"))]
    commands = []
    for file in files:
        text = file.read_text().replace("\\\n", " ")
        for name, words in re.findall(
            r"^ *(?:`?python )(train|scripts/\w+)\.py +([^#`\n>]*=[^#`\n]*)", text, re.MULTILINE
        ):
            name = name.removeprefix("scripts/")
            if name in choices(".") and name != "rehearse":  # which hands its words on to train.py
                commands.append((name, *shlex.split(re.sub(r"<[^>]*>|\$\w+", "x", words).split(" > ")[0])))
    return commands


@pytest.mark.parametrize("command", written_commands(), ids=" ".join)
def test_every_written_command_composes(compose, command):
    name, *words = command
    sweep, words = "-m" in words, [word for word in words if "=" in word]
    words = [re.sub(r"(=[^\[{,]*),.*", r"\1", word) if sweep else word for word in words]
    assert compose(name, *words)


def test_commands_are_found_where_they_are_written():
    assert ("evaluate", "checkpoint=best.ckpt", "root=data/outside", "split=all") in written_commands()
    assert len(written_commands()) > 20


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("+model.drop_rat=0.1", "model: .*drop_rat"),
        ("+model.optimizer.learning_rate=0.1", "model.optimizer: .*learning_rate"),
        ("+data.augment.zooom=0.1", "data.augment: .*zooom"),
        ("+storage.profil=me", "data.storage: .*profil"),
        ("+callbacks.best.monitr=x", "callbacks.best: .*monitr"),
        ("~data.root", "data: .*root"),
    ],
)
def test_a_typo_is_found(compose, word, named):
    errors = binding_errors(plain(compose("train", "experiment=resnet50", word)))
    assert re.search(named, "; ".join(errors)), errors


def test_a_typo_among_the_options_of_a_parent_is_found(compose):
    errors = binding_errors(plain(compose("train", "experiment=demo", "+data.batchsize=3")))
    assert errors == ["data.batchsize: stocktake.data.datamodule.SyntheticBinDataModule does not take it"]


def test_the_recipe_that_was_asked_for(compose):
    cfg = compose("train", "experiment=resnet50")
    assert cfg.model.backbone == "resnet50"
    assert cfg.model.drop_rate == 0.5
    assert cfg.model.optimizer["_target_"] == "torch.optim.Adam"
    assert cfg.model.optimizer.lr == 0.001
    assert cfg.data.batch_size == 32
    assert cfg.trainer.max_epochs == 50


def test_a_resumable_run_has_a_folder_without_a_time(monkeypatch):
    from hydra import compose, initialize_config_dir

    monkeypatch.delenv("RUN_DIR", raising=False)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["experiment=resnet50_spot", "run_name=second"], return_hydra_config=True)
    assert cfg.hydra.run.dir == "runs/resnet50_spot/second"


def test_build_gives_plain_values_and_runtime_objects():
    node = OmegaConf.create({"_target_": "builtins.dict", "sizes": [1, 2], "nested": {"a": 1}})
    marker = object()
    built = build(node, marker=marker)
    assert built == {"sizes": [1, 2], "nested": {"a": 1}, "marker": marker}
    assert type(built["sizes"]) is list
    assert type(built["nested"]) is dict


def test_an_entry_that_is_null_is_switched_off():
    nodes = OmegaConf.create({"a": {"_target_": "builtins.list"}, "b": None, "c": {"_target_": "builtins.dict"}})
    assert build_all(nodes) == [[], {}]
    assert build_all(None) == []
