// Thumbnails of all pages. Only those in view are in the document, and their images are loaded after
// scrolling has stopped.

import { say } from "../texts.js";

const rail = document.getElementById("rail");
const strip = document.getElementById("strip");
const REST = 120; // milliseconds
const SPARE = 3; // additional cells before and after the view

const cells = new Map();
let states = [];
let current = 1;
let found = new Set();
let imageOf = () => "";
let resting = 0;

export function start(turn) {
  rail.addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe(rail);
  strip.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) turn(Number(button.dataset.page));
  });
}

// Shows another document; `address` returns the image URL of a page.
export function open(address) {
  imageOf = address;
  for (const cell of cells.values()) cell.remove();
  cells.clear();
  found = new Set();
  states = [];
  rail.scrollTo(0, 0);
}

// Stops updates when the viewer is closed.
export function close() {
  clearTimeout(resting);
  states = [];
}

// `rows` are {page, state} of all pages; `page` is the current page, which is kept in view.
export function show(rows, page) {
  const moved = page !== current || !cells.size;
  states = rows;
  current = page;
  rail.hidden = states.length < 2;
  strip.style.setProperty("--pages", states.length);
  if (moved) reveal();
  draw();
}

// Marks pages with search matches.
export function mark(pages) {
  found = pages;
  draw();
}

const upright = () => getComputedStyle(rail).flexDirection === "column";
const cellSize = () => parseFloat(getComputedStyle(rail).getPropertyValue("--cell"));

function reveal() {
  const [size, view] = [cellSize(), upright() ? rail.clientHeight : rail.clientWidth];
  const at = upright() ? rail.scrollTop : rail.scrollLeft;
  const from = (current - 1) * size;
  if (from >= at && from + size <= at + view) return;
  const to = from - (view - size) / 2;
  rail.scrollTo(upright() ? { top: to } : { left: to });
}

function draw() {
  if (rail.hidden || !states.length) return;
  const [size, view] = [cellSize(), upright() ? rail.clientHeight : rail.clientWidth];
  const at = upright() ? rail.scrollTop : rail.scrollLeft;
  const first = Math.max(1, Math.floor(at / size) + 1 - SPARE);
  const last = Math.min(states.length, Math.ceil((at + view) / size) + SPARE);
  for (const [page, cell] of cells) {
    // The cell with the focus is kept, to keep the focus.
    if ((page < first || page > last) && page !== current && !cell.contains(document.activeElement)) {
      cell.remove();
      cells.delete(page);
    }
  }
  for (const page of new Set([...Array.from({ length: last - first + 1 }, (_, n) => first + n), current])) {
    if (!cells.has(page)) insert(page);
    update(page, cells.get(page).firstChild);
  }
  clearTimeout(resting);
  resting = setTimeout(fetchImages, REST);
}

function insert(page) {
  const cell = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const number = Object.assign(document.createElement("span"), { textContent: page });
  button.dataset.page = page;
  button.append(number);
  cell.append(button);
  cell.style.setProperty("--at", page - 1);
  const after = [...cells.keys()].filter((other) => other > page);
  strip.insertBefore(cell, cells.get(Math.min(...after)) ?? null);
  cells.set(page, cell);
}

function update(page, button) {
  const { state } = states[page - 1];
  button.className = [state, found.has(page) ? "found" : ""].join(" ").trim();
  button.setAttribute("aria-label", say("viewer.thumb", { page, state: say(`viewer.state.${state}`) }));
  button.tabIndex = page === current ? 0 : -1; // one tab stop; arrow keys turn pages
  if (page === current) button.setAttribute("aria-current", "page");
  else button.removeAttribute("aria-current");
}

function fetchImages() {
  for (const [page, cell] of cells) {
    const address = ["done", "kept", "failed"].includes(states[page - 1]?.state) && imageOf(page);
    const there = cell.querySelector("img");
    if (!address || there?.getAttribute("src") === address) continue;
    const image = Object.assign(new Image(), { alt: "", src: address });
    image.addEventListener("error", () => image.remove());
    there?.remove();
    cell.firstChild.prepend(image);
  }
}
