"""Models: forces, several heads, precision, configuration errors."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from neural_polarization.architectures import ARCHITECTURES, BackboneConfig
from neural_polarization.messages import Lengths, Messages
from neural_polarization.models import (
    HeadConfig,
    Model,
    ModelConfig,
    PolarizationConfig,
)
from neural_polarization.molecules import Molecules
from neural_polarization.moves import EdgeMove, Move, RadialMove, Still, VectorMove
from neural_polarization.settings import ConfigError, Source, build
from neural_polarization.training.config import ModelSection

ELEMENTS = ("H", "C", "O")
SMALL = BackboneConfig("painn", 8, 2, 4.0, 6)
HEADS = {"energy": HeadConfig("extensive", forces=True), "mu": HeadConfig("dipole"), "gap": HeadConfig("intensive")}


def make_model(messages: str = "both_views", backbone: BackboneConfig = SMALL) -> Model:
    torch.manual_seed(0)
    model = Model(ModelConfig(ELEMENTS, HEADS, backbone, PolarizationConfig(Messages(messages))))
    with torch.no_grad():
        for parameter in model.representation.moves.parameters():
            parameter.mul_(20.0)
    return model


def ethanol(dtype: torch.dtype = torch.float64) -> Molecules:
    frame = molecule("CH3CH2OH")
    frame.rattle(0.05, seed=0)
    return Molecules.from_ase(frame, SMALL.cutoff, dtype)


@pytest.mark.parametrize("messages", [choice.value for choice in Messages])
def test_forces_are_minus_the_gradient(messages: str) -> None:
    model, molecules = make_model(messages).double().eval(), ethanol()
    forces = model(molecules)["forces"]
    step = 1e-5
    for atom, axis in [(0, 0), (3, 1), (8, 2)]:
        shifted = []
        for sign in (1.0, -1.0):
            positions = molecules.positions.clone()
            positions[atom, axis] += sign * step
            energy = model(molecules.with_positions(positions), forces=False)["energy"]
            shifted.append(float(energy.detach()))
        assert forces[atom, axis].item() == pytest.approx((shifted[1] - shifted[0]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("backbone", ARCHITECTURES)
def test_a_loss_on_everything_reaches_every_parameter(backbone: str) -> None:
    model = make_model(backbone=BackboneConfig(backbone, 8, 2, 4.0, 6)).double().train()
    out = model(ethanol())
    loss = out["forces"].square().sum() + sum(out[name].square().sum() for name in HEADS)
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_forces_can_be_left_out_and_work_where_gradients_are_off() -> None:
    model, molecules = make_model().double().eval(), ethanol()
    with torch.no_grad():
        assert set(model(molecules, forces=False)) == {"energy", "mu", "gap"}
        assert set(model(molecules)) == {"energy", "mu", "gap", "forces"}
        assert not model(molecules)["forces"].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("training", [True, False])
def test_where_gradients_are_off_nothing_keeps_a_graph(mode: type, training: bool) -> None:
    """A loop that collects predictions would otherwise fill the memory; molecules may be made in that mode as well."""
    model = make_model().double().train(training)
    expected = model(ethanol())
    with mode():
        out = model(ethanol())
    assert out.keys() == expected.keys()
    for name, value in out.items():
        assert not value.requires_grad
        assert torch.allclose(value, expected[name].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_other_properties_can_be_differentiated_beside_forces(training: bool) -> None:
    model, molecules = make_model().double().train(training), ethanol()
    molecules = molecules.with_positions(molecules.positions.requires_grad_())
    out = model(molecules)
    for name in ("mu", "gap", "energy"):
        (gradient,) = torch.autograd.grad(out[name].sum(), molecules.positions, retain_graph=True)
        assert gradient.abs().max() > 0
    assert torch.allclose(-gradient, out["forces"])
    assert out["forces"].requires_grad  # for the Hessian, or a loss


def test_only_the_properties_that_are_asked_for() -> None:
    model = make_model().double()
    assert model(ethanol(), properties=["gap"]).keys() == {"gap"}
    assert model(ethanol(), properties=["energy"]).keys() == {"energy", "forces"}
    with pytest.raises(ValueError, match="properties: 'forces' is not known; choose one of energy, mu, gap"):
        model(ethanol(), properties=["forces"])


def test_forces_have_derivatives_where_positions_are_asked_for() -> None:
    """The Hessian of a model in evaluation, as it is loaded, is that of its energy, and not zero."""
    model = make_model().double().eval()
    molecules = ethanol(torch.float64)

    def energy(positions: Tensor) -> Tensor:
        return model(molecules.with_positions(positions), forces=False)["energy"].sum()

    def force(positions: Tensor) -> Tensor:
        return model(molecules.with_positions(positions))["forces"]

    expected = torch.func.jacrev(torch.func.jacrev(energy))(molecules.positions)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(-torch.func.jacrev(force)(molecules.positions), expected)
    torch.testing.assert_close(-torch.autograd.functional.jacobian(force, molecules.positions), expected)
    assert not model(molecules)["forces"].requires_grad


def test_moments_of_periodic_systems_are_refused() -> None:
    model = make_model().double()
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    molecules = Molecules.from_ase([crystal, molecule("CO")], SMALL.cutoff, torch.float64)
    with pytest.raises(ValueError, match=r"dipoles, .* of periodic systems are not defined"):
        model(molecules)
    assert model(molecules, properties=["energy", "gap"])["forces"].shape == (10, 3)


def test_total_energies_keep_their_last_digits_in_single_precision() -> None:
    """A model in single precision adds references of thousands of eV without losing a meV."""
    model = make_model()
    composition = torch.tensor([[6.0, 2.0, 1.0], [4.0, 1.0, 0.0], [2.0, 0.0, 1.0], [2.0, 1.0, 1.0]])
    true = torch.tensor([-16.1234567, -1036.7654321, -2043.1357913], dtype=torch.float64)
    energies = composition.double() @ true
    labels = {"energy": energies, "mu": torch.ones(4, 3, dtype=torch.float64), "gap": torch.ones(4).double()}
    model.fit_scales(labels, composition)
    residual_free = model.eval()(ethanol(torch.float32), forces=False)["energy"].detach()
    assert residual_free.dtype == torch.float64
    scale = model.scale_of("energy")
    atoms = model.represent(ethanol(torch.float32))
    head = model.head("energy")
    network = float(head.readout(atoms.scalars).detach().double().sum()) * scale  # type: ignore[operator]
    assert float(residual_free) - network == pytest.approx(float(energies[0]), abs=1e-6)


def test_missing_labels_do_not_enter_the_scales() -> None:
    model = make_model()
    composition = torch.tensor([[2.0, 0.0, 1.0]] * 3)
    gap = torch.tensor([5.0, float("nan"), 7.0], dtype=torch.float64)
    labels = {"energy": torch.zeros(3).double(), "mu": torch.ones(3, 3).double(), "gap": gap}
    model.fit_scales(labels, composition)
    assert model.scale_of("gap") == pytest.approx(1.0)


def test_a_label_with_a_missing_component_is_missing() -> None:
    model = make_model()
    mu = torch.tensor([[9.0, float("nan"), 9.0], [3.0, 3.0, 3.0], [3.0, -3.0, 3.0]], dtype=torch.float64)
    labels = {"energy": torch.zeros(3).double(), "mu": mu, "gap": torch.ones(3).double()}
    model.fit_scales(labels, torch.tensor([[2.0, 0.0, 1.0]] * 3))
    assert model.scale_of("mu") == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("forces", "of_energy", "of_forces"),
    [
        ([[1.0, -7.0, float("nan")], [5.0, 5.0, 5.0], [float("nan")] * 3], 5.0, 5.0),
        ([[float("nan")] * 3] * 3, 7.0, 1.0),
        (None, 7.0, 1.0),
    ],
    ids=["some", "none known", "none"],
)
def test_forces_set_the_scale_of_their_energy(forces: list | None, of_energy: float, of_forces: float) -> None:
    """To the root mean square of the components that are known; without any, energies have their own."""
    model = make_model()
    labels = {"energy": torch.tensor([1.0, 15.0]), "mu": torch.ones(2, 3), "gap": torch.ones(2)}
    labels |= {} if forces is None else {"forces": torch.tensor(forces)}
    model.fit_scales({name: value.double() for name, value in labels.items()}, torch.tensor([[2.0, 0.0, 1.0]] * 2))
    assert model.scale_of("energy") == pytest.approx(of_energy)
    assert model.scale_of("forces") == pytest.approx(of_forces)


def test_missing_labels_leave_the_others_with_their_molecules() -> None:
    """References by least squares: a label that is missing takes its own composition out, not another's."""
    model = make_model()
    composition = torch.tensor([[4.0, 1.0, 0.0], [6.0, 2.0, 1.0], [2.0, 0.0, 1.0], [2.0, 1.0, 1.0]])
    true = torch.tensor([-16.0, -1036.0, -2043.0], dtype=torch.float64)
    energies = composition.double() @ true
    energies[0] = float("nan")
    labels = {"energy": energies, "mu": torch.ones(4, 3, dtype=torch.float64), "gap": torch.ones(4).double()}
    model.fit_scales(labels, composition)
    references = model.head("energy").baseline.of_atoms(torch.tensor([1, 6, 8]))
    torch.testing.assert_close(references, true, rtol=0, atol=1e-6)


