"""Order of batches, schedule, losses and errors, without any training."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch

from neural_polarization.architectures import BackboneConfig
from neural_polarization.data.batching import Batch, PreparedDataset
from neural_polarization.metrics import ErrorSums, in_units
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.training.batches import BatchOrder, batch_loader
from neural_polarization.training.config import LossConfig, MachineConfig, ScheduleConfig, TrainingConfig
from neural_polarization.training.experiment import errors_of
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
    with pytest.raises(ValueError, match="1 molecule per batch cannot be shared by 2 processes"):
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


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (LossConfig(kind="mae"), 3.0),
        (LossConfig(kind="mse"), 9.0),
        (LossConfig(kind="huber"), 2.5),
        (LossConfig(kind="huber", delta=0.5), 1.375),
        (LossConfig(kind="huber", delta=4.0), 4.5),
    ],
)
def test_kinds_of_losses(loss: LossConfig, value: float) -> None:
    losses = Losses({"energy": loss}, tiny())
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(losses.sums({"energy": zero + 3.0}, {"energy": zero})["energy"][0]) == pytest.approx(value)


def test_missing_labels_send_no_gradient() -> None:
    losses = Losses({}, tiny())
    prediction = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    loss, _ = losses.sums({"energy": prediction}, {"energy": torch.tensor([0.0, math.nan]).double()})["energy"]
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [2.0, 0.0]


WEIGHTS = {"energy": 3.0, "forces": 1.0, "dipole": 0.5}


def learner_of_waters() -> tuple[Learner, PreparedDataset]:
    """A learner whose properties have weights and scales of their own, and what it learns."""
    data, model = waters(), tiny()
    model.fit_scales(data.labels_of(np.arange(len(data))), torch.from_numpy(data.composition(("H", "O"))))
    losses = {name: LossConfig(weight=weight) for name, weight in WEIGHTS.items()}
    config = TrainingConfig(losses=losses, schedule=ScheduleConfig(decay="plateau", patience=0))
    return Learner(model, config, total_steps=10), data.prepare(model.cutoff)


def differences(model: Model, batch: Batch) -> dict[str, torch.Tensor]:
    """Prediction minus label, of the labels that exist."""
    predictions = model(batch.molecules)
    every = {name: (predictions[name] - label).detach().double() for name, label in batch.labels.items()}
    return {name: values[~values.isnan()] for name, values in every.items()}


def loss_by_hand(model: Model, batch: Batch) -> float:
    """The weighted sum of each property's own mean."""
    return sum(
        WEIGHTS[name] * float((values / model.scale_of(name)).square().mean())
        for name, values in differences(model, batch).items()
        if len(values)
    )


# Molecule 0 has no forces, and molecule 1 no dipole.
@pytest.mark.parametrize("indices", [range(40), [0], [1], [0, 1, 2]])
def test_the_loss_of_a_step_is_the_sum_of_the_means_of_the_properties(indices: Sequence[int]) -> None:
    learner, prepared = learner_of_waters()
    batch = prepared.batch(indices)
    assert float(learner.training_step(batch, 0).detach()) == pytest.approx(
        loss_by_hand(learner.model, batch), rel=1e-5
    )


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    learner, prepared = learner_of_waters()
    for parts in ([[0, 1, 2], [3, 4, 5], [6, 7]], [[8, 9, 10], [11, 12]]):
        learner.on_train_epoch_start()
        losses = [float(learner.training_step(prepared.batch(part), k).detach()) for k, part in enumerate(parts)]
        learner.end_epoch()
        assert learner.epoch_loss == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("batch_size", [3, 7, 256])
def test_a_validation_does_not_depend_on_its_batches(batch_size: int) -> None:
    learner, prepared = learner_of_waters()
    whole = prepared.batch(range(40))
    for _ in range(2):
        learner.on_validation_epoch_start()
        for indices in BatchOrder(len(prepared), batch_size):
            learner.validation_step(prepared.batch(indices), 0)
        learner.on_validation_epoch_end()
        assert learner.validation_loss == pytest.approx(loss_by_hand(learner.model, whole), rel=1e-5)
        for name, values in differences(learner.model, whole).items():
            error = learner.validation_errors[name]
            assert error.mae == pytest.approx(float(values.abs().mean()), rel=1e-5)
            assert error.count == len(values)
    # The second validation was no better than the first.
    assert learner.schedule.state() == {"reduction": 0.5, "best": learner.validation_loss, "worse": 0.0}


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_weights_decay_by_the_learning_rate_times_the_weight_decay(precision: Literal["32", "bf16"]) -> None:
    machine = MachineConfig(precision=precision)
    learner = Learner(tiny(), TrainingConfig(learning_rate=0.1, weight_decay=0.3, machine=machine), total_steps=10)
    before = [weight.detach().clone() for weight in learner.model.parameters()]
    for weight in learner.model.parameters():
        weight.grad = torch.zeros_like(weight)
    learner.configure_optimizers().step()
    for weight, old in zip(learner.model.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), 0.97 * old)


def test_a_resumed_training_goes_on_with_the_reduced_learning_rate() -> None:
    config = TrainingConfig(schedule=ScheduleConfig(warmup_steps=0, decay="plateau", patience=1, factor=0.5))
    whole, resumed = (Learner(tiny(), config, total_steps=100) for _ in range(2))
    for loss in [1.0, 2.0, 2.0, 2.0]:
        whole.schedule.validated(loss)
    checkpoint: dict[str, Any] = {}
    whole.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.schedule(50) == 0.5
    resumed.schedule.validated(1.5)
    assert resumed.schedule(50) == 0.25


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


def test_errors_in_customary_units() -> None:
    learner, prepared = learner_of_waters()
    errors = in_units(errors_of(learner.model, prepared, batch_size=7), prepared.properties)
    of = differences(learner.model, prepared.batch(range(40)))
    for name, unit in {"energy": 1e-3, "forces": 1e-3, "dipole": 0.20819434e-3}.items():
        assert errors[name]["mae"] == pytest.approx(float(of[name].abs().mean()) / unit, rel=1e-5)
        assert errors[name]["rmse"] == pytest.approx(float(of[name].square().mean().sqrt()) / unit, rel=1e-5)
        assert errors[name]["count"] == len(of[name])
    per_atom = of["energy"].abs() / torch.from_numpy(prepared.num_atoms)
    assert errors["energy"]["mae_per_atom"] == pytest.approx(1000 * float(per_atom.mean()), rel=1e-5)
    assert errors["forces"]["mae_per_atom"] is None
