"""What is typed wrongly is told in one line, before torch; a command's end is what a person and a shell expect."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest
from hydra.core.hydra_config import HydraConfig

REPOSITORY = pathlib.Path(__file__).parents[2]
WRONG = [
    ("../train.py", "seed=abc", "seed takes a whole number from 0 to 4294967295. Type seed=0."),
    ("../train.py", "model.optimizer.lr=fast", "model.optimizer.lr takes a number above 0. Type model.optimizer.lr="),
    ("../train.py", "experimnt=demo", "Did you mean experiment? Type experiment=demo."),
    ("../train.py", "experiment=dmo", "Did you mean demo? Type experiment=demo."),
    ("../train.py", "lr=0.1", "Did you mean model.optimizer.lr? Type model.optimizer.lr=0.1."),
    ("../train.py", "data.limit=abc", "data.limit takes a whole number of at least 1, or null. Type data.limit=100."),
    ("../train.py", "data.limit=0", "data.limit takes a whole number of at least 1, or null."),
    ("../train.py", "data.batch_size=0", "data.batch_size takes a whole number of at least 1."),
    ("../train.py", "seed=-1", "seed takes a whole number from 0"),
    ("../train.py", "data.counts=[1.0]", "data.counts takes a list of 2 or more in brackets, each a whole number"),
    ("../train.py", "optimized_metric=valid/acc", "Type optimized_metric=valid/accuracy."),
    ("../train.py", "optimized_metric=bogus", "optimized_metric takes one of valid/accuracy, "),
    ("../train.py", "data.augment.zoom=3", "data.augment.zoom takes a number from 0 to 0.99."),
    ("../train.py", "+trainer.limit_train_batchs=3", "Type +trainer.limit_train_batches=3."),
    ("../train.py", "trainer.max_epochs=abc", "trainer.max_epochs takes a whole number"),
    ("../train.py", "data=5", "data takes one of abid, abid_full, synthetic."),
    ("../train.py", "model=null", "model takes one of mobilenetv2_100, resnet50, small."),
    ("../train.py", "data.root=a b (c)", """Type 'data.root="a b (c)"'."""),
    ("../train.py", "experiment=[demo,resnet50]", "and no list of them. Type experiment=demo."),
    (
        "../train.py",
        "head=[soft]",
        "head takes one of corn, smooth, soft, softmax, and no list of them. Type head=soft.",
    ),
    ("../train.py", "trainer.precision=17", "transformer-engine-float16, 32, 16, 64, bf16, null. Type trainer.prec"),
    ("../train.py", "data.root=/not/there", "There is no dataset in data.root=/not/there: in / there is"),
    ("../train.py", "demoo", "'demoo' is no key=value. Type experiment=demo."),
    ("../train.py", "foo", "'foo' is no key=value. Type such as experiment=demo, or --help."),
    ("../train.py", "hydra/launcher=sagemakr", "one of basic, rehearsal, sagemaker. Type hydra/launcher=sagemaker."),
    ("../train.py", "++trainer.limit_train_batchs=3", "Did you mean trainer.limit_train_batches?"),
    ("../train.py", "model/head=soft", "Did you mean head? Type head=soft."),
    ("../train.py", "seed=1,2", "several values are a sweep. Type -m"),
    ("../train.py", "--seed=5", "keys have no dashes here. Type seed=5."),
    ("../train.py", "--resolve", "--resolve shows nothing by itself. Type --cfg job --resolve."),
    ("../train.py", "--hlep", "Did you mean --help? Type --help."),
    ("../train.py", "--head", "Type head=corn."),
    ("../train.py", "--resnet50", "there is no such option"),
    ("../train.py", "experiment", "Type experiment=demo."),
    ("../train.py", "help", "Type --help."),
    ("../train.py", "~data", "data cannot be taken away. Type data=abid."),
    ("../train.py", "~data.root", "data.root cannot be taken away. Type data.root=data/abid."),
    ("../train.py", "~head", "head cannot be taken away."),
    ("../train.py", "~trainer.max_epochs", "trainer.max_epochs cannot be taken away."),
    ("../train.py", "data..root=1", "'data..root' is no key. Type --help"),
    ("../train.py", "data.num_bins=60,", "Type data.num_bins=2000."),
    ("../train.py", "data.train_sizes_px=[128", "Type 'data.train_sizes_px=[128,160,192]'."),
    ("../train.py", """data.root='""", "Type data.root=data/abid."),
    ("../train.py", "trainer.max_epochs=${nothing}", "'nothing' not found. Type trainer.max_epochs=<value>."),
    (
        "../train.py",
        "+experiment=demo",
        "experiment is chosen already, and another one takes no +. Type experiment=demo.",
    ),
    ("../train.py", "experiment={a:1}", "resnet50_spot. Type experiment=demo."),
    ("../train.py", "~nope", "~nope: Could not delete from config. 'nope' does not exist. Type --help"),
    ("../train.py", "callbacks=[spot,fintune]", "Did you mean finetune? Type 'callbacks=[spot]'."),
    ("../train.py", "callbacks.nope=null", "Did you mean callbacks? Type callbacks=default."),
    ("../train.py", "scheduler=null", "one of cosine, one_cycle. Type scheduler=cosine, or '~scheduler' for none."),
    ("../train.py", "hydra.run.dir=null", "hydra.run.dir=null: field 'hydra.run.dir' is not Optional. Type --help"),
    ("../train.py", "hydra.job.env_set.X=1", "Type +hydra.job.env_set.X=1."),
    ("../train.py", "seed=${seed}", "Recursive interpolation detected. Type seed=<value>."),
    ("../train.py", "data.root=${seed}", "data.root=0 is wrong: data.root takes text"),
    ("../train.py", "data.batch_size=${data.counts}", "data.batch_size takes a whole number of at least 1."),
    ("../train.py", "+trainer.max_time=1h", "a map of weeks, days, hours, minutes, seconds in braces, each"),
    ("../train.py", "+trainer.max_time={houres:1}", """Type 'trainer.max_time="00:01:30:00"'."""),
    ("predict.py", "data", "Type 'images=[data]'."),
    ("evaluate.py", "side=valid", "side is called split now. Type split=valid."),
    ("learning_curve.py", "floors.rmse_mean=1", "Type floors.rmse_expected=1."),
    ("prepare.py", "split=none", "Type one of them, such as split.rule=grouped."),
    ("evaluate.py", "~split", "split cannot be taken away. Type split=test."),
    ("../train.py", "hydra.run.dri=x", "Did you mean hydra.run.dir?"),
    ("../train.py", "experiment=mobilenet_transfer", "such as model.weights=weights/mobilenetv2_100.safetensors"),
    ("../train.py", "--experimental-rerun=x.pickle", "can run code"),
    ("predict.py", "bin.jpg", "Type 'images=[bin.jpg]'."),
    ("evaluate.py", "runs/my run [1]", """Type 'checkpoint="runs/my run [1]"'."""),
    ("evaluate.py", "data.root=x", "Did you mean root? Type root=x."),
    ("prepare.py", "limit=abc", "limit takes a whole number"),
    ("prepare.py", "limit=-50", "limit takes a whole number of at least 1, or null."),
    ("prepare.py", "counts=3", "counts takes a list"),
    ("prepare.py", "counts=[]", "counts is empty, and takes a list of 1 or more"),
    ("prepare.py", "num_requests=0", "num_requests takes a whole number of at least 1."),
    ("prepare.py", "known_bad=101047", "known_bad takes a list"),
    ("prepare.py", "known_bad=00004", "known_bad takes a list"),
    ("prepare.py", "split.fractions.train=nan", "split.fractions takes a map"),
    ("serve.py", "max_waiting=abc", "max_waiting takes a whole number"),
    ("serve.py", "host=''", "host is empty, and takes text that is not empty."),
    ("export.py", "version=2", """Type 'version="2"'."""),
    ("doctor.py", "foo", "'foo' is no key=value. Type such as network=false, or --help."),
    ("evaluate.py", 'checkpoint="~nobody1/x"', "cannot be looked for (Could not determine home directory.). Type anot"),
    ("evaluate.py", "checkpoint=/not/there.ckpt", "checkpoint=/not/there.ckpt does not exist: in / there is"),
    ("rehearse.py", "hosts=0", "hosts takes a whole number of at least 1."),
    ("doctor.py", "network=maybe", "network takes true or false."),
    ("tune.py", "find.max_lr=0", "find.max_lr takes a number above 0."),
]


