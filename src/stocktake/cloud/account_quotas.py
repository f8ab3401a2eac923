"""How many instances an account may run at a time, beside how many this project's configurations want."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stocktake.cloud.service_calls import ServiceCalls

SERVICE = "sagemaker"
CONSOLE = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas"


@dataclass(frozen=True)
class Quota:
    """A quota of SageMaker's by AWS's own name.

    Attributes:
        code: AWS's, by which more is asked for; None where AWS lists no such quota.
        value: None likewise.
    """

    name: str
    wanted: int
    code: str | None = None
    value: float | None = None

    @property
    def is_enough(self) -> bool:
        return self.value is not None and self.value >= self.wanted

    def line(self, region: str) -> str:
        """Returns it in words, with the command that asks for more."""
        if self.value is None:
            return f"{self.name}: {self.wanted} wanted, and AWS lists no such quota. Look at {CONSOLE}"
        if self.is_enough:
            return f"{self.name}: {self.value:g}, {self.wanted} wanted"
        return (
            f"{self.name}: {self.value:g}, {self.wanted} wanted. Ask for more (hours to days): aws service-quotas "
            f"request-service-quota-increase --service-code {SERVICE} --quota-code {self.code} "
            f"--desired-value {self.wanted} --region {region}"
        )


def wanted_quotas(
    training_types: list[str], num_instances: int, endpoint_types: list[str], num_endpoint_instances: int
) -> dict[str, int]:
    """Returns AWS's names of the quotas that count, and how much of each is wanted."""
    trained = {
        f"{name} for {way} usage": num_instances
        for name in training_types
        for way in ("training job", "spot training job")
    }
    served = {
        f"{name} for {way} usage": num_endpoint_instances
        for name in endpoint_types
        for way in ("endpoint", "transform job")
    }
    return trained | served


class Quotas(ServiceCalls):
    """The quotas of one account and region."""

    def compared(self, wanted: Mapping[str, int]) -> Iterator[Quota]:
        """Yields each quota that is wanted, with what the account has of it.

        Raises:
            CallRefused: AWS does not tell.
        """
        found: dict[str, tuple[str, float]] = {}
        token: dict[str, str] = {}
        while wanted.keys() - found.keys():
            page = self._ask("service-quotas", "ListServiceQuotas", ServiceCode=SERVICE, MaxResults=100, **token)
            for quota in page["Quotas"]:
                if quota["QuotaName"] in wanted:
                    found[quota["QuotaName"]] = quota["QuotaCode"], quota["Value"]
            if not page.get("NextToken"):
                break
            token = {"NextToken": page["NextToken"]}
        for name, number in wanted.items():
            code, value = found.get(name, (None, None))
            yield Quota(name, number, code, value)
