"""scripts/prepare.py as a person types it: what it says, and what it refuses in one line."""

import fcntl
import json
import os
import shlex
import shutil

import pytest

from stocktake.data.manifest import MANIFEST_KEY
from stocktake.workflows.prepare import prepare


@pytest.fixture
def typed(run_script, capsys):
    """Returns what types a command and gives its exit code and what it printed."""

    def type_words(*words):
        code = run_script("prepare.py", *words)
        told = capsys.readouterr()
        return code, told.out + told.err

    return type_words


@pytest.fixture
def source(tmp_path, synthetic_source):
    """Twelve drawn bins in a folder whose name Hydra, the shell and rich would all read as something else."""
    folder = tmp_path / "my bins [1] & more"
    for kind, suffix in (("bin-images", "jpg"), ("metadata", "json")):
        (folder / kind).mkdir(parents=True)
        for number in range(1, 13):
            shutil.copy(synthetic_source / kind / f"{number:05d}.{suffix}", folder / kind)
    return folder


def quoted(key, value) -> str:
    return f'{key}="{value}"'


def test_folders_with_spaces_and_brackets_are_printed_as_they_are(source, tmp_path, typed, capsys):
    """[/b] ended in a MarkupError after all had been written, and [1] was left out of the path."""
    for name in ("a [/b] root", "a [1] root [bold]"):
        root = tmp_path / name
        code, told = typed(quoted("source", source), quoted("root", root), "list=all", "split.block=1")
        assert code == 0
        assert f"Wrote {root}/{MANIFEST_KEY}, " in told
        assert (root / MANIFEST_KEY).exists()


def test_what_it_tells_to_type_removes_what_is_left_over(source, tmp_path, typed):
    root = tmp_path / "a [1] root"
    words = [quoted("source", source), quoted("root", root), "list=all", "split.block=1"]
    typed(*words)
    _, told = typed(*words, "split.seed=3")
    (line,) = [line for line in told.splitlines() if "remove_leftovers=true" in line]
    program, script, *told_words = shlex.split(line)
    assert (program, script.endswith("prepare.py")) == ("python", True)
    code, told = typed(*told_words)
    assert code == 0 and "Removed" in told
    _, told = typed(*words, "split.seed=3")
    assert "left" not in told.replace("left out", "")


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("limit=abc", "limit"),
        ("limit=0", "limit"),
        ("limit=-50", "limit"),
        ("counts=3", "counts"),
        ("counts=[]", "counts"),
        ("counts=[1.0]", "counts"),
        ("counts=[7]", "counts=[7]: none of the"),
        ("num_requests=0", "num_requests"),
        ("known_bad=101047", "known_bad"),
        ("known_bad='00004'", "known_bad"),
        ("max_bad_fraction=nan", "max_bad_fraction"),
        ("split.fractions.train=nan", "fractions"),
        ("split.block=0", "split.block"),
        ("list=3", "3"),
        ("source=/no/such/folder", "source"),
    ],
)
def test_a_wrong_word_is_one_line(synthetic_source, tmp_path, typed, word, named):
    words = {"source": f"source={synthetic_source}", "root": f"root={tmp_path / 'root'}"}
    words[word.partition("=")[0]] = word
    code, told = typed(*words.values())
    assert code != 0
    assert named in told.splitlines()[-1] and "Traceback" not in told
    assert len(told.strip().splitlines()) <= 3, "one line, after the one that says what is being done"
    assert not (tmp_path / "root" / MANIFEST_KEY).exists()


def test_a_root_that_is_a_file_is_named(synthetic_source, tmp_path, typed):
    (tmp_path / "file").write_text("x")
    code, told = typed(f"source={synthetic_source}", f"root={tmp_path / 'file'}", "split.block=1")
    assert code == 1
    assert f"{tmp_path}/file is a file" in told.splitlines()[-1]
    assert "Traceback" not in told


def test_two_do_not_collect_into_one_root_at_a_time(synthetic_source, tmp_path, typed):
    """Each removed images that the other's manifest named."""
    root = tmp_path / "root"
    words = [f"source={synthetic_source}", f"root={root}", "split.block=1", "limit=10"]
    root.mkdir()
    place = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        code, told = typed(*words)
    finally:
        os.close(place)
    assert code == 1
    assert told.splitlines()[-1].startswith(f"Another process is collecting into {root} at this moment")
    assert "type root=<another folder>" in told and "Traceback" not in told
    assert not list(root.iterdir())
    assert typed(*words)[0] == 0


def test_a_count_without_a_training_bin_is_told(source, tmp_path, compose, capsys):
    records = {path.stem: json.loads(path.read_text()) for path in (source / "metadata").iterdir()}
    five = [image_id for image_id, record in records.items() if record["EXPECTED_QUANTITY"] == 5]
    for image_id in five:
        (source / "bin-images" / f"{image_id}.jpg").unlink()
    cfg = compose("prepare", quoted("source", source), f"root={tmp_path / 'root'}", "list=all", "split.block=1")
    prepare(cfg)
    told = capsys.readouterr().out
    assert "Note: no bin with 5 items is in train" in told


def test_a_side_without_a_bin_is_told_but_not_of_an_outside_test_set(source, tmp_path, compose, capsys):
    words = [quoted("source", source), "list=all"]
    prepare(compose("prepare", *words, f"root={tmp_path / 'root'}"))  # twelve ids are of one block
    assert "Note: there is no bin in " in capsys.readouterr().out
    prepare(compose("prepare", *words, f"root={tmp_path / 'outside'}", "split_rule=none"))
    assert "Note" not in capsys.readouterr().out


def test_what_is_passed_over_is_told(source, tmp_path, compose, capsys):
    (source / "bin-images/IMG_1.JPG").write_bytes(b"x")
    prepare(compose("prepare", quoted("source", source), f"root={tmp_path / 'root'}", "list=all", "split.block=1"))
    assert "Note: bin-images/ also holds 1 .JPG, such as bin-images/IMG_1.JPG" in capsys.readouterr().out
