"""The key of one rehearsal, and whether a request was signed with it, as AWS's own services look (Signature Version 4).

A CreateTrainingJob names a command that is then run here, and every user of this machine can reach the server's port:
only who was given the key, which is made anew for each rehearsal and kept in memory, is answered.
"""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stocktake.rehearsal.api_protocols import Call
from stocktake.rehearsal.job_state import REGION, RequestRefused

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 "
    r"Credential=(?P<key>[A-Za-z0-9_-]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z-]+)/aws4_request, "
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
MAX_AGE = timedelta(minutes=15)


def _access_key_id() -> str:
    return "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))


@dataclass(frozen=True)
class SessionKey:
    """An access key that is good for one server."""

    access_key_id: str = field(default_factory=_access_key_id)
    secret_access_key: str = field(default_factory=secrets.token_urlsafe, repr=False)

    def check(self, call: Call, service: str) -> None:
        """Lets a request pass that was signed with this key, for this service and region, in the last minutes.

        Args:
            service: The signing name of the API, such as `sagemaker`, after the operation that it asks for.

        Raises:
            RequestRefused: In AWS's words.
        """
        headers = call.headers
        if not headers.get("Authorization"):
            raise RequestRefused("MissingAuthenticationTokenException", "Missing Authentication Token")
        found = AUTHORIZATION.fullmatch(headers["Authorization"])
        signed = found["headers"].split(";") if found else []
        names_operation = {"x-amz-target"} if "x-amz-target" in headers else set()  # elsewhere the path does
        if not found or not {"host", "x-amz-date"} | names_operation <= set(signed):
            raise RequestRefused("IncompleteSignatureException", "The Authorization header signs too little.")
        if not hmac.compare_digest(found["key"], self.access_key_id):
            raise RequestRefused(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        if (found["region"], found["service"]) != (REGION, service):
            raise RequestRefused(
                "InvalidSignatureException", f"Credential should be scoped to {REGION} and to {service}."
            )
        values = {name: headers.get(name, "") for name in signed}
        if not hmac.compare_digest(found["signature"], self._signature(values, call, service)):
            raise RequestRefused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method.",
            )
        signed_at = datetime.strptime(values["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - signed_at) > MAX_AGE:
            raise RequestRefused("InvalidSignatureException", f"Signature expired: {values['x-amz-date']}.")

    def _signature(self, signed_headers: Mapping[str, str], call: Call, service: str) -> str:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        content = signed_headers.get("x-amz-content-sha256")
        if content is not None and content != hashlib.sha256(call.body).hexdigest():
            return ""  # botocore would take the header's word for it
        url = f"http://{signed_headers['host']}{call.path}" + (f"?{call.query}" if call.query else "")
        request = AWSRequest(call.method, url, signed_headers, call.body)
        request.context["timestamp"] = signed_headers["x-amz-date"]
        auth = SigV4Auth(Credentials(self.access_key_id, self.secret_access_key), service, REGION)
        return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))
