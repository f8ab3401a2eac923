"""What an endpoint and a batch job alike say of the model that they run, and the request that makes it."""

from collections.abc import Mapping, Sequence

from stocktake.cloud import endpoint_requests
from stocktake.cloud.endpoint_requests import Request


class ServedModel:
    """A model that AWS runs in a container; its subclasses have these as fields.

    Attributes:
        role_arn: What the container may do.
        image_uri: In ECR.
        environment: Of the container.
        network_isolation: The container reaches no network at all.
    """

    role_arn: str
    image_uri: str
    environment: Mapping[str, str]
    subnets: Sequence[str]
    security_groups: Sequence[str]
    network_isolation: bool

    def model(self, name: str, model_url: str, tags: Mapping[str, str]) -> Request:
        """Returns the body of CreateModel.

        Args:
            model_url: Of model.tar.gz in S3.
        """
        return endpoint_requests.model(
            name,
            self.role_arn,
            self.image_uri,
            model_url,
            environment=self.environment,
            subnets=self.subnets,
            security_groups=self.security_groups,
            network_isolation=self.network_isolation,
            tags=tags,
        )
