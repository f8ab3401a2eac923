"""What several tests share: drawn bins, a dataset root made of them, and where the real data lies, if anywhere."""

import functools
import gc
import logging
import os
import pathlib
import pickle
import re
import runpy
import shutil
import signal
import sys

# Before torch is imported, which reads it once. Every xdist worker has one core.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
# Nothing listens there: a test that reaches for timm's hub fails at once.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
# A shell's background commands are deaf to Ctrl-C, and so is what they start; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import recorded_calls
from filelock import FileLock

recorded_calls.install()

REPOSITORY = pathlib.Path(__file__).parents[1]

INTEGRATION = {("tests", room) for room in ("launchers", "rehearsal", "workflows")}  # see pyproject.toml, markers

NUM_BINS = 120
SIZE_PX = (96, 72)
PATH_WORD = re.compile(r"\A([\w.]+)=(/[\w./-]+)\Z")
ANY_PATH = "/any"
CHROMIUM = shutil.which("chromium")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# A library's handler may keep the stream of a test that has ended: what it cannot write there is no error of this one.
logging.raiseExceptions = False
# What collecting makes, a million objects, stays to the end: searching it for garbage takes a tenth of the time.
gc.disable()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.relative_to(REPOSITORY).parts[:2] in INTEGRATION or item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.integration)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()  # so that the extensions' own objects go, which otherwise they take for leaks


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id) -> pathlib.Path:
    """A folder that all workers of this run see."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def synthetic_source(shared_folder) -> pathlib.Path:
    """A source bucket of drawn bins, as a folder; nobody may write into it."""
    from stocktake.data.sources.synthetic import write_synthetic_source

    folder = shared_folder / "synthetic-source"
    with FileLock(f"{folder}.lock"):
        if not (folder / "file_list.json").exists():
            write_synthetic_source(folder, NUM_BINS, size_px=SIZE_PX)
    return folder


@pytest.fixture(scope="session")
def synthetic_root(shared_folder, synthetic_source) -> pathlib.Path:
    """The dataset root that prepare makes of the drawn bins; nobody may write into it."""
    from stocktake.data.ingest.ingest import Ingest
    from stocktake.data.sources.abid import AbidSource
    from stocktake.data.split import SplitRule
    from stocktake.storage import Folder

    folder = shared_folder / "synthetic-root"
    with FileLock(f"{folder}.lock"):
        if not (folder / "manifest.parquet").exists():
            source = AbidSource(Folder(str(synthetic_source)))
            Ingest(source, Folder(str(folder)), source.listing(), SplitRule(block=1)).run()
    return folder


@pytest.fixture(scope="session")
def compose():
    """Returns what composes an entry point's configuration from words, without Hydra's own part of it.

    Composing takes Hydra a fifth of a second: words that differ in their paths only are composed once.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    @functools.cache
    def pickled(name: str, *words: str) -> bytes:  # read anew for each test, in a fifth of the time of a deep copy
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            return pickle.dumps(compose(name, list(words), return_hydra_config=True))

    def composed(name: str, *words: str, output_dir: str = "runs/test"):
        paths = [found.groups() for word in words if (found := PATH_WORD.fullmatch(word))]
        content = pickled(name, *(PATH_WORD.sub(rf"\1={ANY_PATH}", word) for word in words))
        cfg, for_hydra = pickle.loads(content), pickle.loads(content)
        for each in (cfg, for_hydra):
            for key, path in paths:
                if OmegaConf.select(each, key) == ANY_PATH:  # a later word may say something else
                    OmegaConf.update(each, key, path)
            with open_dict(each):
                each.hydra.runtime.output_dir = str(output_dir)
                each.hydra.runtime.cwd = os.getcwd()
                each.hydra.job.num = 0
        HydraConfig.instance().set_config(for_hydra)  # where ${hydra:...} looks
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    return composed


@pytest.fixture
def run_script(monkeypatch):
    """Returns what runs a command of scripts/ in this process and gives its exit code."""

    def run(name: str, *words: str) -> int:
        script = str(REPOSITORY / "scripts" / name)
        monkeypatch.setattr(sys, "argv", [script, *words])
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            return end.code
        return 0

    return run


def _from_environment(name: str, what: str) -> pathlib.Path:
    if not os.environ.get(name):
        pytest.skip(f"{name} is not set: it is the path of {what}")
    return pathlib.Path(os.environ[name])


@pytest.fixture(scope="session")
def abid_root() -> pathlib.Path:
    """A source folder of real bins: bin-images/ and metadata/."""
    return _from_environment("ABID_ROOT", "a folder of real bins with bin-images/ and metadata/")


@pytest.fixture(scope="session")
def weights() -> pathlib.Path:
    return _from_environment("WEIGHTS", "mobilenetv2_100.imagenet.safetensors")


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A real S3 server with an empty bucket `bins`, which the environment points to."""
    from local_s3 import local_s3

    (tmp_path / "buckets" / "bins").mkdir(parents=True)
    with local_s3(tmp_path / "buckets") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def browser():
    """The one browser of a worker: Playwright cannot be started twice in a process."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH; on Debian: apt-get install --no-install-recommends chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()
