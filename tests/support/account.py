"""What a launcher asks of an AWS account: who am I, a role, quotas, a price; over a real socket."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs

IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>A</UserId><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
ROLE = """<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role>
<Path>/</Path><RoleName>Stocktake</RoleName><RoleId>A</RoleId><Arn>arn:aws:iam::123456789012:role/Stocktake</Arn>
<CreateDate>2026-01-01T00:00:00Z</CreateDate></Role></GetRoleResult></GetRoleResponse>"""
ERROR = "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"


class Account:
    """Answers STS, IAM and Service Quotas on 127.0.0.1; a context manager.

    Attributes:
        quotas: Name of the quota to its value.
        errors: Operation to (HTTP status, code, message).
        usd_an_hour: Of every instance type; `None`: none is known.
    """

    def __init__(self):
        self.quotas: dict[str, float] = {}
        self.errors: dict[str, tuple[int, str, str]] = {}
        self.usd_an_hour: float | None = None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def environment(self) -> dict[str, str]:
        services = ("STS", "IAM", "SERVICE_QUOTAS", "PRICING")
        return {f"AWS_ENDPOINT_URL_{service}": self.url for service in services}

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, operation: str, request: dict) -> str:
        if operation == "ListServiceQuotas":
            pages = sorted(self.quotas.items())
            at = int(request.get("NextToken", 0))
            told = {
                "Quotas": [
                    {"QuotaName": name, "QuotaCode": f"L-{at}", "Value": value} for name, value in pages[at : at + 1]
                ]
            }
            return json.dumps(told | ({"NextToken": str(at + 1)} if at + 1 < len(pages) else {}))
        if operation == "GetProducts":
            dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{self.usd_an_hour}"}}
            product = {"terms": {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}}}
            return json.dumps({"PriceList": [json.dumps(product)] if self.usd_an_hour else []})
        return {"GetCallerIdentity": IDENTITY, "GetRole": ROLE}[operation]


def _handler(account: Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            target = self.headers.get("X-Amz-Target")
            operation = target.partition(".")[2] if target else parse_qs(body)["Action"][0]
            if operation in account.errors:
                status, code, message = account.errors[operation]
                text = json.dumps({"__type": code, "message": message}) if target else ERROR.format(code, message)
            else:
                status, text = 200, account.answer(operation, json.loads(body) if target else {})
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1" if target else "text/xml")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    return Handler
