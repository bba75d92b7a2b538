// The search field of the viewer: finds words on all pages, and leads from one hit to the next.

import { isActive } from "../jobs.js";
import * as finding from "./finding.js";
import * as rail from "./rail.js";
import * as sheet from "./sheet.js";
import { language, say } from "../texts.js";

const $ = (id) => document.getElementById(id);
const field = $("find");
const TYPING = 250; // milliseconds

let job = null;
let texts = null; // of all pages, as a promise; asked for by the first search
let known = new Map(); // those of a document that is still being read
let where = () => ({ page: 1, states: [] });
let turn = () => {};
let wanted = null;
let hits = []; // {page, index}: where it is on its page
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
    event.preventDefault(); // the second one closes the viewer
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

// Another document, or the same one when there may be more to find.
export function begin(document) {
  if (job?.id !== document.id) field.value = "";
  job = document;
  texts = null;
  known = new Map();
  find(false);
}

// Nobody waits for an answer any more.
export function end() {
  clearTimeout(typing);
  asked += 1;
  job = null;
}

// Leads to the next hit, unless somebody is reading.
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
    if (isActive(job) || !pages.length) texts = null; // there is more the next time
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
  if (field.value !== sought) return find(); // faster than the typing was waited for
  if (hits.length) await show((at + step + hits.length) % hits.length);
}

async function show(which) {
  at = which;
  tell();
  if (hits[at].page === where().page) showOn(hits[at].page);
  else await turn(hits[at].page); // calls showOn when it is there
}

function tell() {
  const [number, total] = [at + 1, hits.length].map((count) => count.toLocaleString(language));
  const nothing = wanted ? say("viewer.no_hits") : "";
  $("found").textContent = hits.length ? say("viewer.hit", { number, total }) : nothing;
}

// Marks the hits of a page that is shown now.
export function showOn(page) {
  const passages = wanted ? finding.passages(sheet.contents(), wanted) : [];
  const meant = hits[at]?.page === page ? Math.min(hits[at].index, passages.length - 1) : -1;
  sheet.mark(passages, meant);
}
