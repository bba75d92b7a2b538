// One page: its image, with the recognized words as selectable text over it. Search matches and words
// with low confidence can be highlighted.

import { text } from "../api.js";
import { say } from "../texts.js";

const $ = (id) => document.getElementById(id);
const sheet = $("sheet");
const image = $("page-image");
const layer = $("page-words");
const plain = $("page-text");
const pen = document.createElement("canvas").getContext("2d");

const UNSURE = 0.75; // most words with a lower confidence are wrong
const PEN = 100; // font size in pixels for measuring

let words = []; // words of the current page: {text, box, sure, start, end, element}
let content = "";

export const contents = () => content;

export function clear() {
  image.removeAttribute("src");
  image.alt = "";
  layer.replaceChildren();
  words = [];
  content = "";
  plain.textContent = "";
}

// Shows a message instead of the text.
export function note(text) {
  plain.textContent = text;
}

export function showImage(address, page) {
  image.alt = say("viewer.image_of", { page });
  sheet.classList.remove("blank");
  image.src = address;
}

// Without an image, e.g. if the server stores none, the words themselves are visible.
image.addEventListener("error", () => {
  image.removeAttribute("src");
  sheet.classList.add("blank");
});

// Loads the hOCR of a page; returns its .ocr_page element.
export async function load(address) {
  const root = new DOMParser().parseFromString(await text(address), "application/xhtml+xml");
  return root.querySelector(".ocr_page");
}

export function showWords(page) {
  const [, , width, height] = boxOf(page);
  sheet.style.setProperty("--shape", `${width} / ${height}`);
  words = [];
  content = [...page.querySelectorAll(".ocr_par")].map((paragraph) => readParagraph(paragraph, words)).filter(Boolean).join("\n\n");
  let from = 0;
  for (const word of words) {
    word.start = content.indexOf(word.text, from);
    word.end = from = word.start + word.text.length;
  }
  layer.replaceChildren(...words.map((word) => draw(word, width, height)));
  plain.textContent = content || say("viewer.no_text");
}

const property = (element, name) =>
  element.getAttribute("title").split(";").find((part) => part.trim().startsWith(name))?.trim().split(" ").slice(1).map(Number);
const boxOf = (element) => property(element, "bbox");

function readParagraph(paragraph, into) {
  const lines = [...paragraph.querySelectorAll(".ocr_line")].map((line) => {
    const found = [...line.querySelectorAll(".ocrx_word")].filter((word) => word.textContent.trim());
    into.push(...found.map((word) => ({ text: word.textContent, box: boxOf(word), sure: property(word, "x_wconf")?.[0] / 100, line })));
    return found.map((word) => word.textContent).join(" ");
  });
  return lines.filter(Boolean).join("\n");
}

// Positions are fractions of the page, so nothing is measured again when its size changes. Letter
// spacing makes each word as wide as on the image.
function draw(word, width, height) {
  const [left, top, right, bottom] = word.box;
  const element = document.createElement("span");
  const tall = bottom - top;
  pen.font = `${PEN}px sans-serif`;
  const wide = (pen.measureText(word.text).width * tall) / PEN;
  element.textContent = word.text;
  element.dir = "auto";
  if (word.sure < UNSURE) {
    element.className = "unsure";
    element.title = `${word.text} · ${say("viewer.sure", { percent: Math.round(word.sure * 100) })}`;
  }
  const share = (part, whole) => `${(part / whole) * 100}%`;
  Object.assign(element.style, {
    left: share(left, width),
    top: share(top, height),
    width: share(right - left, width),
    height: share(tall, height),
    fontSize: `${(tall / width) * 100}cqw`,
    letterSpacing: `${((right - left - wide) / [...word.text].length / width) * 100}cqw`,
  });
  word.element = element;
  return element;
}

// Highlights passages, each [start, end] in the page's text; scrolls to the one with index `meant`.
export function mark(passages, meant) {
  for (const { element } of words) element.classList.remove("hit", "now");
  const ranges = [];
  passages.forEach(([start, end], index) => {
    const found = words.filter((word) => word.start < end && word.end > start);
    for (const { element } of found) element.classList.add("hit", ...(index === meant ? ["now"] : []));
    if (index === meant) found[0]?.element.scrollIntoView({ block: "center", inline: "nearest" });
    if (plain.textContent !== content) return; // a message is shown instead of the text
    const range = new Range();
    range.setStart(plain.firstChild, start);
    range.setEnd(plain.firstChild, end);
    ranges.push(range);
  });
  if (window.Highlight) CSS.highlights.set("hit", new Highlight(...ranges));
}

// Text that is copied from the image gets the spaces and line breaks of the page's text.
layer.addEventListener("copy", (event) => {
  const range = getSelection().getRangeAt(0);
  let last = null;
  let copied = "";
  for (const word of words.filter(({ element }) => range.intersectsNode(element))) {
    const node = word.element.firstChild;
    const from = range.startContainer === node ? range.startOffset : 0;
    const to = range.endContainer === node ? range.endOffset : word.text.length;
    if (from === to) continue;
    if (last) copied += content.slice(last.end, word.start);
    copied += word.text.slice(from, to);
    last = word;
  }
  event.clipboardData.setData("text/plain", copied);
  event.preventDefault();
});
