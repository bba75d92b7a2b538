// The list of documents: a row for each upload and job, and cards for batches.

import * as batches from "./batches.js";
import * as jobs from "./jobs.js";
import { about, button, element, link, place, placeByName, row, takeAway } from "./rows.js";
import { count, say } from "./texts.js";
import * as words from "./words.js";

const list = document.getElementById("jobs");
const rows = new Map();

const DOWNLOADS = ["text", "hocr", "alto", "json"];

// Uploads are shown above all jobs.
export function addFirst(item, batch) {
  if (batch) placeByName(item, batch.members);
  else list.prepend(item);
}

export function show(job, act) {
  let known = rows.get(job.id);
  if (!known) {
    known = row(job.input.name);
    known.item.id = `job-${job.id}`;
    rows.set(job.id, known);
  }
  putWhereItBelongs(known.item, job);
  const bad = job.state === "succeeded" && job.failed_pages.length > 0;
  known.item.className = `job ${bad ? "warning" : job.state}`;
  known.facts.textContent = words.facts(job);
  known.said.textContent = words.state(job);
  known.bar.hidden = !jobs.isActive(job);
  known.bar.setAttribute("aria-valuetext", words.state(job));
  known.setPercent(job.progress.percent);
  showActions(known, job, act);
}

function putWhereItBelongs(item, job) {
  const within = batches.of(job.id)?.members ?? list;
  if (item.parentElement === within) return;
  if (within === list) place(item, job.created_at);
  else placeByName(item, within);
}

export function remove(id) {
  const known = rows.get(id);
  rows.delete(id);
  if (known) takeAway(known.item);
}

// Moves the focus to the row of a job, after the viewer was closed.
export const focus = (id) => rows.get(id)?.item.querySelector("button, a")?.focus();

// Buttons are only replaced if the set of buttons changes, to keep the focus.
function showActions(known, job, act) {
  const readable = job.state === "succeeded" || job.progress.pages_done > 0;
  const key = `${job.state} ${readable} ${job.failed_pages.length > 0} ${job.attempt}`;
  if (known.key === key) return;
  known.key = key;
  known.more.replaceChildren(...remarks(job));
  const name = job.input.name;
  const made = [];
  if (job.state === "succeeded") made.push(link(say("jobs.download"), name, `${job.links.self}/pdf`, "button"));
  if (readable) made.push(button(say("jobs.read"), name, () => act("view", job.id)));
  if (job.state === "succeeded") made.push(downloads(job));
  if (jobs.isActive(job)) made.push(button(say("jobs.cancel"), name, () => act("cancel", job.id)));
  else {
    if (job.failed_pages.length) made.push(button(say("jobs.retry_pages"), name, () => act("retry", job.id)));
    else if (job.state !== "succeeded") made.push(button(say("jobs.retry"), name, () => act("retry", job.id)));
    if (job.state === "failed") made.push(log(job));
    made.push(button(say("jobs.delete"), name, () => act("destroy", job.id)));
  }
  const hadFocus = known.actions.contains(document.activeElement);
  known.actions.replaceChildren(...made);
  if (hadFocus) made[0]?.focus();
}

// Failed pages and OCRmyPDF's warnings of a finished document.
function remarks(job) {
  const pages = job.failed_pages.map((row) => say("jobs.failed_page", { page: row.page, reason: words.pageReason(row) }));
  return [
    pages.length > 1 && fold(count("jobs.failed_pages", pages.length), pages),
    job.warnings.length && fold(count("jobs.warnings", job.warnings.length), job.warnings),
  ].filter(Boolean);
}

function fold(summary, texts) {
  const made = element("details");
  const items = element("ul");
  items.append(...texts.map((text) => element("li", "", text.trim())));
  made.append(element("summary", "", summary), items);
  return made;
}

function downloads(job) {
  const menu = element("details");
  const summary = element("summary", "", `${say("jobs.more")} ▾`);
  summary.setAttribute("aria-label", about(say("jobs.more"), job.input.name));
  const items = element("ul", "menu");
  const offered = DOWNLOADS.filter((name) => job.artifacts.some((artifact) => artifact.name === name));
  for (const name of offered) items.append(entry(link(say(`jobs.${name}`), job.input.name, `${job.links.self}/${name}`)));
  items.append(entry(log(job, "")));
  menu.append(summary, items);
  menu.addEventListener("focusout", (event) => {
    if (!menu.contains(event.relatedTarget)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    summary.focus();
  });
  return menu;
}

function log(job, className = "button plain") {
  const made = element("a", className, say("jobs.log"));
  made.href = job.links.log;
  made.target = "_blank";
  made.setAttribute("aria-label", about(say("jobs.log"), job.input.name));
  return made;
}

function entry(content) {
  const item = element("li");
  item.append(content);
  return item;
}
