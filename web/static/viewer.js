// A job's pages: image and text side by side, readable while the job still runs.

import { json, Problem, text } from "./api.js";
import * as jobs from "./jobs.js";

const $ = (id) => document.getElementById(id);
const dialog = $("viewer");
const strip = $("strip");
const MOST_IN_STRIP = 300; // beyond, the number field alone leads to a page

const STATES = { waiting: "not read yet", done: "read", kept: "kept as it was", failed: "could not be read" };

let job = null;
let page = 1;
let states = [];
let asked = 0; // answers to older questions are dropped

export async function open(id) {
  if (!jobs.get(id)) await jobs.load(id);
  job = jobs.get(id);
  page = 1;
  $("viewer-title").textContent = job.input.name;
  $("page-total").textContent = `of ${job.input.pages}`;
  $("page-number").max = job.input.pages;
  if (location.hash !== `#job=${id}`) history.replaceState(null, "", `#job=${id}`);
  if (!dialog.open) dialog.showModal();
  await refresh();
}

export function start() {
  $("previous").addEventListener("click", () => turn(page - 1));
  $("next").addEventListener("click", () => turn(page + 1));
  $("page-number").addEventListener("change", (event) => turn(Number(event.target.value) || page));
  $("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    job = null;
    history.replaceState(null, "", location.pathname);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if (event.key === "ArrowLeft") turn(page - 1);
    if (event.key === "ArrowRight") turn(page + 1);
  });
  strip.addEventListener("click", (event) => {
    if (event.target.dataset.page) turn(Number(event.target.dataset.page));
  });
  jobs.listen(({ changed, removed }) => {
    if (job && removed === job.id) dialog.close();
    if (!job || changed?.id !== job.id) return;
    const further = changed.state !== job.state || changed.progress.pages_done !== job.progress.pages_done;
    job = changed;
    if (further) refresh();
  });
}

async function refresh() {
  const question = ++asked;
  const known = states[page - 1]?.state;
  const body = await json(`${job.links.self}/pages`).catch(() => null);
  if (!body || !job || question !== asked) return;
  const shown = states.job === job.id;
  states = Object.assign(body.pages, { job: job.id });
  showStrip();
  if (!shown || states[page - 1].state !== known) await showPage();
}

async function turn(to) {
  page = Math.min(Math.max(1, to), job.input.pages);
  showStrip();
  await showPage();
}

function showStrip() {
  const shown = states.slice(0, MOST_IN_STRIP);
  strip.hidden = states.length < 2;
  if (strip.children.length !== shown.length) {
    strip.replaceChildren(
      ...shown.map((row) => {
        const cell = Object.assign(document.createElement("button"), { type: "button", textContent: row.page });
        cell.dataset.page = row.page;
        const item = document.createElement("li");
        item.append(cell);
        return item;
      }),
    );
  }
  shown.forEach((row, index) => {
    const cell = strip.children[index].firstChild;
    cell.className = row.state;
    cell.setAttribute("aria-label", `Page ${row.page}, ${STATES[row.state]}`);
    if (row.page === page) cell.setAttribute("aria-current", "page");
    else cell.removeAttribute("aria-current");
  });
  $("page-number").value = page;
  $("previous").disabled = page <= 1;
  $("next").disabled = page >= job.input.pages;
}

async function showPage() {
  const row = states.job === job.id ? states[page - 1] : null;
  $("page-text").textContent = "";
  if (!row) return; // the states are on their way, and show the page when they come
  const address = `${job.links.self}/pages/${page}`;
  const image = $("page-image");
  const sure = row.confidence === null ? "" : `, ${Math.round(row.confidence * 100)} % sure`;
  $("page-note").textContent = `Page ${page}: ${STATES[row.state]}${sure}`;
  if (row.state === "waiting") {
    image.removeAttribute("src");
    $("page-text").textContent = "This page has not been read yet. It appears here as soon as it is.";
    return;
  }
  image.alt = `Image of page ${page}`;
  image.src = `${address}/image?attempt=${job.attempt}`;
  const wanted = page;
  try {
    const content = await text(`${address}/text`);
    if (job && page === wanted) $("page-text").textContent = content || "There is no text on this page.";
  } catch (error) {
    if (error instanceof Problem) $("page-text").textContent = error.message;
  }
}