def test_a_head_without_labels_is_an_error() -> None:
    model = make_model()
    labels = {"energy": torch.zeros(2).double(), "mu": torch.full((2, 3), float("nan")).double()}
    with pytest.raises(ValueError, match=r"'mu' has no label.*remove its head"):
        model.fit_scales(labels, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ModelConfig(ELEMENTS, HEADS, BackboneConfig("pain")),
            r"backbone.name: 'pain' is not known; choose one of schnet",
        ),
        (ModelConfig(ELEMENTS, {"energy": HeadConfig("sum")}), r"heads.energy.kind: 'sum' is not known"),
        (ModelConfig(("H", "Q"), HEADS, SMALL), r"elements: 'Q' is not a chemical symbol"),
        (ModelConfig(("H", "H"), HEADS, SMALL), r"elements: 'H' is listed twice"),
        (
            ModelConfig(ELEMENTS, {"a": HeadConfig("extensive", True), "b": HeadConfig("extensive", True)}),
            r"forces are asked of a, b; only one",
        ),
        (
            ModelConfig(ELEMENTS, {"mu": HeadConfig("dipole", forces=True)}, SMALL),
            r"heads.mu.forces: forces are the gradient of one number per molecule, and a dipole is \(3,\)",
        ),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig("nequip", lmax=0)), r"backbone.lmax: with 0 there are no vectors"),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig(channels=0)), r"backbone.channels: expected at least 1, got 0"),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig(num_layers=0)), r"backbone.num_layers: expected at least 1"),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig(num_basis=0)), r"backbone.num_basis: expected at least 2"),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig(cutoff=float("inf"))), r"backbone.cutoff: expected a positive"),
        (ModelConfig(ELEMENTS, HEADS, BackboneConfig(cutoff=1e12)), r"backbone.cutoff: .* at most 1000 Angstrom, got"),
    ],
)
def test_mistakes_in_a_configuration(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"move": "no"}, "move: 'no' is not known; choose one of default, vectors"),
        ({"move": "vector"}, r"\(did you mean 'vectors'\?\)"),
        ({"limit": 0.0}, "limit must be a positive length"),
        ({"limit": 1e12}, "limit must be .* below 1000, not"),
    ],
)
def test_mistakes_in_a_polarization(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolarizationConfig(**settings)


def test_choices_of_a_configuration_can_be_text() -> None:
    """In a process without the checks of annotations that these tests have."""
    program = """
from neural_polarization.models import HeadConfig, ModelConfig, PolarizationConfig
polarization = PolarizationConfig("riding", lengths="nuclear")
config = ModelConfig(("H",), {"energy": HeadConfig("extensive")}, response="none", electronic="charge")
choices = [polarization.messages, polarization.lengths, config.response, config.electronic]
print(*(f"{type(choice).__name__}.{choice.name}" for choice in choices))
try:
    PolarizationConfig("moving")
except ValueError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "Messages.RIDING Lengths.NUCLEAR Response.NONE ElectronicInput.CHARGE",
        "messages: 'moving' is not known; choose one of plain, riding, moving_view, both_views",
    ]


def test_a_property_is_asked_for_once() -> None:
    model = make_model().double()
    assert model(ethanol(), properties=["energy", "energy"]).keys() == {"energy", "forces"}
    with pytest.raises(ValueError, match=r"properties: give a list of names such as \['energy'\], not text"):
        model(ethanol(), properties="energy")


def test_molecules_have_the_type_of_the_model() -> None:
    with pytest.raises(ValueError, match=r"positions are float64, but the network is float32; give .*=torch\.float32"):
        make_model()(ethanol())
    with pytest.raises(ValueError, match="positions are float32, but the network is float64"):
        make_model().double()(ethanol().to(dtype=torch.float32))


def test_neighbours_of_a_shorter_cutoff_are_refused() -> None:
    model = make_model().double()
    water, far, near = molecule("H2O"), model.cutoff + 1.0, model.cutoff - 1.0
    expected = model(Molecules.from_ase(water, model.cutoff, torch.float64))["energy"]
    assert torch.allclose(model(Molecules.from_ase(water, far, torch.float64))["energy"], expected)
    with pytest.raises(ValueError, match=r"listed up to .* Angstrom, but the network looks as far as"):
        model(Molecules.from_ase(water, near, torch.float64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("E.tot", "'E.tot' cannot be the name .* letters, digits, _ and - only: rename it.*`source`"),
        ("E/atom", "'E/atom' cannot be the name"),
        ("", "'' cannot be the name"),
        ("values", "'values' is reserved, as are the names of torch's modules"),
        ("training", "'training' is reserved"),
        ("forces", "set forces to true on the energy's head"),
        ("displacement", "models and data have something else under it: rename it"),
        ("density", "models and data have something else under it"),
    ],
)
def test_names_that_no_head_can_have(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(ELEMENTS, {name: HeadConfig("extensive")}, SMALL)
    with pytest.raises(ConfigError, match=message):
        build(ModelSection, {"heads": {name: {"kind": "extensive"}}}, Source("test"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("default", VectorMove),
        ("vectors", VectorMove),
        ("radial", RadialMove),
        ("edges", EdgeMove),
        ("still", Still),
    ],
)
def test_the_choices_of_polarization_reach_the_network(name: str, kind: type[Move]) -> None:
    choices = PolarizationConfig(Messages.BOTH_VIEWS, limit=0.3, move=name, lengths=Lengths.NUCLEAR)
    network = Model(ModelConfig(ELEMENTS, HEADS, SMALL, choices)).representation
    assert (network.messages, network.limit, network.lengths) == (Messages.BOTH_VIEWS, 0.3, Lengths.NUCLEAR)
    assert [type(move) for move in network.moves] == [kind, kind]


def test_names_of_heads_are_free_otherwise() -> None:
    names = ["U0", "heat-capacity", "Δ_1", "energy"]
    assert list(Model(ModelConfig(ELEMENTS, dict.fromkeys(names, HeadConfig("extensive")), SMALL)).heads) == names


def test_an_unknown_element_is_an_error() -> None:
    model = make_model().double()
    with pytest.raises(ValueError, match=r"atom 0 is N, an element that this network was not made for"):
        model(Molecules.from_ase(molecule("NH3"), SMALL.cutoff, torch.float64))


def test_a_users_own_loop_and_loss() -> None:
    """A plain module with a plain optimizer learns a potential it has not seen."""
    torch.manual_seed(0)
    frames = []
    for seed in range(8):
        frame = molecule("H2O")
        frame.rattle(0.1, seed=seed)
        frames.append(frame)
    molecules = Molecules.from_ase(frames, SMALL.cutoff, torch.float32)
    target = torch.tensor([10.0 * frame.get_distance(0, 1) for frame in frames], dtype=torch.float64)
    model = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive")}, SMALL))
    model.fit_scales({"energy": target}, torch.tensor([[2.0, 1.0]] * 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = last = 0.0
    for step in range(60):
        loss = (model(molecules)["energy"] - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item(), 0.0) if step == 0 else (first, loss.item())
    assert last < 0.3 * first


def test_presets_and_numbers_in_their_place() -> None:
    paper = BackboneConfig("egnn", preset="paper")
    assert (paper.size.channels, paper.size.num_layers) == (128, 7)
    assert BackboneConfig("egnn", num_layers=4, preset="paper").size.num_layers == 4
    assert paper.resolved().channels == 128
    with pytest.raises(ValueError, match=r"backbone.preset: 'big' is not known; choose one of standard, paper, small"):
        Model(ModelConfig(ELEMENTS, HEADS, BackboneConfig(preset="big")))
    with pytest.raises(ValueError, match=r"backbone.lmax: painn has no degrees"):
        Model(ModelConfig(ELEMENTS, HEADS, BackboneConfig(lmax=2)))


def test_a_training_without_scales_is_warned_of_once() -> None:
    """FAULTS 1.19: the README's loop learned thousands of eV from zero."""
    water = Molecules.from_ase(molecule("H2O"), 5.0)

    def steps(model: Model, count: int) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
        for _ in range(count):
            predictions = model(water)
            (predictions["energy"].sum() + predictions["forces"].square().sum()).backward()
            optimizer.step()

    config = ModelConfig(("H", "O"), {"energy": HeadConfig("extensive", forces=True)}, BackboneConfig("painn", 8, 1))
    model = Model(config).train()
    for _ in range(5):  # gradients alone are no training
        model(water)["energy"].sum().backward()
    steps(model, 2)
    with pytest.warns(UserWarning, match="references and scales were never set.*fit_scales") as said:
        steps(model, 4)
    assert len(said) == 1
    fitted, loaded = Model(config).train(), Model(config).train()
    labels = {"energy": torch.tensor([-2000.0], dtype=torch.float64)}
    fitted.fit_scales(labels, torch.tensor([[2.0, 1.0]]))
    loaded.load_state_dict(fitted.state_dict())
    steps(fitted, 4)
    steps(loaded, 4)
    evaluated = Model(config).eval()
    steps(evaluated, 4)  # of forces with respect to positions, for instance
