"""How many images a second the server counts, beside other servers and what the machine could do at most.

    python benchmarks/bench_serve.py --source FOLDER
    python benchmarks/bench_serve.py --source FOLDER --seconds 1 --repeats 1 --only ours,torch_fastapi
    python benchmarks/bench_serve.py --source FOLDER --model runs/demo/latest/model --only bound,ours,litserve_onnx

Every server runs in turn, as processes of its own, with the same ResNet50 at 224 px (random weights, exported by this
project) and is asked for the same images by the same generator, over 1, 8 and 32 connections that each send their
next image when the last one is answered. Its first predictions are compared with the exported model's. The bound counts
the same images in one process, without a server, in the best of two ways; meanwhile the generator sends each of
them to a server that reads the body and does nothing, so that the traffic is paid for, too.

`ours_logged` and `ours_logged_images` keep a prediction log. SageMaker's data capture has no candidate: AWS copies what
goes in and out on its own side of the endpoint, and the server in the container does nothing for it.
"""

import argparse
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import harness
from background_traffic import pipes
from server_process import free_port, running

from stocktake.hardware import num_cores
from stocktake.images.decoding import read_pixels
from stocktake.serving.model_folder import FORMAT_VERSION, GRAPH_NAME, MODEL_NAME
from stocktake.serving.predictor import Predictor
from stocktake.serving.response import Prediction

HERE = Path(__file__).resolve().parent
# What each candidate imports beyond the project's own packages.
PEERS = {
    "bound": [],
    "ours": [],
    "ours_logged": [],  # with a prediction log of every answer
    "ours_logged_images": [],  # and each image in it
    "torch_fastapi": ["torch", "timm"],
    "litserve_torch": ["torch", "timm", "litserve"],
    "litserve_onnx": ["litserve"],
}
LOGGED = {"ours_logged": [], "ours_logged_images": ["prediction_log_images=true"]}  # with what words
OTHER_SERVERS = [name for name in PEERS if name not in ("bound", "ours", *LOGGED)]
PACKAGES = ["onnxruntime", "torch", "timm", "fastapi", "uvicorn", "litserve", "pillow"]
COUNTS, IMAGE_SIZE_PX, BACKBONE = [1, 2, 3, 4, 5], 224, "resnet50"
WEIGHTS_NAME = "weights.pt"
BOUND_CONNECTIONS = 8
GENERATOR_TIMEOUT_S = 300  # for the first answers to all its connections
NUM_COMPARED, MAX_DIFFERENCE = 4, 1e-3  # of a probability


# --- the model -----------------------------------------------------------------------------------------------------


def export_random_model(folder: str) -> dict:
    """Writes an exported model of random weights and `weights.pt`; returns what torch needs to know beside them."""
    import timm
    import torch

    from stocktake.data.transforms import Resize
    from stocktake.metrics.calibration import Calibration
    from stocktake.model.counter import BinCounter
    from stocktake.model.heads import SoftmaxHead
    from stocktake.onnx_export.graph import joined
    from stocktake.onnx_export.network_graph import network_graph
    from stocktake.onnx_export.resize_graph import OPSET, resize_graph

    torch.manual_seed(0)
    counter = BinCounter(BACKBONE, COUNTS, SoftmaxHead(), weights="none").eval()
    # Random weights say nearly the same of every image: a low temperature tells them apart.
    calibration = Calibration(temperature=0.05, coverage=0.9, threshold=0.1, counts=COUNTS, num_images=1)
    resize = Resize(IMAGE_SIZE_PX)
    network = network_graph(counter, calibration.temperature, IMAGE_SIZE_PX, OPSET)
    graph = joined(resize_graph(resize), network).SerializeToString()
    facts = {
        "format_version": FORMAT_VERSION,
        "version": "random",
        "counts": COUNTS,
        "calibration": calibration.to_dict(),
        "sha256": hashlib.sha256(graph).hexdigest(),
    }
    Path(folder, GRAPH_NAME).write_bytes(graph)
    Path(folder, MODEL_NAME).write_text(json.dumps(facts))
    torch.save(counter.backbone.state_dict(), Path(folder, WEIGHTS_NAME))
    own = timm.get_pretrained_cfg(BACKBONE)
    assert own
    return {
        "backbone": BACKBONE,
        "counts": COUNTS,
        "size_px": IMAGE_SIZE_PX,
        "mean": own.mean,
        "std": own.std,
        "temperature": calibration.temperature,
    }


