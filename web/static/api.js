// Talking to the server. Every refusal becomes a Problem with words for a person.

export class Problem extends Error {
  constructor(status, body) {
    const happened = body.detail || body.title || `The server answered ${status}`;
    super([happened.replace(/[.!?]?$/, "."), body.advice].filter(Boolean).join(" "));
    this.status = status;
    this.code = body.code || "unknown";
  }
}

// The server cannot be reached; it may be back soon.
export class Offline extends Error {}

// Called when the server wants to know who asks; what was asked is asked again afterwards.
let signIn = null;
export const whenRefused = (callback) => {
  signIn = callback;
};
export const mustSignIn = (status) => status === 401 && signIn !== null;
export const signInAgain = () => signIn();

export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Offline("The server cannot be reached.");
  }
  if (answer.ok) return answer;
  if (mustSignIn(answer.status)) {
    await signIn();
    return ask(address, options);
  }
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

export const json = async (address, options) => (await ask(address, options)).json();
export const text = async (address) => (await ask(address)).text();

// Sends files as one job, large ones so that the upload goes on after the line broke.
export function upload(files, fields, onProgress) {
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const from = Number(document.body.dataset.resumableFrom);
  return (from && bytes >= from ? uploadInPieces : uploadWhole)(files, fields, onProgress);
}

function uploadInPieces(files, fields, onProgress) {
  const loading = import("./resumable.js").catch(() => {
    throw new Offline("The server cannot be reached.");
  });
  const sending = loading.then((module) => module.upload(files, fields, onProgress));
  return { done: sending.then((begun) => begun.done), abort: () => sending.then((begun) => begun.abort()) };
}

// XMLHttpRequest, because fetch does not tell how far an upload is.
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
        signIn().then(send);
        return;
      }
      const body = parse(request.responseText);
      if (request.status === 202) resolve(body);
      else reject(new Problem(request.status, body));
    };
    request.onerror = () => reject(new Offline("The connection broke during the upload. Send the file again."));
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
  });
  send();
  const abort = () => {
    dropped = true;
    request.abort();
  };
  return { done, abort };
}

export function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}
