// What the page says, in plain words.

const STAGES = {
  queued: "Waiting",
  scanning: "Looking at the pages",
  ocr: "Reading",
  assembling: "Putting the PDF together",
  optimizing: "Making it smaller",
  storing: "Checking and saving",
};

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 60) return count(Math.max(1, Math.round(seconds)), "second");
  if (seconds < 3600) return count(Math.round(seconds / 60), "minute");
  return count(Math.round(seconds / 360) / 10, "hour");
}

export function facts(job) {
  return [count(job.input.pages, "page"), size(job.input.bytes), job.options.languages.join(" + ")].join(" · ");
}

export function state(job) {
  const { pages_done: done, pages_total: total, eta_seconds: left } = job.progress;
  if (job.state === "queued") {
    const ahead = (job.queue_position || 1) - 1;
    return ahead ? `Waiting, ${ahead} ahead` : "Waiting, next in line";
  }
  if (job.state === "running") {
    const parts = [STAGES[job.stage] || "Working"];
    if (job.stage === "ocr") parts.push(`page ${Math.min(done + 1, total)} of ${total}`);
    if (left) parts.push(`about ${duration(left)} left`);
    return parts.join(" · ");
  }
  if (job.state === "cancelled") return "Cancelled";
  if (job.state === "failed") return [job.error.message.replace(/[.!?]?$/, "."), job.error.advice].join(" ");
  const bad = job.failed_pages.length;
  const time = job.seconds.total ? ` in ${duration(job.seconds.total)}` : "";
  if (!bad) return `Done${time}`;
  const which = job.failed_pages.map((row) => row.page).slice(0, 20).join(", ");
  const why = job.failed_pages[0].message;
  return `Done${time}, but ${count(bad, "page")} could not be read and keep their image: ${which} (${why}).`;
}
