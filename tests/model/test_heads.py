"""The loss and P(count), from their formulas."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.config import build
from stocktake.model.counter import BinCounter
from stocktake.model.heads import CornHead, SoftLabelHead, SoftmaxHead

HEADS = {"softmax": SoftmaxHead(0.1), "soft": SoftLabelHead(), "corn": CornHead()}
finite = st.floats(-100, 100, width=32)


@st.composite
def batches(draw, head_name: str):
    """Logits of up to ±100 and classes, of 1 to 4 images and 2 to 7 counts."""
    num_images, num_counts = draw(st.integers(1, 4)), draw(st.integers(2, 7))
    num_logits = HEADS[head_name].num_logits(num_counts)
    row = st.lists(finite, min_size=num_logits, max_size=num_logits)
    logits = draw(st.lists(row, min_size=num_images, max_size=num_images))
    classes = draw(st.lists(st.integers(0, num_counts - 1), min_size=num_images, max_size=num_images))
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(classes)


def test_the_loss_by_hand():
    logits_BK = torch.tensor([[math.log(2), 0.0, 0.0]])  # probabilities 1/2, 1/4, 1/4
    assert SoftmaxHead().loss(logits_BK, torch.tensor([0])).item() == pytest.approx(math.log(2))
    # With 0.3 of the mass spread evenly over three counts, the target is 0.8, 0.1, 0.1.
    smoothed = 0.8 * math.log(2) + 0.2 * math.log(4)
    assert SoftmaxHead(0.3).loss(logits_BK, torch.tensor([0])).item() == pytest.approx(smoothed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_against_torch(dtype):
    torch.manual_seed(0)
    logits_BK, classes_B = torch.randn(16, 5).to(dtype), torch.randint(5, (16,))
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits_BK.double(), classes_B)
    loss = SoftmaxHead(0.1).loss(logits_BK, classes_B)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.float())


@pytest.mark.parametrize("head", [SoftmaxHead(), SoftLabelHead()])
def test_probabilities(head):
    probabilities_BK = head.probabilities(torch.tensor([[math.log(2), 0.0, 0.0], [900.0, 0.0, -900.0]]))
    torch.testing.assert_close(probabilities_BK, torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))


@pytest.mark.parametrize(("name", "num_logits"), [("softmax", 5), ("soft", 5), ("corn", 4)])
def test_the_logits_of_five_counts(name, num_logits):
    assert HEADS[name].num_logits(5) == num_logits


# Soft labels.


def targets_of(head: SoftLabelHead, num_counts: int) -> torch.Tensor:
    """Where all logits are 0, the gradient of a count's loss is 1/K - its target."""
    rows = []
    for position in range(num_counts):
        logits_BK = torch.zeros(1, num_counts, requires_grad=True)
        head.loss(logits_BK, torch.tensor([position])).backward()
        rows.append(1 / num_counts - logits_BK.grad[0])
    return torch.stack(rows)


def test_soft_targets_by_hand():
    # exp(-1 / (2 spread^2)) = 1/2: a neighbor weighs 1/2 of the count itself, the next one 1/2^4.
    head = SoftLabelHead(spread_items=1 / math.sqrt(2 * math.log(2)))
    by_hand = [[16 / 25, 8 / 25, 1 / 25], [1 / 4, 1 / 2, 1 / 4], [1 / 25, 8 / 25, 16 / 25]]
    torch.testing.assert_close(targets_of(head, 3), torch.tensor(by_hand))
    # The first image's target is row 0, the second's row 1; both have probabilities 1/2, 1/4, 1/4.
    logits_BK = torch.tensor([[math.log(2), 0.0, 0.0]]).repeat(2, 1)
    loss = (16 / 25 * math.log(2) + 9 / 25 * math.log(4)) / 2 + (1 / 4 * math.log(2) + 3 / 4 * math.log(4)) / 2
    assert head.loss(logits_BK, torch.tensor([0, 1])).item() == pytest.approx(loss)


