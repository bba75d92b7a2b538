// The rows of the list: one for each upload under way and each job.

import * as jobs from "./jobs.js";
import * as words from "./words.js";

const list = document.getElementById("jobs");
const rows = new Map();

const DOWNLOADS = [
  ["text", "Text"],
  ["hocr", "hOCR"],
  ["alto", "ALTO"],
  ["json", "JSON"],
];

function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content) made.textContent = content;
  return made;
}

export function button(label, about, onClick, className = "plain") {
  const made = element("button", className, label);
  made.type = "button";
  made.setAttribute("aria-label", `${label}: ${about}`);
  made.addEventListener("click", onClick);
  return made;
}

// An empty row: name, facts, a bar, words and room for actions.
export function row(name) {
  const item = element("li", "job");
  const head = element("div", "head");
  const title = element("h3", "", name);
  const facts = element("span", "facts");
  const bar = element("div", "bar");
  const fill = element("div");
  const said = element("p", "words");
  const actions = element("div", "actions");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", `Progress of ${name}`);
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  head.append(title, facts);
  bar.append(fill);
  item.append(head, said, bar, actions);
  const setPercent = (percent) => {
    fill.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(percent)));
  };
  return { item, title, facts, bar, said, actions, setPercent };
}

export function addFirst(item) {
  list.prepend(item);
}

export function show(job, act) {
  let known = rows.get(job.id);
  if (!known) {
    known = row(job.input.name);
    known.item.id = `job-${job.id}`;
    rows.set(job.id, known);
    place(known.item, job);
  }
  const bad = job.state === "succeeded" && job.failed_pages.length > 0;
  known.item.className = `job ${bad ? "warning" : job.state}`;
  known.facts.textContent = words.facts(job);
  known.said.textContent = words.state(job);
  known.bar.hidden = !jobs.isActive(job);
  known.bar.setAttribute("aria-valuetext", words.state(job));
  known.setPercent(job.progress.percent);
  showActions(known, job, act);
}

export function remove(id) {
  rows.get(id)?.item.remove();
  rows.delete(id);
}

// Newest first, below the uploads under way, which have no id.
function place(item, job) {
  const ids = jobs.all().map((other) => `job-${other.id}`);
  const after = ids.slice(ids.indexOf(`job-${job.id}`) + 1);
  const below = after.map((id) => document.getElementById(id)).find(Boolean);
  list.insertBefore(item, below || null);
}

// Buttons are made anew only when the set of them changes, so that focus stays where it is.
function showActions(known, job, act) {
  const readable = job.state === "succeeded" || job.progress.pages_done > 0;
  const key = `${job.state} ${readable} ${job.failed_pages.length > 0} ${job.attempt}`;
  if (known.key === key) return;
  known.key = key;
  const name = job.input.name;
  const made = [];
  if (job.state === "succeeded") made.push(link("Download PDF", name, `${job.links.self}/pdf`, "button"));
  if (readable) made.push(button("Read", name, () => act("read", job.id)));
  if (job.state === "succeeded") made.push(downloads(job));
  if (jobs.isActive(job)) made.push(button("Cancel", name, () => act("cancel", job.id)));
  else {
    if (job.failed_pages.length) made.push(button("Retry failed pages", name, () => act("retry", job.id)));
    else if (job.state !== "succeeded") made.push(button("Retry", name, () => act("retry", job.id)));
    if (job.state === "failed") made.push(log(job));
    made.push(button("Delete", name, () => act("destroy", job.id)));
  }
  const hadFocus = known.actions.contains(document.activeElement);
  known.actions.replaceChildren(...made);
  if (hadFocus) made[0]?.focus();
}

function link(label, about, address, className) {
  const made = element("a", className, label);
  made.href = address;
  made.setAttribute("aria-label", `${label}: ${about}`);
  made.setAttribute("download", "");
  return made;
}

function downloads(job) {
  const menu = element("details");
  const summary = element("summary", "", "More ▾");
  summary.setAttribute("aria-label", `More downloads: ${job.input.name}`);
  const items = element("ul", "menu");
  const offered = DOWNLOADS.filter(([name]) => job.artifacts.some((artifact) => artifact.name === name));
  for (const [name, label] of offered) items.append(entry(link(label, job.input.name, `${job.links.self}/${name}`)));
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
  const made = element("a", className, "Log");
  made.href = job.links.log;
  made.target = "_blank";
  made.setAttribute("aria-label", `Log: ${job.input.name}`);
  return made;
}

function entry(content) {
  const item = element("li");
  item.append(content);
  return item;
}
