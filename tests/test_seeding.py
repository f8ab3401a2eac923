"""Seeds depend on their whole purpose and on nothing else."""

import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from stocktake.seeding import derive_seed, generator

parts = st.one_of(st.integers(), st.text(st.characters(codec="utf-8", exclude_characters="\x1f")))


def test_a_seed_is_the_first_63_bits_of_the_digest():
    digest = hashlib.blake2b(b"order\x1f3\x1f7", digest_size=8).hexdigest()
    assert derive_seed("order", 3, 7) == int(digest, 16) // 2


def test_another_process_derives_the_same_seed():
    command = "from stocktake.seeding import derive_seed; print(derive_seed('split', 0, 'block', '5-166'))"
    answer = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert int(answer.stdout) == derive_seed("split", 0, "block", "5-166")


@given(st.lists(parts, min_size=1, max_size=4), st.lists(parts, min_size=1, max_size=4))
def test_purposes_that_differ_have_seeds_that_differ(one, other):
    assert 0 <= derive_seed(*one) < 2**63
    assert (derive_seed(*one) == derive_seed(*other)) == (list(map(str, one)) == list(map(str, other)))


def test_a_purpose_always_draws_the_same():
    assert generator("order", 0, 1).random(5).tolist() == generator("order", 0, 1).random(5).tolist()
    assert generator("order", 0, 1).random(5).tolist() != generator("order", 0, 2).random(5).tolist()
