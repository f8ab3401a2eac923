"""What a request says beside its image, in one header: `expected_count=3,image_id=00004`.

SageMaker hands CustomAttributes of InvokeEndpoint on to the container in this header, strips all others of a client's,
and keeps it in what data capture writes; scripts/predict.py sends it to a server of one's own, too. It has at most
1,024 ASCII characters, so an image's id is percent-encoded in it:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from pathlib import PurePosixPath
from urllib.parse import quote, unquote

# SageMaker's own name of it, which is read from any client.
ATTRIBUTES_HEADER = "X-Amzn-SageMaker-Custom-Attributes"
EXPECTED_COUNT, IMAGE_ID = "expected_count", "image_id"
MAX_CHARACTERS = 1024  # of the header, as botocore's model of InvokeEndpoint has it
MAX_ID_CHARACTERS = 255  # as a file's name may have


def image_id_of(location: str) -> str:
    """Returns the id of an image by its path or URL: the file's name without what follows the last dot."""
    if location.startswith(("http://", "https://")):
        location = location.partition("?")[0]
    return PurePosixPath(location).stem


def image_id_attribute(image_id: str) -> str:
    """Returns `image_id=...`, or nothing where the id is too long to be sent."""
    attribute = f"{IMAGE_ID}={quote(image_id, safe='', errors='replace')}"
    return attribute if image_id and len(attribute) <= MAX_CHARACTERS else ""


def read_attributes(text: str) -> list[tuple[str, str]]:
    """Returns name and value of each attribute, in their order; what has no `=` is another program's."""
    parts = (part.partition("=") for part in text.replace(";", ",").split(","))
    return [(name.strip(), unquote(value.strip())) for name, equals, value in parts if equals]


def kept_id(image_id: str | None) -> str | None:
    """Returns an image's id as it is logged, `None` where it is none: empty, too long, or of unprintable characters."""
    return image_id if image_id and len(image_id) <= MAX_ID_CHARACTERS and image_id.isprintable() else None
