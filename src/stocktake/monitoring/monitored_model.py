"""The exported model whose answers are monitored, with the baseline that its export wrote beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from stocktake.metrics.calibration import Calibration
from stocktake.serving.baseline import BASELINE, BASELINE_NAME, Baseline, check_baseline
from stocktake.serving.model_folder import EXPORT_AGAIN, MODEL_NAME, ModelFolderError, parse_model
from stocktake.storage import Folder, join_url


@dataclass(frozen=True)
class MonitoredModel:
    """What an exported model says of itself.

    Attributes:
        location: Of its folder.
        checkpoint_sha256: Of the checkpoint that it was exported from; None in those of other programs.
    """

    location: str
    version: str
    counts: Sequence[int]
    calibration: Calibration
    baseline: Baseline
    checkpoint_sha256: str | None = None

    @classmethod
    def open(cls, folder: Folder) -> Self:
        """
        Raises:
            ModelFolderError: It is no exported model, or one from before exports had a baseline.
        """
        path = join_url(folder.url, MODEL_NAME)
        try:
            model = parse_model(folder.read(MODEL_NAME), path)
        except FileNotFoundError:
            raise ModelFolderError(f"{path} does not exist, so this is no whole model. {EXPORT_AGAIN}") from None
        if not isinstance(model.get(BASELINE), dict):
            raise ModelFolderError(
                f"baseline={folder.url} was exported before models had a {BASELINE_NAME}, so there is nothing to "
                f"compare with. {EXPORT_AGAIN} output_dir={folder.url}"
            )
        path = join_url(folder.url, BASELINE_NAME)
        try:
            baseline = check_baseline(folder.read(BASELINE_NAME), model)
        except FileNotFoundError:
            raise ModelFolderError(f"{path} is missing. Copy the whole folder again. {EXPORT_AGAIN}") from None
        except ValueError as error:
            raise ModelFolderError(f"{path} {error}. {EXPORT_AGAIN}") from None
        calibration, sha256 = Calibration.from_dict(model["calibration"]), model.get("checkpoint_sha256")
        return cls(folder.url, model["version"], model["counts"], calibration, baseline, sha256)