def test_a_run_folder_that_cannot_be_made_is_told_in_a_line(run_script, capsys, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    for folder in (tmp_path / "a file/run", ""):
        assert run_script("../train.py", f'hydra.run.dir="{folder}"') == 1
        assert "the run cannot be written there" in capsys.readouterr().err
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "a file/run"))
    assert run_script("../train.py") == 1
    err = capsys.readouterr().err
    assert "cannot be written there (Not a directory). Type hydra.run.dir=" in err and "Traceback" not in err


def test_a_run_folder_on_a_full_disk_is_told_in_a_line(run_script, capsys, tmp_path, monkeypatch):
    """Hydra's first file there ended with its trace."""

    def full(dir):
        assert dir == str(tmp_path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert run_script("../train.py", f"hydra.run.dir={tmp_path}") == 1
    err = capsys.readouterr().err
    assert "the run cannot be written there (No space left on device). Type hydra.run.dir=" in err
    assert "Traceback" not in err and not list(tmp_path.iterdir())


def test_several_bare_words_are_told_as_one_list(run_script, capsys):
    assert run_script("compare.py", "runs/a", "runs/b 2") == 1
    assert """Type 'evaluations=[runs/a,"runs/b 2"]'.""" in capsys.readouterr().err


def test_help_with_a_wrong_word_is_told_in_a_line(run_script, capsys):
    assert run_script("../train.py", "--help", "sed=1") == 1
    err = capsys.readouterr().err
    assert "Did you mean seed? Type seed=1." in err and "Traceback" not in err


EARLY = """
import signal, sys
sys.argv = ["train.py"]
class Interrupts:  # Ctrl-C while the first of the libraries is being imported
    def find_spec(self, name, path, target=None):
        if name == "omegaconf":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ctrl_c_before_the_libraries_are_there_is_one_line():
    ended = subprocess.run([sys.executable, "-c", EARLY], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr.strip() == "Stopped by Ctrl-C before anything was done."


@pytest.mark.parametrize(("script", "word", "told"), WRONG, ids=[f"{s} {w}" for s, w, _ in WRONG])
def test_a_wrong_word_is_told_in_a_line(run_script, capsys, script, word, told):
    assert run_script(script, word) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if word.lstrip("+").partition("=")[0] in line or told in line]
    assert told in line


def test_the_side_is_named_by_the_key_that_was_typed(run_script, capsys):
    assert run_script("evaluate.py", "checkpoint=x", "split=testt") == 1
    told = capsys.readouterr().err.strip()
    assert told == "split=testt is wrong: split takes one of test, valid, train, all. Type split=test."


def test_each_value_of_a_sweep_is_checked_before_the_first_run(run_script, capsys):
    assert run_script("../train.py", "-m", "seed=0,1,no", "data.batch_size=32,0") == 1
    assert [line.partition(" ")[0] for line in capsys.readouterr().err.strip().splitlines()] == [
        "seed=no",
        "data.batch_size=0",
    ]


def test_what_is_wrong_is_told_without_torch():
    code = (
        "import runpy, sys; sys.argv = ['train.py', 'seed=abc']\ntry: runpy.run_path('train.py', run_name='__main__')\n"
    )
    code += "except SystemExit: print([name for name in ('torch', 'pytorch_lightning', 'timm') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
    assert told.stderr.strip().startswith("seed=abc is wrong")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("foo=1", "there is no key foo"),
        ("callbacks.spot.every_n_train_steps=x", "takes a whole number of at least 1"),
        ("data.root=/not/there", "There is no dataset in data.root=/not/there"),
    ],
)
def test_a_wrong_word_for_the_training_is_told_by_the_rehearsal_itself(run_script, capsys, monkeypatch, word, told):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a training was started"))
    assert run_script("rehearse.py", "experiment=demo", word) == 1
    begins, _, line = capsys.readouterr().err.strip().splitlines()
    assert begins == "Rehearses a training on 2 hosts ..."
    assert told in line


def test_a_rehearsal_is_typed_in_any_folder(run_script, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_script("rehearse.py", "experiment=nope") == 1
    assert "experiment takes one of demo, " in capsys.readouterr().err


def test_the_command_s_own_configuration_is_checked_by_its_name_too(run_script, capsys):
    assert run_script("../train.py", "--config-name=train", "seed=x") == 1
    assert "seed=x is wrong" in capsys.readouterr().err


def test_a_value_that_only_the_run_itself_knows_is_no_mistake(run_script, capsys, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # of a run that another test began in this process
    assert run_script("../train.py", "data.root=nowhere/${hydra:job.num}", "+trainer.max_steps=x") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("trainer.max_steps=x is wrong")
    assert run_script("evaluate.py", "-m", "checkpoint=${hydra:job.name}", "limit=1,2") == 1
    assert capsys.readouterr().err.startswith("Begins ...")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["experiment=glob(resnet*)", "seed=x"], "seed=x is wrong"),
        (["experiment=glob(nope*)"], "experiment=glob(nope*) names nothing to try: experiment takes demo, "),
        (
            ["head=softmax,softt"],
            "head takes one of corn, smooth, soft, softmax. Did you mean soft?",
        ),
        (["callbacks=default,[spot,nope]"], "callbacks takes one of default, early_stopping, finetune, spot."),
        (["seed=interval(0,3)"], "a sweep tries each value, and an interval has no end of them. Type the values"),
        (["nope=1,2"], "nope=1 is wrong: there is no key nope."),
        (["seed=1,2", "--cfg", "job"], "--multirun and --cfg do not go together. Type one of them"),
        (["hydra.sweep.dir=/proc/nope"], "hydra.sweep.dir=/proc/nope: the run cannot be written there"),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_sweep_is_told_in_a_line(run_script, capsys, words, told):
    assert run_script("../train.py", "-m", *words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_an_output_on_a_full_disk_is_told_in_a_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "train.py", "--help"]
        ended = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 1
    told = "The output cannot be written: no space is left there. Make room, or write elsewhere."
    assert ended.stderr.strip() == told
