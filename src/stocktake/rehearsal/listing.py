"""What SageMaker's List operations have in common: filters, an order, pages."""

from collections.abc import Iterable, Mapping
from typing import Any

from stocktake.rehearsal.job_state import RequestRefused


def page(summaries: Iterable[Mapping], request: Mapping, kind: str, key: str, status: str = "") -> dict[str, Any]:
    """Returns the answer of a List operation.

    Args:
        kind: Begins the names of the summaries' fields, such as `TrainingJob`.
        key: Under which the answer holds the summaries.
        status: The field of a summary that `StatusEquals` asks for; by default the kind's.
    """
    status = status or f"{kind}Status"
    kept = [summary for summary in summaries if _matches(summary, request, f"{kind}Name", status)]
    sort_by = {"Name": f"{kind}Name", "Status": status}.get(request.get("SortBy", ""), "CreationTime")
    kept.sort(key=lambda summary: summary[sort_by], reverse=request.get("SortOrder") != "Ascending")
    token, size = request.get("NextToken", "0"), request.get("MaxResults", 10)
    if not token.isdecimal():
        raise RequestRefused("ValidationException", f"NextToken={token!r} is none that this server gave.")
    start = int(token)
    answer: dict[str, Any] = {key: kept[start : start + size]}
    if len(kept) > start + size:
        answer["NextToken"] = str(start + size)
    return answer


def _matches(summary: Mapping, request: Mapping, name: str, status: str) -> bool:
    bounds = {key: summary[key] for key in ("CreationTime", "LastModifiedTime") if key in summary}
    return (
        request.get("NameContains", "") in summary.get(name, "")
        and request.get("StatusEquals", summary.get(status)) == summary.get(status)
        and all(request.get(f"{bound}After", 0) <= value for bound, value in bounds.items())
        and all(value <= request.get(f"{bound}Before", value) for bound, value in bounds.items())
    )
