"""What a job's code is made of, in repositories of this test's own."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from stocktake.cloud.source_archive import WRITTEN_BY_SEARCH, PackingError, tracked_code


def git(folder: Path, *words: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.com"}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env=os.environ | identity)


@pytest.fixture
def repository(tmp_path) -> Path:
    for file, text in {"train.py": "1", "src/a/model.py": "2", "conf/train.yaml": "3", ".gitignore": "*.log\n"}.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def packed(code) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(code.archive())) as archive:
        files = ((entry.name, archive.extractfile(entry)) for entry in archive if entry.isfile())
        return {name: file.read().decode() for name, file in files if file}


def test_tracked_files_as_they_stand(repository):
    clean = tracked_code(repository)
    assert not clean.dirty
    assert len(clean.commit) == 40
    (repository / "train.py").write_text("changed")
    (repository / "conf" / "train.yaml").unlink()
    (repository / "secret.env").write_text("not tracked")
    (repository / "run.log").write_text("ignored")
    code = tracked_code(repository / "src")
    assert packed(code) == {".gitignore": "*.log\n", "train.py": "changed", "src/a/model.py": "2"}
    assert code.dirty
    assert code.commit == clean.commit
    assert code.num_bytes == len("*.log\n" + "changed" + "2")
    assert "3 files" in code.describe()


def test_times_and_owners_are_left_out(repository):
    with tarfile.open(fileobj=io.BytesIO(tracked_code(repository).archive())) as archive:
        assert {(entry.mtime, entry.uid, entry.uname) for entry in archive} == {(0, 0, "")}


@pytest.mark.parametrize("forgotten", ["src/a/new.py", "conf/experiment/mine.yaml", "src/a/with space.py"])
def test_a_forgotten_file_is_named_with_what_to_type(repository, forgotten):
    path = repository / forgotten
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    with pytest.raises(PackingError, match="git add") as caught:
        tracked_code(repository)
    assert forgotten in str(caught.value)
    git(repository, "add", forgotten)
    assert forgotten in tracked_code(repository).files


def test_what_a_search_wrote_goes_along_and_what_looks_like_it_elsewhere_does_not(repository):
    written = f"# @package _global_\n# {WRITTEN_BY_SEARCH} runs/demo/sweep-lr_dropout, which writes it anew.\nlr: 0.1\n"
    for file in ("conf/experiment/demo_lr_dropout_best.yaml", "conf/model/mine.yaml"):
        (repository / file).parent.mkdir()
        (repository / file).write_text(written)
    with pytest.raises(PackingError, match=r"^conf/model/mine\.yaml: not tracked"):
        tracked_code(repository)
    (repository / "conf/model/mine.yaml").unlink()
    assert packed(tracked_code(repository))["conf/experiment/demo_lr_dropout_best.yaml"] == written


def test_no_repository_is_told(tmp_path):
    with pytest.raises(PackingError, match=r"no git repository.*git init"):
        tracked_code(tmp_path)


def test_no_commit_yet_is_fine(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("")
    git(tmp_path, "add", ".")
    code = tracked_code(tmp_path)
    assert (code.commit, code.dirty, code.files) == ("none", True, ("train.py",))


@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "a-circle"])
def test_a_link_out_of_the_repository_is_refused_by_name(repository, target):
    link = repository / ("a-circle" if target == "a-circle" else "conf/linked")
    link.symlink_to(target)
    git(repository, "add", ".")
    if target == "a-circle" and sys.version_info >= (3, 13):
        assert unpacked(repository)  # Python no longer minds, and neither does tar
        return
    with pytest.raises(PackingError, match=r"git rm --cached") as caught:
        tracked_code(repository)
    assert link.relative_to(repository).as_posix() in str(caught.value)


def unpacked(repository: Path) -> Path:
    """Unpacks as the container does."""
    folder = repository.parent / f"{repository.name}-unpacked"
    with tarfile.open(fileobj=io.BytesIO(tracked_code(repository).archive())) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_links_inside_the_repository_hold_wherever_they_are_unpacked(repository):
    (repository / "absolute.yaml").symlink_to(repository / "conf" / "train.yaml")
    (repository / "conf" / "out-and-in.py").symlink_to(Path("../..") / repository.name / "train.py")
    (repository / "conf" / "dangling").symlink_to("nothing")
    git(repository, "add", ".")
    folder = unpacked(repository)
    assert (folder / "absolute.yaml").read_text() == "3"
    assert (folder / "conf" / "out-and-in.py").read_text() == "1"
    assert (folder / "conf" / "dangling").is_symlink()
    (repository / "train.py").write_text("only here")
    assert (folder / "conf" / "out-and-in.py").read_text() == "1", "it leads into what was unpacked"


def test_a_submodule_is_named_where_it_is_left_out_and_refused_where_code_is(repository, tmp_path_factory):
    """git tracks one commit of it, and no file: nothing of it is packed."""
    other = tmp_path_factory.mktemp("other")
    (other / "model.py").write_text("4")
    git(other, "init", "-q")
    git(other, "add", ".")
    git(other, "commit", "-qm", "one")
    add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other)]
    git(repository, *add, "third/party")
    code = tracked_code(repository)
    assert code.submodules == ("third/party",)
    assert code.describe().endswith("with changes that are not committed, without the submodules third/party")
    assert "third/party/model.py" not in packed(code)
    git(repository, *add, "src/own parts")
    with pytest.raises(PackingError, match=r"^src/own parts: a git submodule.*git rm --cached 'src/own parts'"):
        tracked_code(repository)
