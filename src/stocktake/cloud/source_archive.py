"""Packs the code that a job runs: the files that git tracks, as they stand on the disk."""

import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Whoever adds a file here and forgets `git add` would find out on paid instances.
WATCHED = ("src", "conf")
WATCHED_SUFFIXES = (".py", ".yaml")
# Begins a line at the head of the experiments that searches write beside the tracked ones; they are packed, too.
WRITTEN_BY_SEARCH = "The best trial of the search in"


class PackingError(ValueError):
    """The code cannot be packed; the message names the file and what to type."""


@dataclass(frozen=True)
class Code:
    """What is packed: what git tracks, and the experiments that searches wrote.

    Attributes:
        root: The repository's folder.
        files: Paths in it, sorted.
        commit: Of the last commit; `none` where there is none yet.
        dirty: Whether something differs from that commit.
        submodules: Folders of other repositories in it, of which nothing is packed.
    """

    root: Path
    files: tuple[str, ...]
    commit: str
    dirty: bool
    submodules: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        return sum((self.root / file).lstat().st_size for file in self.files)

    def describe(self) -> str:
        dirty = ", with changes that are not committed" if self.dirty else ""
        without = f", without the submodules {', '.join(self.submodules)}" if self.submodules else ""
        return f"{len(self.files)} files, {self.num_bytes / 2**20:.1f} MiB, commit {self.commit[:12]}{dirty}{without}"

    def archive(self) -> bytes:
        """Returns code.tar.gz; owners and times are left out, so that equal files give equal contents."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for file in self.files:
                archive.add(self.root / file, arcname=file, recursive=False, filter=self._portable)
        return content.getvalue()

    def _portable(self, entry: tarfile.TarInfo) -> tarfile.TarInfo:
        """Leaves out times and owners, and makes a link a relative one, which holds wherever it is unpacked."""
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        if entry.issym():
            path = self.root / entry.name
            entry.linkname = os.path.relpath(path.resolve(), path.parent.resolve())
        return entry


def tracked_code(folder: str | Path = ".") -> Code:
    """Returns the code of the repository that `folder` lies in.

    Raises:
        PackingError: It lies in none, a file of `WATCHED` is not tracked, a submodule lies there, or a link points out
            of the repository.
    """
    try:
        root = Path(_git(Path(folder), "rev-parse", "--show-toplevel").strip())
    except PackingError as error:
        raise PackingError(
            f"{Path(folder).absolute()} is no git repository, and a job gets the files that git tracks ({error}). "
            "Type: git init && git add ."
        ) from error
    unknown = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *WATCHED).split("\0")
    untracked = sorted(file for file in unknown if file.endswith(WATCHED_SUFFIXES))
    of_searches = [file for file in untracked if _is_written_by_search(root / file)]
    if forgotten := [file for file in untracked if file not in of_searches]:
        raise PackingError(
            f"{', '.join(forgotten)}: not tracked by git, so the job would miss it. Type: git add "
            f"{shlex.join(forgotten)}"
        )
    tracked = [*filter(None, _git(root, "ls-files", "-z").split("\0")), *of_searches]
    _refuse_links_out(root, tracked)
    submodules = _submodules(root)
    if needed := [folder for folder in submodules if folder.split("/")[0] in WATCHED]:
        raise PackingError(
            f"{', '.join(needed)}: a git submodule, of which git tracks no file here, so the job would miss it. Put "
            f"its files in its place: git rm --cached {shlex.join(needed)}, remove the .git in it, then git add "
            f"{shlex.join(needed)}"
        )
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
    except PackingError:
        commit = "none"
    return Code(
        root,
        # What was deleted and not committed is not there to pack; a submodule is a folder.
        tuple(sorted({file for file in tracked if (root / file).is_symlink() or (root / file).is_file()})),
        commit,
        bool(_git(root, "status", "--porcelain").strip()),
        tuple(submodules),
    )


def _is_written_by_search(path: Path) -> bool:
    head = path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    return path.parent.name == "experiment" and any(line.startswith(f"# {WRITTEN_BY_SEARCH} ") for line in head)


def _submodules(root: Path) -> list[str]:
    """Returns the folders that git tracks as a commit of another repository (mode 160000)."""
    entries = _git(root, "ls-files", "-z", "--stage").split("\0")
    return [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]


def _refuse_links_out(root: Path, files: Iterable[str]) -> None:
    """Refuses links to what only this machine has: followed, they could carry anything along; kept, they lead nowhere.

    Raises:
        PackingError: Naming them.
    """
    links = [file for file in files if (root / file).is_symlink()]
    outside = sorted(file for file in links if not _lies_in(root, root / file))
    if outside:
        raise PackingError(
            f"{', '.join(outside)}: a link out of the repository, or in a circle, which a job could not follow. "
            f"Put a copy in its place, or type: git rm --cached {shlex.join(outside)}"
        )


def _lies_in(root: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a circle; up to Python 3.12
        return False


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError as error:
        raise PackingError("git is not installed, or the folder does not exist") from error
    if result.returncode:
        raise PackingError(f"git {arguments[0]}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode(errors="surrogateescape")
