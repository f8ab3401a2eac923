"""The notebooks lie here as they were written; nbmake runs them (see testpaths and addopts in pyproject.toml)."""

import pathlib
import re

import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# /home/..., C:\..., but not a web address, a fraction or a path that starts with a word.
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/{}*])/[a-z]+/\w+|\b[A-Z]:\\")


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_explore.ipynb", "02_train_and_evaluate.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_no_path_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not ABSOLUTE_PATH.search(cell.source), cell.source
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
