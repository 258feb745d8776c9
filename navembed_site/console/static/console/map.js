// Draws the map: points come as bytes, titles when somebody points at one.
import createPubSub from "./vendor/pub-sub-es.js";

globalThis.createPubSub = createPubSub; // where regl-scatterplot looks for it
await import("./vendor/regl-scatterplot.min.js");

const COLOURS = 12;
const NEAR = 16; // pixels
const NO_WEBGL = "This browser cannot draw the map: it needs WebGL, which is missing or switched off. The page Tracks lists the same tracks.";
const NO_ANSWER = "The map could not be loaded. Reload the page in a moment.";

const view = document.querySelector("[data-map]");
const [canvas, name, note] = ["canvas", ".nv-map-name", ".nv-map-note"].map((each) => view.querySelector(each));

function say(text) {
  note.textContent = text;
  note.hidden = !text;
}

// All keys, then all x, all y, all colours.
async function load() {
  const answer = await fetch(view.dataset.map);
  if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
  const bytes = await answer.arrayBuffer();
  const count = bytes.byteLength / 20;
  const column = (place) => new Float32Array(bytes, 8 * count + 4 * place * count, count);
  return { keys: new Float64Array(bytes, 0, count), x: column(0), y: column(1), colours: column(2) };
}

function palette() {
  const style = getComputedStyle(view);
  return Array.from({ length: COLOURS }, (_, number) => style.getPropertyValue(`--nv-colour-${number}`).trim());
}

// Tooltip of one point: the last one that was pointed at counts.
function naming(plot, keys) {
  const known = new Map();
  let current = null;
  const ask = async (point) => {
    if (!known.has(point)) {
      const answer = await fetch(view.dataset.point + keys[point]);
      known.set(point, answer.ok ? await answer.json() : { title: "This track is not there any more.", about: "" });
    }
    return known.get(point);
  };
  const place = (point) => {
    const [x, y] = plot.getScreenPosition(point);
    name.style.left = `${Math.min(Math.max(x, 90), view.clientWidth - 90)}px`;
    name.style.top = `${y}px`;
    name.classList.toggle("nv-below", y < 90);
  };
  const hide = () => {
    current = null;
    name.hidden = true;
  };
  const show = async (point) => {
    current = point;
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (current !== point) return null;
    const track = await ask(point);
    if (current !== point) return null;
    const [title, about] = name.children;
    title.textContent = track.title;
    about.textContent = track.about;
    if (track.address) name.href = track.address;
    else name.removeAttribute("href");
    name.hidden = false;
    place(point);
    return track;
  };
  return { ask, show, hide };
}

// The point nearest to a place on the screen, if it is near.
function nearest(plot, { x, y }, { offsetX, offsetY }) {
  const step = (2 * plot.get("cameraDistance")) / canvas.clientHeight;
  const [left, top] = plot.get("cameraTarget");
  const [wantedX, wantedY] = [left + step * (offsetX - canvas.clientWidth / 2), top - step * (offsetY - canvas.clientHeight / 2)];
  let found = null;
  let least = NEAR * step;
  for (let point = 0; point < x.length; point += 1) {
    const distance = Math.hypot(x[point] - wantedX, y[point] - wantedY);
    if (distance < least) [found, least] = [point, distance];
  }
  return found;
}

// One finger moves the map, two come closer, a tap shows a title, which leads to its track: the library knows mice alone.
function touching(plot, points, names) {
  const fingers = new Map();
  let tapped = null;
  const gap = () => {
    const [one, other] = [...fingers.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    fingers.set(event.pointerId, event);
    tapped = fingers.size === 1 ? event : null;
  });
  canvas.addEventListener("pointerup", (event) => {
    const point = tapped && Math.hypot(event.x - tapped.x, event.y - tapped.y) < NEAR ? nearest(plot, points, event) : null;
    if (point !== null) names.show(point);
    else if (tapped) names.hide();
  });
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const distance = plot.get("cameraDistance");
    const gapBefore = fingers.size === 2 && gap();
    fingers.set(event.pointerId, event);
    if (gapBefore) plot.set({ cameraDistance: (distance * gapBefore) / gap() });
    else if (fingers.size === 1) {
      const [x, y] = plot.get("cameraTarget");
      const step = (2 * distance) / canvas.clientHeight;
      plot.set({ cameraTarget: [x - step * (event.x - before.x), y + step * (event.y - before.y)] });
    }
  });
}

function start(points) {
  const { keys, x, y, colours } = points;
  const plot = globalThis.createScatterplot.default({
    canvas,
    width: "auto",
    height: "auto",
    cameraDistance: Math.max(1, canvas.clientHeight / canvas.clientWidth),
    pointSize: Math.min(9, Math.max(2, 120 / Math.cbrt(keys.length + 1) ** 1.5)),
    pointColor: palette(),
    colorBy: "valueA",
    opacity: keys.length > 20_000 ? 0.6 : 0.85,
    lassoInitiator: false,
    actionKeyMap: {},
    spatialIndexUseWorker: false, // it would be made of a blob, which the policy forbids
  });
  view.plot = plot; // for tests and the curious
  const drawn = plot.draw({ x, y, valueA: colours }, { zDataType: "categorical" });
  const names = naming(plot, keys);
  touching(plot, points, names);
  plot.subscribe("pointOver", names.show);
  plot.subscribe("pointOut", names.hide);
  plot.subscribe("view", names.hide);
  plot.subscribe("select", async ({ points: [point] }) => {
    plot.deselect();
    const track = await names.ask(point);
    if (track.address) location.assign(track.address);
  });
  for (const button of view.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const factor = Number(button.dataset.zoom);
      if (factor) plot.set({ cameraDistance: plot.get("cameraDistance") / factor });
      else plot.reset();
    });
  }
  new MutationObserver(() => plot.set({ pointColor: palette() })).observe(document.documentElement, { attributeFilter: ["class"] });
  return drawn;
}

try {
  if (!document.createElement("canvas").getContext("webgl")) say(NO_WEBGL);
  else {
    const points = await load();
    await start(points);
    say(points.keys.length ? "" : "None of these tracks can be played now.");
    view.dataset.drawn = points.keys.length;
  }
} catch (error) {
  say(NO_ANSWER);
  throw error;
}
