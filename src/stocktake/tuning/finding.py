"""What a search for a learning rate or a batch size found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """The value that a search suggests.

    Attributes:
        key: The configuration's key that it is for.
        value: What to give it; None where nothing was found.
        sentences: What was found, then how.
        measured: The numbers behind it, a row for each try: `lr`, `loss` and `smoothed` (the loss averaged over
            neighboring steps), or `batch_size`, `images_per_s` and `memory_mib`.
    """

    key: str
    value: float | None
    sentences: Sequence[str]
    measured: Sequence[Mapping[str, float]] = field(repr=False)


LEARNING_RATE, BATCH_SIZE = "model.optimizer.lr", "data.batch_size"
