"""From what an account has to what it lacks, and to what AWS is asked so that it has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.cloud.account import AccountError
from stocktake.cloud.account_part import Part, Setting, is_own
from stocktake.cloud.deployment import Call
from stocktake.cloud.preflight import MAY_NOT_LOOK
from stocktake.cloud.service_calls import NOT_FOUND, CallRefused, ServiceCalls

ASK_FOR = "python scripts/aws.py action=policy whom=setup"
FORBIDDEN = (*MAY_NOT_LOOK, "403", "Forbidden")  # S3's, where an answer has no body


@dataclass(frozen=True)
class Step:
    """What is done about one part.

    Attributes:
        state: `make`, `change`, `stays`; `blocked` where nothing can be done before a person did something.
        about: What it becomes, what changes of it, or what a person has to do.
        calls: That do it, in order.
    """

    part: Part
    state: str
    about: Sequence[str]
    calls: Sequence[Call] = ()

    def __str__(self) -> str:
        about = "; ".join(self.about)
        price = f" ({self.part.price})" if self.state == "make" else ""
        return f"{self.state:<8}{self.part.title}{price}{': ' if about else ''}{about}"


class AccountSetup(ServiceCalls):
    """Looks at the parts of an account, and makes what it lacks."""

    def is_there(self, part: Part) -> bool:
        """
        Raises:
            CallRefused: AWS does not tell.
        """
        try:
            self._ask(part.look.service, part.look.operation, **part.look.request)
        except CallRefused as error:
            if is_absent(error):
                return False
            raise
        return True

    def is_own(self, part: Part) -> bool:
        """Whether a part that is there was made by this project."""
        if part.tags is None:
            return True
        try:
            return is_own(part.tags(self._ask))
        except CallRefused as error:
            if is_absent(error):
                return False
            raise

    def step(self, part: Part) -> Step:
        """Returns what is to be done about a part; asks only what changes nothing."""
        try:
            if not self.is_there(part):
                return first_step(part)
            if not self.is_own(part):
                tag = f" If it is yours to be changed and deleted, type: {part.how_to_tag}" if part.how_to_tag else ""
                return Step(part, "blocked", [f"is there, and has no tag project=stocktake.{tag}"])
            wrong = [setting for setting in part.settings if not self._is_as_wanted(setting)]
        except CallRefused as error:
            return Step(part, "blocked", [_blocked(part, error)])
        calls = [call for setting in wrong for call in setting.write]
        return Step(part, "change" if wrong else "stays", [setting.title for setting in wrong], calls)

    def _is_as_wanted(self, setting: Setting) -> bool:
        try:
            return setting.is_kept(setting.read(self._ask))
        except CallRefused as error:
            if is_absent(error):
                return False
            raise

    def carry_out(self, step: Step, secret_value: str | None = None) -> None:
        """Makes a step's calls.

        Args:
            secret_value: Goes into the call that makes a secret, and nowhere else.

        Raises:
            AccountError: AWS refuses one; what was made before stays, and the same words go on from there.
        """
        for call in step.calls:
            request: dict[str, Any] = dict(call.request)
            if "SecretString" in request:
                request["SecretString"] = secret_value
            try:
                self._ask(call.service, call.operation, **request)
            except CallRefused as error:
                raise AccountError(
                    f"{step.part.title}: {refusal(error)} What was made before stays; type the same again."
                ) from None


def first_step(part: Part) -> Step:
    """Returns the step of an account that has nothing."""
    later = [call for setting in part.settings if not setting.is_made for call in setting.write]
    return Step(part, "make", [setting.title for setting in part.settings], [*part.make, *later])


def is_absent(error: CallRefused) -> bool:
    return bool(NOT_FOUND.search(f"{error} {error.code}"))


def refusal(error: Exception) -> str:
    """Returns AWS's reason in one line, and what to ask for where these credentials may not do it."""
    reason = " ".join(str(error).partition(" Hint:")[0].split())
    if isinstance(error, CallRefused) and error.code in FORBIDDEN:
        return f"{reason} Ask for what this prints: {ASK_FOR}"
    return reason


def _blocked(part: Part, error: CallRefused) -> str:
    is_foreign = part.kind == "bucket" and error.code in (
        "403",
        "Forbidden",
    )  # all the world's buckets share their names
    return (
        f"it is somebody else's, or these credentials may not look: {refusal(error)}" if is_foreign else refusal(error)
    )
