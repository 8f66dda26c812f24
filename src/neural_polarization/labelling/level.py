"""Level of theory: the exact functional and basis functions of a name such as "B3LYP/6-31G(2df,p)".

The name has to mean the same as in the published data. QM9 was computed with Gaussian, whose B3LYP/6-31G(2df,p)
differs in three ways from PySCF's. A comparison with QM9's published energies
(`experiments/labelling/qm9_agreement.py`) showed all three:

- the local correlation inside B3LYP is VWN-III (PySCF: "b3lypg"), not VWN-5;
- Pople's basis sets derived from 6-31G have six Cartesian d functions but seven pure f functions
  (Gaussian's "6D, 7F"). PySCF cannot mix them; `pure_shells` gives the projection that does;
- two d shells come from splitting the exponent a of 6-31G(d) into 2 a and a / 2, with a = 0.8 for C, N, O, F.
  PySCF splits the exponents of 6-311G.

References:
    R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014).
    P. J. Stephens, F. J. Devlin, C. F. Chabalowski, M. J. Frisch, J. Phys. Chem. 98, 11623 (1994).
    M. J. Frisch, J. A. Pople, J. S. Binkley, J. Chem. Phys. 80, 3265 (1984): splitting of exponents.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy.linalg
from ase.data import atomic_numbers
from jaxtyping import Float

from ..errors import require

_POPLE = re.compile(r"^(3-21|4-31|6-31)(\+{0,2})G(?P<polarization>\*{0,2}|\(.*\))$", re.IGNORECASE)
_HEAVY_POLARIZATION = re.compile(r"^\((?P<d>[23])d")
_PSEUDOPOTENTIAL = re.compile(r"cc-?pw?c?v[dtq56]z-?pp", re.IGNORECASE)

_STEEPEST = 1.5
"""Least exponent, over Z^2, of the steepest s function of a basis that describes the 1s electrons.

All-electron sets in PySCF have 1.6 (STO-3G) and more. Sets for a core potential usually have far less.
"""

Shell: TypeAlias = list[float | int | list[float]]
"""One shell in PySCF's format: [l, [exponent, coefficient, ...], ...]."""


