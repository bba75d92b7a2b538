// Telling that a document is done while nobody looks, if that is wanted.

import * as jobs from "./jobs.js";
import * as batches from "./batches.js";
import { say } from "./texts.js";

const KEY = "ocr-tasks.notify";
const button = document.getElementById("notify");
// Browsers have it on secure pages only; those of some phones then refuse to make one.
const possible = () => window.isSecureContext && "Notification" in window && Notification.permission !== "denied";

let wanted = false;

export function start() {
  try {
    wanted = localStorage.getItem(KEY) === "yes" && Notification.permission === "granted";
  } catch {
    // then it is asked for again
  }
  button.addEventListener("click", toggle);
}

async function toggle() {
  wanted = !wanted && (await Notification.requestPermission()) === "granted";
  try {
    localStorage.setItem(KEY, wanted ? "yes" : "");
  } catch {
    // then it lasts as long as the page
  }
  show();
}

// There is something to wait for, or not.
export function show() {
  button.hidden = !possible() || !jobs.all().some(jobs.isActive);
  button.setAttribute("aria-pressed", String(wanted));
}

// A job has ended; of a batch only its last one is told.
export function ended(job, read) {
  const batch = batches.of(job.id);
  if (!wanted || !document.hidden || job.state === "cancelled" || (batch && !batches.isDone(batch))) return;
  const name = batch ? batches.nameOf(batch) : job.input.name;
  const text = say(batch || job.state === "succeeded" ? "notify.done" : "notify.failed", { name });
  try {
    const notice = new Notification(text, { tag: job.id, icon: "/static/icon-192.png" });
    notice.addEventListener("click", () => {
      window.focus();
      notice.close();
      if (!batch && job.state === "succeeded") read(job.id);
    });
  } catch {
    button.hidden = true;
  }
}
