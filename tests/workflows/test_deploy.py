"""scripts/deploy.py before anything reaches AWS: what is shown, refused and asked; the rest is in tests/rehearsal."""

import json

import pytest
from served import export

from stocktake.serving.model_folder import read_exported
from stocktake.storage import Folder, StorageOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run folder that holds an exported model."""
    run = tmp_path_factory.mktemp("run")
    (run / "model").mkdir()
    export(run / "model")
    return run


@pytest.fixture
def unset(monkeypatch):
    for name in ("STOCKTAKE_ROLE", "STOCKTAKE_BUCKET", "STOCKTAKE_SERVING_IMAGE", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def shown(capsys) -> list[tuple[str, dict]]:
    """Returns the calls that a dry run prints."""
    blocks = capsys.readouterr().out.split("\n{")
    names = [block.splitlines()[-1] for block in blocks[:-1]]
    requests = ["{" + block[: block.rindex("\n}") + 2] for block in blocks[1:]]
    return [(name, json.loads(request)) for name, request in zip(names, requests, strict=True)]


def test_a_dry_run_needs_no_account_and_shows_every_request(run_script, model, unset, capsys):
    assert run_script("deploy.py", f"model={model}", "name=bins", "dry_run=true") == 0
    output = capsys.readouterr().out
    assert "version brightness-1" in output
    _, _, missing = output.partition("Before it can be made, 3:\n")
    assert [line.split()[0] for line in missing.splitlines()[:3]] == ["bucket", "role_arn", "image_uri"]
    assert "export STOCKTAKE_BUCKET=" in missing
    assert "Nothing was sent." in missing
    run_script("deploy.py", f"model={model}", "name=bins", "dry_run=true")
    calls = shown(capsys)
    assert [name.split()[1] for name, _ in calls] == [
        *("CreateModel", "CreateEndpointConfig", "PutMetricAlarm", "PutMetricAlarm", "CreateEndpoint"),
    ]
    assert calls[1][1]["ProductionVariants"][0]["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert "ends-at" in {tag["Key"] for tag in calls[4][1]["Tags"]}, "an end is planned unless ttl_h=null is typed"


def test_a_run_its_model_folder_and_a_bucket_give_the_same_archive(run_script, model, unset, capsys, s3, monkeypatch):
    folder = Folder("s3://bins/model")
    for path in (model / "model").iterdir():
        folder.write(path.name, path.read_bytes())
    urls = set()
    for location in (model, model / "model", "s3://bins/model"):
        assert run_script("deploy.py", f"model={location}", "name=bins", "dry_run=true") == 0
        urls.add(shown(capsys)[0][1]["PrimaryContainer"]["ModelDataUrl"])
    assert len(urls) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["name=bins"], "model is not set. Type model="),
        (["model=nowhere", "name=bins"], "model=nowhere holds no model.json"),
        (["model=nowhere", "name=bins"], "scripts/export.py checkpoint=nowhere/checkpoints/best.ckpt"),
        (["model={model}", "name=bins", "+tags.project=warehouse"], "tags.project is what deploy.py finds its own by"),
        (["model={model}", "name=bins", "ttl_h=1e12"], "ttl_h takes a number from 0.25 to 87600"),
        (["model={model}"], "name is not set"),
        (["model={model}", f"name={'n' * 60}"], "at most 37 allowed"),
        (["model={model}", "name=bins"], "bucket is not set: it is the S3 bucket"),
        (["model={model}", "name=my_bins", "dry_run=false", "bucket=bins"], "name (ModelName): 'my_bins-"),
        (["model={model}", "name=bins", "environment={PORT:a}"], "has not yet take a +. Type +environment.PORT=a"),
        (["model={model}", "name=bins", "+environment.HF_TOKEN=abc"], "environment.HF_TOKEN looks like a secret"),
        (["action=delete", "name=bins"], "No AWS region is set"),
        (["model={model}", "name=bins", "wait=false", "target=realtime", "scaling.max_instances=3"], "Type wait=true"),
        (["action=lst"], "Type action=list"),
        (["model={model}", "name=night", "target=batch"], "input is not set: it is what the job counts. Type input=s3"),
        (["model={model}", "name=bins", "input=s3://bins/a"], "input=s3://bins/a is for a batch job"),
        (["model={model}", "name=bins", "target=async", "output=runs/a"], "Type target=batch"),
        (["action=stop", "name=bins"], "action=stop is for a batch job. Type target=batch"),
        (["action=delete", "name=bins", "target=batch"], "Type action=status or action=stop"),
        (["model={model}", "name=night", "target=batch", "input=data/bins"], "Type aws s3 sync data/bins s3://"),
        (
            ["model={model}", "name=night", "target=batch", "input=s3://bins/a", "batch.num_at_once=20"],
            "batch.num_at_once (MaxConcurrentTransforms): 20 times MaxPayloadInMB=6 is more than 100 MB; 16 or fewer",
        ),
        (
            ["model={model}", "name=night", "target=batch", "input=s3://bins/a", "image_uri=aws", "batch.payload_mb=7"],
            "batch.payload_mb=7: with image_uri=aws no image above 6 MB is taken. Type batch.payload_mb=6",
        ),
        (["target=batch", "batch.payload_mb=101"], "batch.payload_mb takes a whole number from 1 to 32"),
        (["model={model}", "name=bins", "memory_mb=512"], "memory_mb takes a whole number from 1024 to 6144"),
        (["model={model}", "name=bins", "ttl_h=0"], "ttl_h takes a number from 0.25 to 87600"),
    ],
)
def test_what_is_missing_or_wrong_is_told(run_script, model, unset, capsys, words, told):
    assert run_script("deploy.py", *(word.format(model=model) if "{model}" in word else word for word in words)) == 1
    assert told in capsys.readouterr().err


def test_a_damaged_model_is_refused_before_anything_is_asked(run_script, unset, tmp_path, capsys):
    export(tmp_path)
    content = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[:-1] + b"\0")
    assert run_script("deploy.py", f"model={tmp_path}", "name=bins", "dry_run=true") == 1
    assert "is not the file that model.json describes" in capsys.readouterr().err


def test_a_dry_run_covers_what_looks_secret(run_script, model, unset, capsys):
    words = (f"model={model}", "name=bins", "dry_run=true", "+environment.HF_TOKEN=hf_abc", "+environment.A=plain")
    assert run_script("deploy.py", *words) == 0
    output = capsys.readouterr().out
    assert "environment.HF_TOKEN looks like a secret" in output and "hf_abc" not in output and "plain" in output


def test_what_lies_beside_a_model_is_neither_sent_nor_run(tmp_path):
    export(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text("raise SystemExit")
    (tmp_path / "credentials").write_text("secret")
    files, _ = read_exported(str(tmp_path), StorageOptions())
    assert set(files) == {"model.json", "model.onnx"}


def test_awss_own_image_is_the_regions_and_gets_code_beside_the_model(run_script, model, unset, capsys):
    words = ("deploy.py", f"model={model}", "name=bins", "dry_run=true", "image_uri=aws", "region=eu-central-2")
    assert run_script(*words, "+environment.GREETING=hello") == 0
    container = shown(capsys)[0][1]["PrimaryContainer"]
    assert container["Image"].startswith("380420809688.dkr.ecr.eu-central-2.amazonaws.com/pytorch-inference:2.6.0-cpu-")
    assert container["Environment"] == {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "GREETING": "hello",
    }
    assert run_script("deploy.py", f"model={model}", "name=bins", "dry_run=true", "region=eu-central-2") == 0
    assert shown(capsys)[0][1]["PrimaryContainer"]["ModelDataUrl"] != container["ModelDataUrl"], "another archive"
    assert run_script(*words, "network_isolation=true", "subnets=[subnet-1]", "security_groups=[sg-1]") == 0
    told = capsys.readouterr().out.splitlines()
    refused = [line.split()[0] for line in told if "goes not with image_uri=aws" in line]
    assert refused == ["network_isolation", "subnets"]


def test_a_dry_run_of_a_batch_job_shows_its_requests_and_reads_nothing(run_script, model, unset, capsys):
    words = (f"model={model}", "name=night", "target=batch", "input=s3://nobody/bins", "dry_run=true")
    assert run_script("deploy.py", *words) == 0
    (_, made), (operation, job) = shown(capsys)
    assert operation == "sagemaker CreateTransformJob"
    assert job["TransformInput"]["DataSource"]["S3DataSource"] == {
        "S3DataType": "S3Prefix",
        "S3Uri": "s3://nobody/bins/",
    }
    assert job["ModelName"] == made["ModelName"] == job["TransformJobName"]
    assert run_script("deploy.py", *words, "split=valid") == 0
    assert "was not looked at; it is taken for a dataset root" in capsys.readouterr().out
    run_script("deploy.py", *words, "split=valid")
    source = shown(capsys)[1][1]["TransformInput"]["DataSource"]["S3DataSource"]
    assert source["S3DataType"] == "ManifestFile"
    assert source["S3Uri"].endswith("/input.manifest")
