// Texts about a job: size, duration, state, errors.

import { count, language, problem, say } from "./texts.js";

const sentence = (text) => text.replace(/[.!?]?$/, ".");

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  const digits = bytes < 10 && unit ? 1 : 0;
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `${bytes.toLocaleString(language, format)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds < 60) return count("unit.seconds", Math.max(1, Math.round(seconds)));
  if (seconds < 3600) return count("unit.minutes", Math.round(seconds / 60));
  return count("unit.hours", Math.round(seconds / 360) / 10);
}

export function facts(job) {
  const pages = count("unit.pages", job.input.pages);
  return [pages, size(job.input.bytes), job.options.languages.join(" + ")].join(" · ");
}

// The message of an error {code, message, advice}.
export const reason = ({ code, message, advice }) =>
  problem(code, [sentence(message), advice].filter(Boolean).join(" "));

// Why a page failed, without a final period.
export const pageReason = ({ code, message }) => problem(code, message).replace(/\.$/, "");

export const left = (seconds) => say("state.left", { time: duration(seconds) });

export function state(job) {
  const { pages_done: done, pages_total: total, eta_seconds: seconds } = job.progress;
  if (job.state === "queued") {
    const ahead = (job.queue_position || 1) - 1;
    return ahead ? say("state.ahead", { n: ahead.toLocaleString(language) }) : say("state.next");
  }
  if (job.state === "running") {
    const parts = [say(`stage.${job.stage}`)];
    if (job.stage === "ocr") parts.push(say("state.page", { page: Math.min(done + 1, total), total }));
    if (seconds) parts.push(left(seconds));
    return parts.join(" · ");
  }
  if (job.state === "cancelled") return say("state.cancelled");
  if (job.state === "failed") return reason(job.error);
  const time = job.seconds.total;
  const all = time ? say("state.done_in", { time: duration(time) }) : say("state.done");
  const bad = job.failed_pages.length;
  if (!bad) return all;
  const pages = job.failed_pages.map((row) => row.page).slice(0, 20).join(", ");
  return count("state.but", bad, { done: all, pages, reason: pageReason(job.failed_pages[0]) });
}
