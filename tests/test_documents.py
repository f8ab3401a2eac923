"""What README and the documents beside it say of this repository: links, files, rooms, versions, and the checks."""

import re
from pathlib import Path

import pytest
import yaml

import stocktake

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    relative = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in relative if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document):
    folders = "src|tests|conf|scripts|benchmarks|docs|\\.ci|\\.github"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", document.read_text())
    written = [path for path in named if not re.search("[A-Z]{3}", path)]  # NAME is the reader's to fill in
    assert [path for path in written if not (REPOSITORY / path).exists()] == []


def test_readme_names_every_room():
    rooms = {path.name for path in (REPOSITORY / "src/stocktake").iterdir() if (path / "__init__.py").exists()}
    readme = (REPOSITORY / "README.md").read_text()
    (listed,) = re.findall(r"^    src/stocktake/\n(.*?)^    src/hydra_plugins/", readme, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^      (\w+)/", listed, re.MULTILINE)) == rooms


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == stocktake.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"]


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_before_a_commit_the_programs_of_make_lint_run():
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"].removeprefix(".venv/bin/") for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (REPOSITORY / "Makefile").read_text()
    (recipe,) = re.findall(r"^lint: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    linted = [line.removesuffix(" .") for line in re.findall(r"\$\(ACTIVATE\) (.*)", recipe)]
    assert hooks == linted
