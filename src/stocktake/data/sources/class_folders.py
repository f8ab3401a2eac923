"""Class folders: images by their count, `<count>/<file>`, as torchvision's ImageFolder has them by their class."""

import warnings
from collections import Counter
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stocktake.data.sources.abid_records import BinRecord
from stocktake.data.sources.source import (
    COUNT,
    ListedBin,
    ListError,
    image_id_of,
    is_count,
    is_image_name,
    refuse_equal_ids,
)
from stocktake.seeding import derive_seed
from stocktake.storage import Folder

if TYPE_CHECKING:
    from obstore import ObjectMeta


class ClassFolders:
    """Images whose folder is their label; each is a group of its own."""

    image_formats: tuple[str, ...] = ("JPEG", "PNG")
    has_records = False

    def __init__(self, folder: Folder):
        self.folder = folder

    @property
    def url(self) -> str:
        return self.folder.url

    def listing(self) -> list[ListedBin]:
        # In the order of a hash: of the names' own order a limit would take one count alone.
        image_ids = sorted(self._keys, key=lambda image_id: derive_seed("listed", image_id))
        return [ListedBin(image_id, int(self._keys[image_id].partition("/")[0]), image_id) for image_id in image_ids]

    def record(self, image_id: str) -> BinRecord | None:
        return None

    def image(self, image_id: str) -> bytes | None:
        return self.folder.read_if_there(self._keys[image_id])

    def image_facts(self, image_id: str) -> "ObjectMeta | None":
        return self.folder.facts(self._keys[image_id])

    @cached_property
    def _keys(self) -> dict[str, str]:
        """The key of each image by its id."""
        keys = [key for key, _ in self.folder.sizes()]
        passed_over = [key for key in keys if _problem(key)]
        if len(passed_over) == len(keys):
            there = f"; there is {passed_over[0]}" if passed_over else ""
            raise ListError(
                f"There is no <count>/<file> of .jpg or .png in source={self.folder.url}{there}. Put each image into a "
                "folder named by its count, such as 3/bin.jpg, or name the images in a CSV: source=<file>.csv."
            )
        if passed_over:
            kinds = Counter(filter(None, map(_problem, keys)))
            others = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
            warnings.warn(
                f"{self.folder.url} also holds {others}, such as {passed_over[0]}: passed over, because only "
                "<count>/<file> of .jpg or .png is taken for an image.",
                stacklevel=2,
            )
        taken = set(keys).difference(passed_over)
        return refuse_equal_ids((image_id_of(key), key) for key in sorted(taken))


def _problem(key: str) -> str | None:
    """Returns why a file is not taken, as a kind of which there may be many; `None` if it is."""
    folder, *below = PurePosixPath(key).parts
    if len(below) == 1 and COUNT.fullmatch(folder) and is_count(int(folder)):
        if below[0].startswith("."):
            return "hidden"
        return None if is_image_name(below[0]) else PurePosixPath(key).suffix or "without a suffix"
    if len(below) > 1 and COUNT.fullmatch(folder):
        return "in folders below a count's"
    return "outside of folders named by a count"
