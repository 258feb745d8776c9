// Draws the map: points come as bytes, titles when somebody points at one.
import createPubSub from "./vendor/pub-sub-es.js";

globalThis.createPubSub = createPubSub; // where regl-scatterplot looks for it
await import("./vendor/regl-scatterplot.min.js");

const COLOURS = 12;
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

function start({ keys, x, y, colours }) {
  const fine = globalThis.createScatterplot.default({
    canvas,
    width: "auto",
    height: "auto",
    pointSize: Math.min(9, Math.max(2, 120 / Math.cbrt(keys.length + 1) ** 1.5)),
    pointColor: palette(),
    colorBy: "valueA",
    opacity: keys.length > 20_000 ? 0.6 : 0.85,
    lassoInitiator: false,
    actionKeyMap: {},
    spatialIndexUseWorker: false, // it would be made of a blob, which the policy forbids
  });
  const drawn = fine.draw({ x, y, valueA: colours }, { zDataType: "categorical" });
  const names = naming(fine, keys);
  let isTouch = false;
  canvas.addEventListener("pointerdown", (event) => (isTouch = event.pointerType === "touch"), true);
  fine.subscribe("pointOver", names.show);
  fine.subscribe("pointOut", names.hide);
  fine.subscribe("view", names.hide);
  fine.subscribe("select", async ({ points }) => {
    fine.deselect();
    if (isTouch) return void names.show(points[0]); // its title leads there
    const track = await names.ask(points[0]);
    if (track.address) location.assign(track.address);
  });
  for (const button of view.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const factor = Number(button.dataset.zoom);
      if (factor) fine.set({ cameraDistance: fine.get("cameraDistance") / factor });
      else fine.reset();
    });
  }
  new MutationObserver(() => fine.set({ pointColor: palette() })).observe(document.documentElement, { attributeFilter: ["class"] });
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
