"""Training from scratch by the protocol: batches, rates, labels, sizes, and one test."""

import math
from dataclasses import replace

import pytest
import tiny
import torch

from latentdd_plugin.core.random import generator
from latentdd_plugin.core.types import Images, Score
from latentdd_plugin.evaluators import protocols
from latentdd_plugin.evaluators.scoring import ScoreFile, score
from latentdd_plugin.evaluators.train_scratch import (
    CompiledNetwork,
    TrainScratch,
    compile_network,
    logit_loss,
    make_optimizer,
    rate_at,
)
from latentdd_plugin.evaluators.trial import Trial, sample_order, shrink

DC = replace(protocols.PROTOCOLS["dc-bench.v1"], epochs=3)


def lengths(samples, protocol):
    trial = tiny.trial(torch.zeros(samples, 1, 8, 8), torch.zeros(samples, dtype=torch.long), protocol=protocol)
    order = sample_order(samples, trial.batch_sizes, torch.Generator().manual_seed(0), by_epoch=not protocol.steps)
    return list(order)


@pytest.mark.parametrize("samples", [2, 10, 255, 256, 257, 258, 511, 512, 513, 769])
def test_epochs_meet_every_image_once_and_never_one_alone(samples):
    """BatchNorm cannot train on a batch of one, which is what is left over of 257 images."""
    rows = lengths(samples, DC)
    assert all(1 < len(part) <= 256 for part in rows)
    an_epoch = len(rows) // 3
    assert len(rows) == 3 * an_epoch
    for epoch in range(3):
        met = torch.cat(rows[epoch * an_epoch : (epoch + 1) * an_epoch]).tolist()
        assert len(met) == len(set(met))
        assert len(met) == samples - (samples % 256 == 1)
    assert not torch.equal(rows[0], rows[an_epoch]) or samples == 2, "each epoch in a new order"


@pytest.mark.parametrize("samples", [1, 3, 16, 40])
def test_steps_do_not_depend_on_the_number_of_images(samples):
    protocol = replace(tiny.PROTOCOL, steps=((32, 12),), batch=16)
    rows = lengths(samples, protocol)
    assert [len(part) for part in rows] == [16] * 12
    counts = torch.bincount(torch.cat(rows), minlength=samples)
    assert int(counts.max() - counts.min()) <= 1, "one order after another: no image is met much more often"


def test_a_single_image_in_epochs_is_a_batch():
    assert [len(part) for part in lengths(1, DC)] == [1, 1, 1]


