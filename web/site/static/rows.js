// Elements of the list's rows, and the position of a row in the list.

import { language, say } from "./texts.js";

const list = document.getElementById("jobs");

export function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content) made.textContent = content;
  return made;
}

export const about = (label, name) => say("jobs.about", { label, name });

export function button(label, name, onClick, className = "plain") {
  const made = element("button", className, label);
  made.type = "button";
  made.setAttribute("aria-label", about(label, name));
  made.addEventListener("click", onClick);
  return made;
}

export function link(label, name, address, className) {
  const made = element("a", className, label);
  made.href = address;
  made.setAttribute("aria-label", about(label, name));
  made.setAttribute("download", "");
  return made;
}

// Creates a row with name, facts, progress bar, status text and space for buttons.
export function row(name) {
  const item = element("li", "job");
  const head = element("div", "head");
  const title = element("h3", "", name);
  const facts = element("span", "facts");
  const bar = element("div", "bar");
  const fill = element("div");
  const said = element("p", "said");
  const more = element("div", "remarks");
  const actions = element("div", "actions");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", say("jobs.progress", { name }));
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  head.append(title, facts);
  bar.append(fill);
  item.append(head, said, more, bar, actions);
  const setPercent = (percent) => {
    fill.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(percent)));
  };
  return { item, title, facts, bar, said, more, actions, setPercent };
}

// Inserts a row, newest first. Uploads have no time yet and stay at the top.
export function place(item, at) {
  item.dataset.at = at;
  const below = [...list.children].find((other) => other.dataset.at < at);
  list.insertBefore(item, below ?? null);
}

// Numeric order: scan-10 comes after scan-9.
export const byName = new Intl.Collator(language, { numeric: true }).compare;

// Inserts a row into a batch, sorted by name.
export function placeByName(item, within) {
  const name = (row) => row.querySelector("h3").textContent;
  const below = [...within.children].find((other) => byName(name(other), name(item)) > 0);
  within.insertBefore(item, below ?? null);
}

// Removes a row. If it had the focus, the focus moves to the next row or to the file input.
export function takeAway(item) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  const hadFocus = item.contains(document.activeElement);
  item.remove();
  if (hadFocus) (next?.querySelector("a, button, summary") ?? document.getElementById("files")).focus();
}
