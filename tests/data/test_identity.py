"""What a checkpoint keeps of its data: who was trained on, told again on other roots."""

import io

import pytest
import torch

from stocktake.data.identity import DataIdentity, IdentityError
from stocktake.data.manifest import Manifest
from stocktake.storage import Folder


@pytest.fixture(scope="module")
def manifest(synthetic_root) -> Manifest:
    return Manifest.read(Folder(str(synthetic_root)))


@pytest.fixture(scope="module")
def identity(manifest) -> DataIdentity:
    return DataIdentity.of(manifest, manifest.rows("train"))


def test_every_training_bin_was_seen_and_no_other(manifest, identity):
    assert identity.num_seen(manifest, manifest.rows("train")) == manifest.rows("train").num_rows
    assert identity.num_seen(manifest, manifest.rows("test")) == 0
    assert identity.num_seen(manifest, manifest.rows("all")) == manifest.rows("train").num_rows


def test_an_image_is_known_again_under_another_id_and_from_another_source(manifest, identity):
    rows = manifest.rows("train").slice(0, 3)
    renamed = rows.set_column(0, "image_id", [["a", "b", "c"]])
    elsewhere = Manifest(renamed, manifest.origin | {"source": "s3://elsewhere"})
    assert identity.num_seen(elsewhere, renamed) == 3


def test_an_id_is_known_again_in_another_size_but_only_of_the_same_source(manifest, identity):
    rows = manifest.rows("train").slice(0, 3)
    index = rows.column_names.index("sha256")
    resized = rows.set_column(index, "sha256", [["0" * 64] * 3])
    assert identity.num_seen(manifest, resized) == 3
    # Drawn bins of another seed have the same ids and other images.
    assert identity.num_seen(Manifest(resized, manifest.origin | {"source": "elsewhere"}), resized) == 0


def test_it_survives_a_checkpoint_under_weights_only(manifest, identity):
    content = io.BytesIO()
    torch.save(identity.to_state(), content)
    content.seek(0)
    again = DataIdentity.from_state(torch.load(content, weights_only=True))
    assert again.manifest_sha256 == manifest.sha256
    assert again.num_seen(manifest, manifest.rows("all")) == identity.num_seen(manifest, manifest.rows("all"))


def test_a_run_that_goes_on_from_another_has_seen_the_bins_of_both(manifest):
    train = manifest.rows("train")
    first, second = (DataIdentity.of(manifest, train.slice(start, 20)) for start in (0, 10))
    both = second.including(first)
    assert both.num_train_bins == 30
    assert both.num_seen(manifest, train) == 30


@pytest.mark.parametrize(
    "change",
    [
        {"manifest_sha256": 3},
        {"image_hashes_N": [1, 2]},
        {"id_hashes_N": torch.zeros(3)},
        {"more": 1},
    ],
)
def test_anything_else_in_its_place_is_refused(identity, change):
    with pytest.raises(IdentityError, match="stocktake_data"):
        DataIdentity.from_state(identity.to_state() | change)
