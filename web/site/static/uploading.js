// Uploads files as one job.

import { mustSignIn, Offline, parse, Problem, signInAgain } from "./api.js";
import { say } from "./texts.js";

// Uploads files; large ones with resumable uploads. Returns { done, abort }.
export function upload(files, fields, onProgress) {
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const from = Number(document.body.dataset.resumableFrom);
  return (from && bytes >= from ? uploadResumable : uploadWhole)(files, fields, onProgress);
}

function uploadResumable(files, fields, onProgress) {
  const loading = import("./resumable.js").catch(() => {
    throw new Offline(say("server.offline"));
  });
  const sending = loading.then((module) => module.upload(files, fields, onProgress));
  return { done: sending.then((begun) => begun.done), abort: () => sending.then((begun) => begun.abort()) };
}

// XMLHttpRequest, because fetch does not report upload progress.
function uploadWhole(files, fields, onProgress) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  for (const file of files) form.append("file", file, file.name);
  let dropped = false;
  const send = () => {
    if (dropped) return;
    request.open("POST", "/v1/jobs");
    request.send(form);
  };
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (mustSignIn(request.status)) {
        signInAgain().then(send);
        return;
      }
      const body = parse(request.responseText);
      if (request.status === 202) resolve(body);
      else reject(new Problem(request.status, body));
    };
    request.onerror = () => reject(new Offline(say("send.broken")));
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
  });
  send();
  const abort = () => {
    dropped = true;
    request.abort();
  };
  return { done, abort };
}
