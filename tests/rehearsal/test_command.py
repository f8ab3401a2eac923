"""How the words of scripts/rehearse.py part: its own, and train.py's."""

from stocktake.rehearsal.command import split_words, with_defaults

OWN = ("hosts", "faults")


def test_own_words_and_the_others():
    words = ["experiment=demo", "hosts=2", "faults=[notice,{kind: kill}]", "hosts.x=1", "a='hosts=2'", "--help"]
    own, others = split_words(words, OWN)
    assert own == ["hosts=2", "faults=[notice,{kind: kill}]", "--help"]
    assert others == ["experiment=demo", "hosts.x=1", "a='hosts=2'"]


def test_what_was_typed_goes_before_the_defaults():
    typed = ["trainer.max_epochs=5", "++trainer.limit_val_batches=1"]
    words = with_defaults(typed, ["trainer.max_epochs=2", "+trainer.limit_val_batches=2", "resume=true"])
    assert words == [*typed, "resume=true"]
