// Optional notifications when a document is done while the page is in the background.

import * as jobs from "./jobs.js";
import * as batches from "./batches.js";
import { say } from "./texts.js";

const KEY = "ocr-tasks.notify";
const button = document.getElementById("notify");
// Notifications require a secure context. Some mobile browsers still refuse to create them.
const possible = () => window.isSecureContext && "Notification" in window && Notification.permission !== "denied";

let wanted = false;

export function start() {
  try {
    wanted = localStorage.getItem(KEY) === "yes" && Notification.permission === "granted";
  } catch {
    // storage is disabled: the user has to enable notifications again
  }
  button.addEventListener("click", toggle);
}

async function toggle() {
  wanted = !wanted && (await Notification.requestPermission()) === "granted";
  try {
    localStorage.setItem(KEY, wanted ? "yes" : "");
  } catch {
    // storage is disabled: the choice lasts until the page is closed
  }
  show();
}

// Shows the button only while jobs are active.
export function show() {
  button.hidden = !possible() || !jobs.all().some(jobs.isActive);
  button.setAttribute("aria-pressed", String(wanted));
}

// Notifies that a job has ended; for a batch, only when its last job has ended.
export function ended(job, view) {
  const batch = batches.of(job.id);
  if (!wanted || !document.hidden || job.state === "cancelled" || (batch && !batches.isDone(batch))) return;
  const name = batch ? batches.nameOf(batch) : job.input.name;
  const text = say(batch || job.state === "succeeded" ? "notify.done" : "notify.failed", { name });
  try {
    const notice = new Notification(text, { tag: job.id, icon: "/static/icon-192.png" });
    notice.addEventListener("click", () => {
      window.focus();
      notice.close();
      if (!batch && job.state === "succeeded") view(job.id);
    });
  } catch {
    button.hidden = true;
  }
}
