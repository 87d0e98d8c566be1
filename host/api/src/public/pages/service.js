// Shared by the scripts of the page: elements, notices, and requests to the service with the API key.
// Ids, file names and messages become text nodes, never markup.

const REQUEST_TIMEOUT_MS = 30_000;
// Slowest upload that the service accepts, in bytes per second, and the longest one.
const SLOWEST_UPLOAD = 64 * 1024;
const LONGEST_UPLOAD_MS = 600_000;
const STORED_KEY = "rostro-api-key";

export const at = (id) => document.getElementById(id);

/** Creates an element; strings among the children become text nodes. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

/** Replaces the text of an element. Keeps an equal one, so that a screen reader does not repeat it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a notice; an empty text hides it. */
export function say(notice, text, tone = "bad") {
  notice.className = `notice ${tone}`;
  setText(notice, text);
}

// --- the API key ---

/** Returns the storage of this tab, or null if the browser blocks it. */
function tabStorage() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

const key = at("key");
key.value = tabStorage()?.getItem(STORED_KEY) ?? "";
key.addEventListener("input", () => {
  const text = key.value.trim();
  if (text) tabStorage()?.setItem(STORED_KEY, text);
  else tabStorage()?.removeItem(STORED_KEY);
});
at("key-form").addEventListener("submit", (event) => event.preventDefault());

/** Calls `react` when the user has entered another key. */
export function onKeyChange(react) {
  key.addEventListener("change", react);
}

/** Returns the header with the API key, if there is one, or throws a `Refusal`. */
function authorization() {
  const text = key.value.trim();
  if (!/^[\x20-\x7e]*$/.test(text)) throw new Refusal("The API key has characters that no key has: copy it again");
  return text ? { authorization: `Bearer ${text}` } : {};
}

// --- requests ---

/** Error with a message for people. `status` and `body` are the service's, if it answered. */
export class Refusal extends Error {
  constructor(message, { status = 0, body = {}, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

/** Sends a request with the API key. Returns a successful response, or throws a `Refusal`. */
export async function request(path, { headers = {}, signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS), ...options } = {}) {
  const sent = { ...options, signal, headers: { ...headers, ...authorization() } };
  const response = await fetch(path, sent).catch((cause) => {
    throw new Refusal(cause.name === "TimeoutError" ? "The service does not answer" : "The service cannot be reached; check that it is running");
  });
  if (response.ok) return response;
  const { status } = response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(told(status, body), { status, body, retryAfter: Number(response.headers.get("retry-after")) || 0 });
}

/** Sends JSON, if there is any. Returns the JSON of the answer, or throws a `Refusal`. */
export async function requestJson(method, path, body) {
  const options = body === undefined ? { method } : { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await request(path, options);
  return readJson(response);
}

/** Posts a form. Returns the answer and the round trip in milliseconds, or throws a `Refusal`. */
export async function post(path, form) {
  const begun = performance.now();
  const bytes = [...form.values()].reduce((sum, { size = 0 }) => sum + size, 0);
  const timeout = REQUEST_TIMEOUT_MS + Math.min((1000 * bytes) / SLOWEST_UPLOAD, LONGEST_UPLOAD_MS);
  const response = await request(path, { method: "POST", body: form, signal: AbortSignal.timeout(timeout) });
  const body = await readJson(response);
  return { body, roundTrip: performance.now() - begun };
}

function readJson(response) {
  return response.json().catch(() => { throw new Refusal("The answer of the service was cut off"); });
}

/** Returns the error of an answer with its cause: "Could not decode image. This is a HEIC photo; …." */
function told(status, { error, details }) {
  if (status === 401) return key.value.trim() ? "The service does not know this API key" : "The service needs an API key: enter it in the field “API key”";
  const cause = details?.cause;
  const text = error && cause ? `${error} ${cause[0].toUpperCase()}${cause.slice(1).replace(/\.$/, "")}.` : error;
  return text ?? `The service answered with status ${status}`;
}
