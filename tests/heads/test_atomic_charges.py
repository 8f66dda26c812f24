"""Charges of atoms: their sum, ions, molecules far apart, and training on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.interfaces.ase_calculator import NeuralPolarizationCalculator
from neural_polarization.interfaces.prediction import predict
from neural_polarization.layers import sum_by_index
from neural_polarization.models import HeadConfig, Model, ModelConfig
from neural_polarization.molecules import Molecules

CUTOFF = 4.0


def charged(dtype: torch.dtype = torch.float32) -> Model:
    """A small model of charges whose flows are as large as in a trained one."""
    torch.manual_seed(0)
    heads = {"energy": HeadConfig("extensive", forces=True), "charges": HeadConfig("atomic_charges")}
    model = Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig("painn", 8, 2, CUTOFF, 6))).to(dtype)
    model.head("charges").baseline.scale.fill_(10.0)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_charges_add_up_to_the_charge_of_the_molecule(dtype: torch.dtype) -> None:
    model = charged(dtype)
    molecules = Molecules.from_ase([molecule("CH3CH2OH"), molecule("H2O"), molecule("CH4")], CUTOFF, dtype)
    molecules = replace(molecules, charge=torch.tensor([1.0, -2.0, 0.0], dtype=dtype))
    charges = model(molecules)["charges"]
    assert charges.dtype == torch.float64
    sums = sum_by_index(charges, molecules.molecule_index, 3)
    torch.testing.assert_close(sums, torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)
    assert charges.abs().max() > 0.01


def test_neutral_molecules_far_apart_keep_their_charges() -> None:
    model = charged(torch.float64)
    water, methanol = molecule("H2O"), molecule("CH3OH")
    far = methanol.copy()
    far.translate([50.0, 0.0, 0.0])
    alone = [model(Molecules.from_ase(frame, CUTOFF, torch.float64))["charges"] for frame in (water, methanol)]
    together = model(Molecules.from_ase(water + far, CUTOFF, torch.float64))["charges"]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-9)


def test_an_atom_alone_has_its_charge() -> None:
    model = charged()
    proton = Molecules.from_ase(molecule("H"), CUTOFF)
    assert model(replace(proton, charge=torch.tensor([1.0])))["charges"].tolist() == [1.0]
    assert model(proton)["charges"].tolist() == [0.0]


def test_hydrogens_of_methane_are_alike() -> None:
    charges = charged(torch.float64)(Molecules.from_ase(molecule("CH4"), CUTOFF, torch.float64))["charges"]
    torch.testing.assert_close(charges[1:], charges[1].expand(4), rtol=0, atol=1e-9)
    assert charges[0].item() == pytest.approx(-4 * charges[1].item())


def test_charges_are_learned_and_the_scale_is_theirs() -> None:
    """Of water and methanol, the oxygen's charge taken from its hydrogens."""
    model = charged()
    frames = [molecule("H2O"), molecule("CH3OH")]
    molecules = Molecules.from_ase(frames, CUTOFF)
    water, methanol = [-0.6, 0.3, 0.3], [-0.1, -0.4, 0.1, 0.3, 0.05, 0.05]
    labels = torch.tensor(water + methanol, dtype=torch.float64)
    energies = torch.zeros(2, dtype=torch.float64)
    composition = torch.tensor([[2.0, 0.0, 1.0], [4.0, 1.0, 1.0]])
    model.fit_scales({"energy": energies, "charges": labels}, composition)
    assert model.scale_of("charges") == pytest.approx(labels.square().mean().sqrt().item())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(molecules, forces=False)["charges"] - labels).square().mean()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(model(molecules, forces=False)["charges"].detach(), labels, rtol=0, atol=0.02)


def test_predictions_and_the_calculator_have_them() -> None:
    model = charged(torch.float64)
    frames = [molecule("H2O"), molecule("CH4")]
    predictions = predict(model, frames)
    for frame, prediction in zip(frames, predictions, strict=True):
        assert "charges" not in prediction.properties
        assert prediction.of_atoms["charges"].shape == (len(frame),)
    water = frames[0]
    water.calc = NeuralPolarizationCalculator(model)
    np.testing.assert_allclose(water.get_charges(), predictions[0].of_atoms["charges"], atol=1e-6)
    with pytest.raises(ValueError, match="one number per atom"):
        NeuralPolarizationCalculator(model, energy="charges")


def test_charges_are_no_energy() -> None:
    with pytest.raises(ValueError, match="one number per molecule, and a atomic_charges is one per atom"):
        Model(ModelConfig(("H",), {"q": HeadConfig("atomic_charges", forces=True)}))