# --- servers -------------------------------------------------------------------------------------------------------


def server_command(name: str, port: int, model: str, network: dict | None, logs: str) -> list[str]:
    """Returns the command that starts a candidate.

    Args:
        logs: Folder for prediction logs.
    """
    script, *arguments = _script_and_arguments(name, port, model, network, logs)
    return [sys.executable, str(HERE / script), *arguments]


def _script_and_arguments(name: str, port: int, model: str, network: dict | None, logs: str) -> list[str]:
    weights = str(Path(model, WEIGHTS_NAME))
    if name == "ours":
        return ["../scripts/serve.py", f"model={model}", f"port={port}"]
    if name in LOGGED:
        log = f"prediction_log={logs}/{name}"
        return ["../scripts/serve.py", f"model={model}", f"port={port}", log, *LOGGED[name]]
    if name == "idle":
        return ["bench_serve.py", "--worker", json.dumps({"name": name, "port": port})]
    if name == "torch_fastapi":
        options = {"port": port, "weights": weights, "network": network, "num_at_once": 1}
        return ["peer_torch.py", json.dumps(options)]
    if name == "litserve_torch":
        options = {"num_workers": 1, "weights": weights, "network": network}
    else:
        options = {"num_workers": num_cores(), "model": model}
    return ["peers_litserve.py", json.dumps({"name": name, "port": port, **options})]


def serve_idly(port: int) -> None:
    """Serves as ours does, by FastAPI and uvicorn, but reads the body and does nothing."""
    import uvicorn
    from fastapi import FastAPI, Request

    app = FastAPI()
    prediction = {"count": 1, "probabilities": {str(count): 1 / len(COUNTS) for count in COUNTS}}

    @app.post("/invocations")
    async def invocations(request: Request) -> dict:
        await request.body()
        return prediction

    uvicorn.run(app, host="127.0.0.1", port=port, http="h11", ws="none", log_level="warning", access_log=False)


def compare(name: str, predictions: Sequence[dict | None], expected: Sequence[Prediction]) -> None:
    """Ends the program where a server says something else than the exported model.

    Raises:
        SystemExit: With the image and both predictions.
    """
    for number, (prediction, wanted) in enumerate(zip(predictions, expected, strict=True)):
        found = {int(count): share for count, share in prediction["probabilities"].items()} if prediction else {}
        is_close = found.keys() == wanted.probabilities.keys()
        is_close = is_close and all(abs(found[n] - wanted.probabilities[n]) <= MAX_DIFFERENCE for n in found)
        if not (prediction and is_close and prediction["count"] == wanted.count):
            raise SystemExit(f"{name} predicts {prediction} for image {number}, the exported model {wanted}")


# --- measurements --------------------------------------------------------------------------------------------------


def measure_server(name: str, setting: dict, expected: Sequence[Prediction]) -> dict:
    """Returns the figures of one turn: those of each concurrency under its number."""
    compared = [Path(path).read_bytes() for path in setting["images"][:NUM_COMPARED]]
    port, figures = free_port(), {}
    command = server_command(name, port, setting["model"], setting["network"], setting["logs"])
    with running(command, port, compared[0]) as server:
        compare(name, [server.ask(image) for image in compared], expected)
        for concurrency in setting["concurrency"]:
            start_cpu_s = server.cpu_s()
            figure = generate(port, setting["images"], concurrency, setting["seconds"])
            cpu_ms = 1000 * (server.cpu_s() - start_cpu_s) / figure.pop("num_all_responses")
            figures[concurrency] = figure | {"cpu_ms_per_request": cpu_ms}
        return figures | {"cold_start_s": server.cold_start_s, "memory_mib": server.memory_mib()}


