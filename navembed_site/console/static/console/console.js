// Keeps pages of the console up to date, plays tracks, opens dialogs. What comes from the server is markup that the
// server has escaped; texts are never put together here.
"use strict";

const PAUSE_SECONDS = 2;

// Makes the children of one element those of another, changing as little as possible: what has the focus, a dialog or
// details that are open, and regions that are read aloud stay what they are.
function morph(from, to) {
  const wanted = [...to.childNodes];
  wanted.forEach((node, place) => {
    const now = from.childNodes[place];
    if (!now) return void from.append(node);
    if (!alike(now, node)) return void now.replaceWith(node);
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (now.data !== node.data) now.data = node.data;
      return;
    }
    if (now.isEqualNode(node)) return;
    for (const { name } of [...now.attributes]) if (!node.hasAttribute(name) && name !== "open") now.removeAttribute(name);
    for (const { name, value } of node.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    morph(now, node);
  });
  while (from.childNodes.length > wanted.length) from.lastChild.remove();
}

function alike(one, other) {
  return one.nodeName === other.nodeName && (one.id ?? "") === (other.id ?? "");
}

function put(region, html) {
  if (html === null) return;
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  if (region.dataset.full) morph(region, fresh);
  else region.replaceChildren(...fresh.childNodes);
  region.dataset.full = "yes";
}

// Returns the answer's text; null when nothing is new, or the whole page is loaded again.
async function part(address, known) {
  const headers = known.tag ? { "If-None-Match": known.tag } : {};
  const answer = await fetch(address, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Error(`${answer.status}`);
  if (answer.redirected) {
    location.reload(); // signed out
    return null;
  }
  known.tag = answer.headers.get("ETag");
  return answer.text();
}

// Once a job has ended nothing of its page changes any more: each part is looked at one last time.
const isDone = () => document.querySelector('[data-done="yes"]') !== null;

async function follow(region) {
  const known = {};
  region.dataset.full = "yes";
  for (let goesOn = !isDone(); goesOn; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * (region.dataset.pause ?? PAUSE_SECONDS)));
    if (document.hidden) continue;
    const isLast = isDone();
    try {
      put(region, await part(region.dataset.live, known));
      goesOn = !isLast;
      region.classList.remove("nv-stale");
    } catch {
      region.classList.add("nv-stale"); // the server is away; the next look may find it
    }
  }
}

async function load(region, address) {
  try {
    put(region, await part(address, {}));
  } catch {
    region.textContent = "The server does not answer. Reload the page in a moment.";
  }
}

// What costs something is asked for when somebody wants it; the answer takes the button's place.
function ask(button) {
  const region = button.parentElement;
  region.setAttribute("aria-live", "polite");
  region.textContent = "Comparing …";
  load(region, button.dataset.ask);
}

// One after the other: searches beside each other would take as long, and each would be late.
async function loadAll() {
  for (const region of document.querySelectorAll("[data-load]")) await load(region, region.dataset.load);
}

// Shows what a job would do, anew whenever the form changes; the last question counts.
function foresee(form) {
  const region = document.getElementById("preview");
  let timer;
  let latest = 0;
  const ask = async () => {
    const mine = ++latest;
    region.setAttribute("aria-busy", "true");
    const asked = new URLSearchParams(new FormData(form));
    if (!asked.has("models")) asked.set("models", "");
    asked.set("part", "preview");
    try {
      const html = await part(`${form.dataset.preview}?${asked}`, {});
      if (mine === latest) put(region, html);
    } catch {
      if (mine === latest) region.querySelector(".nv-primary")?.setAttribute("disabled", "");
    }
    if (mine === latest) region.removeAttribute("aria-busy");
  };
  form.addEventListener("input", () => {
    latest += 1;
    region.setAttribute("aria-busy", "true");
    clearTimeout(timer);
    timer = setTimeout(ask, 400);
  });
}

async function complete(field) {
  const answer = await fetch(`${field.dataset.complete}?${new URLSearchParams({ prefix: field.value })}`);
  if (!answer.ok) return;
  const options = (await answer.json()).map((folder) => new Option(folder, folder));
  field.list.replaceChildren(...options);
}

function play(button) {
  const audio = document.getElementById("player-audio");
  document.getElementById("player").hidden = false;
  document.getElementById("player-title").textContent = button.dataset.title;
  audio.src = button.dataset.play;
  audio.play().catch((error) => {
    if (error.name === "NotSupportedError") cannotPlay(audio.src);
  });
}

async function cannotPlay(address) {
  const answer = await fetch(address, { headers: { Range: "bytes=0-0" } }).catch(() => null);
  if (document.getElementById("player-audio").src !== address) return; // another one plays
  const why = answer?.ok ? "This browser cannot play this file." : "This file cannot be read now.";
  document.getElementById("player-title").textContent = why;
}

function stop() {
  const audio = document.getElementById("player-audio");
  audio.pause();
  audio.removeAttribute("src");
  document.getElementById("player").hidden = true;
}

// What a dialog shows that takes a while to find out is asked for when it opens.
function open(event, dialog) {
  if (!dialog) return; // a link leads on
  event.preventDefault();
  dialog.showModal();
  for (const region of dialog.querySelectorAll("[data-open]")) load(region, region.dataset.open);
}

// Forms in parts carry no token of their own: it would make each answer a new one.
function sign(form) {
  for (const field of document.getElementById("act").querySelectorAll("input")) {
    if (!form.elements[field.name]) form.append(field.cloneNode());
  }
}

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-dialog], [data-close], [data-play], [data-ask], #player-close");
  if (!pressed) return;
  if (pressed.dataset.dialog) open(event, document.getElementById(pressed.dataset.dialog));
  else if (pressed.dataset.play) play(pressed);
  else if (pressed.dataset.ask) ask(pressed);
  else if (pressed.id === "player-close") stop();
  else pressed.closest("dialog").close();
});
document.addEventListener("submit", (event) => {
  const isPost = (event.submitter?.formMethod || event.target.method) === "post";
  if (isPost && event.target.matches("[data-token]")) sign(event.target);
});
document.addEventListener("change", (event) => event.target.closest("form[data-auto]")?.requestSubmit());
document.addEventListener("input", (event) => {
  if (event.target.matches("[data-show]")) event.target.nextElementSibling.value = event.target.value;
  if (event.target.matches("[data-complete]")) complete(event.target);
});
document.addEventListener("DOMContentLoaded", () => {
  // The theme's symbols are words in a font of pictures: beside a text they are not read aloud.
  for (const symbol of document.querySelectorAll("#nav-sidebar li .material-symbols-outlined")) symbol.ariaHidden = "true";
  document.querySelectorAll("[data-live]").forEach(follow);
  loadAll();
  document.querySelectorAll("form[data-preview]").forEach(foresee);
  document.getElementById("player-audio")?.addEventListener("error", (event) => event.target.getAttribute("src") && cannotPlay(event.target.src));
});
