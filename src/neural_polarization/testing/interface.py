"""The tests of the contract about the interface: the protocol, the state and the weights of a backbone."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from neural_polarization.backbones import PointFeatures
from neural_polarization.geometry import Edges, cosine_envelope, safe_norm
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.moves import Still
from neural_polarization.polarization import Polarized
from neural_polarization.testing.base import Contract, every_choice
from neural_polarization.testing.structures import ELEMENTS, distorted


class InterfaceContract(Contract):
    """A backbone offers the protocol, is recovered without displacements, and has weights that can be stored.

    Attributes:
        compiler: Back end of torch.compile for comparing compiled with eager inference, for instance "inductor"; None
            if the backbone cannot be compiled. Compiling takes up to a minute, and does not work together with
            run-time checks of types by jaxtyping's import hook.
    """

    compiler: ClassVar[str | None] = None

    def test_offers_the_protocol(self) -> None:
        """The declared widths are those of the features, and `join` undoes `split`."""
        backbone = self.make_backbone(4)
        assert backbone.num_species >= 4, f"num_species is {backbone.num_species}, but 4 were asked for"
        assert backbone.cutoff > 0.0
        layers: Iterable[object] = backbone.layers
        assert len(list(layers)) > 0, "there are no layers"
        features = backbone.embed(torch.tensor([0, 3, 1]))
        split = backbone.split(features)
        assert split.scalars.shape == (3, backbone.scalar_channels)
        if backbone.vector_channels:
            assert split.vectors is not None and split.vectors.shape == (3, 3, backbone.vector_channels)
        else:
            assert split.vectors is None, "vector_channels is 0, but there are vectors"
        marked = PointFeatures(split.scalars + 1.0, None if split.vectors is None else split.vectors + 2.0)
        joined = backbone.split(backbone.join(features, marked))
        assert torch.equal(joined.scalars, marked.scalars), "join did not put the scalars in place"
        if joined.vectors is not None and marked.vectors is not None:
            assert torch.equal(joined.vectors, marked.vectors), "join did not put the vectors in place"

    def test_every_species_is_its_own(self) -> None:
        """Every species has its own scalars, also those of moving points: at the start, or once weights change."""
        network = self.model(Messages.BOTH_VIEWS).network
        backbone = network.backbone
        with torch.no_grad():
            for parameter in network.parameters():  # in adapters moving points start with the rows of their elements
                parameter.add_(0.01 * torch.randn_like(parameter))
            rows = backbone.split(backbone.embed(torch.arange(2 * len(ELEMENTS)))).scalars
        for one, other in combinations(range(len(rows)), 2):
            assert not torch.equal(rows[one], rows[other]), f"embed: species {one} and {other} have the same scalars"

    @every_choice
    def test_elements_are_told_apart(self, messages: Messages) -> None:
        """Another element in the place of one atom changes the energy and the features of every neighbour."""
        model = self.model(messages)
        atoms = distorted("H2CO")
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for element in ELEMENTS:
            atoms.symbols[1] = element
            molecules = self.molecules(atoms, model)
            with torch.no_grad():
                found[element] = model(molecules), model.network(molecules).scalars
        for one, other in combinations(ELEMENTS, 2):
            (energy, scalars), (energy_other, scalars_other) = found[one], found[other]
            assert not torch.equal(energy, energy_other), f"the energy is the same with {one} in the place of {other}"
            deaf = (scalars == scalars_other).all(-1).nonzero().flatten().tolist()
            assert not deaf, f"atoms {deaf} have the same scalars next to {one} and next to {other}"

    def test_plain_is_the_backbone(self) -> None:
        """Without polarization the result is bit for bit that of a loop over the layers."""
        model = self.model(Messages.PLAIN)
        network = model.network
        molecules = self.molecules([distorted("CH3CH2OH"), distorted("H2CO")], model)
        edges = self._edges(molecules, network.backbone.cutoff)
        features = network.backbone.embed(network.species(molecules.atomic_numbers))
        for layer in network.backbone.layers:
            features = layer(features, edges)
        expected = network.backbone.split(features)
        self._assert_equal(network(molecules), expected)

    @pytest.mark.parametrize("held", ["still", "held_still"])
    def test_riding_without_moving_is_the_backbone(self, held: str) -> None:
        """With `riding` and displacements of zero, features are bit for bit those of the plain network."""
        plain = self.model(Messages.PLAIN).network
        riding = self.model(Messages.RIDING, move=Still if held == "still" else None).network
        riding.hold_still()
        molecules = Molecules.from_ase([distorted("CH3CH2OH"), distorted("H2CO")], plain.backbone.cutoff, torch.float64)
        expected: Polarized = plain(molecules)
        self._assert_equal(riding(molecules), expected.fixed)

    def test_layers_listen_to_this_call(self) -> None:
        """A layer depends only on the edges of this call and keeps nothing about geometry from earlier calls."""
        model = self.model(Messages.PLAIN)
        backbone = model.network.backbone
        molecules = self.molecules(distorted("CH3CH2OH"), model)
        edges = self._edges(molecules, backbone.cutoff)
        stretched = replace(edges, vectors=1.1 * edges.vectors, lengths=1.1 * edges.lengths)
        features = backbone.embed(model.network.species(molecules.atomic_numbers))
        for number, layer in enumerate(backbone.layers):
            fresh = backbone.split(deepcopy(layer)(features, stretched)).scalars
            first = backbone.split(layer(features, edges)).scalars
            second = backbone.split(layer(features, stretched)).scalars
            again = backbone.split(layer(features, edges)).scalars
            assert not torch.equal(first, second), f"layer {number} does not listen to the vectors of its edges"
            assert torch.equal(first, again), f"layer {number} gives other numbers the second time"
            assert torch.equal(second, fresh), f"layer {number} keeps something from an earlier call"
            features = layer(features, edges)

    @every_choice
    def test_weights_are_saved_and_loaded(self, messages: Messages, tmp_path: Path) -> None:
        """Weights from a file give bit for bit the same numbers, and loading runs no code from the file."""
        model, other = self.model(messages, seed=0), self.model(messages, seed=1)
        molecules = self.molecules([distorted("CH3CH2OH"), distorted("H2CO")], model)
        expected = model(molecules)
        assert not torch.equal(other(molecules), expected), "two seeds give one network"
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(other(molecules), expected), "the loaded network gives other numbers"

    @pytest.mark.filterwarnings("ignore")  # torch's compiler warns about its own code
    @pytest.mark.parametrize("messages", [Messages.BOTH_VIEWS], ids=["both_views"])
    def test_compiled_inference(self, messages: Messages) -> None:
        """With torch.compile, energies and forces are those of eager execution."""
        if self.compiler is None:
            pytest.skip("the backbone names no `compiler`")
        model = self.model(messages)
        molecules = self.molecules([distorted("CH3CH2OH"), distorted("H2CO")], model)
        energy, forces = model.energy_and_forces(molecules)
        model.compile(backend=self.compiler)
        energy_compiled, forces_compiled = model.energy_and_forces(molecules)
        self.assert_close(energy_compiled, energy, "compiled energies")
        self.assert_close(forces_compiled, forces, "compiled forces")
        assert (forces != 0.0).any()

    def _edges(self, molecules: Molecules, cutoff: float) -> Edges:
        senders, receivers = molecules.edge_index
        vectors = molecules.positions[senders] - molecules.positions[receivers]
        lengths = safe_norm(vectors)
        return Edges(senders, receivers, vectors, lengths, lengths, cosine_envelope(lengths, cutoff))

    def _assert_equal(self, got: Polarized, expected: PointFeatures) -> None:
        assert torch.equal(got.scalars, expected.scalars), "scalars differ from the backbone's"
        if got.vectors is not None and expected.vectors is not None:
            assert torch.equal(got.vectors, expected.vectors), "vectors differ from the backbone's"
        assert (got.trajectory == 0.0).all(), "a point moved"
