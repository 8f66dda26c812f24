// The controls: what they change, what they say, and the keys.

const page = JSON.parse(document.getElementById("scenes").textContent);
const byId = (id) => document.getElementById(id);
const SIDES = ["left", "right"];
const VALUES = [-4, -3, -2, -1].flatMap((power) =>
  [1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9].map((x) => Number((x * 10 ** power).toPrecision(2))));
const SCALES = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000];
const DEFAULTS = { total: 0.002, deformation: 0.01, difference: 0.002 };
const GRID_OF = { total: "density", deformation: "deformation", difference: "difference" };

const CAMERA = 150; // distance of 3Dmol.js's camera from the middle, Angstrom
const HALF_ANGLE = 10; // half of what it sees, degrees
const TURN = Math.PI / 12; // one press of a key

const view = { number: 0, layer: 0, scale: 1, total: 0.002, deformation: 0.01, difference: 0.002, style: "solid", colour: "zero", arrows: true, dipole: true, labels: "none", axes: null };
const panes = {};
let scene = null;
let player = null;
let following = false;

/** The n-th structure, its grids read from the text when it is first shown. */
async function loaded(number) {
  const stored = page.scenes[number];
  if (!stored.read) {
    const names = Object.keys(stored.grids);
    const grids = await Promise.all(names.map((name) => readGrid(stored.grids[name])));
    page.scenes[number] = { ...stored, read: true, number, grids: Object.fromEntries(names.map((name, n) => [name, grids[n]])) };
  }
  return page.scenes[number];
}

const isShown = (side) => !byId(`pane-${side}`).hidden;

/** Draws both pictures and writes what they show. */
function redraw() {
  const ink = colourOf(document.body, "color"), paper = colourOf(byId("canvas-left"), "backgroundColor");
  following = true;
  for (const side of SIDES) {
    const pane = panes[side];
    if (!isShown(side)) continue;
    if (pane.paper !== paper) pane.viewer.setBackgroundColor((pane.paper = paper));
    const words = draw(pane.viewer, scene, view, byId(`content-${side}`).value, ink, paper);
    writeCaption(byId(`caption-${side}`), words);
    const text = words.map((word) => word.text ?? (typeof word === "string" ? word : "")).join(" ");
    byId(`canvas-${side}`).setAttribute("aria-label", `${scene.title}, ${scene.formula}. ${text}`);
  }
  following = false;
}

let waiting = false;
/** Draws with the next frame of the screen, however many changes come before. */
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; redraw(); });
}

/** Colour of an element as "#rrggbb", which is what 3Dmol.js reads. */
function colourOf(element, property) {
  const numbers = getComputedStyle(element)[property].match(/[\d.]+/g).slice(0, 3);
  return "#" + numbers.map((x) => Math.round(Number(x)).toString(16).padStart(2, "0")).join("");
}

/** Words, swatches and the scale of a potential as elements. */
function writeCaption(caption, words) {
  caption.replaceChildren(...words.flatMap((word) => {
    if (typeof word === "string") return [document.createTextNode(`${word} `)];
    if (word.swatch) {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = word.swatch;
      return [swatch, document.createTextNode(`\u00a0${word.text}. `)];
    }
    const scale = document.createElement("span"), bar = document.createElement("i");
    scale.className = "scale";
    const stops = POTENTIAL.map((rgb) => `rgb(${rgb})`);
    bar.style.background = `linear-gradient(to right, ${stops})`;
    scale.append(`${spoken(word.from, 1)} V`, bar, `${spoken(word.to, 1)} V`);
    return [scale];
  }));
}

/** What the pictures can show of a structure. */
function contents() {
  const found = ["sticks", ...["density", "deformation", "reference", "difference"].filter((name) => scene.grids[name])];
  scene.names = { ...KINDS, reference: scene.referenceName, difference: `Difference to the ${scene.referenceName}` };
  return found;
}

/** Whether two structures are frames of one molecule, which the pictures show from the same side. */
const sameAtoms = (one, other) => one.symbols.join() === other.symbols.join();

/** Shows another structure. */
async function show(number) {
  const next = await loaded(number);
  const keep = scene && sameAtoms(scene, next);
  scene = next;
  view.number = number;
  const kinds = contents();
  for (const side of SIDES) {
    const select = byId(`content-${side}`), wanted = panes[side].wanted;
    select.replaceChildren(...kinds.map((kind) => new Option(scene.names[kind], kind)));
    select.value = kinds.includes(wanted) ? wanted : side === "left" ? "sticks" : kinds[kinds.length - 1];
  }
  byId("no-density").hidden = kinds.length > 1;
  const wasShown = isShown("right");
  byId("pane-right").hidden = kinds.length === 1;
  if (isShown("right") && !wasShown) {
    const place = panes.left.viewer.getView();
    following = true; // resizing draws the other picture's old view
    panes.right.viewer.resize();
    setView(place);
  }
  byId("surface-controls").hidden = kinds.length === 1;
  setRanges(keep);
  document.querySelectorAll("#numbers > section").forEach((section, n) => { section.hidden = n !== number; });
  byId("subtitle").textContent = scene.subtitle;
  byId("structure").value = number;
  say("structure", `${number + 1} of ${page.scenes.length}: ${scene.title}`);
  if (!keep) reset();
  redraw();
}

