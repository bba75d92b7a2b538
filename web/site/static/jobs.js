// The jobs that the page knows, kept up to date: by events where a browser allows another
// connection, and by asking for the list in any case, so that no bar ever stands still unnoticed.

import { ask, json, Offline } from "./api.js";

const PAGE = 20;
const MOST_STREAMS = 4; // browsers allow six connections to a host
const POLL_ACTIVE = 2500;
const POLL_IDLE = 15000;
const POLL_HIDDEN = 60000;
const POLL_ACTIVE_HIDDEN = 5000; // for the title, and notifications

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

// Calls back with {changed: job} | {removed: id} | {online: boolean} | {listed: true}.
export function listen(callback) {
  listeners.add(callback);
}

const tell = (event) => listeners.forEach((callback) => callback(event));

// `atFirst`: how many jobs to ask for.
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

// An answer that was overtaken by an event must not turn a bar back.
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
    const known = all(); // a job that is made meanwhile may be missing in the answer
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
  clearTimeout(timer); // of another poll that ended meanwhile
  timer = setTimeout(poll, interval());
}

function interval() {
  const active = all().some(isActive);
  if (document.hidden) return active ? POLL_ACTIVE_HIDDEN : POLL_HIDDEN;
  return active ? POLL_ACTIVE : POLL_IDLE;
}

// What is younger than the oldest listed job and not listed was deleted elsewhere.
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
  if (document.hidden) return; // nobody sees it, and each stream holds a thread of the server
  const waiting = all().filter((job) => isActive(job) && !streams.has(job.id));
  waiting.sort((a, b) => (a.state === "running" ? 0 : 1) - (b.state === "running" ? 0 : 1));
  for (const job of waiting.slice(0, MOST_STREAMS - streams.size)) {
    const source = new EventSource(job.links.events);
    source.addEventListener("job", (event) => put(JSON.parse(event.data)));
    // Refused, such as when the token has been revoked. The next poll tells why, and tries again.
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
