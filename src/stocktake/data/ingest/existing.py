"""What lies in a dataset root before it is collected into: which images may stay, and what is left over."""

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from stocktake.data.manifest import Manifest, ManifestError
from stocktake.shell import override
from stocktake.storage import Folder, is_local, is_s3, local_path

if TYPE_CHECKING:
    from obstore import ObjectMeta

# Written before the first image and removed after the manifest: says what an interrupted run was collecting.
UNFINISHED_KEY = "unfinished.json"
IMAGE_KEY = re.compile(r"data/(train|valid|test)/\d+/[^/]+\.(jpg|png)")


class OtherSource(ValueError):
    """A root that holds images of another source."""


@dataclass(frozen=True, slots=True)
class PresentImage:
    """An image in the root; `sha256` as an earlier manifest has it, if one does."""

    size: int
    last_modified: datetime
    sha256: str | None

    def is_older(self, at_source: "ObjectMeta") -> bool:
        """Says whether the source's image is another one by now: its size differs, or it was written later."""
        return at_source["size"] != self.size or at_source["last_modified"] > self.last_modified


@dataclass(frozen=True)
class Present:
    """The images in a root, by their keys.

    Attributes:
        reusable: Those that came from the source which is collected from now.
        keys: All of them.
    """

    reusable: dict[str, PresentImage]
    keys: frozenset[str]

    @classmethod
    def read(cls, root: Folder, source_url: str) -> "Present":
        """Looks into the root.

        Raises:
            OtherSource: It holds images of an unfinished run that collected from another source.
        """
        found = {facts["path"]: facts for facts in root.objects("data") if IMAGE_KEY.fullmatch(facts["path"])}
        keys = frozenset(found)
        try:
            earlier = Manifest.read(root)
        except ManifestError:
            earlier = None
        began_with = _read_note(root)
        if earlier is None and found and began_with not in (None, _one_spelling(source_url)):
            remove = ["aws", "s3", "rm", "--recursive", root.url] if is_s3(root.url) else ["rm", "-r", root.url]
            raise OtherSource(
                f"{root.url} holds {len(found):,} images of an unfinished run that collected from {began_with}, and "
                f"they are not mixed with those of {_one_spelling(source_url)}. Finish it with "
                f"{override('source', began_with)}, type another root, or remove this one:\n  {shlex.join(remove)}"
            )
        if earlier is None:
            known = {}
        elif _one_spelling(str(earlier.origin.get("source"))) == _one_spelling(source_url):
            known = dict(zip(earlier.table["key"].to_pylist(), earlier.table["sha256"].to_pylist(), strict=True))
        else:
            return cls({}, keys)
        # What no manifest names is of this source only if the run that was interrupted said so.
        reusable = {
            key: PresentImage(facts["size"], facts["last_modified"], known.get(key))
            for key, facts in found.items()
            if key in known or began_with == _one_spelling(source_url)
        }
        return cls(reusable, keys)

    def left_over(self, keys: Iterable[str]) -> list[str]:
        """Returns the images that lay there before and have no row in the new manifest, whose keys these are."""
        return sorted(self.keys.difference(keys))


def note_source(root: Folder, source_url: str, present: Present) -> None:
    """Notes in the root where its images come from until the manifest says so; nowhere, if others lie among them."""
    is_pure = present.keys == present.reusable.keys()
    root.write(UNFINISHED_KEY, json.dumps({"source": _one_spelling(source_url) if is_pure else None}).encode())


def _read_note(root: Folder) -> str | None:
    try:
        return json.loads(root.read(UNFINISHED_KEY))["source"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _one_spelling(url: str) -> str:
    """Returns one spelling of a URL."""
    return str(local_path(url)) if is_local(url) else url.rstrip("/")