def test_rates():
    cosine, drop = tiny.PROTOCOL, DC
    rates = [rate_at(cosine, step, 100, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0, rel=0.05)
    assert rates[50] == pytest.approx(1.0)
    assert rates[99] < 0.01
    assert [rate_at(drop, step, 10, 0.01) for step in (0, 5, 6, 9)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_optimisers_are_the_protocols():
    network = torch.nn.Linear(2, 2)
    adamw, sgd = make_optimizer(network, tiny.PROTOCOL, 0.5), make_optimizer(network, DC, 0.5)
    assert (type(adamw), adamw.defaults["lr"], adamw.defaults["weight_decay"]) == (torch.optim.AdamW, 0.5, 0.05)
    assert (type(sgd), sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (torch.optim.SGD, 0.9, 5e-4)


def seen_rates(monkeypatch, **trial):
    from latentdd_plugin.evaluators import train_scratch

    seen = []
    monkeypatch.setattr(train_scratch, "rate_at", lambda protocol, step, steps, lr: seen.append(lr) or lr)
    TrainScratch("convnet_d1").evaluate(tiny.trial(**trial), 0)
    return set(seen)


def test_the_artifacts_rate_is_used_where_the_protocol_says_so(monkeypatch):
    follows = replace(tiny.PROTOCOL, lr_from="artifact")
    assert seen_rates(monkeypatch, protocol=follows, lr=0.02) == {0.02}
    assert seen_rates(monkeypatch, protocol=follows, lr=None) == {1e-3}
    assert seen_rates(monkeypatch, lr=0.02) == {1e-3}


def test_the_loss_on_logits_is_the_teachers_up_to_a_constant():
    """MSE over samples and classes of centred logits, plus the weighted cross-entropy, number by number."""
    g = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn((3, 4), generator=g), 3 * torch.randn((3, 4), generator=g)
    targets = teacher.softmax(1)
    total = 0.0
    for row, wanted in zip(logits.double().tolist(), teacher.double().tolist(), strict=True):
        means = sum(row) / 4, sum(wanted) / 4
        total += sum(((a - means[0]) - (b - means[1])) ** 2 for a, b in zip(row, wanted, strict=True)) / 12
        norms = [math.log(sum(math.exp(x) for x in values)) for values in (row, wanted)]
        entropy = -sum(math.exp(b - norms[1]) * (a - norms[0]) for a, b in zip(row, wanted, strict=True))
        total += 0.25 * entropy / 3
    assert logit_loss(logits, targets, 0.25).item() == pytest.approx(total, rel=1e-5)
    assert logit_loss(teacher + 7, targets, 0.0).item() == pytest.approx(0, abs=1e-9)


def test_a_protocol_trains_on_logits_and_keeps_cross_entropy_for_class_numbers():
    protocol = replace(tiny.PROTOCOL, loss="mse+ce", ce=0.1)
    trial = tiny.trial(protocol=protocol)
    network, *_ = TrainScratch("convnet_d1").network(trial)
    compiled = compile_network(network, trial, 0)
    inputs, targets = next(trial.batches(0))
    found = network(inputs)
    assert compiled.loss(inputs, targets).item() == pytest.approx(
        torch.nn.functional.cross_entropy(found, targets).item()
    )
    soft = torch.rand((len(targets), 10), generator=torch.Generator().manual_seed(0)).softmax(1)
    assert compiled.loss(inputs, soft).item() == pytest.approx(logit_loss(found, soft, 0.1).item(), rel=1e-5)
    assert replace(tiny.PROTOCOL, loss="mse+ce").sha256 != protocol.sha256 != tiny.PROTOCOL.sha256


def test_targets():
    logits = torch.randn(20, 10)
    probabilities = logits.softmax(1)
    assert torch.equal(tiny.trial(labels=probabilities, kind="probabilities").targets, probabilities)
    torch.testing.assert_close(tiny.trial(labels=logits, kind="logits").targets, probabilities)
    hard = replace(tiny.PROTOCOL, labels="hard")
    assert torch.equal(tiny.trial(labels=logits, kind="logits", protocol=hard).targets, logits.argmax(1))
    assert torch.equal(tiny.trial().targets, tiny.trial().labels)


def test_inputs_are_standardised_by_the_real_images_and_shrunk_alike():
    trial = tiny.trial(protocol=replace(tiny.PROTOCOL, side=4))
    assert trial.shape == (1, 4, 4)
    expected = (shrink(trial.images, (1, 4, 4)) - trial.mean) / trial.std
    torch.testing.assert_close(trial.inputs, expected)
    test_images = tiny.held_out().pixels.float() / 255
    torch.testing.assert_close(trial.test_inputs, (shrink(test_images, (1, 4, 4)) - trial.mean) / trial.std)
    assert tiny.trial().shape == (1, 8, 8), "smaller images keep their size"
    assert trial.test_inputs.shape == (359, 1, 4, 4)


def test_only_a_protocol_clamps():
    images = torch.full((20, 1, 8, 8), 1.5)
    kept, clamped = (tiny.trial(images, protocol=replace(tiny.PROTOCOL, clamp=clamp)) for clamp in (False, True))
    torch.testing.assert_close(kept.inputs * kept.std + kept.mean, images)
    torch.testing.assert_close(clamped.inputs * kept.std + kept.mean, torch.ones_like(images))


def test_training_learns_and_more_real_digits_help():
    """Two hundred real digits and a hundred steps: far above chance on images that were never seen."""
    rows = torch.cat([part[:20] for part in tiny.spaces("identity")[2].by_class])
    data = tiny.digits().train
    protocol = replace(tiny.PROTOCOL, steps=((32, 60),), batch=32, lr=2e-3)
    trial = tiny.trial(data.pixels[rows] / 255, data.labels[rows], protocol=protocol)
    score = TrainScratch("convnet_d1").evaluate(trial, 0)
    assert score.accuracy > 0.7
    wrong = tiny.trial(trial.images, (trial.labels + 1) % 10, protocol=protocol)
    assert TrainScratch("convnet_d1").evaluate(wrong, 0).accuracy < 0.1


@pytest.mark.parametrize("count", [1, 499, 500, 501])
def test_every_test_image_counts_once(monkeypatch, count):
    """The last batch is padded to one shape; the padding must not be scored."""
    from latentdd_plugin.evaluators import train_scratch

    labels = torch.arange(count) % 10
    pixels = (labels * 25).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    trial = tiny.trial(held_out=Images(pixels, labels), mean=torch.zeros(1, 1, 1), std=torch.ones(1, 1, 1))

    def oracle(x):
        found = (x[:, 0, 0, 0] * 255 / 25).round().long()
        found[found == 3] = 4
        return torch.nn.functional.one_hot(found, 10).float()

    compiled = CompiledNetwork(torch.nn.Identity(), torch.nn.functional.cross_entropy, oracle, trial.numerics.mode(0))
    assert train_scratch.predict(compiled, trial).accuracy == pytest.approx(float((labels != 3).float().mean()))


def test_a_score_holds_classes_mistakes_and_top_5():
    """120 images of 60 classes, two of each: odd classes are taken for the one before, and come fifth."""
    from latentdd_plugin.evaluators import train_scratch

    labels = torch.arange(120) % 60
    pixels = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    held_out, one = Images(pixels, labels), torch.ones(1, 1, 1)
    trial = tiny.trial(held_out=held_out, mean=0 * one, std=one, num_classes=60)

    def oracle(x):
        number = (x[:, 0, 0, 0] * 255).round().long()
        logits = -((torch.arange(60) - (number - number % 2)[:, None]) % 60).float()
        return logits.scatter(1, number[:, None], torch.where(number % 2 == 1, -4.5, 0.0)[:, None])

    compiled = CompiledNetwork(torch.nn.Identity(), torch.nn.functional.cross_entropy, oracle, trial.numerics.mode(0))
    found = train_scratch.predict(compiled, trial)
    details = found.details()
    assert (found.accuracy, details["top5"]) == (0.5, 1.0)
    assert details["by_class"] == (1.0, 0.0) * 30
    assert details["confused"] == tuple((n, n - 1, 2) for n in range(1, 40, 2)), "20 mistakes, in order"
    row = Score("convnet", "convnet", {}, 1, 0, found.accuracy, **details)
    assert Score.from_json(row.to_json()) == row


def test_batches_are_the_protocols_order_augmentation_and_targets():
    """Written out: one order after another, one operation per batch, the rows' own targets."""
    trial = tiny.trial(protocol=replace(tiny.PROTOCOL, steps=((32, 4),), batch=16))
    order, draws = generator(7, "evaluate/order"), generator(7, "evaluate/augment")
    rows = torch.cat([torch.randperm(20, generator=order) for _ in range(4)])[:64].split(16)
    found = list(trial.batches(7))
    assert len(found) == len(trial.batch_sizes) == 4
    for part, (inputs, targets) in zip(rows, found, strict=True):
        expected = trial.augment.apply(trial.inputs[part], trial.augment.draw(draws, 16))
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, trial.targets[part])


@pytest.mark.parametrize("name", ["fast.v1", "kd-quick.v1", "rded.v1"])
def test_batches_that_begin_later_are_the_same_and_read_nothing_before(name, monkeypatch):
    protocol = replace(protocols.get(name), steps=((32, 5),), batch=8, batches=())
    trial, read = tiny.trial(protocol=protocol), []
    whole = list(trial.batches(3))
    inputs_at = Trial.inputs_at
    monkeypatch.setattr(Trial, "inputs_at", lambda self, rows: (read.append(len(rows)), inputs_at(self, rows))[1])
    later = list(trial.batches(3, 2))
    assert len(later) == len(read) == 3
    for (inputs, targets), (same, wanted) in zip(later, whole[2:], strict=True):
        assert torch.equal(inputs, same)
        assert torch.equal(targets, wanted)


def test_one_session_scores_every_seed_as_fresh_evaluators_do(monkeypatch, tmp_path):
    """The network is prepared once per trial; nothing of it is left on the evaluator afterwards."""
    from latentdd_plugin.evaluators import train_scratch

    prepared, compile_network = [], train_scratch.compile_network
    monkeypatch.setattr(train_scratch, "compile_network", lambda *a: prepared.append(a[2]) or compile_network(*a))
    evaluator, trial = TrainScratch("resnet18"), tiny.trial()
    found, _ = score({"r": evaluator}, trial, 2, ScoreFile(tmp_path / "scores.json"))
    assert prepared == [2000]
    assert vars(evaluator) == {"arch": "resnet18"}
    alone = [TrainScratch("resnet18").evaluate(trial, seed).accuracy for seed in (2000, 2001)]
    assert [row.accuracy for row in found] == alone
    other = replace(trial, images=1 - trial.images)
    assert score({"r": evaluator}, other, 2, ScoreFile(tmp_path / "other.json"))[0] != found
    assert prepared == [2000, 2000, 2001, 2000]


def test_flips_are_left_out_where_labels_would_change(monkeypatch):
    from latentdd_plugin.nn.augment import Augment

    seen = []
    monkeypatch.setattr(Augment, "draw", lambda self, *_: seen.append(self.operations))
    for flip in (False, True):
        TrainScratch("convnet_d1").evaluate(
            tiny.trial(flip=flip, protocol=replace(tiny.PROTOCOL, augment=DC.augment)), 0
        )
    assert set(seen) == {("crop", "cutout", "scale", "rotate"), ("crop", "cutout", "flip", "scale", "rotate")}
