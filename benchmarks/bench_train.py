"""What the Trainer costs: the steps of an experiment, callbacks and loggers included, beside a bare PyTorch loop.

    python benchmarks/bench_train.py                                       # experiment=resnet50, no data needed
    python benchmarks/bench_train.py --overrides experiment=demo --steps 40   # a small net: what a step costs beside it
    python benchmarks/bench_train.py --overrides experiment=resnet50,model.weights=none,data.root=ROOT --fed

Both have the same model, precision, optimizer, schedule and batches, which lie in memory, and run in turn. What
counts is the steady rate after the first steps. `checkpoint_share` is what saving the experiment's checkpoint takes of
the time from one save to the next at the interval of callbacks=spot. With `--fed` the Trainer also runs from the
experiment's own data, which on a GPU should not be slower.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import harness
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from stocktake.config import as_plain, build, build_all
from stocktake.console import silence_library_warnings
from stocktake.training.preparation import resolve_auto

CONF = Path(__file__).resolve().parents[1] / "conf"
WARM_UP_STEPS = 3


class StepTimes(Callback):
    """When each step ended, the accelerator's work included."""

    def __init__(self):
        self.ends_s: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        synchronize()
        self.ends_s.append(time.perf_counter())


class Repeated(Dataset[dict]):
    """A few batches, over and over."""

    def __init__(self, batches: list[dict], num_steps: int):
        self.batches, self.num_steps = batches, num_steps

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> dict:
        return self.batches[step % len(self.batches)]


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def images_per_s(ends_s: list[float], batch_size: int) -> float:
    steady = ends_s[WARM_UP_STEPS - 1 :]
    return batch_size * (len(steady) - 1) / (steady[-1] - steady[0])


def configured(overrides: list[str], folder: Path) -> DictConfig:
    """Returns the configuration that train.py would have, its run folder in `folder`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        own = [f"run_dir={folder}", "logger=csv", "callbacks=spot", "callbacks.progress=null"]
        cfg = compose("train", [*overrides, *own])
    resolve_auto(cfg)
    return cfg


def batches_of(cfg: DictConfig) -> list[dict]:
    side, generator = cfg.data.image_size_px, torch.Generator().manual_seed(0)
    shape, counts = (cfg.data.batch_size, 3, side, side), torch.tensor(list(cfg.data.counts))
    return [
        {
            "images": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            "counts": counts[torch.randint(len(counts), shape[:1], generator=generator)],
            "image_ids": [str(number) for number in range(shape[0])],
        }
        for _ in range(4)
    ]


def trainer_rate(cfg: DictConfig, batches: list[dict] | None, num_steps: int) -> tuple[float, float]:
    """Returns the Trainer's images/s, from `batches` or else the experiment's data, and the seconds of one save."""
    times = StepTimes()
    trainer: Trainer = build(
        as_plain(cfg.trainer) | {"max_steps": num_steps, "max_epochs": -1, "enable_model_summary": False, "devices": 1},
        callbacks=[*build_all(cfg.callbacks), times],
        logger=build_all(cfg.logger),
        limit_val_batches=0,
    )
    module = build(cfg.model)
    if batches is None:
        trainer.fit(module, build(cfg.data))
    else:
        steps = Repeated(batches, num_steps)
        trainer.fit(module, DataLoader(steps, batch_size=None, pin_memory=torch.cuda.is_available()))
    start_s = time.perf_counter()
    trainer.save_checkpoint(Path(cfg.run_dir) / "timed.ckpt")
    return images_per_s(times.ends_s, cfg.data.batch_size), time.perf_counter() - start_s


def bare_rate(cfg: DictConfig, batches: list[dict], num_steps: int) -> float:
    """Returns the images/s of the loop that a person would write by hand."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = build(cfg.model).to(device).train()
    optimizer = module.optimizer(module.parameters())
    needed = {"max_lr": cfg.model.optimizer.lr, "total_steps": num_steps}
    scheduler = module.scheduler(optimizer, **needed) if module.scheduler else None
    mixed = cfg.trainer.precision == "bf16-mixed"
    ends_s = []
    for number in range(num_steps):
        batch = batches[number % len(batches)]
        images = batch["images"].to(device, non_blocking=True)
        classes = module.classes(batch["counts"].to(device, non_blocking=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss = module.head.loss(module(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        synchronize()
        ends_s.append(time.perf_counter())
    return images_per_s(ends_s, cfg.data.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overrides", default="experiment=resnet50,model.weights=none", help="of train.py, by commas")
    parser.add_argument("--steps", type=int, default=15, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each candidate")
    parser.add_argument("--fed", action="store_true", help="also run from the experiment's own data")
    arguments = parser.parse_args()
    harness.require(["psutil"])
    if arguments.steps < 3 * WARM_UP_STEPS:
        parser.error(f"--steps {arguments.steps}: at least {3 * WARM_UP_STEPS}, of which the first are not counted")
    silence_library_warnings()
    turns: dict[str, list[dict]] = {"trainer": [], "bare_loop": []} | ({"fed": []} if arguments.fed else {})
    saves_s = []
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        cfg = configured(arguments.overrides.split(","), Path(folder))
        batches = batches_of(cfg)
        for turn in range(arguments.repeats):
            for name in sorted(turns, reverse=turn % 2 == 1):
                if name == "bare_loop":
                    rate = bare_rate(cfg, batches, arguments.steps)
                else:
                    rate, save_s = trainer_rate(cfg, None if name == "fed" else batches, arguments.steps)
                    saves_s.append(save_s)
                turns[name].append({"images_per_s": rate})
                print(f"turn {turn + 1} {name}: {rate:.1f} images/s", flush=True)
    report(arguments, cfg, turns, sorted(saves_s)[len(saves_s) // 2])


def report(arguments: argparse.Namespace, cfg: DictConfig, turns: dict[str, list[dict]], save_s: float) -> None:
    figures = {name: harness.summary(results) for name, results in turns.items()}
    facts = harness.circumstances(["torch", "pytorch-lightning", "timm"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    facts["device"] = (
        f"{device}, {cfg.trainer.precision}, batches of {cfg.data.batch_size}, {cfg.data.image_size_px} px"
    )
    rows = [
        [name, f"{figure['images_per_s']:.1f}", f"{figure['images_per_s_min']:.1f}-{figure['images_per_s_max']:.1f}"]
        for name, figure in figures.items()
    ]
    title = f"{arguments.repeats} turns of {arguments.steps} steps, medians; {arguments.overrides}"
    harness.print_table(title, ["", "images/s", "least-most"], rows, facts)
    interval = cfg.callbacks.spot.every_n_train_steps
    interval_s = interval * cfg.data.batch_size / figures["trainer"]["images_per_s"]
    print(
        json.dumps(
            {
                "ours_over_bare_loop": harness.ratio(figures, "trainer", "bare_loop"),
                "fed_over_synthetic": harness.ratio(figures, "fed", "trainer"),
                "checkpoint_share": save_s / (interval_s + save_s),
                "checkpoint_s": save_s,
                "checkpoint_every_n_steps": interval,
                "candidates": figures,
            }
            | facts
        )
    )


if __name__ == "__main__":
    main()
