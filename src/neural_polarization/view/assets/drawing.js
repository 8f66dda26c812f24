// What a picture shows: atoms, arrows, surfaces, and the words below it.

const BOHR = 0.529177210903; // Angstrom
const PER_CUBIC_BOHR = 1 / BOHR ** 3; // one e/bohr^3 in e/Angstrom^3
const ELECTRON = { more: "#2f6fc4", fewer: "#e07b1f", density: "#8fa3bd" };
const MOVING = "#d81b74";

// From low potential (electrons) to high potential (nuclei).
const POTENTIAL = [[181, 24, 40], [238, 140, 104], [245, 245, 245], [110, 170, 214], [30, 90, 168]];

const KINDS = {
  sticks: "Balls and sticks",
  density: "Electron density",
  deformation: "Deformation density",
  reference: "",
  difference: "",
};

/** Colour of a share between 0 (red) and 1 (blue), as a whole number. */
function potentialColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (POTENTIAL.length - 1);
  const n = Math.min(Math.floor(place), POTENTIAL.length - 2);
  const [r, g, b] = [0, 1, 2].map((c) => Math.round(POTENTIAL[n][c] * (n + 1 - place) + POTENTIAL[n + 1][c] * (place - n)));
  return (r << 16) | (g << 8) | b;
}