def generate(port: int, images: Sequence[str], concurrency: int, seconds: float) -> dict[str, float]:
    wanted = {"port": port, "images": images, "concurrency": concurrency, "seconds": seconds}
    command = [sys.executable, str(HERE / "load_generator.py"), json.dumps(wanted)]
    limit_s = GENERATOR_TIMEOUT_S + seconds
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)  # noqa: S603 - a list, no shell
    if done.returncode:
        raise SystemExit(f"the generator failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


def measure_bound(setting: dict) -> dict:
    """Returns the rate of the better of two ways: an image on each core, or one image on all cores."""
    port = free_port()
    with running(server_command("idle", port, setting["model"], None, setting["logs"]), port, b""):
        results = [
            harness.run_worker(setting | {"name": "bound", "port": port, "num_workers": workers, "num_threads": n})
            for workers, n in {(num_cores(), 1), (1, num_cores())}
        ]
    best = max(results, key=lambda result: result["images_per_s"])
    return dict.fromkeys(setting["concurrency"], best)  # the same beside each of them


def count_in_process(setting: dict) -> dict[str, float]:
    """Counts images with nothing around it, and has the generator send as many to the idle server."""
    predictor = Predictor.open(setting["model"], setting["num_threads"])
    images = [Path(path).read_bytes() for path in setting["images"]]
    wanted = {"port": setting["port"], "images": setting["images"], "concurrency": BOUND_CONNECTIONS}
    command = [sys.executable, str(HERE / "load_generator.py"), json.dumps(wanted | {"seconds": None})]
    num_workers = setting["num_workers"]

    def count(image: bytes) -> None:
        predictor.probabilities(read_pixels(image))
        os.write(to_generator.fileno(), b"x")

    def count_for_some_time(worker: int) -> tuple[int, float]:
        start_s, elapsed_s, num_counted = time.perf_counter(), 0.0, 0
        own = itertools.cycle(images[worker:] + images[:worker])
        while elapsed_s < setting["seconds"]:
            count(next(own))
            elapsed_s, num_counted = time.perf_counter() - start_s, num_counted + 1
        return num_counted, elapsed_s

    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as traffic,  # noqa: S603
        ThreadPoolExecutor(num_workers) as threads,
    ):
        to_generator, from_generator = pipes(traffic)
        from_generator.readline()  # it has connected
        list(threads.map(count, images[: 2 * num_workers]))
        counted = list(threads.map(count_for_some_time, range(num_workers)))
        to_generator.close()
        num_sent = json.loads(from_generator.read())["num_answers"]
    num_counted = sum(number for number, _ in counted)
    if num_sent < num_counted - BOUND_CONNECTIONS:
        raise SystemExit(f"only {num_sent} of {num_counted} images were sent to the idle server meanwhile")
    return {"images_per_s": sum(number / elapsed_s for number, elapsed_s in counted), "num_workers": num_workers}


