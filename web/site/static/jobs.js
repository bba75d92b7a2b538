// The jobs of the page and their updates: server-sent events for a few active jobs, because browsers
// limit connections, and polling of the list for all.

import { ask, json, Offline } from "./api.js";

const PAGE = 20;
const MAX_STREAMS = 4; // browsers allow six connections to a host
const POLL_ACTIVE = 2500;
const POLL_IDLE = 15000;
const POLL_HIDDEN = 60000;
const POLL_ACTIVE_HIDDEN = 5000; // for the title and notifications

const jobs = new Map();
const streams = new Map();
const listeners = new Set();
let next = null;
let timer = 0;
let listedOnce = false;
let most = PAGE;

export const isActive = (job) => job.state === "queued" || job.state === "running";
export const all = () => [...jobs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
export const get = (id) => jobs.get(id);
export const hasOlder = () => next !== null;

// Calls `callback` with {changed: job} | {removed: id} | {online: boolean} | {listed: true}.
export function listen(callback) {
  listeners.add(callback);
}

const tell = (event) => listeners.forEach((callback) => callback(event));

// `atFirst`: minimum number of jobs in the first request.
export async function start(atFirst = 0) {
  most = Math.max(PAGE, atFirst);
  await poll();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) for (const id of streams.keys()) unfollow(id);
    else poll();
  });
}

export function put(job) {
  const before = jobs.get(job.id);
  if (before && isOlder(job, before)) return;
  jobs.set(job.id, job);
  tell({ changed: job, before });
  stream();
}

// A response can be older than the last event. It must not reset the progress.
function isOlder(job, known) {
  if (job.attempt !== known.attempt) return job.attempt < known.attempt;
  if (!isActive(known)) return isActive(job);
  return isActive(job) && job.progress.percent < known.progress.percent;
}

export async function older() {
  const body = await json(next);
  next = body.next;
  body.jobs.forEach(put);
  tell({ listed: true });
}

async function poll() {
  clearTimeout(timer);
  try {
    const limit = Math.min(200, Math.max(most, jobs.size));
    const known = all(); // the response may not contain jobs that are created in the meantime
    const body = await json(`/v1/jobs?limit=${limit}`);
    if (!listedOnce) next = body.next;
    listedOnce = true;
    const listed = new Set(body.jobs.map((job) => job.id));
    body.jobs.forEach(put);
    forgetDeleted(known, listed, body.jobs.at(-1), limit);
    tell({ online: true });
    tell({ listed: true });
  } catch (error) {
    tell({ online: !(error instanceof Offline || error.status >= 500) });
  }
  clearTimeout(timer); // set by another poll in the meantime
  timer = setTimeout(poll, interval());
}

function interval() {
  const active = all().some(isActive);
  if (document.hidden) return active ? POLL_ACTIVE_HIDDEN : POLL_HIDDEN;
  return active ? POLL_ACTIVE : POLL_IDLE;
}

// Removes jobs that are newer than the oldest listed job but not listed: they were deleted elsewhere.
function forgetDeleted(known, listed, last, limit) {
  for (const job of known) {
    const covered = listed.size < limit || (last && job.created_at >= last.created_at);
    if (covered && !listed.has(job.id)) remove(job.id);
  }
}

function remove(id) {
  jobs.delete(id);
  unfollow(id);
  tell({ removed: id });
}

function unfollow(id) {
  streams.get(id)?.close();
  streams.delete(id);
}

function stream() {
  for (const id of streams.keys()) if (!isActive(jobs.get(id))) unfollow(id);
  if (document.hidden) return; // each stream occupies a thread of the server
  const waiting = all().filter((job) => isActive(job) && !streams.has(job.id));
  waiting.sort((a, b) => (a.state === "running" ? 0 : 1) - (b.state === "running" ? 0 : 1));
  for (const job of waiting.slice(0, MAX_STREAMS - streams.size)) {
    const source = new EventSource(job.links.events);
    source.addEventListener("job", (event) => put(JSON.parse(event.data)));
    // The stream was rejected, e.g. because the token was revoked. The next poll handles the error.
    source.addEventListener("error", () => source.readyState === EventSource.CLOSED && streams.delete(job.id));
    streams.set(job.id, source);
  }
}

export async function cancel(id) {
  put(await json(`/v1/jobs/${id}/cancel`, { method: "POST" }));
}

export async function retry(id) {
  put(await json(`/v1/jobs/${id}/retry`, { method: "POST" }));
  poll();
}

export async function destroy(id) {
  await ask(`/v1/jobs/${id}`, { method: "DELETE" });
  remove(id);
}

export async function load(id) {
  put(await json(`/v1/jobs/${id}`));
}
