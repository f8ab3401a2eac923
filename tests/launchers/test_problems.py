"""What a job could not reach, found without an account and without a process of its own."""

import pytest
from omegaconf import OmegaConf

from hydra_plugins.stocktake_sagemaker.problems import Problem, storage_problems, summary

CFG = {
    "data": {"root": "s3://bins/abid", "_target_": "stocktake.data.datamodule.BinDataModule"},
    "model": {"weights": "none"},
    "checkpoint_dir": "/opt/ml/checkpoints/run/checkpoints",
    "compute": {"bucket": "bins", "output_url": "s3://bins/stocktake", "channels": {}, "network_isolation": False},
}
ISOLATED = {"compute.network_isolation": True}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"data.root": "data/abid"}, ["data.root=data/abid is a folder of this machine"]),
        ({"data.root": "data/packed"}, []),
        ({"data.root": "file:///data/abid"}, ["data.root=file:///data/abid is a folder of this machine"]),
        ({"data.root": "gs://bins/abid"}, []),
        (ISOLATED | {"data.root": "gs://bins/abid"}, ["SageMaker brings only what lies in S3"]),
        ({"data.root": "x", "data._target_": "stocktake.data.datamodule.SyntheticBinDataModule"}, []),
        ({"model.weights": "my weights.pt"}, ["aws s3 cp 'my weights.pt' s3://<bucket>/"]),
        ({"model.weights": "./packed.pt"}, []),
        ({"checkpoint": "runs/x/best.ckpt"}, ["checkpoint=runs/x/best.ckpt is a file of this machine"]),
        ({"data.root": "/opt/ml/input/data/bins"}, ["Type +compute.channels.bins=s3://<bucket>/<folder>"]),
        ({"data.root": "/opt/ml/input/data/bins", "compute.channels.bins": "s3://bins/abid"}, []),
        (
            ISOLATED,
            ["type +compute.channels.root=s3://bins/abid data.root=/opt/ml/input/data/root"],
        ),
        (
            ISOLATED
            | {"data.root": "/opt/ml/input/data/b", "compute.channels.b": "s3://b-b/c", "model.weights": "imagenet"},
            ["model.weights=imagenet cannot be fetched"],
        ),
        (
            {
                "compute.bucket": "My_Bucket",
                "compute.output_url": "s3://My_Bucket/x",
                "data.root": "s3://192.168.0.1/x",
            },
            ["compute.bucket: 'My_Bucket' is no name of a bucket", "data.root: '192.168.0.1' is no name"],
        ),
    ],
)
def test_what_no_instance_reaches_is_refused_with_its_key(changes, lines):
    cfg = OmegaConf.create(CFG)
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    found = [problem.text for problem in storage_problems(cfg, ["packed.pt", "data/packed/manifest.parquet"])]
    assert len(found) == len(lines), found
    assert all(line in text for line, text in zip(lines, found, strict=True)), found


def test_the_list_says_each_thing_once():
    problems = [Problem("a", is_missing=True), Problem("b"), Problem("a", is_missing=True), Problem("b")]
    assert summary(problems) == "Missing before it can be sent, 1:\n  a\nWrong, 1:\n  b"