/** Sets what the sliders can reach for this structure. */
function setRanges(keep) {
  for (const [name, gridName] of Object.entries(GRID_OF)) {
    const grid = scene.grids[gridName];
    byId(`${name}-control`).hidden = !grid;
    if (!grid) continue;
    const edge = valueOf(grid, grid.edge) / PER_CUBIC_BOHR;
    const lowest = Math.max(VALUES.findIndex((value) => value > edge), 0); // a lower surface is cut at the box
    let wanted = keep ? view[name] : DEFAULTS[name];
    if (name !== "total" && !keep) wanted = Math.min(wanted, largestOf(grid) / 4);
    const n = Math.max(VALUES.findLastIndex((value) => value <= wanted * 1.0001), lowest);
    Object.assign(byId(name), { min: lowest, max: VALUES.length - 1, value: n });
    choose(name);
  }
  byId("colour-control").hidden = !scene.grids.potential;
  if (!keep) view.colour = byId("colour").value = scene.charge ? "range" : "zero";
  byId("dipole-control").hidden = !scene.dipole;
  byId("moving-controls").hidden = !scene.displacements;
  byId("labels").querySelector("[value=charge]").disabled = !scene.charges;
  byId("labels").querySelector("[value=displacement]").disabled = !scene.displacements;
  if (!scene.displacements) return;
  const layers = scene.displacements.length;
  byId("layer-control").hidden = layers === 1;
  view.layer = keep ? Math.min(view.layer, layers - 1) : layers - 1;
  Object.assign(byId("layer"), { max: layers, value: view.layer + 1 });
  say("layer", `${view.layer + 1} of ${layers}`);
  if (keep) return;
  const largest = Math.max(...scene.displacements.flat().map(length), 1e-9);
  byId("scale").max = SCALES.length - 1;
  byId("scale").value = Math.max(SCALES.findLastIndex((factor) => factor * largest <= 0.9), 0);
  choose("scale");
  view.labels = byId("labels").value = scene.symbols.length <= 14 ? "displacement" : "none";
}

/** Largest absolute value of a grid, e/bohr^3. */
function largestOf(grid) {
  let largest = 0;
  for (const level of grid.levels) largest = Math.max(largest, Math.abs(level));
  return valueOf(grid, largest) / PER_CUBIC_BOHR;
}

/** Takes over what a slider shows. */
function choose(name) {
  const slider = byId(name), n = Number(slider.value);
  if (name === "scale") {
    view.scale = SCALES[n];
    say(name, view.scale === 1 ? "true length" : `${view.scale} times the true length`);
  } else {
    view[name] = VALUES[n];
    say(name, (name === "total" ? "" : "±") + bothUnits(view[name]));
  }
}

/** Writes the value of a slider beside it and for screen readers. */
function say(name, text) {
  byId(`${name}-value`).textContent = text;
  byId(name).setAttribute("aria-valuetext", text);
}

/** The first view: the widest side of the molecule, as near as everything of all its frames is inside. */
function reset() {
  view.axes = scene.axes;
  const middle = [0, 1, 2].map((c) => {
    const values = scene.positions.map((p) => p[c]);
    return (Math.min(...values) + Math.max(...values)) / 2;
  });
  const { width, height } = byId("canvas-left").getBoundingClientRect();
  const slope = Math.tan((Math.PI / 180) * HALF_ANGLE);
  const margin = Object.keys(scene.grids).length ? 1.8 : 1;
  let distance = 2.5 / slope;
  const hold = (place, room) => {
    const [x, y, z] = turned(scene.orientation, place.map((value, c) => value - middle[c]));
    distance = Math.max(distance, z + (Math.abs(y) + room) / slope, z + ((Math.abs(x) + room) / slope) * (height / width));
  };
  for (const frame of page.scenes) {
    if (!sameAtoms(frame, scene)) continue;
    frame.positions.forEach((place) => hold(place, margin));
    if (frame.dipole) dipoleEnds(frame, view.axes).forEach((place) => hold(place, 0.2));
  }
  setView([...middle.map((x) => -x), CAMERA - distance, ...scene.orientation]);
}

/** A vector turned by a quaternion (x, y, z, w). */
function turned([a, b, c, w], [x, y, z]) {
  const t = [2 * (b * z - c * y), 2 * (c * x - a * z), 2 * (a * y - b * x)];
  return [x + w * t[0] + b * t[2] - c * t[1], y + w * t[1] + c * t[0] - a * t[2], z + w * t[2] + a * t[1] - b * t[0]];
}

/** Shows both pictures from the same side: place of the middle, distance, and turn as a quaternion (x, y, z, w). */
function setView(place) {
  following = true;
  for (const side of SIDES) if (isShown(side)) panes[side].viewer.setView(place, true);
  following = false;
}

