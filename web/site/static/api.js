// Talking to the server. Every refusal becomes a Problem with words for a person.

import { say } from "./texts.js";
import { reason } from "./words.js";

export class Problem extends Error {
  constructor(status, body) {
    const message = body.detail || body.title || say("server.answered", { status });
    super(reason({ code: body.code, message, advice: body.advice }));
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
    throw new Offline(say("server.offline"));
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

export function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}
