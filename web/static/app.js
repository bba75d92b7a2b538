// Puts the parts of the page together.

import { Offline, upload } from "./api.js";
import * as jobs from "./jobs.js";
import * as list from "./list.js";
import * as options from "./options.js";
import * as session from "./session.js";
import * as viewer from "./viewer.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

// For those who cannot see the list change.
const say = (text) => {
  $("status").textContent = text;
};

function send(files) {
  const chosen = [...files];
  if (!chosen.length || !session.may("submit")) return;
  const groups = options.combine() ? [chosen] : chosen.map((file) => [file]);
  groups.forEach(sendOne);
}

// One after another, two at a time: a hundred at once would leave no connection for the rest.
const MOST_UPLOADS = 2;
const waiting = [];
let uploading = 0;

function whenFree(begin) {
  waiting.push(begin);
  beginNext();
}

function beginNext() {
  while (uploading < MOST_UPLOADS && waiting.length) {
    uploading += 1;
    waiting.shift()().finally(() => {
      uploading -= 1;
      beginNext();
    });
  }
}

function sendOne(files) {
  const name = files.length > 1 ? `${files[0].name} and ${words.count(files.length - 1, "more file")}` : files[0].name;
  const row = list.row(name);
  list.addFirst(row.item);
  $("empty").hidden = true;
  const empty = files.find((file) => file.size === 0);
  if (empty) {
    refuse(row, name, `${empty.name} is empty. Check that it was written completely.`, null);
    return;
  }
  row.facts.textContent = words.size(files.reduce((sum, file) => sum + file.size, 0));
  row.said.textContent = "Waiting to be uploaded";
  const fields = options.fields(); // as chosen now, not when its turn comes
  let dropped = false;
  let abort = () => {
    dropped = true;
    row.item.remove();
  };
  row.actions.append(list.button("Cancel", name, () => abort()));
  whenFree(() => (dropped ? Promise.resolve() : transfer(files, fields, row, name, (stop) => (abort = stop))));
}

function transfer(files, fields, row, name, onAbort) {
  const sending = upload(files, fields, (part) => {
    row.setPercent(part * 100);
    row.said.textContent = `Uploading, ${Math.floor(part * 100)} %`;
    if (part < 1) return;
    // From here on the server makes a job of it, which has a Cancel of its own.
    row.said.textContent = "Uploaded, looking into it";
    row.actions.replaceChildren();
  });
  onAbort(sending.abort);
  return sending.done.then(
    (job) => {
      row.item.remove();
      jobs.put(job);
      say(`${name} was sent and waits to be read.`);
    },
    (error) => {
      if (error.name === "AbortError") row.item.remove();
      else refuse(row, name, error.message, error instanceof Offline || error.status >= 500 ? files : null);
    },
  );
}

function refuse(row, name, reason, again) {
  row.item.className = "job failed";
  row.bar.hidden = true;
  row.said.textContent = reason;
  say(`${name}: ${reason}`);
  const dismiss = list.button("Dismiss", name, () => row.item.remove());
  const retry = () => {
    row.item.remove();
    sendOne(again);
  };
  row.actions.replaceChildren(...(again ? [list.button("Send again", name, retry)] : []), dismiss);
}

async function act(what, id) {
  $("notice").hidden = true;
  try {
    if (what === "read") await viewer.open(id);
    else await jobs[what](id);
  } catch (error) {
    $("notice").textContent = error.message;
    $("notice").hidden = false;
  }
}

function showTitle() {
  const active = jobs.all().filter(jobs.isActive);
  const running = active.find((job) => job.state === "running");
  const percent = running ? `${Math.round(running.progress.percent)} % ` : "";
  document.title = active.length ? `${percent}(${active.length}) OCR Tasks` : "OCR Tasks";
}

function onChange({ changed, before, removed, online, listed }) {
  if (changed) {
    list.show(changed, act);
    if (before && before.state !== changed.state) say(`${changed.input.name}: ${words.state(changed)}`);
  }
  if (removed) list.remove(removed);
  if (online !== undefined) {
    $("connection").hidden = online;
  }
  if (listed || removed) {
    $("empty").hidden = $("jobs").children.length > 0;
    $("older").hidden = !jobs.hasOlder();
  }
  showTitle();
}

function acceptDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const curtain = $("curtain");
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = true;
    send(event.dataTransfer.files);
  });
  window.addEventListener("paste", (event) => send(event.clipboardData.files));
}

// Until the server has told them there is nothing to choose from.
async function startOptions() {
  try {
    await options.start();
  } catch {
    setTimeout(startOptions, 3000);
  }
}

function openFromAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("job");
  if (id) act("read", id);
}

$("files").addEventListener("change", (event) => {
  send(event.target.files);
  event.target.value = ""; // the same file can be chosen again
});
$("send").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", openFromAddress);
$("older").addEventListener("click", () => jobs.older().catch((error) => say(error.message)));
acceptDrops();
jobs.listen(onChange);
viewer.start();
const showForm = () => {
  $("send").hidden = !session.may("submit");
};
await session.start("read", showForm).catch(() => null); // who cannot be reached is said by the list
await jobs.start();
await startOptions();
openFromAddress();