@pytest.mark.parametrize("spread_items", [0.3, 0.5, 2.0])
def test_soft_targets_from_the_formula(spread_items):
    def target(recorded: int, count: int) -> float:
        weights = [math.exp(-((recorded - i) ** 2) / (2 * spread_items**2)) for i in range(5)]
        return weights[count] / sum(weights)

    expected = torch.tensor([[target(recorded, count) for count in range(5)] for recorded in range(5)])
    torch.testing.assert_close(targets_of(SoftLabelHead(spread_items), 5), expected, atol=1e-6, rtol=0)


def test_the_default_spread_is_for_counts_that_are_mixed_up_with_their_neighbors():
    targets_KK = targets_of(SoftLabelHead(), 5)
    assert targets_KK[2].tolist() == pytest.approx([0.0003, 0.1065, 0.7866, 0.1065, 0.0003], abs=1e-4)
    assert targets_KK[0].tolist() == pytest.approx([0.8805, 0.1192, 0.0003, 0.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_spread_soft_labels_are_the_softmax_heads(dtype):
    torch.manual_seed(0)
    logits_BK, classes_B = torch.randn(16, 5).to(dtype), torch.randint(5, (16,))
    loss = SoftLabelHead(spread_items=0.01).loss(logits_BK, classes_B)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, SoftmaxHead().loss(logits_BK, classes_B))


def test_a_miss_by_more_items_costs_more():
    sure_of_each = 10 * torch.eye(5)
    losses = [SoftLabelHead(1.0).loss(row[None], torch.tensor([0])).item() for row in sure_of_each]
    assert all(nearer + 0.05 < farther for nearer, farther in itertools.pairwise(losses))
    alike = [SoftmaxHead().loss(row[None], torch.tensor([0])).item() for row in sure_of_each[1:]]
    assert alike == pytest.approx([alike[0]] * 4)


@pytest.mark.parametrize("spread_items", [0, -1.0, math.nan, math.inf])
def test_a_spread_that_is_none(spread_items):
    with pytest.raises(ValueError, match=rf"head.spread_items={spread_items} .*Type head.spread_items=0.5"):
        SoftLabelHead(spread_items)


# Conditional ordinal regression.


def corn_by_the_paper(logits: list[list[float]], classes: list[int]) -> float:
    """Equation 5, with the conditional subsets S_j written out."""
    total = num_examples = 0
    for j in range(len(logits[0])):
        subset = [i for i, position in enumerate(classes) if position > j - 1]
        num_examples += len(subset)
        for i in subset:
            above = 1 / (1 + math.exp(-logits[i][j]))
            total += math.log(above) if classes[i] > j else math.log(1 - above)
    return -total / num_examples


def counts_by_the_paper(logits: list[float]) -> list[float]:
    """The chain rule, and P(count) as differences of P(more than a count)."""
    above = [1.0]
    for logit in logits:
        above.append(above[-1] / (1 + math.exp(-logit)))
    above.append(0.0)
    return [more - less for more, less in itertools.pairwise(above)]


def test_corn_by_hand():
    # Yes to "more than the first?" with 3/4, then to "more than the second?" with 1/3; in row two 1/2 and 4/5.
    logits_BJ = torch.tensor([[math.log(3), -math.log(2)], [0.0, math.log(4)]])
    by_hand = [[1 / 4, 3 / 4 * 2 / 3, 3 / 4 * 1 / 3], [1 / 2, 1 / 2 * 1 / 5, 1 / 2 * 4 / 5]]
    torch.testing.assert_close(CornHead().probabilities(logits_BJ), torch.tensor(by_hand))
    # The second count asks both questions (yes, no), the first one only the first (no): three questions.
    asked = math.log(3 / 4) + math.log(2 / 3) + math.log(1 / 2)
    assert CornHead().loss(logits_BJ, torch.tensor([1, 0])).item() == pytest.approx(-asked / 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("highest", [0, 2, 4])
def test_corn_against_the_papers_equations(seed, highest):
    """Where the highest count of a batch is low, nothing asks the last questions."""
    torch.manual_seed(seed)
    logits_BJ, classes_B = 3 * torch.randn(16, 4), torch.randint(highest + 1, (16,))
    logits, classes = logits_BJ.double().tolist(), classes_B.tolist()
    assert CornHead().loss(logits_BJ, classes_B).item() == pytest.approx(corn_by_the_paper(logits, classes), rel=1e-5)
    expected_BK = torch.tensor([counts_by_the_paper(row) for row in logits])
    torch.testing.assert_close(CornHead().probabilities(logits_BJ), expected_BK, atol=1e-6, rtol=0)


# What coral-pytorch 1.4.0, of CORN's authors, gives for six images and five counts: loss and gradients by the images'
# classes, and the most likely count by its own rule.
LOGITS_BJ = (
    (2.0, -1.0, 0.5, -3.0),
    (-0.5, 1.5, -2.0, 0.25),
    (0.0, 3.0, 1.0, -1.5),
    (4.0, 2.5, -0.75, 1.25),
    (-2.5, 0.75, 0.1, 2.0),
    (1.0, 1.0, 1.0, 1.0),
)
BY_ITS_AUTHORS = {
    (0, 1, 2, 3, 4, 4): (
        0.8101881146430969,
        (
            (0.048933, 0.0, 0.0, 0.0),
            (-0.034581, 0.045421, 0.0, 0.0),
            (-0.027778, -0.002635, 0.040614, 0.0),
            (-0.000999, -0.004214, -0.037732, 0.043183),
            (-0.051341, -0.017823, -0.02639, -0.006622),
            (-0.014941, -0.014941, -0.014941, -0.014941),
        ),
    ),
    (0, 0, 2, 1, 2, 0): (
        1.116041898727417,
        (
            (0.080072, 0.0, 0.0, 0.0),
            (0.034322, 0.0, 0.0, 0.0),
            (-0.045455, -0.004311, 0.06646, 0.0),
            (-0.001635, 0.084013, 0.0, 0.0),
            (-0.084013, -0.029166, 0.047725, 0.0),
            (0.06646, 0.0, 0.0, 0.0),
        ),
    ),
    (0, 0, 0, 0, 0, 0): (
        1.4507423639297485,
        tuple((value, 0.0, 0.0, 0.0) for value in (0.1468, 0.062923, 0.083333, 0.163669, 0.012643, 0.121843)),
    ),
}
MEDIANS_BY_ITS_AUTHORS = (1, 0, 0, 2, 0, 2)


@pytest.mark.parametrize("classes", BY_ITS_AUTHORS)
def test_corn_against_its_authors(classes):
    logits_BJ = torch.tensor(LOGITS_BJ, requires_grad=True)
    loss = CornHead().loss(logits_BJ, torch.tensor(classes))
    loss.backward()
    expected, gradients_BJ = BY_ITS_AUTHORS[classes]
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(logits_BJ.grad, torch.tensor(gradients_BJ), atol=1e-6, rtol=0)


def test_corns_loss_and_p_count_are_of_one_model():
    """Asked one after the other, a count's questions multiply up to P(count): the sums of their logarithms agree."""
    torch.manual_seed(0)
    logits_BJ, classes_B = torch.randn(32, 4), torch.randint(5, (32,))
    num_asked = (classes_B + 1).clamp(max=4).sum()
    said_B = CornHead().probabilities(logits_BJ)[torch.arange(32), classes_B]
    torch.testing.assert_close(CornHead().loss(logits_BJ, classes_B) * num_asked, -said_B.log().sum())


def test_corn_is_at_rest_where_p_count_is_how_often_each_count_occurs():
    logits_J = torch.zeros(3, requires_grad=True)
    torch.testing.assert_close(CornHead().probabilities(logits_J[None]), torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]))
    CornHead().loss(logits_J.expand(8, 3), torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])).backward()
    torch.testing.assert_close(logits_J.grad, torch.zeros(3))