@dataclass(frozen=True)
class Level:
    """A method and a basis set.

    Attributes:
        method: Name of a density functional, or "HF". "B3LYP" is Gaussian's (VWN-III).
        basis: Name of a basis set.
    """

    method: str
    basis: str

    @classmethod
    def parse(cls, name: str) -> "Level":
        """The level that "METHOD/BASIS" names.

        Raises:
            ValueError: if the name does not have exactly one slash with text on both sides.

        Example:
            >>> Level.parse("B3LYP/6-31G(2df,p)")
            Level(method='B3LYP', basis='6-31G(2df,p)')
        """
        method, slash, basis = name.strip().partition("/")
        if not slash or not method.strip() or not basis.strip() or "/" in basis:
            raise ValueError(f"level {name!r}: expected METHOD/BASIS with one slash, such as 'B3LYP/6-31G(2df,p)'")
        return cls(method.strip(), basis.strip())

    def __str__(self) -> str:
        return f"{self.method}/{self.basis}"

    @property
    def functional(self) -> str:
        """The name of the method in PySCF.

        Raises:
            ValueError: for a functional that PySCF (libxc) does not know.
        """
        require("pyscf", "dft", "labels from density functional theory")
        from pyscf.dft import libxc

        name = "b3lypg" if self.method.upper() == "B3LYP" else self.method
        if name.upper() == "HF":
            return "hf"
        try:
            libxc.parse_xc(name)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"method {self.method!r} is not known to PySCF's libxc ({error}); examples: HF, PBE, PBE0, "
                "B3LYP, wB97X-V"
            ) from None
        return name

    @property
    def cartesian_d(self) -> bool:
        """Whether d shells have six Cartesian functions; f and higher shells are always pure."""
        return _POPLE.match(self.basis) is not None

    def check(self, elements: Iterable[str]) -> None:
        """Raises early what a calculation would raise: ValueError for an unknown method, basis or element."""
        _ = self.functional
        self.shells(sorted(set(elements)))

    def shells(self, elements: Sequence[str]) -> dict[str, list[Shell]]:
        """The basis functions of each element.

        Raises:
            ValueError: for a basis that PySCF does not know or that lacks one of the elements, and for a basis that is
                made for an effective core potential, because here all electrons are computed.
        """
        require("pyscf", "dft", "labels from density functional theory")
        from pyscf import gto
        from pyscf.lib.exceptions import BasisNotFoundError

        shells: dict[str, list[Shell]] = {}
        for element in sorted(set(elements)):
            try:
                with warnings.catch_warnings():
                    # PySCF's advice to install another package with more basis sets; the error below is enough.
                    warnings.filterwarnings("ignore", "Basis may be available", UserWarning)
                    shells[element] = gto.basis.load(self.basis, element)
            except (BasisNotFoundError, KeyError, RuntimeError, OSError) as error:
                raise ValueError(f"basis {self.basis!r} has no functions for {element}: {error}") from None
            if _has_core_potential(self.basis, element) or _lacks_core(shells[element], element):
                raise ValueError(
                    f"basis {self.basis!r} needs an effective core potential for {element}, which is not supported; "
                    "choose an all-electron basis such as def2-SVP or 6-31G* (up to krypton) or DZP"
                )
            shells[element] = self._split_d(shells[element], element)
        return shells

    def _split_d(self, shells: list[Shell], element: str) -> list[Shell]:
        from pyscf import gto

        match = _POPLE.match(self.basis)
        number = _HEAVY_POLARIZATION.match(match["polarization"]) if match else None
        positions = [index for index, shell in enumerate(shells) if shell[0] == 2]
        if not number or not positions:
            return shells
        single = [shell for shell in gto.basis.load("6-31g(d)", element) if shell[0] == 2]
        exponent = single[0][1][0]
        factors = {"2": (2.0, 0.5), "3": (4.0, 1.0, 0.25)}[number["d"]]
        split: list[Shell] = list(shells)
        for position, factor in zip(positions, factors, strict=True):
            split[position] = [2, [factor * exponent, 1.0]]
        return split


@lru_cache(maxsize=256)
def _has_core_potential(basis: str, element: str) -> bool:
    """Whether PySCF knows a core potential with the name of the basis."""
    from pyscf import gto

    if _PSEUDOPOTENTIAL.search(basis):
        return True  # PySCF has the potentials of only some of these
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ECP may be available", UserWarning)
            return bool(gto.basis.load_ecp(basis, element))
    except (RuntimeError, TypeError, KeyError, OSError):
        return False  # depending on the name, PySCF raises one of these for a basis without potentials


def _lacks_core(shells: Sequence[Shell], element: str) -> bool:
    """Whether the basis is too smooth for 1s electrons; some potentials have another name (GTH, ccECP, BFD)."""
    steepest = max((_exponent(function) for shell in shells if shell[0] == 0 for function in shell[1:]), default=0.0)
    return steepest < _STEEPEST * atomic_numbers[element] ** 2


def _exponent(function: float | list[float]) -> float:
    return function[0] if isinstance(function, list) else 0.0  # a number here is the kappa of a spinor


def pure_shells(angular_momenta: Sequence[int]) -> Float[np.ndarray, "cartesian functions"]:
    """Projection from all-Cartesian shells to Cartesian s, p, d and pure f and higher.

    Args:
        angular_momenta: l of each shell, in the order of the basis.

    Returns:
        A matrix whose columns are the functions to keep, written in Cartesian functions.
    """
    from pyscf import gto

    blocks = [
        np.eye((degree + 1) * (degree + 2) // 2) if degree <= 2 else np.asarray(gto.cart2sph(degree, normalized="sp"))
        for degree in angular_momenta
    ]
    return np.asarray(scipy.linalg.block_diag(*blocks))
