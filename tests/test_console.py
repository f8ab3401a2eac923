"""What libraries tell a terminal: nothing of their own files, all that a person can use."""

import logging

import pytest

from stocktake.console import printable, silence_library_warnings

RANK_ZERO = logging.getLogger("pytorch_lightning.utilities.rank_zero")


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(RANK_ZERO, "filters", [])
    monkeypatch.setattr(RANK_ZERO, "propagate", True)
    RANK_ZERO.addHandler(caplog.handler)
    silence_library_warnings()
    yield lambda message: bool(RANK_ZERO.info(message) or message in caplog.messages)
    RANK_ZERO.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("message", "is_told"),
    [
        ("Restoring states from the checkpoint path at /tmp/a/.lr_find_e375.ckpt", False),
        ("Restored all states from the checkpoint at /tmp/a/.lr_find_e375.ckpt", False),
        ("Restored all states from the checkpoint at runs/a/checkpoints/step-00000100.ckpt", True),
        ("`Trainer.fit` stopped: `max_steps=100` reached.", False),
        ("`Trainer.fit` stopped: No training batches.", True),
    ],
)
def test_lightning_tells_what_a_person_can_use(told, caplog, message, is_told):
    with caplog.at_level(logging.INFO, RANK_ZERO.name):
        assert told(message) == is_told


def test_what_would_steer_a_terminal_is_shown_and_not_obeyed():
    assert printable("5 bins\tof \u00e4\n") == "5 bins\tof \u00e4\n"
    assert printable("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