def test_corn_knows_small_probabilities_too():
    yes, no = 1 / (1 + math.exp(-20)), 1 / (1 + math.exp(20))
    said = CornHead().probabilities(torch.tensor([[20.0, -20.0]]))[0].tolist()
    assert said == pytest.approx([no, yes * yes, yes * no], rel=1e-5)


def test_corns_median_is_the_one_that_its_authors_predict():
    above_BJ = CornHead().probabilities(torch.tensor(LOGITS_BJ)).flip(1).cumsum(1).flip(1)[:, 1:]
    assert (above_BJ > 0.5).sum(1).tolist() == list(MEDIANS_BY_ITS_AUTHORS)


def test_corn_with_two_counts_is_one_binary_question():
    torch.manual_seed(0)
    logits_BJ, classes_B = torch.randn(16, 1), torch.randint(2, (16,))
    expected = torch.nn.BCEWithLogitsLoss()(logits_BJ[:, 0], classes_B.float())
    torch.testing.assert_close(CornHead().loss(logits_BJ, classes_B), expected)
    above_B = logits_BJ[:, 0].sigmoid()
    torch.testing.assert_close(CornHead().probabilities(logits_BJ), torch.stack([1 - above_B, above_B], 1))


def test_corn_with_one_count_has_nothing_to_ask():
    with pytest.raises(ValueError, match=r"data.counts has 1 .*head=softmax"):
        CornHead().num_logits(1)


