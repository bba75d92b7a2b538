// The viewer: image and text of a job's pages side by side, also while the job is running.

import { json, Problem } from "../api.js";
import { copy } from "./copying.js";
import * as finding from "./finding.js";
import * as jobs from "../jobs.js";
import * as list from "../list.js";
import * as rail from "./rail.js";
import * as search from "./search.js";
import * as sheet from "./sheet.js";
import { say } from "../texts.js";
import * as words from "../words.js";

const $ = (id) => document.getElementById(id);
const dialog = $("viewer");
// Milliseconds between updates of the page states: a second, longer for large documents.
const refreshAfter = (pages) => Math.max(1000, 2 * pages);

let job = null;
let page = 1;
let states = [];
let asked = 0; // number of the last request; responses to earlier ones are ignored
let due = 0;
let back = Promise.resolve(); // history.back() is asynchronous

// Opens a job at a page. Without a page, adds a history entry, so that Back returns to the list.
export async function open(id, at) {
  await back;
  if (!jobs.get(id)) await jobs.load(id);
  const another = job?.id !== id;
  if (another) begin(jobs.get(id));
  if (at === undefined) history.pushState({ viewer: true }, "", address(1));
  if (!dialog.open) dialog.showModal();
  page = within(at ?? 1);
  if (another) await refresh();
  else await turn(page);
}

function begin(wanted) {
  job = wanted;
  states = [];
  sheet.clear();
  search.begin(job);
  rail.open((number) => `${job.links.self}/pages/${number}/image?attempt=${job.attempt}`);
  $("viewer-title").textContent = job.input.name;
  $("page-total").textContent = say("viewer.total", { total: job.input.pages });
  $("page-number").max = job.input.pages;
  $("again").hidden = !job.failed_pages.length;
}

// Also called after the browser's Back, when the URL has already changed.
export const close = () => dialog.open && dialog.close();

const within = (number) => Math.min(Math.max(1, Math.floor(number)), job.input.pages);
const address = (number) => `#job=${job.id}${number > 1 ? `&page=${number}` : ""}`;

export function start() {
  $("previous").addEventListener("click", () => turn(page - 1));
  $("next").addEventListener("click", () => turn(page + 1));
  $("page-number").addEventListener("change", (event) => turn(Number(event.target.value) || page));
  $("viewer-close").addEventListener("click", close);
  $("copy-page").addEventListener("click", (event) => copyFrom(event.target, sheet.contents));
  $("copy-all").addEventListener("click", (event) => copyFrom(event.target, wholeText));
  $("again").addEventListener("click", () => jobs.retry(job.id).catch((error) => tell(error.message)));
  for (const [id, name] of [["mark-words", "words-marked"], ["mark-unsure", "unsure-marked"]]) {
    $(id).addEventListener("click", () => {
      const on = $("sheet").classList.toggle(name);
      $(id).setAttribute("aria-pressed", String(on));
    });
  }
  dialog.addEventListener("close", leave);
  dialog.addEventListener("keydown", byKey);
  rail.start(turn);
  search.start(() => ({ page, states }), turn);
  jobs.listen(follow);
}

function follow({ changed, removed }) {
  if (!job) return;
  if (removed === job.id) close();
  if (changed?.id !== job.id) return;
  const further = changed.state !== job.state || changed.progress.pages_done !== job.progress.pages_done;
  if (changed.attempt !== job.attempt || changed.state !== job.state) search.begin(changed);
  job = changed;
  $("again").hidden = !job.failed_pages.length;
  if (further) due ||= setTimeout(refresh, refreshAfter(job.input.pages));
}

function byKey(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "f") {
    event.preventDefault();
    $("find").select();
  }
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") turn(page - 1);
  else if (event.key === "ArrowRight") turn(page + 1);
  else if (event.key === "/") $("find").select();
  else return;
  event.preventDefault();
}

// After closing: restores the URL of the list, and the focus.
function leave() {
  const { id } = job;
  job = null;
  clearTimeout(due);
  due = 0;
  rail.close();
  search.end();
  sheet.clear();
  if (location.hash.startsWith("#job=")) {
    if (history.state?.viewer) {
      back = new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
      history.back();
    } else history.replaceState(null, "", location.pathname);
  }
  const at = document.activeElement;
  if (!at || at === document.body || dialog.contains(at)) list.focus(id); // the element that had the focus is gone
}

async function refresh() {
  clearTimeout(due);
  due = 0;
  const question = ++asked;
  const known = states[page - 1]?.state;
  const body = await json(`${job.links.self}/pages`).catch(() => null);
  if (!body || !job || question !== asked) return;
  states = body.pages;
  showPlace();
  if (states[page - 1].state !== known) await showPage();
}

async function turn(to) {
  page = within(to);
  history.replaceState(history.state, "", address(page));
  if (!states.length) return; // the page is shown when the states are loaded
  showPlace();
  await showPage();
}

function showPlace() {
  rail.show(states, page);
  $("page-number").value = page;
  $("previous").disabled = page <= 1;
  $("next").disabled = page >= job.input.pages;
}

async function showPage() {
  const row = states[page - 1];
  const bad = job.failed_pages.find((failed) => failed.page === page);
  const parts = [say(`viewer.state.${row.state}`)];
  if (row.confidence !== null) parts.push(say("viewer.sure", { percent: Math.round(row.confidence * 100) }));
  if (bad) parts.push(words.pageReason(bad));
  $("page-note").textContent = say("viewer.note", { page, state: parts.join(", ") });
  $("page-note").className = bad ? "wrong" : "quiet";
  if (row.state === "waiting") {
    sheet.clear();
    return sheet.note(say("viewer.not_yet"));
  }
  const here = `${job.links.self}/pages/${page}`;
  sheet.clear();
  $("table").scrollTo(0, 0);
  sheet.showImage(`${here}/image?attempt=${job.attempt}`, page);
  const [wanted, of] = [page, job.id];
  try {
    const found = await sheet.load(`${here}/hocr`);
    if (job?.id !== of || page !== wanted) return;
    sheet.showWords(found);
    if (bad) sheet.note(words.reason(bad));
    search.showOn(page);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (job?.id === of && page === wanted) sheet.note(bad ? words.reason(bad) : error.message);
  }
}

// Copy

const wholeText = async () => (await finding.texts(job, states, () => job)).map((text) => text.trim()).join("\n\n");

async function copyFrom(button, find) {
  const label = button.textContent;
  const copied = await copy(await find(), dialog);
  tell(say(copied ? "viewer.copied" : "viewer.not_copied"));
  if (!copied || button.dataset.busy) return;
  button.dataset.busy = "yes";
  button.textContent = `✓ ${say("viewer.copied")}`;
  setTimeout(() => {
    button.textContent = label;
    delete button.dataset.busy;
  }, 1500);
}

// For screen readers, which ignore elements outside of the dialog.
const tell = (text) => {
  $("viewer-status").textContent = text;
};