/** A number for people: digits that matter, a real minus sign, no "-0.00". */
function spoken(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** A density in both units. */
function bothUnits(value) {
  return `${value} e/bohr³ = ${(value * PER_CUBIC_BOHR).toPrecision(3)} e/Å³`;
}

const point = ([x, y, z]) => ({ x, y, z });
const length = (v) => Math.hypot(v[0], v[1], v[2]);

/** Surfaces that were computed, the last few of them: a slider of the arrows need not compute them again. */
const surfaces = new Map();
function surface(scene, name, value) {
  const key = `${scene.number}/${name}/${value}`;
  if (!surfaces.has(key)) {
    if (surfaces.size > 12) surfaces.delete(surfaces.keys().next().value);
    surfaces.set(key, surfaceOf(scene.grids[name], value * PER_CUBIC_BOHR));
  }
  return surfaces.get(key);
}

/** Draws the atoms of a scene as balls and sticks. */
function drawAtoms(viewer, scene, small) {
  viewer.removeAllModels();
  const model = viewer.addModel();
  model.addAtoms(scene.symbols.map((elem, n) => ({
    elem, serial: n, index: n, x: scene.positions[n][0], y: scene.positions[n][1], z: scene.positions[n][2],
    bonds: scene.bonds.filter((b) => b.includes(n)).map(([i, j]) => (i === n ? j : i)),
    bondOrder: scene.bonds.filter((b) => b.includes(n)).map(() => 1),
    color: scene.colours[n],
  })));
  scene.symbols.forEach((_, n) => viewer.setStyle({ index: n }, {
    stick: { radius: small ? 0.05 : 0.07, color: scene.colours[n] },
    sphere: { radius: ballRadius(scene, n, small), color: scene.colours[n] },
  }));
}

const ballRadius = (scene, n, small) => scene.radii[n] * (small ? 0.6 : 1);

/** Draws an arrow on the surface of its ball for every moving point, and the length beside it. */
function drawArrows(viewer, scene, view, small) {
  const displacements = scene.displacements[view.layer];
  scene.positions.forEach((centre, n) => {
    const d = displacements[n], size = length(d);
    if (size * view.scale < 0.02) return;
    const start = centre.map((x, c) => x + (d[c] / size) * ballRadius(scene, n, small) * 0.95);
    const end = start.map((x, c) => x + d[c] * view.scale);
    const drawn = size * view.scale, head = Math.min(0.25, drawn * 0.5);
    viewer.addArrow({
      start: point(start), end: point(end), radius: Math.min(0.085, 0.03 + drawn * 0.15), radiusRatio: 2.0, mid: 1 - head / drawn, color: MOVING,
    });
  });
}

/**
 * Start and end of the dipole's arrow, 1 Angstrom for 1 D; none for a small one. The arrow is beside the molecule as it
 * is seen along the third of the axes, so that it neither hides nor is hidden.
 */
function dipoleEnds(scene, axes) {
  const size = length(scene.dipole) / page.debye;
  if (size < 0.05) return [];
  const unit = scene.dipole.map((x) => x / page.debye / size);
  const middle = [0, 1, 2].map((c) => scene.positions.reduce((sum, p) => sum + p[c], 0) / scene.positions.length);
  const across = cross(unit, axes[2]);
  const direction = length(across) > 0.1 ? across.map((x) => x / length(across)) : axes[1];
  const heights = scene.positions.map((p) => p.reduce((sum, x, c) => sum + (x - middle[c]) * direction[c], 0));
  const offset = Math.max(...heights) + (Object.keys(scene.grids).length ? 2.3 : 0.9);
  return [-1, 1].map((sign) => middle.map((x, c) => x + direction[c] * offset + (sign * unit[c] * size) / 2));
}

/** Draws the dipole. */
function drawDipole(viewer, scene, axes, ink) {
  const ends = dipoleEnds(scene, axes);
  if (!ends.length) return;
  const size = length(scene.dipole) / page.debye;
  viewer.addArrow({ start: point(ends[0]), end: point(ends[1]), radius: 0.05, radiusRatio: 2.4, mid: 1 - Math.min(0.3, size * 0.4) / size, color: ink });
}

/** The free side of an atom, where a label hides no bond: a vector of length 1, or zero between opposite bonds. */
function awayFromBonds(scene, n) {
  const sum = [0, 0, 0];
  for (const [i, j] of scene.bonds) {
    if (i !== n && j !== n) continue;
    const other = scene.positions[i === n ? j : i];
    const d = scene.positions[n].map((x, c) => x - other[c]), size = length(d);
    d.forEach((x, c) => { sum[c] += x / size; });
  }
  const size = length(sum);
  return size < 0.3 ? [0, 0, 0] : sum.map((x) => x / size);
}

/** Writes a label beside every atom. */
function drawLabels(viewer, scene, view, ink, paper) {
  if (view.labels === "none") return;
  scene.symbols.forEach((symbol, n) => {
    const d = scene.displacements ? scene.displacements[view.layer][n] : null;
    const text = {
      number: `${symbol}${n + 1}`,
      displacement: d ? `${spoken(length(d))} Å` : "",
      charge: scene.charges ? spoken(scene.charges[n]) : "",
    }[view.labels];
    if (!text) return;
    viewer.hasLabels = true;
    const away = awayFromBonds(scene, n), reach = ballRadius(scene, n, false) + 0.25;
    const position = scene.positions[n].map((x, c) => x + away[c] * reach);
    viewer.addLabel(text, {
      position: point(position), fontSize: 13, fontColor: ink, backgroundColor: paper, backgroundOpacity: 0.75, inFront: true, alignment: "center", font: "sans-serif",
    }, undefined, true);
  });
}

/** Adds a surface to a picture. */
function addSurface(viewer, mesh, style, colour) {
  if (!mesh.faces.length) return;
  viewer.addCustom({
    vertexArr: mesh.vertices, normalArr: mesh.normals, faceArr: mesh.faces, color: colour,
    opacity: style === "clear" ? 0.55 : 1, wireframe: style === "mesh",
  });
}

/** Lowest and highest potential on a surface (without its last percent) and the range of its colours. */
function potentialOn(scene, mesh, colouring) {
  const values = mesh.vertices.map(({ x, y, z }) =>
    valueOf(scene.grids.potential, interpolated(scene.grids.potential, indicesOf(scene.grids.potential, [x, y, z]))));
  const sorted = Float64Array.from(values).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [at(0.005), at(0.995)];
  const largest = Math.max(Math.abs(low), Math.abs(high), 0.01);
  const middle = (low + high) / 2, half = Math.max((high - low) / 2, 0.1); // around an atom only noise differs
  const [from, to] = colouring === "range" ? [middle - half, middle + half] : [-largest, largest];
  return { values, low, high, from, to };
}

/** Draws a density and gives the words that belong below it. */
function drawDensity(viewer, scene, view, name) {
  const mesh = surface(scene, name, view.total);
  const words = [`${scene.names[name]}: surface of ${bothUnits(view.total)}, around ${spoken(volumeAbove(scene.grids[name], view.total * PER_CUBIC_BOHR), 1)} Å³.`];
  if (!mesh.faces.length) return [`${scene.names[name]}: nowhere above ${bothUnits(view.total)}.`];
  if (!scene.grids.potential || view.colour === "plain") {
    addSurface(viewer, mesh, view.style, ELECTRON.density);
    return words;
  }
  const seen = potentialOn(scene, mesh, view.colour);
  const colours = seen.values.map((value) => potentialColour((value - seen.from) / (seen.to - seen.from)));
  addSurface(viewer, mesh, view.style, colours);
  words.push({ from: seen.from, to: seen.to });
  const differs = view.colour === "range"; // otherwise the colours are those of one sign only
  if (seen.low > 0) words.push(`The potential is positive everywhere on this surface: nuclei repel a positive charge${differs ? ", least where red" : ""}.`);
  else if (seen.high < 0) words.push(`The potential is negative everywhere on this surface: electrons attract a positive charge${differs ? ", most where red" : ""}.`);
  else words.push("Red: electrons attract a positive charge. Blue: nuclei repel it.");
  if (name === "reference") words.push(`The colours are the potential of “${scene.names.density}”, not of this density.`);
  words.push(`On the surface: ${spoken(seen.low, 1)} to ${spoken(seen.high, 1)} V.`);
  return words;
}

/** Draws a density of either sign in two colours and gives the words that belong below it. */
function drawSigned(viewer, scene, view, name) {
  const value = view[name];
  addSurface(viewer, surface(scene, name, value), view.style, ELECTRON.more);
  addSurface(viewer, surface(scene, name, -value), view.style, ELECTRON.fewer);
  const [more, fewer] = name === "deformation"
    ? ["more electrons than free atoms have", "fewer electrons"]
    : [`more electrons than the ${scene.names.reference}`, "fewer electrons"];
  return [`${scene.names[name]} at ±${bothUnits(value)}.`, { swatch: ELECTRON.more, text: more }, { swatch: ELECTRON.fewer, text: fewer }];
}

/** Words on the arrows. */
function arrowWords(scene, view) {
  if (!scene.displacements) return ["This structure has no moving points."];
  const sizes = scene.displacements[view.layer].map(length);
  const largest = Math.max(...sizes), n = sizes.indexOf(largest);
  const layers = scene.displacements.length;
  const words = [`Moving points${layers > 1 ? ` after layer ${view.layer + 1} of ${layers}` : ""}: longest displacement ${spoken(largest, 3)} Å (${scene.symbols[n]}${n + 1}).`];
  if (view.arrows) words.push({ swatch: MOVING, text: `arrows, ${view.scale === 1 ? "in their true length" : `drawn ${view.scale} times as long`}, from the surface of each ball` });
  return words;
}

/** Draws everything of one picture; gives the words below it: texts, swatches and one scale of potentials. */
function draw(viewer, scene, view, content, ink, paper) {
  viewer.removeAllShapes();
  if (viewer.hasLabels) viewer.removeAllLabels(); // which draws the picture once
  viewer.hasLabels = false;
  const small = content !== "sticks";
  drawAtoms(viewer, scene, small);
  let words;
  if (content === "sticks") words = arrowWords(scene, view);
  else if (content === "density" || content === "reference") words = drawDensity(viewer, scene, view, content);
  else words = drawSigned(viewer, scene, view, content);
  if (view.arrows && scene.displacements) drawArrows(viewer, scene, view, small);
  if (view.dipole && scene.dipole) drawDipole(viewer, scene, view.axes, ink);
  if (content === "sticks" || view.style !== "solid") drawLabels(viewer, scene, view, ink, paper);
  if (view.dipole && scene.dipole && content === "sticks") words.push(`Dipole moment ${spoken(length(scene.dipole) / page.debye)} D${dipoleEnds(scene, view.axes).length ? ", the arrow beside the molecule, from negative to positive charge" : ""}.`);
  const shown = content === "sticks" ? null : scene.grids[content];
  if (shown && shown.finer) words.push("The grid was made coarser for this page.");
  viewer.render();
  return words;
}