# Every head.


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_waits_for_no_device(name):
    """A tensor on `meta` has no values: whoever asks for one, or picks by a mask, fails where a GPU would wait."""
    logits = torch.empty(8, HEADS[name].num_logits(5), device="meta", requires_grad=True)
    HEADS[name].loss(logits, torch.empty(8, dtype=torch.int64, device="meta")).backward()
    assert logits.grad.device.type == "meta"


@pytest.mark.parametrize("name", HEADS)
@settings(deadline=None)
@given(data=st.data())
def test_p_count_is_a_distribution_and_gradients_are_finite(name, data):
    logits, classes_B = data.draw(batches(name))
    logits.requires_grad_()
    probabilities_BK, loss = HEADS[name].probabilities(logits), HEADS[name].loss(logits, classes_B)
    assert (probabilities_BK >= 0).all()
    torch.testing.assert_close(probabilities_BK.sum(1), torch.ones(len(classes_B)), atol=1e-5, rtol=0)
    assert probabilities_BK.shape == (len(classes_B), logits.shape[1] + (name == "corn"))
    assert loss.isfinite() and loss >= -1e-4
    (probabilities_BK.square().sum() + loss).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_single_precision_comes_out(name, dtype):
    logits = torch.full((2, HEADS[name].num_logits(5)), 50.0, dtype=dtype)
    assert HEADS[name].probabilities(logits).dtype == torch.float32
    assert HEADS[name].loss(logits, torch.tensor([0, 4])).dtype == torch.float32


@pytest.mark.parametrize("size", [8.0, 100.0])
@pytest.mark.parametrize("name", HEADS)
def test_a_sure_network_is_believed(name, size):
    """Logits that say one count, and against them each of the counts as the truth."""
    positions_K = torch.arange(5)
    says_yes_KK = positions_K[:, None] > positions_K[:4] if name == "corn" else torch.eye(5, dtype=torch.bool)
    logits_KJ = torch.where(says_yes_KK, size, -size)
    probabilities_KK = HEADS[name].probabilities(logits_KJ)
    assert torch.equal(probabilities_KK.argmax(1), positions_K)
    assert (probabilities_KK.diagonal() > 0.99).all()
    right = HEADS[name].loss(logits_KJ, positions_K)
    assert all(right + 1 < HEADS[name].loss(logits_KJ, positions_K.roll(shift)) for shift in range(1, 5))


@pytest.mark.parametrize("name", HEADS)
def test_a_counter_is_built_with_the_configured_head(compose, name):
    head = build(compose("train", "experiment=resnet50", f"head={name}").head)
    assert type(head) is type(HEADS[name])
    model = BinCounter("test_convnext", [1, 2, 3, 4, 5], head, weights="none").eval()
    model.log = lambda *_args, **_options: None
    images_BCHW = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    said_BK = model.predict_step({"image_ids": ["a", "b"], "images": images_BCHW})["probabilities"]
    assert said_BK.shape == (2, 5)
    loss = model.training_step({"images": images_BCHW, "counts": torch.tensor([1, 5])}, 0)
    loss.backward()
    assert model.backbone.get_classifier().weight.grad.abs().sum() > 0
