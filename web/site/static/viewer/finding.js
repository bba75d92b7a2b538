// Search in the text of all pages of a document, which is fetched once.

import { text } from "../api.js";

const MARKS = /[.*+?^${}()|[\]\\/]/g;
// Characters on a keyboard, and their typographic variants.
const ALIKE = { "'": "['’‘ʼ`]", '"': '["“”„«»‟]', "-": "[-‐‑–—]" };
const HYPHEN = "(?:[-‐¬⸗]\\n)?"; // a word may be divided at the end of a line

// Returns a regular expression for the words of a query, or null if it is empty. It ignores case and
// matches across line breaks.
export function pattern(query) {
  const parts = query.normalize("NFC").trim().split(/\s+/).filter(Boolean);
  if (!parts.length) return null;
  const letters = (part) => [...part].map((letter) => ALIKE[letter] ?? letter.replace(MARKS, "\\$&"));
  return new RegExp(parts.map((part) => letters(part).join(HYPHEN)).join("\\s+"), "giu");
}

// Returns the matches of a pattern in a text, each [start, end].
export const passages = (content, wanted) =>
  [...content.matchAll(wanted)].map((found) => [found.index, found.index + found[0].length]);

// Returns the text of each page. A finished document has one text file, with form feeds between pages.
// Otherwise, finished pages that are not in `known` are fetched one by one while `goOn` returns true.
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
