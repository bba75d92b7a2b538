// Documents that were sent together: a card with one bar, one line and one ZIP. The server knows
// nothing of them; this browser remembers which jobs belong together.

import { ask } from "./asking.js";
import * as jobs from "./jobs.js";
import * as rows from "./rows.js";
import { count, language, say } from "./texts.js";
import * as words from "./words.js";

const KEY = "ocr-tasks.batches";
const MOST_IN_ZIP = 100; // as web/api/archive.py has it
const MOST_REMEMBERED = 50;

const batches = []; // the newest first
const byJob = new Map();
let act = () => {};

// Shows the batches of earlier visits as soon as their jobs are known; gives the number of those.
export function start(onAct) {
  act = onAct;
  let kept = [];
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    // nothing was kept, or nothing may be
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
  const kept = batches.filter((batch) => batch.ids.length).slice(0, MOST_REMEMBERED);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept.map(({ ids, at }) => ({ ids, at }))));
  } catch {
    // then they last as long as the page
  }
}

export const of = (id) => byJob.get(id);

// A batch of what is being sent now.
export function begin() {
  const batch = make([], "9"); // later than any time, until its first job has one
  batches.unshift(batch);
  return batch;
}

// An upload of the batch is under way, until `sent` is called with its job, or with null.
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

// Jobs that belong to batches and were not in the first answer of the server.
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

// As in the rows of single documents, buttons are made anew only when there are others.
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
  for (let from = 0; from < ids.length; from += MOST_IN_ZIP) {
    const query = ids.slice(from, from + MOST_IN_ZIP).map((id) => `id=${id}`).join("&");
    const part = from / MOST_IN_ZIP + 1;
    const label = ids.length > MOST_IN_ZIP ? say("batch.zip_part", { part }) : say("batch.zip");
    made.push(rows.link(label, name, `/v1/archive?${query}`, "button"));
  }
  return made;
}

async function destroy(batch) {
  const answers = [["keep", say("batch.keep")], ["delete", say("batch.delete")]];
  if ((await ask(nameOf(batch), say("batch.delete.words"), answers)) !== "delete") return;
  for (const job of known(batch)) await act("destroy", job.id);
}
