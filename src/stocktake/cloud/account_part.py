"""A part of an account, as data: the calls that look at it, make it and change it.

Nothing here asks AWS by itself: `read` is given what does. A part that is there, and whose settings are what they shall
be, needs no call; so a second setup changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stocktake.cloud.deployment import Call
from stocktake.cloud.endpoint_requests import PROJECT

Ask = Callable[..., dict[str, Any]]  # (service, operation, **request) to the answer


@dataclass(frozen=True)
class Setting:
    """One property of a part.

    Attributes:
        title: What it makes the part, in words.
        read: Gives what it is now; AWS's own error where it is not set.
        wanted: What that must hold; it may hold more.
        write: The calls that make it so.
        is_made: With the part: the call that makes it says it already.
        is_exact: It must hold no more: what else a policy says would be allowed, too.
    """

    title: str
    read: Callable[[Ask], Any]
    wanted: Any
    write: list[Call]
    is_made: bool = False
    is_exact: bool = False

    def is_kept(self, found: Any) -> bool:
        return found == self.wanted if self.is_exact else holds(found, self.wanted)


@dataclass(frozen=True)
class Part:
    """A thing in the account.

    Attributes:
        look: Refused as not found where it is not there.
        tags: Gives its tags, by which it is known as this project's; None where its name alone is.
        make: The calls that make it; what else it shall be, `settings` have.
        price: What it costs, in words; list prices of us-east-1.
        how_to_tag: What to type where it is there without this project's tag.
    """

    kind: str
    name: str
    look: Call
    make: list[Call]
    tags: Callable[[Ask], Mapping[str, str]] | None = None
    settings: list[Setting] = field(default_factory=list)
    price: str = "free"
    how_to_tag: str = ""

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}"


def is_own(tags: Mapping[str, str]) -> bool:
    return PROJECT.items() <= tags.items()


def holds(found: Any, wanted: Any) -> bool:
    """Whether what AWS gives back is what was wanted; AWS may add fields of its own."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(key in found and holds(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return found == wanted
