"""What a search leaves."""

from pathlib import Path
from typing import Any

from stocktake.tuning.trials import SearchResult


def finish_search(result: SearchResult, folder: Path, config_folder: Path) -> dict[str, Any]:
    best = result.best
    counts = {state: len(result.of_state(state)) for state in ("complete", "pruned", "failed")}
    found = best and {"trial": best.number, "score": best.score, "values": dict(best.values), "folder": best.folder}
    return {"trials": len(result.trials), **counts, "best": found, "metric": result.metric}
