"""AWS's training images: which one a region has for CPUs or GPUs, and what one of them suits."""

import re
from collections.abc import Iterator, Mapping, Sequence

from stocktake.shell import override

AWS_IMAGE = "aws"  # what is typed for the one that suits region and instances
TAG = "2.14-cu133-amzn2023-sagemaker"
CPU_TAG = "2.14-cpu-amzn2023-sagemaker"
# Accounts that hold AWS's PyTorch 2.14, from sagemaker-core 2.27.0 (image_uri_config/pytorch-amzn2023.json), read on
# 29 November 2026. Regions that are in none of the tables have no such image.
SHARED_ACCOUNT = "763104351884"
ACCOUNTS = {
    **dict.fromkeys(("ap-northeast-1", "ap-northeast-2", "ap-south-1"), SHARED_ACCOUNT),
    **dict.fromkeys(("ap-southeast-1", "ap-southeast-2", "ca-central-1", "sa-east-1"), SHARED_ACCOUNT),
    **dict.fromkeys(("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"), SHARED_ACCOUNT),
    **dict.fromkeys(("us-east-1", "us-east-2", "us-west-1", "us-west-2"), SHARED_ACCOUNT),
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-east-2": "975050140332",
    "ap-northeast-3": "364406365360",
    "ap-south-2": "772153158452",
    "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322",
    "ap-southeast-5": "550225433462",
    "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437",
    "ca-west-1": "204538143572",
    "eu-central-2": "380420809688",
    "eu-south-1": "692866216735",
    "eu-south-2": "503227376785",
    "il-central-1": "780543022126",
    "me-central-1": "914824155844",
    "me-south-1": "217643126080",
    "me-west-1": "124382933778",
    "mx-central-1": "637423239942",
}
# Where 2.13 is the newest: other partitions, each with a domain of its own (botocore 1.44.5, data/partitions.json).
OLDER_TAG = "2.13-cu133-amzn2023-sagemaker"
OLDER_CPU_TAG = "2.13-cpu-amzn2023-sagemaker"
OLDER_ACCOUNTS = {
    "cn-north-1": ("727897471807", "amazonaws.com.cn"),
    "cn-northwest-1": ("727897471807", "amazonaws.com.cn"),
    "us-gov-east-1": ("446045086412", "amazonaws.com"),
    "us-gov-west-1": ("442386744353", "amazonaws.com"),
}
FOR_TRAINING_ALONE = {  # which have no image for inference
    "eu-isoe-west-1": ("371248457586", "cloud.adc-e.uk"),
    "eusc-de-east-1": ("204133271717", "amazonaws.eu"),
    "us-iso-east-1": ("886529160074", "c2s.ic.gov"),
    "us-isob-east-1": ("094389454867", "sc2s.sgov.gov"),
    "us-isof-east-1": ("303241398832", "csp.hci.ic.gov"),
    "us-isof-south-1": ("454834333376", "csp.hci.ic.gov"),
}
DOMAIN = "amazonaws.com"
# What pyproject.toml asks of an image that brings torch and Python.
LEAST_TORCH = (2, 11)
LEAST_PYTHON, PYTHON_BELOW = (3, 11), (3, 14)
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html; a digest may stand for the tag.
ECR_IMAGE = re.compile(
    r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/[a-z0-9][a-z0-9._/-]*(:[\w.-]+|@sha256:[0-9a-f]{64})?"
)
GPU_TYPE = re.compile(r"ml\.(g|p)\d")
# K80 (sm_37) and V100 (sm_70); torch's wheels for CUDA 13 begin at sm_75, the T4 of ml.g4dn.
TOO_OLD_TYPE = re.compile(r"ml\.p[23]")
CUDA_TAG = re.compile(r"[:-]cu(\d+)\b")
TORCH_TAG = re.compile(r"/pytorch[a-z-]*:(\d+)\.(\d+)")
PYTHON_TAG = re.compile(r"\bpy(3)(\d+)\b")
FIRST_CUDA_WITHOUT_VOLTA = 130


