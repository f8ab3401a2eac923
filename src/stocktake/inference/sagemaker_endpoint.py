"""An endpoint of SageMaker's, asked by its name: realtime and serverless at once, asynchronous through S3."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, Self

from stocktake.inference.endpoint_backend import EndpointError, probabilities_in, rejection_in
from stocktake.serving.custom_attributes import image_id_attribute
from stocktake.storage import Folder, StorageOptions, join_url, split_url

# InvokeEndpoint's and InvokeEndpointAsync's largest bodies, as botocore's model of them says.
MAX_BODY_BYTES, MAX_INLINE_BYTES = 6_291_456, 128_000
CONTENT_TYPE = "application/x-image"  # of any kind: the server looks at the bytes
POLL_S = 0.5  # between two looks for an asynchronous answer
HINTS = {
    "AccessDeniedException": "The credentials may not ask it: they need sagemaker:InvokeEndpoint on its ARN.",
    "ExpiredTokenException": "The credentials have expired: log in again (aws sso login).",
    "UnrecognizedClientException": "AWS does not know these credentials: see aws configure.",
    "ValidationError": "Type python scripts/deploy.py action=list for the endpoints that there are.",
}


class SageMakerEndpoint:
    """One endpoint, by its name.

    Args:
        name: Of the endpoint.
        runtime: boto3's client of `sagemaker-runtime`.
        control: boto3's client of `sagemaker`, which says whether it answers at once.
        storage: The way to the S3 folders of an asynchronous one.
        timeout_s: So long an asynchronous answer is waited for.
        input_url: S3 folder for images that an asynchronous one is sent and that are too large to go along.
    """

    def __init__(
        self,
        name: str,
        runtime: Any,
        control: Any,
        storage: StorageOptions,
        timeout_s: float,
        input_url: str | None = None,
    ):
        self.name, self.runtime, self.control, self.storage = name, runtime, control, storage
        self.timeout_s, self.input_url = timeout_s, input_url
        self.is_async, self.addressed = False, {"EndpointName": name}

    @classmethod
    def of(cls, name: str, storage: StorageOptions, timeout_s: float, max_tries: int, input_url: str | None) -> Self:
        """Opens an endpoint of the account that the environment or `storage` names.

        Raises:
            EndpointError: There is no such profile, or no region.
        """
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(read_timeout=timeout_s, retries={"mode": "standard", "total_max_attempts": max_tries})
        try:
            session = boto3.Session(profile_name=storage.profile, region_name=storage.region)
            clients = [session.client(service, config=config) for service in ("sagemaker-runtime", "sagemaker")]
        except BotoCoreError as error:
            hint = "Type storage.region=<region>, or: export AWS_DEFAULT_REGION=<region>"
            raise EndpointError(f"endpoint=sagemaker:{name}: {str(error).rstrip('.')}. {hint}") from None
        return cls(name, clients[0], clients[1], storage, timeout_s, input_url)

    def check(self) -> None:
        """Asks what kind of endpoint it is; one that may not be looked at is taken for one that answers at once.

        Raises:
            EndpointError: There is none, or it does not serve.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            described = self.control.describe_endpoint(EndpointName=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"].startswith("AccessDenied"):  # who may ask need not be allowed to look
                return
            raise self._explained(error) from None
        except BotoCoreError as error:
            raise EndpointError(f"endpoint=sagemaker:{self.name}: {error}.") from None
        # While it is updated or rolled back, the model of before answers.
        if described["EndpointStatus"] in ("Creating", "Failed", "Deleting", "OutOfService"):
            raise EndpointError(f"endpoint=sagemaker:{self.name} is {described['EndpointStatus']} and does not answer.")
        self.is_async = "AsyncInferenceConfig" in described
        if "ManagedInstanceScaling" in described["ProductionVariants"][0]:  # scripts/deploy.py gives both one name
            self.addressed = {"EndpointName": self.name, "InferenceComponentName": self.name}

    def count(self, content: bytes, image_id: str = "") -> dict[int, float]:
        """Returns P(count) of every count.

        Args:
            image_id: Goes along as a custom attribute, which data capture and the prediction log keep.

        Raises:
            EndpointError: The image was refused, or there was no answer.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        if len(content) > MAX_BODY_BYTES:
            raise EndpointError(f"{len(content):,} bytes are more than SageMaker takes, {MAX_BODY_BYTES:,}.")
        request: dict[str, Any] = {**self.addressed, "ContentType": CONTENT_TYPE, "Accept": "application/json"}
        if attributes := image_id_attribute(image_id):
            request["CustomAttributes"] = attributes
        try:
            answer = self._count_later(request, content) if self.is_async else self._count_at_once(request, content)
        except ClientError as error:
            raise self._explained(error) from None
        except BotoCoreError as error:
            raise EndpointError(f"endpoint=sagemaker:{self.name}: {error}.") from None
        try:
            response = json.loads(answer)
        except ValueError:
            response = answer
        return probabilities_in(response, f"sagemaker:{self.name}")

    def _count_at_once(self, request: dict[str, Any], content: bytes) -> bytes:
        answered = self.runtime.invoke_endpoint(**request, Body=content)
        return answered["Body"].read()

    def _count_later(self, request: dict[str, Any], content: bytes) -> bytes:
        if len(content) <= MAX_INLINE_BYTES:
            request["Body"] = content
        else:
            if self.input_url is None:
                raise EndpointError(
                    f"{len(content):,} bytes do not fit into an asynchronous request ({MAX_INLINE_BYTES:,}). "
                    "Type async_input=s3://<bucket>/<folder> for what is sent through S3."
                )
            key = uuid.uuid4().hex
            Folder(self.input_url, self.storage).write(key, content)
            request["InputLocation"] = join_url(self.input_url, key)
        return self._awaited(self.runtime.invoke_endpoint_async(**request))

    def _awaited(self, accepted: Mapping[str, Any]) -> bytes:
        deadline = time.monotonic() + self.timeout_s
        while time.monotonic() < deadline:
            if (answer := self._read(accepted["OutputLocation"])) is not None:
                return answer
            failure = accepted.get("FailureLocation")
            if failure and (reason := self._read(failure)) is not None:
                raise EndpointError(rejection_in(reason) or reason.decode(errors="replace")[:500])
            time.sleep(POLL_S)
        raise EndpointError(
            f"no answer within timeout_s={self.timeout_s:g}; it will lie in {accepted['OutputLocation']}"
        )

    def _read(self, url: str) -> bytes | None:
        folder, name = split_url(url)
        return Folder(folder, self.storage).read_if_there(name)

    def _explained(self, error: Any) -> EndpointError:
        """Returns an error of boto3's with the server's own words where it has any."""
        response = error.response
        code = response["Error"]["Code"]
        if code == "ModelError" and (rejection := rejection_in(response.get("OriginalMessage", ""))):
            return EndpointError(rejection)
        message = response["Error"].get("Message", str(error)).rstrip(".")
        if "no capacity" in message:
            return EndpointError(
                f"endpoint=sagemaker:{self.name} stands at no instance. The first one comes now, as deploy.py's "
                "scaling.min_instances=0 has it: ask again in some minutes."
            )
        return EndpointError(f"endpoint=sagemaker:{self.name}: {message} ({code}). {HINTS.get(code, '')}".rstrip())
