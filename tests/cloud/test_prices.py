"""Where a price comes from and of which day it is; AWS's Price List over a real socket."""

import json
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from stocktake.cloud.price_list import asked_prices, cache_path, cached_prices, hourly_usd
from stocktake.cloud.prices import Prices, PriceUnknown, region_prices

TODAY = date(2026, 11, 29)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def product(usd: str, **attributes) -> str:
    dimensions = {"1": {"unit": "Hrs", "pricePerUnit": {"USD": usd}}}
    return json.dumps(
        {"product": {"attributes": attributes}, "terms": {"OnDemand": {"A": {"priceDimensions": dimensions}}}}
    )


@pytest.fixture
def price_list(monkeypatch):
    """A Price List that gives `answers[component]`, and counts how often it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            wanted = {one["Field"]: one["Value"] for one in request["Filters"]}
            server.asked.append(wanted)
            found = server.answers.get(wanted["component"], []) if server.status == 200 else None
            body = {"PriceList": found} if found is not None else {"__type": "AccessDeniedException", "message": "no"}
            self.send_response(server.status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked, server.status = {}, [], 200
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    yield server
    server.shutdown()
    server.server_close()


def account() -> boto3.Session:
    return boto3.Session(region_name="us-east-2")


def test_the_table_says_its_day_its_source_and_its_region():
    found = Prices.known("eu-west-1").of("ml.g5.xlarge")
    assert (found.usd_per_hour, found.day) == (1.57, date(2023, 12, 31))
    (note,) = found.notes(TODAY)
    assert "1.57 USD an hour" in note and "2023-12-31; it is 1064 days old" in note and "stands in" not in note
    assert (
        "for eu-west-1, which stands in for us-east-1" in Prices.known("us-east-1").of("ml.g5.xlarge").notes(TODAY)[0]
    )


def test_what_is_typed_counts_before_all_and_is_of_today():
    found = Prices.known("eu-west-1", {"ml.g5.xlarge": 1.41, "ml.p9.xlarge": 9}, TODAY)
    assert (found.of("ml.g5.xlarge").usd_per_hour, found.of("ml.g5.xlarge").day) == (1.41, TODAY)
    assert found.of("ml.p9.xlarge").notes(TODAY) == ["ml.p9.xlarge: 9 USD an hour, as typed, 2026-11-29."]
    assert found.oldest(["ml.g5.xlarge", "ml.m5.xlarge"]) == date(2023, 12, 31)


def test_a_type_that_nobody_priced_is_refused_with_what_to_type():
    with pytest.raises(PriceUnknown, match=r"ml\.p9\.xlarge.*'prices=\{ml\.p9\.xlarge: <USD an hour>\}'"):
        Prices.known("eu-west-1").of("ml.p9.xlarge")


@pytest.mark.parametrize(
    "typed", [{"ml.g5.xlarge": 1.41}, {"ml": {"g5": {"xlarge": 1.41}}}, {"ml.g5": {"xlarge": 1.41}}]
)
def test_prices_may_be_typed_as_a_map_or_by_a_key(typed):
    assert region_prices(typed, None, "us-east-2", ()).of("ml.g5.xlarge").usd_per_hour == 1.41


def test_the_price_list_is_asked_once_and_kept_with_its_day(price_list):
    price_list.answers = {
        "Training": [product("1.2575", component="Training", usagetype="USE2-Train:ml.g5.xlarge"), product("0.0")],
        "SpotTraining": [product("1.4084", component="SpotTraining")],
    }
    found = asked_prices(account(), ["ml.g5.xlarge"], TODAY)["ml.g5.xlarge"]
    assert (found.usd_per_hour, found.spot_usd_per_hour, found.day) == (1.2575, 1.4084, TODAY)
    assert {one["regionCode"] for one in price_list.asked} == {"us-east-2"}
    kept = Prices.known("us-east-2").of("ml.g5.xlarge")
    assert (kept.usd_per_hour, kept.spot_usd_per_hour, kept.day, kept.source) == (
        1.2575,
        1.4084,
        TODAY,
        "by AWS's Price List",
    )
    assert Prices.known("us-east-1").of("ml.g5.xlarge").usd_per_hour == 1.57, "a price is of its own region"
    assert "it is 397 days old" in kept.notes(date(2027, 12, 31))[0]


def test_spot_and_on_demand_in_one_answer_are_told_apart(price_list):
    of_spot = product("1.4084", component="Training", usagetype="USE2-SpotTraining:ml.g5.xlarge")
    price_list.answers = {"Training": [of_spot, product("1.2575", component="Training", usagetype="USE2-Train:ml.g5")]}
    assert hourly_usd(account(), "ml.g5.xlarge") == 1.2575
    found = asked_prices(account(), ["ml.g5.xlarge"], TODAY)["ml.g5.xlarge"]
    assert (found.usd_per_hour, found.spot_usd_per_hour) == (1.2575, 1.4084)


def test_of_two_prices_nobody_knows_which_is_meant(price_list):
    price_list.answers = {"Training": [product("1.2"), product("1.3")]}
    assert hourly_usd(account(), "ml.g5.xlarge") is None
    assert asked_prices(account(), ["ml.g5.xlarge"], TODAY) == {}


def test_a_price_list_that_refuses_is_told_with_what_to_type(price_list):
    price_list.status = 400
    with pytest.raises(ValueError, match=r"AccessDenied.*ask_aws=false"):
        asked_prices(account(), ["ml.g5.xlarge"], TODAY)
    assert hourly_usd(account(), "ml.g5.xlarge") is None


def test_without_a_region_aws_is_not_asked(price_list):
    with pytest.raises(ValueError, match="Type region="):
        region_prices(None, None, None, ["ml.g5.xlarge"])
    assert price_list.asked == []


@pytest.mark.parametrize("content", ["{", '{"us-east-2": {"ml.g5.xlarge": {"usd_per_hour": 1}}}', '{"us-east-2": [1]}'])
def test_a_damaged_cache_is_told_and_written_anew(price_list, content, capsys):
    cache_path().parent.mkdir(parents=True)
    cache_path().write_text(content)
    assert cached_prices("us-east-2") == {}
    assert "is damaged" in capsys.readouterr().err
    price_list.answers = {"Training": [product("1.2575")]}
    asked_prices(account(), ["ml.g5.xlarge"], TODAY)
    assert cached_prices("us-east-2")["ml.g5.xlarge"].usd_per_hour == 1.2575