/** Turns or zooms both pictures. */
function turn(what) {
  const [x, y] = { left: [0, -1], right: [0, 1], up: [-1, 0], down: [1, 0] }[what] ?? [0, 0];
  if (what === "reset") {
    reset();
    return soon(); // the arrow of the dipole may be on another side
  }
  const [mx, my, mz, place, ...q] = panes.left.viewer.getView();
  if (what === "nearer" || what === "farther")
    return setView([mx, my, mz, CAMERA - (CAMERA - place) * (what === "nearer" ? 1 / 1.15 : 1.15), ...q]);
  const s = Math.sin(TURN / 2), c = Math.cos(TURN / 2);
  const [a, b, d, w] = q; // the turn about an axis of the screen, times the turn as it is
  setView([mx, my, mz, place, c * a + s * (x * w + y * d), c * b + s * (y * w - x * d), c * d + s * (x * b - y * a), c * w - s * (x * a + y * b)]);
}

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "nearer", "=": "nearer", "-": "farther", 0: "reset" };

/** Makes the pictures, one beside the other, that turn together. */
function makePanes() {
  const probe = document.createElement("canvas");
  if (!(probe.getContext("webgl2") ?? probe.getContext("webgl"))) throw new Error("no WebGL");
  const paper = colourOf(byId("canvas-left"), "backgroundColor");
  for (const side of SIDES) {
    const canvas = byId(`canvas-${side}`);
    let seenWidth = canvas.offsetWidth;
    const viewer = $3Dmol.createViewer(canvas, { disableFog: true, backgroundColor: paper });
    panes[side] = { viewer, paper, wanted: side === "left" ? "sticks" : "density" };
    canvas.querySelector("canvas").setAttribute("aria-hidden", "true");
    canvas.addEventListener("keydown", (event) => {
      const what = KEYS[event.key];
      if (!what || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      turn(what);
    });
    canvas.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }), { capture: true });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) event.stopPropagation(); // the page scrolls
    }, { capture: true });
    new ResizeObserver(() => {
      if (!canvas.offsetWidth || canvas.offsetWidth === seenWidth) return;
      seenWidth = canvas.offsetWidth;
      viewer.resize();
    }).observe(canvas);
    byId(`content-${side}`).addEventListener("change", (event) => { panes[side].wanted = event.target.value; soon(); });
    byId(`save-${side}`).addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = viewer.pngURI();
      link.download = `${scene.title || scene.formula}.png`;
      link.click();
    });
  }
  for (const [side, other] of [["left", "right"], ["right", "left"]])
    panes[side].viewer.setViewChangeCallback((place) => {
      if (following || !isShown(other)) return; // 3Dmol.js also calls this while it draws, and for the picture that follows
      following = true;
      panes[other].viewer.setView(place, true);
      following = false;
    });
}

/** Connects every control with what it changes. */
function connectControls() {
  for (const name of ["total", "deformation", "difference", "scale"]) byId(name).addEventListener("input", () => { choose(name); soon(); });
  byId("layer").addEventListener("input", (event) => {
    view.layer = Number(event.target.value) - 1;
    say("layer", `${view.layer + 1} of ${scene.displacements.length}`);
    soon();
  });
  for (const [id, name] of [["surface-style", "style"], ["colour", "colour"], ["labels", "labels"]])
    byId(id).addEventListener("change", (event) => { view[name] = event.target.value; soon(); });
  for (const name of ["arrows", "dipole"]) byId(name).addEventListener("change", (event) => { view[name] = event.target.checked; soon(); });
  for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", () => turn(button.dataset.turn));
  byId("structure").addEventListener("input", (event) => show(Number(event.target.value)).catch(report));
  byId("structures").hidden = page.scenes.length === 1;
  byId("structure").max = page.scenes.length - 1;
  byId("play").addEventListener("click", play);
  byId("theme").addEventListener("change", (event) => { document.documentElement.dataset.theme = event.target.value; soon(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
  let theme = "";
  addEventListener("beforeprint", () => { theme = byId("theme").value; document.documentElement.dataset.theme = "light"; redraw(); });
  addEventListener("afterprint", () => { document.documentElement.dataset.theme = theme; redraw(); });
}

/** Shows one structure after the other, or stops. */
function play() {
  const button = byId("play");
  if (player) {
    clearTimeout(player);
    player = null;
  } else player = setTimeout(next, 0);
  button.textContent = player ? "Stop" : "Play";
  button.setAttribute("aria-pressed", String(Boolean(player)));
}

/** The next structure of a film. */
async function next() {
  await show((view.number + 1) % page.scenes.length);
  if (player) player = setTimeout(next, page.scenes.length > 10 ? 150 : 900);
}

/** Says what keeps the pictures away. */
function report(error) {
  const reason = error.message ?? String(error);
  const words = reason.includes("WebGL")
    ? "This browser shows no WebGL, which the pictures need. All numbers stand in the tables below."
    : `The pictures cannot be drawn: ${reason}. All numbers stand in the tables below.`;
  byId("trouble").textContent = words;
  byId("trouble").hidden = false;
  for (const id of ["pictures", "controls", "structures"]) byId(id).hidden = true;
}

try {
  makePanes();
  connectControls();
  show(0).then(() => { document.documentElement.dataset.ready = "true"; }, report);
} catch (error) {
  report(error);
}
