"""Rules of the keys of train.py and scripts/tune.py."""

from stocktake.cli.cloud_keys import COMPUTE
from stocktake.cli.rules import (
    ACCELERATOR,
    CHECKPOINT,
    COUNTS,
    LIMIT,
    NUM_WORKERS,
    PRECISION,
    STORAGE,
    TIME,
    Rule,
    above,
    anything,
    choice,
    either,
    list_of,
    number,
    switch,
    text,
    under,
    whole,
)
from stocktake.metrics.definitions import LOGGED

METRICS = (*(f"valid/{name}" for name in LOGGED), "train/loss")
SHARE, MAYBE = number(0, 1, example=0.5), switch(None, example=False)
BATCHES = either(whole(0, example=10), number(0, 1, example=0.5), choice(None))
NAME = either(text("demo"), whole(0))


def _switches(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), MAYBE)


DATA = {
    "root": text("data/abid"),
    "batch_size": whole(1, example=32),
    "image_size_px": whole(16, 4096, example=224),
    "train_sizes_px": list_of(whole(16, 4096), [128, 160, 192], None, least=1),
    "resize": choice("squash", "letterbox"),
    "counts": COUNTS,
    "limit": LIMIT,
    "num_train_bins": whole(1, literals=[None], example=1000),
    "num_workers": NUM_WORKERS,
    "seed": whole(0, 2**32 - 1),
    "cache_dir": text("cache", None),
    "cache_limit_mib": above(0, example=20000),
    "num_bins": whole(1, example=2000),
    "draw": MAYBE,
    **under(
        "augment",
        {
            "horizontal_flip": SHARE,
            "vertical_flip": SHARE,
            "color": number(0, 1, example=0.2),
            "rotate_deg": number(0, 180, example=3),
            "shift": number(0, 1, example=0.03),
            "zoom": number(0, 0.99, example=0.05),
        },
    ),
}

MODEL = {
    "backbone": text("resnet50"),
    "weights": text("weights/mobilenetv2_100.safetensors"),
    "drop_rate": number(0, 0.99, example=0.5),
    "counts": COUNTS,
    "mean": list_of(number(0, 1, example=0.5), [0.5, 0.5, 0.5], None, least=3, most=3),
    "std": list_of(above(0, example=0.5), [0.5, 0.5, 0.5], None, least=3, most=3),
    "channels_last": switch("auto"),
    "torch_compile": switch(example=False),
    "scheduler_interval": choice("step", "epoch"),
    "layer_decay": above(0, 1, literals=[None], example=0.8),
    "decay_norms": switch(example=False),
    **under(
        "optimizer",
        {
            "lr": above(0, example=0.001),
            "weight_decay": number(0, example=0.05),
            "betas": list_of(number(0, 0.999999, example=0.9), [0.9, 0.999], least=2, most=2),
            "eps": above(0, example=1e-8),
            "momentum": number(0, example=0.9),
            "dampening": number(0, example=0),
            **_switches("nesterov amsgrad maximize foreach fused capturable differentiable decoupled_weight_decay"),
        },
    ),
}

HEAD = {"label_smoothing": number(0, 0.99, example=0.1), "spread_items": above(0, example=0.5)}

SCHEDULER = {
    "pct_start": SHARE,
    "anneal_strategy": choice("cos", "linear"),
    "cycle_momentum": MAYBE,
    "base_momentum": SHARE,
    "max_momentum": SHARE,
    "div_factor": above(0, example=25),
    "final_div_factor": above(0, example=10000),
    "three_phase": MAYBE,
    "last_epoch": whole(-1),
    "max_lr": above(0, example=0.01),
    "total_steps": whole(1, literals=[None], example=1000),
    "epochs": whole(1, literals=[None], example=10),
    "steps_per_epoch": whole(1, literals=[None], example=100),
    "T_max": whole(1, example=1000),
    "eta_min": number(0, example=0),
}

