"""Promotion: better, equal and worse challengers get their decision; what decides nothing is refused."""

import json

import pytest
from paired_evaluations import BLOCK, GROUPS, IDS, RECORDED, as_sure, said, write

from stocktake.evaluation.promotion import MIN_BLOCKS, Criteria, NotComparable, require_registered
from stocktake.evaluation.results import Evaluation
from stocktake.storage import StorageOptions
from stocktake.workflows.promote import promote


@pytest.fixture
def decided(compose, tmp_path):
    def run(challenger, champion, *words):
        words = [f"challenger={challenger}", f"champion={champion}", *words]
        decision = promote(compose("promote", *words, f"output_dir={tmp_path / 'decided'}"))
        recorded = json.loads((tmp_path / "decided/promotion.json").read_text())
        assert recorded["is_promoted"] == decision.is_promoted
        return decision

    return run


@pytest.fixture
def champion(tmp_path):
    return write(tmp_path / "champion", said(0.5, 1))


def test_a_better_one_is_promoted_and_its_lineage_recorded(decided, champion, tmp_path):
    challenger = write(tmp_path / "better", as_sure(0.94, 0.9, 2))  # of which the temperature of 1.2 makes 0.91
    decision = decided(challenger, champion)
    assert (decision.is_promoted, decision.reasons) == (True, [])
    assert decision.p_value < 0.01
    recorded = json.loads((tmp_path / "decided/promotion.json").read_text())
    assert recorded["model"]["manifest_sha256"] == "9f2c"
    assert recorded["comparison"]["baseline"] == "champion"
    assert [(check["what"].split(",")[0], check["is_met"]) for check in recorded["checks"]] == [
        ("blocks of neighboring bins", True),
        ("more bins counted exactly", True),
        ("p", True),
        ("higher calibration error", True),
    ]
    page = (tmp_path / "decided/comparison.html").read_text()
    assert "<h1>Promoted: the challenger takes the champion&#39;s place</h1>" in page
    asked_for_more = decided(challenger, champion, f"margin={decision.accuracy.value + 0.01}")
    assert [reason.split(",")[0].partition("by ")[0] for reason in asked_for_more.reasons] == ["its accuracy differs "]


def test_an_equal_one_is_not(decided, champion, tmp_path):
    equal = decided(write(tmp_path / "equal", said(0.5, 3)), champion)
    assert not equal.is_promoted
    same = decided(champion, write(tmp_path / "twin", said(0.5, 1)))
    assert "its accuracy differs by +0.0 points" in same.reasons[0]


def test_a_worse_one_is_not(decided, champion, tmp_path):
    decision = decided(write(tmp_path / "worse", said(0.1, 2)), champion)
    assert not decision.is_promoted
    assert decision.accuracy.value < 0
    page = (tmp_path / "decided/comparison.html").read_text()
    assert "<h1>Not promoted: the champion keeps its place</h1>" in page
    assert f"Because {decision.reasons[0]}" in page
    recorded = json.loads((tmp_path / "decided/promotion.json").read_text())
    assert [check["is_met"] for check in recorded["checks"]][1] is False


def test_a_more_accurate_one_that_believes_itself_too_much_is_not(decided, champion, tmp_path):
    decision = decided(write(tmp_path / "sure", as_sure(0.998, 0.7, 2)), champion)
    assert not decision.is_promoted
    assert [reason for reason in decision.reasons if "calibration error" in reason]


def test_by_chance_alone_at_most_the_stated_share_is_promoted(champion, decided, tmp_path):
    """Challengers that are as good as the champion: 20 of them, at a level of 0.2."""
    promoted = [
        decided(write(tmp_path / f"equal-{seed}", said(0.5, 100 + seed)), champion, "level=0.2").is_promoted
        for seed in range(20)
    ]
    assert sum(promoted) <= 6  # of 20, with a one-sided chance of 0.1 each, more come once in five hundred


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"manifest_sha256": "abcd"}, "manifest_sha256 is "),
        ({"counts": [1, 2, 4]}, r"counts is \[1, 2, 3\]"),
        ({"leakage": 12, "split": "test"}, "was trained on 12 of these 240 bins"),
        ({"leakage": None}, "does not say whether the model was trained on these bins"),
        ({"split": "valid"}, "split is "),
    ],
)
def test_what_decides_nothing_is_refused(decided, champion, tmp_path, facts, told):
    with pytest.raises(ValueError, match=told):
        decided(write(tmp_path / "other", said(0.9, 2), **facts), champion)
    assert not (tmp_path / "decided").exists()


def test_the_first_one_needs_no_champion_but_unseen_bins(compose, tmp_path, run_script, capsys):
    first = write(tmp_path / "first", said(0.5, 1))
    assert promote(compose("promote", f"challenger={first}", f"output_dir={tmp_path / 'decided'}")).is_promoted
    valid = write(tmp_path / "valid", said(0.5, 1), split="valid")
    with pytest.raises(NotComparable, match="on which something was chosen"):
        promote(compose("promote", f"challenger={valid}", f"output_dir={tmp_path / 'decided'}"))
    worse = write(tmp_path / "worse", said(0.1, 1))
    words = [f"challenger={worse}", f"champion={first}", f"output_dir={tmp_path / 'again'}"]
    assert run_script("promote.py", *words) == 1
    captured = capsys.readouterr()
    assert "Not promoted: " in captured.out
    assert json.loads(captured.out.splitlines()[-1])["is_promoted"] is False


def test_the_evaluation_of_the_registry_is_that_of_the_registered_model(champion):
    evaluation = Evaluation.read(champion, StorageOptions())
    known = {"checkpoint_sha256": str(evaluation.result.subject.checkpoint_sha256), "manifest_sha256": "9f2c"}
    require_registered(evaluation, known)
    with pytest.raises(NotComparable, match="no evaluation of the registered version now: checkpoint_sha256"):
        require_registered(evaluation, known | {"checkpoint_sha256": "1" * 64})


def test_a_handful_of_blocks_decides_nothing(decided, tmp_path):
    few = BLOCK * (MIN_BLOCKS - 1)
    assert len(set(GROUPS[:few])) < MIN_BLOCKS
    two = [write(tmp_path / name, said(skill, 1), ids=IDS[:few]) for name, skill in (("a", 0.1), ("b", 0.95))]
    decision = decided(two[1], two[0])
    assert not decision.is_promoted
    assert f"{MIN_BLOCKS} are needed" in decision.reasons[0]
    assert len(RECORDED) > few
    assert decision.criteria == Criteria(0.0, 0.05, 0.01)