def aws_image(region: str, has_gpu: bool) -> str | None:
    """Returns the URI of AWS's newest PyTorch image for training in a region, `None` where AWS lists none."""
    if region in ACCOUNTS:
        return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{DOMAIN}/pytorch:{TAG if has_gpu else CPU_TAG}"
    if older := (OLDER_ACCOUNTS | FOR_TRAINING_ALONE).get(region):
        account, domain = older
        return f"{account}.dkr.ecr.{region}.{domain}/pytorch:{OLDER_TAG if has_gpu else OLDER_CPU_TAG}"
    return None


def image_in(image_uri: str, region: str, instance_types: Sequence[str] = ()) -> str:
    """Returns an image's URI, of `aws` that of AWS's own for a region and the first of the instance types.

    In others `{account}`, `{region}` and `{domain}` are filled in, where AWS has an image in the region.
    """
    if image_uri == AWS_IMAGE:
        has_gpu = not instance_types or bool(GPU_TYPE.match(str(instance_types[0])))
        return aws_image(region, has_gpu) or AWS_IMAGE
    if region in ACCOUNTS:
        image_uri = image_uri.replace("{account}", ACCOUNTS[region]).replace("{domain}", DOMAIN)
    return image_uri.replace("{region}", region)


def image_problems(request: Mapping, region: str) -> Iterator[tuple[str, str]]:
    """Yields (key, what is wrong) of a CreateTrainingJob request's image, and of instances that it does not suit."""
    image = request["AlgorithmSpecification"].get("TrainingImage", "")
    resources = request["ResourceConfig"]
    if "{account}" in image or image == AWS_IMAGE:
        hint = "Take another hydra.launcher.region, or type compute.image_uri=<your own image in ECR>."
        if older := aws_image(region, has_gpu=True):
            hint = f"Type {override('compute.image_uri', older)}"
        yield "compute.image_uri", f"AWS lists no PyTorch image {TAG} in region {region}. {hint}"
        return
    if not ECR_IMAGE.fullmatch(image):
        yield (
            "compute.image_uri",
            f"{image!r} is no image in ECR, where SageMaker takes images from: "
            "<account>.dkr.ecr.<region>.amazonaws.com/<name>:<tag>, or @sha256:<64 digits> in the tag's place. Leave "
            "the key out for AWS's own image.",
        )
    yield from _version_problems(image)
    cuda = CUDA_TAG.search(image)
    preferred = [entry["InstanceType"] for entry in resources.get("InstancePreferences", ())]
    for instance_type in filter(None, [resources.get("InstanceType"), *preferred]):
        if not cuda or not isinstance(instance_type, str):
            continue
        if not GPU_TYPE.match(instance_type):
            for_cpus = image.replace(f"cu{cuda[1]}", "cpu")
            yield (
                "compute.instance_types",
                f"{instance_type} has no NVIDIA GPU, and the image is for CUDA. Type "
                f"{override('compute.image_uri', for_cpus)}, or take a type with a GPU, such as ml.g5.xlarge.",
            )
        elif TOO_OLD_TYPE.match(instance_type) and int(cuda[1]) >= FIRST_CUDA_WITHOUT_VOLTA:
            yield (
                "compute.instance_types",
                f"the GPU of {instance_type} is too old for the image: its torch begins at compute capability 7.5. "
                "Type compute.instance_types=[ml.g4dn.xlarge], or [ml.g5.xlarge].",
            )


def _version_problems(image: str) -> Iterator[tuple[str, str]]:
    """Yields what the tag tells of an image that the project cannot run in; a digest tells nothing."""
    hint = "Leave compute.image_uri out for AWS's own image."
    if (found := TORCH_TAG.search(image)) and (int(found[1]), int(found[2])) < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        yield "compute.image_uri", f"{image} brings torch {found[1]}.{found[2]}, and from {least} on is needed. {hint}"
    if (found := PYTHON_TAG.search(image)) and not LEAST_PYTHON <= (int(found[1]), int(found[2])) < PYTHON_BELOW:
        needed = f"{'.'.join(map(str, LEAST_PYTHON))} or later, below {'.'.join(map(str, PYTHON_BELOW))},"
        yield "compute.image_uri", f"{image} brings Python {found[1]}.{found[2]}, and {needed} is needed. {hint}"
