"""Nothing that is read from a file becomes code: the source calls what could do so in the named places alone."""

import ast
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
SOURCES = [REPOSITORY / "train.py", *sorted(REPOSITORY.glob("src/**/*.py")), *sorted(REPOSITORY.glob("scripts/*.py"))]
# What makes objects or code of names, bytes or text: functions by their bare names, and what is as bad on any object.
FORBIDDEN_FUNCTIONS = {"eval", "exec", "compile", "__import__", "get_object", "locate"}
FORBIDDEN_CALLS = {
    *("import_module", "run_path", "run_module", "resolve_name", "sympify", "instantiate"),
    *("get_class", "get_method"),
    *("load_from_checkpoint", "unsafe_load", "full_load"),
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy", "skops"}
ALLOWED = {
    # The user's own composed configuration.
    ("src/stocktake/config.py", "instantiate"),
    # The same, bound to its targets' signatures before a job is sent.
    ("src/stocktake/training/job_check.py", "pkgutil.resolve_name"),
    # An empty tree, into which goes what the user typed; it is written as text, and nothing in it is resolved.
    ("src/stocktake/tuning/best_experiment.py", "OmegaConf.create"),
}


def offences(source: str, place: str) -> list[str]:
    """Returns what a file of source does that could let a file choose code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += [(node.lineno, name) for name in called(node)]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            # An error's class makes nothing.
            found += [(node.lineno, alias.name) for alias in node.names if not alias.name.endswith("Error")]
    return [f"{place}:{line}: {name}" for line, name in found if (place, name.partition("(")[0]) not in ALLOWED]


def called(node: ast.Call) -> list[str]:
    """Returns the name of what is called, if that could make code of data, with the words that make it so."""
    name = ast.unparse(node.func)
    words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    last = name.rpartition(".")[2]
    if last in FORBIDDEN_CALLS or name.removeprefix("builtins.").removeprefix("hydra.utils.") in FORBIDDEN_FUNCTIONS:
        return [name]
    unsafe = {
        "torch.load": words.get("weights_only") != "True",
        "torch.hub.load": True,
        "yaml.load": words.get("Loader") != "yaml.SafeLoader",
        # A stored configuration is a plain dict; only what Hydra composed is one of OmegaConf's, and may be resolved.
        "OmegaConf.load": True,
        "OmegaConf.create": True,
        "OmegaConf.resolve": True,
        "OmegaConf.unsafe_merge": True,
    }
    if unsafe.get(name) or "shell" in words:
        return [name]
    if last == "fit" and "ckpt_path" in words and words.get("weights_only") != "True":
        return [f"{name}(ckpt_path=)"]
    if last == "extractall" and words.get("filter") != "'data'":
        return [f"{name}()"]
    if words.get("allow_pickle", "False") != "False":
        return [f"{name}(allow_pickle=)"]
    return []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_file_chooses_code(path):
    assert offences(path.read_text(), path.relative_to(REPOSITORY).as_posix()) == []


@pytest.mark.parametrize(
    "line",
    [
        "hydra.utils.instantiate(config)",
        "hydra.utils.get_object(name)",
        "instantiate(state['model'])",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.hub.load('a/b', 'c')",
        "eval(text)",
        "exec(text)",
        "import pickle",
        "from pickle import loads",
        "importlib.import_module(name)",
        "pkgutil.resolve_name(name)",
        "getattr(__import__(name), 'a')",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "OmegaConf.load(path)",
        "OmegaConf.create(state)",
        "BinCounter.load_from_checkpoint(path)",
        "trainer.fit(module, ckpt_path=path)",
        "archive.extractall(folder)",
        "numpy.load(file, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_what_could_is_seen(line):
    assert offences(line, "src/stocktake/other.py") != []
