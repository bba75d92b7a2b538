// Searching a document: in the text of all its pages, which is fetched once.

import { text } from "../api.js";

const MARKS = /[.*+?^${}()|[\]\\/]/g;
// What a keyboard has, and what printers use instead.
const ALIKE = { "'": "['’‘ʼ`]", '"': '["“”„«»‟]', "-": "[-‐‑–—]" };
const HYPHEN = "(?:[-‐¬⸗]\\n)?"; // a word may be divided at the end of a line

// What finds the words of a query, in upper and lower case, over line ends; null for an empty one.
export function pattern(query) {
  const parts = query.normalize("NFC").trim().split(/\s+/).filter(Boolean);
  if (!parts.length) return null;
  const letters = (part) => [...part].map((letter) => ALIKE[letter] ?? letter.replace(MARKS, "\\$&"));
  return new RegExp(parts.map((part) => letters(part).join(HYPHEN)).join("\\s+"), "giu");
}

// The passages of a text that a pattern finds, each [start, end].
export const passages = (content, wanted) =>
  [...content.matchAll(wanted)].map((found) => [found.index, found.index + found[0].length]);

// The text of each page. A finished document has it in one file, with a form feed between pages;
// else pages are fetched one after another, those that are there and not `known` yet, as long as
// `goOn` says so.
export async function texts(job, states, goOn, known = new Map()) {
  if (job.artifacts.some((artifact) => artifact.name === "text")) {
    return (await text(`${job.links.self}/text`)).split("\f");
  }
  for (const { page, state } of states) {
    if (!goOn()) break;
    if (known.has(page) || !["done", "kept"].includes(state)) continue;
    known.set(page, await text(`${job.links.self}/pages/${page}/text`).catch(() => ""));
  }
  return states.map(({ page }) => known.get(page) ?? "");
}
