"""Order of batches, schedule, losses and errors, without any training."""

import itertools
import math

import numpy as np
import pytest
import torch

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.training.batches import BatchOrder, batch_loader
from neural_polarization.training.config import LossConfig, ScheduleConfig, TrainingConfig
from neural_polarization.training.errors import ErrorSums
from neural_polarization.training.losses import Losses
from neural_polarization.training.module import Learner
from neural_polarization.training.schedule import Schedule
from waters import waters


def tiny() -> Model:
    heads = {"energy": HeadConfig("extensive", forces=True), "dipole": HeadConfig("dipole")}
    return Model(ModelConfig(("H", "O"), heads, BackboneConfig(channels=4, num_layers=1, num_basis=4)))


def test_an_epoch_has_every_molecule_once_and_depends_on_seed_and_number() -> None:
    order = BatchOrder(23, 5, shuffle_seed=3)
    order.set_epoch(7)
    first = [batch.tolist() for batch in order]
    assert sorted(index for batch in first for index in batch) == list(range(23))
    assert {len(batch) for batch in first} == {4, 5}
    again = BatchOrder(23, 5, shuffle_seed=3)
    again.set_epoch(7)
    assert [batch.tolist() for batch in again] == first
    again.set_epoch(8)
    assert [batch.tolist() for batch in again] != first


@pytest.mark.parametrize("seed", [None, 3])
def test_processes_share_every_batch(seed: int | None) -> None:
    whole = [set(batch.tolist()) for batch in BatchOrder(23, 6, seed)]
    shares = [[set(batch.tolist()) for batch in BatchOrder(23, 6, seed, rank, 2)] for rank in range(2)]
    if seed is None:
        assert set.union(*shares[0], *shares[1]) == set(range(23))
        assert not set.union(*shares[0]) & set.union(*shares[1])
    else:
        assert [one | other for one, other in zip(*shares, strict=True)] == whole


def test_too_small_batches_for_the_processes() -> None:
    with pytest.raises(ValueError, match="cannot be shared by 4 processes"):
        BatchOrder(23, 3, 0, rank=1, world_size=4)
    with pytest.raises(ValueError, match="cannot be shared by 4 processes"):
        BatchOrder(3, 8, None, rank=1, world_size=4)
    # Three molecules in batches of two are a batch of two and one of one.
    with pytest.raises(ValueError, match="1 molecules per batch cannot be shared by 2 processes"):
        BatchOrder(3, 2, 0, rank=0, world_size=2)


def test_the_loader_follows_the_order() -> None:
    prepared = waters().prepare(4.0)
    order = BatchOrder(len(prepared), 16, shuffle_seed=1)
    loader = batch_loader(prepared, order, torch.float32)
    loader.sampler.set_epoch(4)  # pyright: ignore[reportAttributeAccessIssue]
    expected = BatchOrder(len(prepared), 16, shuffle_seed=1)
    expected.set_epoch(4)
    for batch, indices in zip(loader, expected, strict=True):
        assert batch.indices.tolist() == indices.tolist()
        assert batch.molecules.positions.dtype == torch.float32


def test_warm_up_and_cosine() -> None:
    schedule = Schedule(ScheduleConfig(warmup_steps=10, final=0.1), 1000)
    factors = [schedule(step) for step in range(1000)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.1, abs=1e-4)
    assert all(after <= before for before, after in itertools.pairwise(factors[10:]))


def test_the_warm_up_never_takes_more_than_a_tenth() -> None:
    assert Schedule(ScheduleConfig(warmup_steps=1000), 100)(10) == 1.0


def test_the_plateau_waits_reduces_and_is_restored() -> None:
    config = ScheduleConfig(warmup_steps=0, decay="plateau", patience=2, factor=0.5, final=0.2)
    schedule = Schedule(config, 100)
    for loss in [1.0, 0.9, 0.95, 0.95]:
        schedule.validated(loss)
    assert schedule(50) == 1.0
    schedule.validated(0.95)
    assert schedule(50) == 0.5
    other = Schedule(config, 100)
    other.restore(schedule.state())
    for loss in [1.0] * 10:
        schedule.validated(loss)
        other.validated(loss)
    assert schedule(50) == other(50) == 0.2


