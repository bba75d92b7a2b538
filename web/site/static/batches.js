// Batches: documents that were uploaded together, as a card with one progress bar and one ZIP. Only
// this browser stores which jobs belong together; the server has no batches.

import { ask } from "./asking.js";
import * as jobs from "./jobs.js";
import * as rows from "./rows.js";
import { count, language, say } from "./texts.js";
import * as words from "./words.js";

const KEY = "ocr-tasks.batches";
const MAX_IN_ZIP = 100; // MAX_JOBS in web/api/archive.py
const MAX_REMEMBERED = 50;

const batches = []; // newest first
const byJob = new Map();
let act = () => {};

// Restores the batches of earlier visits; returns the number of their jobs.
export function start(onAct) {
  act = onAct;
  let kept = [];
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    // storage is empty or disabled
  }
  for (const { ids, at } of kept) batches.push(make(ids, at));
  return byJob.size;
}

function make(ids, at) {
  const batch = { ids: [], at, members: rows.element("ul", "jobs"), sending: new Set(), parts: null };
  ids.forEach((id) => join(batch, id));
  return batch;
}

function join(batch, id) {
  batch.ids.push(id);
  byJob.set(id, batch);
}

function remember() {
  const kept = batches.filter((batch) => batch.ids.length).slice(0, MAX_REMEMBERED);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept.map(({ ids, at }) => ({ ids, at }))));
  } catch {
    // storage is disabled: batches last until the page is closed
  }
}

export const of = (id) => byJob.get(id);

// Creates a batch for files that are about to be uploaded.
export function begin() {
  const batch = make([], "9"); // sorts after any timestamp, until the first job has one
  batches.unshift(batch);
  return batch;
}

// Adds an upload to the batch. It ends when `sent` is called with its job, or with null.
export function sending(batch, upload) {
  batch.sending.add(upload);
  show(batch);
}

export function sent(batch, upload, job) {
  batch.sending.delete(upload);
  if (job) {
    if (!batch.ids.length) batch.at = job.created_at;
    join(batch, job.id);
    remember();
  }
  show(batch);
}

// Ids of jobs in batches that were not in the server's first list.
export const missing = () => [...byJob.keys()].filter((id) => !jobs.get(id));

export function forget(id) {
  const batch = byJob.get(id);
  if (!batch) return;
  byJob.delete(id);
  batch.ids.splice(batch.ids.indexOf(id), 1);
  remember();
  show(batch);
}

export const known = (batch) => batch.ids.map(jobs.get).filter(Boolean);
export const isDone = (batch) => !batch.sending.size && !known(batch).some(jobs.isActive);
export const nameOf = (batch) => count("batch.name", known(batch).length + batch.sending.size);

export function show(batch) {
  const all = known(batch);
  const total = all.length + batch.sending.size;
  if (!batch.ids.length && !batch.sending.size && !batch.members.children.length) {
    if (batch.parts) rows.takeAway(batch.parts.item);
    batch.parts = null;
    return;
  }
  if (!batch.parts) open(batch);
  const { item, title, facts, bar, said, setPercent } = batch.parts;
  if (batch.at !== item.dataset.at) rows.place(item, batch.at);
  const ended = all.filter((job) => !jobs.isActive(job));
  const bad = ended.filter((job) => job.state !== "succeeded");
  title.textContent = nameOf(batch);
  facts.textContent = words.size(all.reduce((sum, job) => sum + job.input.bytes, 0));
  said.textContent = line(batch, all, ended, bad);
  item.className = `job batch ${isDone(batch) ? (bad.length ? "warning" : "succeeded") : ""}`;
  bar.hidden = isDone(batch);
  setPercent(all.reduce((sum, job) => sum + (jobs.isActive(job) ? job.progress.percent : 100), 0) / Math.max(1, total));
  showActions(batch, all, bad);
}

function line(batch, all, ended, bad) {
  const total = all.length + batch.sending.size;
  const parts = [isDone(batch) ? say("batch.all_done") : say("batch.done", { done: ended.length.toLocaleString(language), total })];
  const left = all.map((job) => job.progress.eta_seconds ?? 0);
  if (!isDone(batch) && Math.max(...left, 0)) parts.push(words.left(Math.max(...left)));
  if (bad.length) parts.push(count("batch.not_read", bad.length));
  return parts.join(" · ");
}

function open(batch) {
  batch.parts = rows.row(nameOf(batch));
  const members = document.createElement("details");
  members.append(rows.element("summary", "", say("batch.show")), batch.members);
  batch.parts.item.append(members);
  rows.place(batch.parts.item, batch.at);
}

// As in list.js, buttons are only replaced if the set of buttons changes.
function showActions(batch, all, bad) {
  const good = all.filter((job) => job.state === "succeeded").map((job) => job.id);
  const active = all.filter(jobs.isActive);
  const key = [isDone(batch), good.join(), active.length > 0, bad.length].join(" ");
  if (batch.parts.key === key) return;
  batch.parts.key = key;
  const { actions } = batch.parts;
  const name = nameOf(batch);
  const add = (label, some, what) =>
    rows.button(label, name, () => some().forEach((job) => act(what, job.id)));
  const made = isDone(batch) ? zips(good, name) : [];
  if (active.length) made.push(add(say("batch.cancel"), () => known(batch).filter(jobs.isActive), "cancel"));
  else if (isDone(batch)) {
    const again = () => known(batch).filter((job) => ["failed", "cancelled"].includes(job.state));
    if (bad.length) made.push(add(say("batch.retry"), again, "retry"));
    made.push(rows.button(say("batch.delete"), name, () => destroy(batch)));
  }
  const hadFocus = actions.contains(document.activeElement);
  actions.replaceChildren(...made);
  if (hadFocus) made[0]?.focus();
}

function zips(ids, name) {
  const made = [];
  for (let from = 0; from < ids.length; from += MAX_IN_ZIP) {
    const query = ids.slice(from, from + MAX_IN_ZIP).map((id) => `id=${id}`).join("&");
    const part = from / MAX_IN_ZIP + 1;
    const label = ids.length > MAX_IN_ZIP ? say("batch.zip_part", { part }) : say("batch.zip");
    made.push(rows.link(label, name, `/v1/archive?${query}`, "button"));
  }
  return made;
}

async function destroy(batch) {
  const answers = [["keep", say("batch.keep")], ["delete", say("batch.delete")]];
  if ((await ask(nameOf(batch), say("batch.delete.words"), answers)) !== "delete") return;
  for (const job of known(batch)) await act("destroy", job.id);
}
