// Grids from the page's text, and surfaces of equal value on them.

/** Reads a grid: whole numbers `levels` with value = scale * sinh(level * step), in the order x, y, z. */
async function readGrid(stored) {
  const bytes = Uint8Array.from(atob(stored.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 2;
  const levels = new Int16Array(count);
  let sum = 0;
  for (let n = 0; n < count; n++) {
    sum += planes[n] | (planes[count + n] << 8);
    levels[n] = sum; // wraps around to 16 bits
  }
  const [a, b, c] = stored.spacing;
  const inverse = inverted([a, b, c]);
  return { ...stored, data: null, levels, inverse, edge: largestAtEdge(levels, stored.shape) };
}

const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];

/** The inverse of a matrix of three rows. */
function inverted([a, b, c]) {
  const columns = [cross(b, c), cross(c, a), cross(a, b)];
  const volume = a[0] * columns[0][0] + a[1] * columns[0][1] + a[2] * columns[0][2];
  return [0, 1, 2].map((row) => columns.map((column) => column[row] / volume));
}

/** Largest absolute level on the outside of the box: surfaces of lower values are cut there. */
function largestAtEdge(levels, [nx, ny, nz]) {
  let largest = 0;
  for (let i = 0; i < nx; i++)
    for (let j = 0; j < ny; j++) {
      const inside = i > 0 && i < nx - 1 && j > 0 && j < ny - 1;
      for (let k = 0; k < nz; k += inside ? Math.max(1, nz - 1) : 1)
        largest = Math.max(largest, Math.abs(levels[(i * ny + j) * nz + k]));
    }
  return largest;
}

const levelOf = (grid, value) => Math.asinh(value / grid.scale) / grid.step;
const valueOf = (grid, level) => grid.scale * Math.sinh(level * grid.step);

/** Indices (not whole) of a place in the grid. */
function indicesOf(grid, [x, y, z]) {
  const d = [x - grid.origin[0], y - grid.origin[1], z - grid.origin[2]];
  return [0, 1, 2].map((n) => d[0] * grid.inverse[0][n] + d[1] * grid.inverse[1][n] + d[2] * grid.inverse[2][n]);
}

/** Place of indices. */
function placeOf(grid, p) {
  const s = grid.spacing;
  return [0, 1, 2].map((n) => grid.origin[n] + p[0] * s[0][n] + p[1] * s[1][n] + p[2] * s[2][n]);
}

/** The level between the points, linear along every axis; outside of the box that of its edge. */
function interpolated(grid, p) {
  const [nx, ny, nz] = grid.shape;
  const levels = grid.levels;
  const i = Math.min(Math.max(Math.floor(p[0]), 0), nx - 2);
  const j = Math.min(Math.max(Math.floor(p[1]), 0), ny - 2);
  const k = Math.min(Math.max(Math.floor(p[2]), 0), nz - 2);
  const u = Math.min(Math.max(p[0] - i, 0), 1), v = Math.min(Math.max(p[1] - j, 0), 1);
  const w = Math.min(Math.max(p[2] - k, 0), 1);
  const at = (i * ny + j) * nz + k, x = ny * nz;
  const low = levels[at] * (1 - w) + levels[at + 1] * w, lowY = levels[at + nz] * (1 - w) + levels[at + nz + 1] * w;
  const high = levels[at + x] * (1 - w) + levels[at + x + 1] * w;
  const highY = levels[at + x + nz] * (1 - w) + levels[at + x + nz + 1] * w;
  return (low * (1 - v) + lowY * v) * (1 - u) + (high * (1 - v) + highY * v) * u;
}

/** Slope of the levels by the indices. */
function slope(grid, [i, j, k]) {
  const h = 0.75;
  return [
    (interpolated(grid, [i + h, j, k]) - interpolated(grid, [i - h, j, k])) / (2 * h),
    (interpolated(grid, [i, j + h, k]) - interpolated(grid, [i, j - h, k])) / (2 * h),
    (interpolated(grid, [i, j, k + h]) - interpolated(grid, [i, j, k - h])) / (2 * h),
  ];
}

/**
 * The surface on which a grid has a value (S. F. F. Gibson, "Constrained Elastic Surface Nets", 1998): one vertex in
 * every cell that the surface crosses, one quadrilateral around every edge. A negative value: the surface around what
 * is lower.
 */
function surfaceOf(grid, value) {
  const [nx, ny, nz] = grid.shape;
  const sign = value < 0 ? -1 : 1;
  const level = Math.abs(levelOf(grid, value));
  const levels = grid.levels;
  const vertexOf = new Int32Array(nx * ny * nz).fill(-1);
  const indices = [];
  const corner = new Float64Array(8);
  for (let i = 0; i < nx - 1; i++)
    for (let j = 0; j < ny - 1; j++)
      for (let k = 0; k < nz - 1; k++) {
        const at = (i * ny + j) * nz + k;
        let inside = 0;
        for (let n = 0; n < 8; n++) {
          corner[n] = sign * levels[at + (n & 1 ? ny * nz : 0) + (n & 2 ? nz : 0) + (n & 4 ? 1 : 0)] - level;
          if (corner[n] > 0) inside++;
        }
        if (inside === 0 || inside === 8) continue;
        vertexOf[at] = indices.length;
        indices.push(meanCrossing(corner, i, j, k));
      }
  const faces = quadrilaterals(grid.shape, (n) => sign * levels[n] > level, vertexOf);
  return withNormals(grid, indices, faces, sign * level);
}

/** Mean of the places where the surface crosses the edges of a cell. */
function meanCrossing(corner, i, j, k) {
  let x = 0, y = 0, z = 0, count = 0;
  for (let axis = 1; axis < 8; axis *= 2)
    for (let n = 0; n < 8; n++) {
      if (n & axis) continue;
      const a = corner[n], b = corner[n | axis];
      if (a > 0 === b > 0) continue;
      const t = a / (a - b);
      x += axis === 1 ? t : n & 1;
      y += axis === 2 ? t : (n >> 1) & 1;
      z += axis === 4 ? t : (n >> 2) & 1;
      count++;
    }
  return [i + x / count, j + y / count, k + z / count];
}

/** Two triangles around every edge between a point inside and a point outside. */
function quadrilaterals([nx, ny, nz], isInside, vertexOf) {
  const steps = [ny * nz, nz, 1];
  const faces = [];
  for (let i = 0; i < nx - 1; i++)
    for (let j = 0; j < ny - 1; j++)
      for (let k = 0; k < nz - 1; k++) {
        const at = (i * ny + j) * nz + k;
        const inside = isInside(at);
        for (let axis = 0; axis < 3; axis++) {
          if (isInside(at + steps[axis]) === inside) continue;
          const place = [i, j, k]; // an edge on a side of the box has no four cells around it
          if (!place[(axis + 1) % 3] || !place[(axis + 2) % 3]) continue;
          const u = steps[(axis + 1) % 3], v = steps[(axis + 2) % 3];
          const [a, b, c, d] = [vertexOf[at], vertexOf[at - u], vertexOf[at - u - v], vertexOf[at - v]];
          if (inside) faces.push(a, b, c, a, c, d);
          else faces.push(a, c, b, a, d, c);
        }
      }
  return faces;
}

/** Vertices drawn onto the surface along the slope, and the slope's direction as normals. */
function withNormals(grid, indices, faces, level) {
  const vertices = [], normals = [];
  const outwards = level < 0 ? 1 : -1;
  for (const p of indices) {
    const g = slope(grid, p);
    const square = g[0] * g[0] + g[1] * g[1] + g[2] * g[2] || 1;
    const missing = Math.min(Math.max((level - interpolated(grid, p)) / square, -0.4 / Math.sqrt(square)), 0.4 / Math.sqrt(square));
    const [x, y, z] = placeOf(grid, p.map((value, n) => value + missing * g[n]));
    vertices.push({ x, y, z });
    const n = grid.inverse.map((row) => outwards * (row[0] * g[0] + row[1] * g[1] + row[2] * g[2]));
    const length = Math.hypot(...n) || 1;
    normals.push({ x: n[0] / length, y: n[1] / length, z: n[2] / length });
  }
  return { vertices, normals, faces };
}

/** Volume in which a grid is above a value, cubic Angstrom. */
function volumeAbove(grid, value) {
  const level = levelOf(grid, value);
  let count = 0;
  for (const entry of grid.levels) if (entry > level) count++;
  const [a, b, c] = grid.spacing;
  const cell = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
  return count * Math.abs(cell);
}
