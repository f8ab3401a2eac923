"""What is evaluated: which model on which bins, and what a reader must know of the two before any figure."""

from dataclasses import dataclass

CAUTIONS = {
    "train": "The model was trained on these bins: on new ones it will do worse.",
    "valid": "The checkpoint was chosen on these bins: on new ones it may do a little worse.",
    "all": "The model was trained on some of these bins: on new ones it will do worse.",
}


@dataclass(frozen=True)
class Subject:
    """Which model was measured on which bins, and what it had seen of them.

    Attributes:
        leakage: On how many of the bins the model was trained; None where its checkpoint does not say.
        train_manifest_sha256: Of the dataset of its training; None likewise.
        synthetic: Whether the bins are drawn ones.
        trained_on_synthetic: Whether those were that it was trained on.
        flip_tta: Whether each image was counted together with its mirror image; older files do not say it.
    """

    checkpoint: str
    root: str
    split: str
    num_images: int
    manifest_sha256: str
    checkpoint_sha256: str | None = None
    leakage: int | None = None
    train_manifest_sha256: str | None = None
    synthetic: bool = False
    trained_on_synthetic: bool = False
    flip_tta: bool = False

    @property
    def is_leaked(self) -> bool:
        """Whether the model was trained on some of the bins that are there to measure it."""
        return self.split in ("valid", "test") and bool(self.leakage)


def describe_what_was_seen(subject: Subject) -> list[str]:
    """What a reader must know of the bins before any figure: whether, and in what, the model has seen them."""
    split, num_bins, leakage = subject.split, subject.num_images, subject.leakage
    before, now = subject.train_manifest_sha256, subject.manifest_sha256
    is_other = before is not None and before != now
    notes = []
    if subject.is_leaked:
        notes.append(
            f"Leak: the model was trained on {leakage:,} of these {num_bins:,} {split} bins. The figures do not say "
            "how it counts new ones; evaluate it with the dataset root that it was trained on."
        )
    elif leakage:
        notes.append(f"The model was trained on {leakage:,} of these {num_bins:,} bins: on new ones it will do worse.")
    elif split in CAUTIONS and (leakage is None or (split == "valid" and not is_other)):
        notes.append(CAUTIONS[split])
    elif leakage is None:
        notes.append("Whether the model was trained on some of these bins, its checkpoint does not say.")
    if before is not None and is_other:
        none = "" if leakage else "; it was trained on none of these bins"
        notes.append(
            f"This is another dataset than the model was trained on: manifest.parquet is {now[:16]}, was {before[:16]} "
            f"(sha256){none}."
        )
    if subject.trained_on_synthetic and not subject.synthetic:
        notes.append("The model has only ever seen drawn bins, and these are photos.")
    if subject.flip_tta:
        notes.append(
            "Each image was counted together with its mirror image (flip_tta=true); an exported model does not."
        )
    return notes
