"""The Amazon Bin Image Dataset's bucket, or a folder of that layout: `bin-images/<id>.jpg`, `metadata/<id>.json`."""

from typing import TYPE_CHECKING

from stocktake.data.sources.abid_list import read_listing
from stocktake.data.sources.abid_records import BinRecord, parse_record
from stocktake.data.sources.source import ListedBin
from stocktake.storage import Folder

if TYPE_CHECKING:
    from obstore import ObjectMeta

IMAGES, RECORDS = "bin-images", "metadata"


class AbidSource:
    """Bins of the public bucket's layout; their neighbors, by id, are often the same bin before and after a pick."""

    image_formats: tuple[str, ...] = ("JPEG",)
    has_records = True

    def __init__(self, folder: Folder, list_choice: str | None = None):
        """
        Args:
            folder: What holds `bin-images/` and `metadata/`.
            list_choice: Path of a file_list.json, or `all`; `None` takes the folder's own (see `read_listing`).
        """
        self.folder, self.list_choice = folder, list_choice

    @property
    def url(self) -> str:
        return self.folder.url

    def listing(self) -> list[ListedBin]:
        return [ListedBin(image_id, count) for image_id, count in read_listing(self.folder, self.list_choice)]

    def record(self, image_id: str) -> BinRecord | None:
        content = self.folder.read_if_there(f"{RECORDS}/{image_id}.json")
        return None if content is None else parse_record(content)

    def image(self, image_id: str) -> bytes | None:
        return self.folder.read_if_there(f"{IMAGES}/{image_id}.jpg")

    def image_facts(self, image_id: str) -> "ObjectMeta | None":
        return self.folder.facts(f"{IMAGES}/{image_id}.jpg")