def test_the_loss_counts_the_labels_that_exist() -> None:
    model = tiny()
    model.head("energy").baseline.scale.fill_(2.0)
    losses = Losses({"energy": LossConfig(weight=3.0, kind="mae"), "forces": LossConfig(weight=0.0)}, model)
    predictions = {"energy": torch.tensor([1.0, 5.0, 7.0]).double(), "dipole": torch.zeros(3, 3)}
    labels = {
        "energy": torch.tensor([2.0, math.nan, 4.0]).double(),
        "dipole": torch.full((3, 3), math.nan),
        "forces": torch.zeros(8, 3),
    }
    assert not losses.needs_forces(labels)
    sums = losses.sums(predictions, labels)
    assert {name: (float(loss), int(count)) for name, (loss, count) in sums.items()} == {
        "energy": (pytest.approx(3.0 * (0.5 + 1.5)), 2),
        "dipole": (0.0, 0),
    }


@pytest.mark.parametrize(("kind", "value"), [("mae", 3.0), ("mse", 9.0), ("huber", 2.5)])
def test_kinds_of_losses(kind: str, value: float) -> None:
    losses = Losses({"energy": LossConfig(kind=kind)}, tiny())  # pyright: ignore[reportArgumentType]
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(losses.sums({"energy": zero + 3.0}, {"energy": zero})["energy"][0]) == pytest.approx(value)


def test_missing_labels_send_no_gradient() -> None:
    losses = Losses({}, tiny())
    prediction = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    loss, _ = losses.sums({"energy": prediction}, {"energy": torch.tensor([0.0, math.nan]).double()})["energy"]
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [2.0, 0.0]


def test_a_validation_without_labels_is_no_good_one() -> None:
    config = TrainingConfig(schedule=ScheduleConfig(warmup_steps=0, decay="plateau"))
    learner = Learner(tiny(), config, total_steps=10)
    learner.on_train_epoch_start()
    learner.on_validation_epoch_start()
    molecules = waters().prepare(5.0).batch([1, 2]).molecules
    nothing = {"energy": torch.full((2,), math.nan).double(), "dipole": torch.full((2, 3), math.nan)}
    learner.validation_step(Batch(molecules, nothing, torch.arange(2)), 0)
    learner.on_validation_epoch_end()
    assert math.isnan(learner.validation_loss)
    assert learner.schedule.state() == Schedule(config.schedule, 10).state()


def test_losses_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="'gap' is not predicted by this model"):
        Losses({"gap": LossConfig()}, tiny())
    zero = LossConfig(weight=0.0)
    with pytest.raises(ValueError, match="every weight is zero"):
        Losses({"energy": zero, "forces": zero, "dipole": zero}, tiny())
    with pytest.raises(ValueError, match="weight: expected a finite number of at least 0"):
        LossConfig(weight=-1.0)


def test_errors_add_up_over_batches() -> None:
    rng = np.random.default_rng(0)
    predicted, label = (torch.from_numpy(rng.normal(size=(10, 3))) for _ in range(2))
    label[4] = math.nan
    sizes = torch.arange(1, 11)
    sums = ErrorSums()
    for part in (slice(0, 4), slice(4, 10)):
        sums.add({"dipole": predicted[part]}, {"dipole": label[part]}, sizes[part])
    error = sums.errors()["dipole"]
    known = torch.ones(10, dtype=torch.bool)
    known[4] = False
    difference = (predicted - label)[known]
    assert error.count == 27
    assert error.mae == pytest.approx(float(difference.abs().mean()))
    assert error.rmse == pytest.approx(float(difference.square().mean().sqrt()))
    assert error.mae_per_atom == pytest.approx(float((difference.abs() / sizes[known].unsqueeze(-1)).mean()))


def test_a_property_without_labels_has_no_error() -> None:
    sums = ErrorSums()
    sums.add({"energy": torch.zeros(2)}, {"energy": torch.full((2,), math.nan)})
    assert sums.errors() == {}