# --- all turns -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a folder of JPEG images")
    parser.add_argument("--model", type=Path, help="an exported folder; without it, a ResNet50 of random weights")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn at each concurrency")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each candidate")
    parser.add_argument("--concurrency", default="1,8,32", help="connections, by commas")
    parser.add_argument("--num-images", type=int, default=64, help="that are asked for in turn")
    parser.add_argument("--only", help="candidates, by commas")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    if arguments.source is None:
        parser.error("--source is missing: name a folder of JPEG images")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server of the turn is ended, too
    names = harness.chosen(arguments.only, list(PEERS))
    if arguments.model and (without := [name for name in names if "torch" in PEERS[name]]):
        parser.error(
            f"--model has no weights for {','.join(without)}: leave --model out, or type "
            f"--only {','.join(name for name in names if name not in without)}"
        )
    harness.require([module for name in names for module in PEERS[name]])
    paths = harness.source_images(arguments.source)
    step = max(1, len(paths) // arguments.num_images)
    setting = {
        "images": [str(path.resolve()) for path in paths[::step][: arguments.num_images]],
        "concurrency": [int(number) for number in arguments.concurrency.split(",")],
        "seconds": arguments.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        model = str(arguments.model.resolve() if arguments.model else folder)
        network = None if arguments.model else harness.run_worker({"name": "export", "folder": folder})
        facts = harness.circumstances(PACKAGES) | {"load_before": f"{os.getloadavg()[0]:.1f}"}
        results = run_turns(setting | {"model": model, "network": network, "logs": folder}, names, arguments.repeats)
    report(arguments, setting["concurrency"], results, facts)


def work(setting: dict) -> None:
    if setting["name"] == "idle":
        serve_idly(setting["port"])
    elif setting["name"] == "export":
        print(json.dumps(export_random_model(setting["folder"])))
    else:
        print(json.dumps(count_in_process(setting)))


def run_turns(setting: dict, names: list[str], repeats: int) -> dict[str, list[dict]]:
    """Runs every candidate `repeats` times, one after the other in each turn, each turn from another one on."""
    results: dict[str, list[dict]] = {name: [] for name in names}
    predictor = Predictor.open(setting["model"])
    expected = [predictor.predict(Path(path).read_bytes()) for path in setting["images"][:NUM_COMPARED]]
    del predictor
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            result = measure_bound(setting) if name == "bound" else measure_server(name, setting, expected)
            results[name].append(result)
            rates = ", ".join(f"{result[number]['images_per_s']:.1f}" for number in setting["concurrency"])
            print(f"turn {turn + 1} {name}: {rates} requests/s", flush=True)
    return results


def report(
    arguments: argparse.Namespace, concurrency: list[int], results: dict[str, list[dict]], facts: dict[str, str]
) -> None:
    figures = {
        number: {name: harness.summary([turn[number] for turn in turns]) for name, turns in results.items()}
        for number in concurrency
    }
    rows = [
        [
            f"{number} x {name}",
            f"{figure['images_per_s']:.1f}",
            f"{figure['images_per_s_min']:.1f}-{figure['images_per_s_max']:.1f}",
            f"{harness.ratio(at, name, 'bound'):.2f}" if "bound" in at else "",
            *(f"{figure[key]:.0f}" if key in figure else "" for key in ("p50_ms", "p95_ms", "p99_ms")),
            f"{figure['cpu_ms_per_request']:.0f}" if "cpu_ms_per_request" in figure else "",
            f"{figure['generator_cores']:.3f}" if "generator_cores" in figure else "",
        ]
        for number, at in figures.items()
        for name, figure in at.items()
    ]
    columns = [
        "",
        "requests/s",
        "least-most",
        "of the bound",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU ms",
        "generator's cores",
    ]
    title = f"{arguments.repeats} turns of {arguments.seconds:g} s at each concurrency, medians"
    harness.print_table(title, columns, rows, {})
    servers = {
        name: {key: median(turn[key] for turn in turns) for key in ("cold_start_s", "memory_mib")}
        for name, turns in results.items()
        if name != "bound"
    }
    rows = [[name, f"{server['cold_start_s']:.1f}", f"{server['memory_mib']:.0f}"] for name, server in servers.items()]
    harness.print_table("From a process to its first answer", ["", "seconds", "MiB"], rows, facts)
    best_peers = {number: harness.fastest(at, OTHER_SERVERS) for number, at in figures.items()}
    over_peers = {number: harness.ratio(figures[number], "ours", peer) for number, peer in best_peers.items()}
    best = max(concurrency, key=lambda number: figures[number].get("ours", {}).get("images_per_s", 0))
    print(
        json.dumps(
            {
                "ours_over_best_peer": over_peers,
                "ours_over_best_peer_min": harness.least(over_peers.values()),
                "best_peer": best_peers,
                **{
                    f"{name.removeprefix('ours_')}_over_ours": {
                        number: harness.ratio(at, name, "ours") for number, at in figures.items()
                    }
                    for name in LOGGED
                },
                "ours_over_bound": harness.ratio(figures[best], "ours", "bound"),
                "ours_over_bound_at": best,
                **{
                    key: {name: server[key] for name, server in servers.items()}
                    for key in ("cold_start_s", "memory_mib")
                },
                "candidates": figures,
            }
            | facts
        )
    )


if __name__ == "__main__":
    main()
