"""AWS's training images: which account holds them in a region, and which instances one of them runs on."""

import re
from collections.abc import Iterator, Mapping

TAG = "2.14-cu133-amzn2023-sagemaker"
CPU_TAG = "2.14-cpu-amzn2023-sagemaker"
# Accounts that hold AWS's PyTorch 2.14, from sagemaker-core 2.27.0 (image_uri_config/pytorch-amzn2023.json), read on
# 28 November 2026. Regions that are in none of the tables have no such image.
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
# Where 2.13 is the newest: other partitions, each with a domain of its own.
OLDER_TAG = "2.13-cu133-amzn2023-sagemaker"
OLDER_ACCOUNTS = {
    "cn-north-1": ("727897471807", "amazonaws.com.cn"),
    "cn-northwest-1": ("727897471807", "amazonaws.com.cn"),
    "us-gov-east-1": ("446045086412", "amazonaws.com"),
    "us-gov-west-1": ("442386744353", "amazonaws.com"),
}
DOMAIN = "amazonaws.com"
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html; a digest may stand for the tag.
ECR_IMAGE = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/[a-z0-9][a-z0-9._/-]*([:@][\w.:-]+)?")
GPU_TYPE = re.compile(r"ml\.(g|p)\d")
# K80 (sm_37) and V100 (sm_70); torch's wheels for CUDA 13 begin at sm_75, the T4 of ml.g4dn.
TOO_OLD_TYPE = re.compile(r"ml\.p[23]")
CUDA_TAG = re.compile(r"[:-]cu(\d+)\b")
FIRST_CUDA_WITHOUT_VOLTA = 130


def image_in(image_uri: str, region: str) -> str:
    """Returns an image's URI with `{account}`, `{region}` and `{domain}` filled in, where AWS has one in a region."""
    if region in ACCOUNTS:
        image_uri = image_uri.replace("{account}", ACCOUNTS[region]).replace("{domain}", DOMAIN)
    return image_uri.replace("{region}", region)


def image_problems(request: Mapping, region: str) -> Iterator[tuple[str, str]]:
    """Yields (key, what is wrong) of a CreateTrainingJob request's image, and of instances that it does not suit."""
    image = request["AlgorithmSpecification"].get("TrainingImage", "")
    resources = request["ResourceConfig"]
    if "{account}" in image:
        hint = "Take another hydra.launcher.region, or type compute.image_uri=<your own image in ECR>."
        if region in OLDER_ACCOUNTS:
            account, domain = OLDER_ACCOUNTS[region]
            hint = f"Type 'compute.image_uri=\"{account}.dkr.ecr.{region}.{domain}/pytorch:{OLDER_TAG}\"'"
        yield "compute.image_uri", f"AWS lists no PyTorch image {TAG} in region {region}. {hint}"
        return
    if not ECR_IMAGE.fullmatch(image):
        yield (
            "compute.image_uri",
            f"{image!r} is no image in ECR, where SageMaker takes images from: "
            "<account>.dkr.ecr.<region>.amazonaws.com/<name>:<tag>. Leave the key out for AWS's own image.",
        )
    cuda = CUDA_TAG.search(image)
    preferred = [entry["InstanceType"] for entry in resources.get("InstancePreferences", ())]
    for instance_type in filter(None, [resources.get("InstanceType"), *preferred]):
        if not cuda or not isinstance(instance_type, str):
            continue
        if not GPU_TYPE.match(instance_type):
            yield (
                "compute.instance_types",
                f"{instance_type} has no NVIDIA GPU, and the image is for CUDA. Type "
                f"'compute.image_uri=\"{image.rpartition(':')[0]}:{CPU_TAG}\"', or take a type with a GPU, such as "
                "ml.g5.xlarge.",
            )
        elif TOO_OLD_TYPE.match(instance_type) and int(cuda[1]) >= FIRST_CUDA_WITHOUT_VOLTA:
            yield (
                "compute.instance_types",
                f"the GPU of {instance_type} is too old for the image: its torch begins at compute capability 7.5. "
                "Type compute.instance_types=[ml.g4dn.xlarge], or [ml.g5.xlarge].",
            )
