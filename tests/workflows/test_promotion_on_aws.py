"""Where a promoted challenger goes: the model registry and an endpoint of a rehearsed account, as it is typed."""

import json
import socket
import time

import pytest
from account import Account
from hosted import IMAGE, ROLE
from local_s3 import local_s3
from paired_evaluations import as_sure, said, write
from served import export, gray_image

from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.hosting import Hosting
from stocktake.rehearsal.signature import SessionKey

SERVICES = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH", "CLOUDWATCH_LOGS", "APPLICATION_AUTO_SCALING", "SCHEDULER")
SET = [f"role_arn={ROLE}", f"image_uri={IMAGE}", "bucket=bins", "yes=true", "poll_s=0.1"]
REALTIME = ["target=realtime", "ttl_h=1"]
COMMIT = "b" * 40


class Rehearsed(RehearsalServer):
    """Keeps which operations were asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.operations: list[str] = []

    def service(self, call):
        found = super().service(call)
        self.operations.append(found[1])
        return found


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An account with the bucket `bins`, which the environment points to."""
    folder = tmp_path_factory.mktemp("aws")
    (folder / "buckets" / "bins").mkdir(parents=True)
    with local_s3(folder / "buckets") as s3, Account() as account, pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_PROFILE", raising=False)
        with (
            Hosting(folder / "hosting", s3_folder=folder / "buckets", time_scale=0.01) as hosting,
            Rehearsed(hosting=hosting, key=SessionKey(s3.access_key, s3.secret_key)) as server,
        ):
            rehearsed = {f"AWS_ENDPOINT_URL_{service}": server.url for service in SERVICES}
            for name, value in (s3.environment() | account.environment() | rehearsed).items():
                environment.setenv(name, value)
            server.buckets = folder / "buckets"
            yield server


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with an evaluation and an exported model each; the model of `broken` ends the server that opens it."""
    folder = tmp_path_factory.mktemp("runs")
    counted = {
        "champion": said(0.5, 1),
        "better": as_sure(0.94, 0.9, 2),
        "best": as_sure(0.99, 0.99, 3),
        "worse": said(0.1, 2),
        "broken": as_sure(0.99, 0.99, 4),
    }
    for number, (name, probabilities_NK) in enumerate(counted.items()):
        sha256 = f"{number}" * 64
        write(folder / name / "evaluation-test", probabilities_NK, checkpoint_sha256=sha256)
        (folder / name / "model").mkdir()
        export(folder / name / "model")
        file = folder / name / "model" / "model.json"
        own = {
            "version": f"{name}-1",
            "checkpoint_sha256": sha256,
            "commit": COMMIT,
            "versions": {"stocktake": "0.2.0"},
        }
        file.write_text(json.dumps(json.loads(file.read_text()) | own))
    facts = json.loads(file.read_text())  # of four counts, where the graph gives five
    facts["counts"] = facts["calibration"]["counts"] = [1, 2, 3, 4]
    file.write_text(json.dumps(facts))
    return folder


@pytest.fixture
def typed(run_script, runs, tmp_path, capsys):
    """Returns what types the command and gives its exit code, what it printed and what it wrote on stderr."""

    def run(challenger: str, champion: str, *words: str) -> tuple[int, str, str]:
        champion = str(runs / champion) if (runs / champion).exists() else champion
        folders = [f"challenger={runs / challenger}", f"champion={champion}", f"output_dir={tmp_path}"]
        code = run_script("promote.py", *folders, *words)
        return code, *capsys.readouterr()

    return run


def versions(aws, group: str) -> list[dict]:
    """Returns the versions of a group in full, the oldest first."""
    sagemaker = aws.client("sagemaker")
    listed = sagemaker.list_model_packages(ModelPackageGroupName=group, SortOrder="Ascending")
    arns = [each["ModelPackageArn"] for each in listed["ModelPackageSummaryList"]]
    return [sagemaker.describe_model_package(ModelPackageName=arn) for arn in arns]


def test_a_better_one_becomes_a_version_and_the_next_champion(aws, runs, typed, tmp_path):
    code, out, _ = typed("better", "champion", "registry=counters", *SET)
    assert code == 0
    (version,) = versions(aws, "counters")
    assert version["ModelApprovalStatus"] == "PendingManualApproval"
    assert f"Registered: {version['ModelPackageArn']}, PendingManualApproval" in out
    own = version["CustomerMetadataProperties"]
    metrics = json.loads((runs / "better/evaluation-test/metrics.json").read_text())
    assert float(own.pop("accuracy")) == pytest.approx(metrics["accuracy"]["value"], abs=1e-6)
    assert 0 <= float(own.pop("p_value")) < 0.05
    assert own == {
        "model_version": "better-1",
        "checkpoint_sha256": "1" * 64,
        "manifest_sha256": "9f2c",
        "train_manifest_sha256": metrics["train_manifest_sha256"],
        "code_version": "0.2.0",
        "commit": COMMIT,
        "evaluation": str(runs / "better/evaluation-test"),
        "champion": str(runs / "champion/evaluation-test"),
    }
    assert version["MetadataProperties"] == {"CommitId": COMMIT}
    (container,) = version["InferenceSpecification"]["Containers"]
    assert container["Image"] == IMAGE
    statistics = version["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    kept = aws.buckets / statistics.removeprefix("s3://")
    assert json.loads(kept.read_text()) == metrics
    recorded = json.loads((tmp_path / "promotion.json").read_text())
    assert recorded["model_package"] == version["ModelPackageArn"] == json.loads(out.splitlines()[-1])["model_package"]

    model = {"ModelPackageName": version["ModelPackageArn"]}
    aws.client("sagemaker").create_model(ModelName="by-arn", PrimaryContainer=model, ExecutionRoleArn=ROLE)
    assert aws.client("sagemaker").describe_model(ModelName="by-arn")["PrimaryContainer"]["Image"] == IMAGE

    code, out, _ = typed("best", "registry", "registry=counters", "approval=Approved", *SET)
    assert "registry=counters has no approved version, so there is no champion yet." in out
    assert code == 0
    _, newer = versions(aws, "counters")  # the group is taken as it is
    assert newer["ModelApprovalStatus"] == "Approved"
    code, out, _ = typed("worse", "registry", "registry=counters", *SET)
    assert f"The champion is {newer['ModelPackageArn']}" in out
    assert (code, len(versions(aws, "counters"))) == (1, 2)


@pytest.mark.parametrize("challenger", ["worse", "champion-again"])
def test_of_one_that_is_not_promoted_nothing_is_sent(aws, runs, typed, monkeypatch, challenger):
    if challenger == "champion-again":
        write(runs / challenger / "evaluation-test", said(0.5, 1), checkpoint_sha256="9" * 64)

    def refuse(self, address):
        raise AssertionError(f"{address} was asked")

    asked = len(aws.operations)
    with monkeypatch.context() as guarded:
        guarded.setattr(socket.socket, "connect", refuse)
        code, out, err = typed(challenger, "champion", "registry=others", "endpoint=others", *REALTIME, *SET)
    assert (code, err.splitlines()[1:]) == (1, [])
    assert "Not promoted: the champion keeps its place" in out
    assert len(aws.operations) == asked


def test_an_endpoint_is_deployed_then_given_a_shadow_and_each_is_registered(aws, typed, tmp_path):
    code, out, err = typed("better", "null", "endpoint=bins", "registry=deployed", *REALTIME, *SET)
    assert code == 0, err
    assert "1 x ml.c6i.large" in out and "bins: InService" in out
    assert [version["ModelApprovalStatus"] for version in versions(aws, "deployed")] == ["Approved"]
    recorded = json.loads((tmp_path / "promotion.json").read_text())
    assert (recorded["endpoint"], recorded["answers"], recorded["model_version"]) == ("bins", True, "better-1")

    shadow = ["shadow_percent=50", "capture_percent=100", "update.wait_s=0", "update.termination_wait_s=0"]
    code, out, err = typed("best", "null", "endpoint=bins", "registry=deployed", *shadow, *REALTIME, *SET)
    assert code == 0, err
    assert "1 x ml.c6i.large more, for the shadow" in out
    assert [version["ModelApprovalStatus"] for version in versions(aws, "deployed")][1:] == ["PendingManualApproval"]
    described = aws.client("sagemaker").describe_endpoint(EndpointName="bins")
    assert [variant["VariantName"] for variant in described["ProductionVariants"]] == ["all"]
    assert [variant["CurrentWeight"] for variant in described["ShadowProductionVariants"]] == [0.5]
    ask = aws.client("sagemaker-runtime").invoke_endpoint
    for _ in range(4):
        answer = json.loads(ask(EndpointName="bins", Body=gray_image(), ContentType="image/png")["Body"].read())
        assert answer["model_version"] == "better-1", "the champion answers"
    captured = aws.buckets / "bins/stocktake/endpoints/bins/captured/bins"
    deadline = time.monotonic() + 30
    while len(lines := sorted(captured.rglob("*.jsonl"))) < 6:
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)
    told = {"all": [], "shadow": []}
    for line in lines:
        answered = json.loads(line.read_text())["captureData"]["endpointOutput"]["data"]
        told[line.relative_to(captured).parts[0]].append(json.loads(answered)["model_version"])
    assert told == {"all": ["better-1"] * 4, "shadow": ["best-1"] * 2}

    code, out, err = typed("broken", "null", "endpoint=bins", "registry=deployed", *REALTIME, *SET)
    assert (code, len(versions(aws, "deployed"))) == (1, 2)
    assert "endpoint=bins was rolled back: the model of before answers. Nothing is registered." in err
    aws.client("sagemaker").delete_endpoint(EndpointName="bins")


def test_a_component_that_is_updated_is_approved_as_well(aws, typed, run_script, capsys):
    to_zero = ["scaling.min_instances=0", "scaling.max_instances=1", "update.wait_s=0", *REALTIME, *SET]
    for number, challenger in enumerate(("better", "best"), 1):
        code, _, err = typed(challenger, "null", "endpoint=zero", "registry=at-zero", *to_zero)
        assert code == 0, err
        statuses = [version["ModelApprovalStatus"] for version in versions(aws, "at-zero")]
        assert statuses == ["Approved"] * number, "its endpoint's config is the same all along"
    for told in ("Deleted: DeleteInferenceComponent(zero)", "name=zero: nothing of it is there. Type python scripts"):
        assert run_script("deploy.py", "action=delete", "name=zero", "yes=true", "poll_s=0.1") == 0
        assert told in capsys.readouterr().out


def test_a_dry_run_needs_no_account_and_sends_nothing(aws, typed, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    asked = len(aws.operations)
    code, out, _ = typed("better", "null", "endpoint=bins", "registry=counters", *REALTIME, "dry_run=true")
    assert code == 0
    shown = [line.split()[1] for line in out.splitlines() if line.startswith("sagemaker ")]
    assert shown == [
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
        "CreateModelPackageGroup",
        "CreateModelPackage",
    ]
    assert '"ModelApprovalStatus": "Approved"' in out
    assert out.count("bucket is not set: it is the S3 bucket") == 2, "for the endpoint, and for the registry"
    assert len(aws.operations) == asked
    assert "model_package" not in json.loads((tmp_path / "promotion.json").read_text())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["endpoint=my_bins"], "endpoint (EndpointName): 'my_bins' does not match"),
        ([f"endpoint={'n' * 60}"], "at most 37 allowed"),
        (["registry=my_bins"], "registry (ModelPackageGroupName): 'my_bins' does not match"),
        (["approval=Approved"], "registry is not set. Type registry=<group>"),
        (["shadow_percent=20"], "endpoint is not set. Type endpoint=<name>"),
        (["registry=bins", "approval=approved"], "Type approval=Approved"),
        (
            ["registry=bins", "bucket=null"],
            "bucket is not set: it is the S3 bucket for the model. Type bucket=<bucket>",
        ),
        (["endpoint=new", "target=realtime", "shadow_percent=20"], "there is no endpoint new whose requests"),
        (
            ["endpoint=new", "shadow_percent=20"],
            "shadow_percent (ShadowProductionVariants): are for real-time endpoints",
        ),
        (["registry=bins", "instance_type=ml.c6i.lage"], "instance_type ("),
        (["registry=bins", "exported={runs}/best/model"], "was exported from another checkpoint"),
        (
            ["registry=bins", "challenger={runs}/bare"],
            "holds no model.json, and an exported model is what goes further",
        ),
        (["endpont=bins"], "Did you mean endpoint? Type endpoint=bins"),
        (["update.shift=canry"], "Type update.shift=canary"),
    ],
)
def test_what_is_missing_or_wrong_is_told_by_its_key(aws, runs, typed, words, told):
    if not (runs / "bare").exists():
        write(runs / "bare" / "evaluation-test", as_sure(0.94, 0.9, 2), checkpoint_sha256="1" * 64)
    code, _, err = typed("better", "null", *SET, *(word.format(runs=runs) for word in words))
    assert code == 1
    assert told in err
    assert "Traceback" not in err
