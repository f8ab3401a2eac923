"""A limit in dollars holds: no bill of a job that the rules admit is above the bound; by hand, and by many jobs."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.cloud.cost_bound import FETCHED_GB, KEPT_GB, Traffic, bound, limit_s, refusal
from stocktake.cloud.prices import InstancePrice, OtherPrices, Prices, PriceUnknown
from stocktake.cloud.requests import training_job
from stocktake.cloud.validation import problem_lines

ROLE = "arn:aws:iam::123456789012:role/Stocktake"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker"
TYPES = ("ml.g4dn.xlarge", "ml.g5.xlarge", "ml.m5.xlarge")
OTHER = OtherPrices(0.154, 4e-7, 5e-6, 0.023, 0.09, "by hand")


def prices(**usd: float) -> Prices:
    table = {"ml.g4dn.xlarge": 0.8, "ml.g5.xlarge": 1.5, "ml.m5.xlarge": 0.25} | usd
    return Prices(
        "us-east-1", {one: InstancePrice(one, price, date(2026, 11, 1), "typed") for one, price in table.items()}, OTHER
    )


def request(**values) -> dict:
    urls = {"code_url": "s3://b/code", "config_url": "s3://b/config", "output_url": "s3://b/out"}
    return training_job("job", ROLE, IMAGE, **urls, **values)


def test_one_job_on_demand_by_hand():
    job = request(instance_types=["ml.g5.xlarge"], num_instances=2, volume_gb=73, max_runtime_s=3600)
    found = bound([([job], Traffic(num_gets=1_000_000, num_puts=1_000))], prices())
    per_hour = 2 * 1.5 + 2 * 73 * 0.154 / 730
    beside_h = (120 + 40 / 0.05) / 3600  # the end's grace; image, packages and results at 50 MB/s
    requests = 2 * (1_000_000 * 4e-7 + 1_000 * 5e-6)
    assert found.usd == pytest.approx(per_hour * (1 + beside_h) + requests + 20 * 0.023 + 1 * 0.09)
    assert (found.num_jobs, found.limit_s) == (1, 3600)


def test_a_spot_job_is_bounded_by_how_long_it_may_wait_and_by_the_dearer_meter():
    job = request(instance_types=["ml.g5.xlarge"], max_runtime_s=3600, spot=True, max_wait_s=7200, volume_gb=1)
    assert limit_s(job) == 7200
    found = bound([([job], Traffic())], prices())
    assert found.usd_per_s == pytest.approx((1.5 * 1.13 + 0.154 / 730) / 3600)
    known = InstancePrice("ml.g5.xlarge", 1.2575, date(2026, 7, 9), "a bill", 1.4084)
    found = bound([([job], Traffic())], Prices("us-east-2", {"ml.g5.xlarge": known}, OTHER))
    assert found.usd_per_s == pytest.approx((1.4084 + 0.154 / 730) / 3600)


def test_later_tries_sweeps_warm_instances_and_channels_are_in_it():
    job = request(instance_types=["ml.g4dn.xlarge"], max_runtime_s=3600)
    one = bound([([job], Traffic())], prices())
    tries = [job, request(instance_types=["ml.g5.xlarge"], max_runtime_s=3600)]
    both = bound([(tries, Traffic())], prices())
    assert both.num_jobs == 2 and both.usd > 2 * one.usd
    assert bound([([job], Traffic())] * 5, prices()).usd == pytest.approx(5 * one.usd)
    warm = bound(
        [([request(instance_types=["ml.g4dn.xlarge"], max_runtime_s=3600, keep_alive_s=1800)], Traffic())], prices()
    )
    assert warm.usd - one.usd == pytest.approx(1800 * one.usd_per_s)
    fed = request(instance_types=["ml.g4dn.xlarge"], max_runtime_s=3600, channels={"data": "s3://b/d"})
    assert bound([([fed], Traffic())], prices()).usd - one.usd == pytest.approx(100 / 0.05 * one.usd_per_s)


def test_of_several_types_the_dearest_counts():
    several = request(instance_types=["ml.g4dn.xlarge", "ml.g5.xlarge"], max_runtime_s=3600)
    alone = request(instance_types=["ml.g5.xlarge"], max_runtime_s=3600)
    assert bound([([several], Traffic())], prices()).usd == bound([([alone], Traffic())], prices()).usd


def test_without_a_price_there_is_no_bound():
    with pytest.raises(PriceUnknown, match=r"ml\.p9\.xlarge"):
        bound([([request(instance_types=["ml.p9.xlarge"])], Traffic())], prices())


def test_a_launch_above_its_limit_is_refused_and_what_it_says_to_type_is_within():
    spot = {"spot": True, "max_wait_s": 172_800, "num_instances": 2}
    jobs = [request(instance_types=["ml.g5.xlarge"], **spot)] * 3
    found = bound([([job], Traffic()) for job in jobs], prices())
    told = refusal(found, 20, jobs)
    assert told is not None and told.startswith(
        f"hydra.launcher.max_usd=20, and this launch can cost {found.usd:.2f} USD: 3 jobs"
    )
    typed = dict(word.split("=") for word in told.replace(",", " ").split() if word.startswith("compute."))
    assert typed.keys() == {"compute.max_runtime_s", "compute.max_wait_s"}
    shorter = {key.removeprefix("compute."): int(value) for key, value in typed.items()}
    jobs = [request(instance_types=["ml.g5.xlarge"], **(spot | shorter))] * 3
    found = bound([([job], Traffic()) for job in jobs], prices())
    assert found.usd <= 20 and found.usd == pytest.approx(20, abs=0.01)
    assert refusal(found, 20, jobs) is None


def test_where_no_limit_is_short_enough_dollars_are_told():
    job = request(instance_types=["ml.g5.xlarge"])
    told = refusal(bound([([job], Traffic())], prices()), 0.5, [job])
    assert told is not None and "Type hydra.launcher.max_usd=37." in told and "max_runtime_s" not in told


usd = st.floats(0.01, 100)
seconds = st.integers(60, 10 * 24 * 3600)


@st.composite
def launches(draw):
    jobs = []
    for _ in range(draw(st.integers(1, 4))):
        spot = draw(st.booleans())
        runtime_s = draw(seconds)
        types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True))
        values = {
            "num_instances": draw(st.integers(1, 8)),
            "volume_gb": draw(st.integers(1, 1000)),
            "max_runtime_s": runtime_s,
            "channels": draw(st.sampled_from([None, {"data": "s3://b/data"}])),
        }
        if spot:
            values |= {"spot": True, "max_wait_s": runtime_s + draw(st.integers(0, 100_000))}
            requests = [request(instance_types=[one], **values) for one in types]
        else:
            keep_alive_s = draw(st.integers(0, 3600))
            requests = [request(instance_types=types, keep_alive_s=keep_alive_s, **values)]
        jobs.append((requests, Traffic(draw(st.integers(0, 10**8)), draw(st.integers(0, 10**6)))))
    return jobs


def up_to(most: float):
    """Anything from nothing, and often the most, where a bound that is too low would show."""
    return st.just(most) | st.floats(0, most)


def bill_usd(draw, job: dict, traffic: Traffic, table: Prices) -> float:
    """What AWS could bill for a job that does what its request and the stated assumptions allow, part by part."""
    resources, stopping = job["ResourceConfig"], job["StoppingCondition"]
    taken = draw(st.sampled_from(resources.get("InstancePreferences", [resources])))
    num, price = taken["InstanceCount"], table.instances[taken["InstanceType"]]
    spot = job["EnableManagedSpotTraining"]
    disk_gb, has_channel = resources["VolumeSizeInGB"], len(job["InputDataConfig"]) > 2
    fetched_s = draw(up_to((20 + disk_gb * has_channel) / 0.05))
    running_s = draw(up_to(stopping["MaxWaitTimeInSeconds" if spot else "MaxRuntimeInSeconds"]))
    stored_s = 120 + draw(up_to(20 / 0.05))
    training_s = fetched_s + running_s + stored_s
    billable_s = training_s * draw(up_to(1)) if spot else training_s
    meter = price.usd_per_hour * (1 + draw(up_to(0.12)) * spot)
    warm_s = draw(up_to(resources.get("KeepAlivePeriodInSeconds", 0)))
    disk = num * disk_gb * (training_s + warm_s) / 3600 / 730 * table.other.volume_usd_per_gb_month
    times = draw(up_to(2))
    s3 = times * (traffic.num_gets * table.other.get_usd + traffic.num_puts * table.other.put_usd)
    s3 += KEPT_GB * table.other.stored_usd_per_gb_month + FETCHED_GB * table.other.fetched_usd_per_gb
    return num * (billable_s * meter + warm_s * price.usd_per_hour) / 3600 + disk + s3


@settings(max_examples=150, deadline=None)
@given(st.data(), launches(), st.tuples(usd, usd, usd))
def test_no_bill_is_above_the_bound(data, launch, table):
    known = prices(**dict(zip(TYPES, table, strict=True)))
    for requests, _ in launch:
        for job in requests:
            assert problem_lines("CreateTrainingJob", job) == [], "the rules admit it"
    billed = sum(bill_usd(data.draw, job, traffic, known) for requests, traffic in launch for job in requests)
    found = bound(launch, known)
    assert billed <= found.usd * (1 + 1e-9)
    assert found.usd == pytest.approx(
        found.fixed_usd
        + sum(limit_s(job) * bound([([job], Traffic())], known).usd_per_s for r, _ in launch for job in r)
    )
