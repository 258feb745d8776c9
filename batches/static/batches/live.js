// Keeps what a page of the console shows of unfinished jobs up to date. A job that has not changed costs the server
// next to nothing: it answers 304 to the ETag of what we have.
"use strict";

const PAUSE_MS = 2000;
const NOTE_CHARS = 90; // as the server cuts it in lists

// The admin names the places of a field alike in lists, on pages and in tables.
function put(scope, field, text) {
  const place = scope.querySelector(`.field-${field}`);
  if (place) (place.querySelector(".readonly, p") ?? place).textContent = text;
}

function label(status) {
  return status.replaceAll("_", " ").replace(/\b[a-z]/g, (letter) => letter.toUpperCase());
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

function cut(text) {
  return text.length > NOTE_CHARS ? `${text.slice(0, NOTE_CHARS - 1)}…` : text;
}

function howFar({ percent, speed, seconds_left: left }) {
  const parts = [`${percent.toFixed(1)} %`];
  if (speed) parts.push(`${speed.toFixed(1)} × real time`);
  if (left) parts.push(`about ${clock(left)} left`);
  return parts.join(", ");
}

function show(scope, meter, job) {
  meter.querySelector("progress").value = job.progress.percent;
  meter.querySelector("span").textContent = howFar(job.progress);
  put(scope, "status", label(job.status));
  put(scope, "tracks", `${job.processed_tracks + job.failed_tracks} / ${job.total_tracks}`);
  put(scope, "note", cut(job.message) || "-");
  for (const field of ["message", "current_track"]) put(scope, field, job[field] || "-");
  for (const field of ["total_tracks", "processed_tracks", "failed_tracks"]) put(scope, field, job[field]);
  const rows = scope.querySelectorAll(".inline-group tr.has_original");
  job.models.forEach((model, place) => {
    for (const field of ["total", "succeeded", "failed", "left_out"]) {
      if (rows[place]) put(rows[place], field, model[field]);
    }
  });
}

// Returns whether there is more to come.
async function look(meter, scope, known) {
  const headers = known.tag ? { "If-None-Match": known.tag } : {};
  const answer = await fetch(`/api/v1/batches/${meter.dataset.job}`, { headers, cache: "no-store" });
  if (answer.status === 304) return true;
  if (!answer.ok) return answer.status >= 500;
  const job = await answer.json();
  known.tag = answer.headers.get("ETag");
  show(scope, meter, job);
  return job.finished_at === null;
}

async function follow(meter) {
  const scope = meter.closest("tr") ?? document;
  const known = {};
  for (let more = true; more; ) {
    try {
      if (!document.hidden) more = await look(meter, scope, known);
    } catch {
      // The server is away; the next look may find it.
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-job]").forEach(follow));
