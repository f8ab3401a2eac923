"""What an evaluation says last in the terminal, before its line of JSON: figures, intervals, and what to type next."""

from typing import Any

from stocktake.shell import command

TITLES = {"accuracy": "exact", "rmse": "RMSE", "mae": "MAE", "within_one": "within one"}


def told(metrics: dict[str, Any], report: str, checkpoint: str) -> str:
    """Returns the figures with two digits and their 95 % intervals, what to open and what to type."""
    figures = ", ".join(
        f"{title} {with_interval(metrics[f'test/{name}'])}"
        for name, title in TITLES.items()
        if f"test/{name}" in metrics
    )
    lines = [f"{metrics['num_images']:,} bins ({metrics['split']}), 95 % intervals: {figures}."]
    if baseline := metrics.get("majority_baseline", {}).get("test/accuracy"):
        lines.append(f"Always the most frequent count: exact {with_interval(baseline)}.")
    lines.append(f"Open {report}")
    lines.append(f"Type next: {command('scripts/export.py', {'checkpoint': checkpoint})}")
    return "\n".join(lines)


def with_interval(metric: dict[str, float]) -> str:
    """Returns `0.39 (0.37 to 0.41)`, without the interval where there is none."""
    low, high = metric.get("low"), metric.get("high")
    has_interval = low is not None and high is not None and low == low and high == high
    return f"{metric['value']:.2f}" + (f" ({low:.2f} to {high:.2f})" if has_interval else "")