TRAINER = {
    "accelerator": ACCELERATOR,
    "strategy": text("auto"),
    "devices": either(whole(1), choice("auto", -1), text("1"), list_of(whole(0), [0], least=1)),
    "num_nodes": whole(1),
    "precision": PRECISION,
    "max_epochs": whole(-1, literals=[None], example=10),
    "max_steps": whole(-1, example=100),
    **dict.fromkeys(("min_epochs", "min_steps"), whole(0, literals=[None], example=1)),
    "max_time": either(TIME, choice(None)),
    "fast_dev_run": either(switch(example=False), whole(0)),
    **{f"limit_{side}_batches": BATCHES for side in ("train", "val", "test", "predict")},
    "overfit_batches": either(whole(0), number(0, 1, example=0.0)),
    "val_check_interval": either(whole(1, example=100), above(0, 1, example=0.5), TIME, choice(None)),
    "check_val_every_n_epoch": whole(1, literals=[None]),
    "num_sanity_val_steps": whole(-1, literals=[None], example=0),
    "log_every_n_steps": whole(0, literals=[None], example=10),
    "accumulate_grad_batches": whole(1),
    "gradient_clip_val": number(0, literals=[None], example=1.0),
    "gradient_clip_algorithm": choice("norm", "value", None),
    "deterministic": switch("warn", None, example=False),
    "profiler": either(choice("simple", "advanced", "pytorch", None), anything()),
    **_switches("enable_checkpointing enable_progress_bar enable_model_summary enable_autolog_hparams benchmark"),
    **_switches("inference_mode use_distributed_sampler detect_anomaly barebones sync_batchnorm"),
    "plugins": anything(),
    "logger": anything(),
    "callbacks": anything(),
    "reload_dataloaders_every_n_epochs": whole(0),
    "default_root_dir": text("runs", None),
    "model_registry": text("name", None),
}

MONITOR, MODE = choice(*METRICS, "step"), choice("auto", "min", "max")
CALLBACKS = {
    "best": {"dirpath": text("checkpoints"), "monitor": MONITOR, "mode": MODE},
    "stateless_dropout": {"seed": whole(0, 2**32 - 1)},
    "learning_rate": {
        "logging_interval": choice("step", "epoch", None),
        "log_momentum": MAYBE,
        "log_weight_decay": MAYBE,
    },
    "throughput": {"batch_size_fn": anything(), "window_size": whole(1, example=20)},
    "progress": {
        "refresh_rate": whole(0, example=1),
        "leave": MAYBE,
        "theme": anything(),
        "console_kwargs": anything(),
    },
    "step_logger": {"every_n_steps": whole(1)},
    "early_stopping": {
        "monitor": MONITOR,
        "mode": MODE,
        "patience": whole(1, example=5),
        "min_delta": number(None, example=0.0),
        "stopping_threshold": number(None, literals=[None], example=0.9),
        "divergence_threshold": number(None, literals=[None], example=0.1),
        **_switches("verbose strict check_finite check_on_train_epoch_end log_rank_zero_only"),
    },
    "freeze_backbone": {"num_epochs": whole(0, example=1)},
    "average": {"decay": number(0, 1, example=0.99)},
    "spot": {"dirpath": text("checkpoints"), "every_n_train_steps": whole(1, example=100)},
}

LOGGER = {
    "csv": {
        "save_dir": text("runs"),
        "name": text("csv"),
        "version": either(text("version_0"), whole(0), choice(None)),
        "prefix": anything(""),
        "flush_logs_every_n_steps": whole(1, example=100),
    },
    "wandb": {
        "project": text("stocktake"),
        "name": NAME,
        "save_dir": text("runs"),
        "offline": switch("auto"),
        **dict.fromkeys(("group", "id"), text("run", None)),
        "log_model": switch("all", example=False),
    },
}

FIND = {
    "min_lr": above(0, example=1e-6),
    "max_lr": above(0, example=1.0),
    "num_steps": whole(1, example=100),
    "smallest": whole(1, example=4),
    "largest": whole(1, example=1024),
    "tolerance": number(0, 1, example=0.05),
    "seconds": number(0, example=5.0),
}


def _nodes(prefix: str, nodes: dict[str, dict[str, Rule]]) -> dict[str, Rule]:
    return {f"{prefix}.{node}.{key}": rule for node, rules in nodes.items() for key, rule in rules.items()}


TRAIN = {
    "name": NAME,
    "run_name": either(text("default"), whole(0)),
    "run_dir": text("runs/demo/1"),
    "checkpoint_dir": text("runs/demo/1/checkpoints"),
    "checkpoint": text(CHECKPOINT, None),
    "seed": whole(0, 2**32 - 1),
    "resume": switch(),
    "optimized_metric": choice(*METRICS),
    **STORAGE,
    **under("data", DATA | STORAGE),
    **under("model", MODEL | under("head", HEAD) | under("scheduler", SCHEDULER)),
    **under("head", HEAD),
    **under("scheduler", SCHEDULER),
    **under("trainer", TRAINER),
    **_nodes("callbacks", CALLBACKS),
    **_nodes("logger", LOGGER),
    **under("compute", COMPUTE),
}
TUNE = TRAIN | under("find", FIND)
