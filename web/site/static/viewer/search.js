// The search field of the viewer: finds words on all pages, and moves between matches.

import { isActive } from "../jobs.js";
import * as finding from "./finding.js";
import * as rail from "./rail.js";
import * as sheet from "./sheet.js";
import { language, say } from "../texts.js";

const $ = (id) => document.getElementById(id);
const field = $("find");
const TYPING = 250; // milliseconds

let job = null;
let texts = null; // promise of the text of all pages, created by the first search
let known = new Map(); // text by page, of a document that is still being processed
let where = () => ({ page: 1, states: [] });
let turn = () => {};
let wanted = null;
let hits = []; // {page, index}: index among the matches of the page
let at = -1;
let typing = 0;
let asked = 0;
let sought = "";

export function start(place, onTurn) {
  where = place;
  turn = onTurn;
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(find, TYPING);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      go(-1);
    }
    if (event.key !== "Escape" || !field.value) return;
    event.preventDefault(); // a second Escape closes the viewer
    event.stopPropagation();
    field.value = "";
    find();
  });
  $("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go(1);
  });
  $("find-previous").addEventListener("click", () => go(-1));
}

// Starts with another document, or with the same one if it may contain more text.
export function begin(document) {
  if (job?.id !== document.id) field.value = "";
  job = document;
  texts = null;
  known = new Map();
  find(false);
}

// Stops a search that is still running.
export function end() {
  clearTimeout(typing);
  asked += 1;
  job = null;
}

// Searches. With `lead`, shows the next match, even if it is on another page.
async function find(lead = true) {
  clearTimeout(typing);
  const question = ++asked;
  sought = field.value;
  wanted = finding.pattern(field.value);
  hits = [];
  at = -1;
  if (wanted) {
    $("found").textContent = say("viewer.searching");
    const of = job;
    texts ??= finding.texts(of, where().states, () => job === of, known);
    const pages = await texts.catch(() => []);
    if (question !== asked) return;
    if (isActive(job) || !pages.length) texts = null; // the next search may find more
    hits = pages.flatMap((content, page) => finding.passages(content, wanted).map((_, index) => ({ page: page + 1, index })));
  }
  rail.mark(new Set(hits.map((hit) => hit.page)));
  $("find-next").disabled = $("find-previous").disabled = !hits.length;
  const { page } = where();
  const next = hits.findIndex((hit) => hit.page >= page);
  if (hits.length && (lead || hits[next]?.page === page)) return show(Math.max(0, next));
  at = next;
  tell();
  showOn(page);
}

async function go(step) {
  if (field.value !== sought) return find(); // Enter before the delay has ended
  if (hits.length) await show((at + step + hits.length) % hits.length);
}

async function show(which) {
  at = which;
  tell();
  if (hits[at].page === where().page) showOn(hits[at].page);
  else await turn(hits[at].page); // calls showOn when the page is loaded
}

function tell() {
  const [number, total] = [at + 1, hits.length].map((count) => count.toLocaleString(language));
  const nothing = wanted ? say("viewer.no_hits") : "";
  $("found").textContent = hits.length ? say("viewer.hit", { number, total }) : nothing;
}

// Highlights the matches on the current page.
export function showOn(page) {
  const passages = wanted ? finding.passages(sheet.contents(), wanted) : [];
  const meant = hits[at]?.page === page ? Math.min(hits[at].index, passages.length - 1) : -1;
  sheet.mark(passages, meant);
}
