// The section "Session" of the page: creates or opens a session, and shows who is present while frames
// arrive.

import { isFinal, keepConnected, readEvents } from "./events.js";
import { at, make, onKeyChange, request, requestJson, say, setText } from "./service.js";

const SHOWN_EVENTS = 50;
const REFRESH_MS = 3000;
const LISTS = ["present", "uncertain", "absent"];

const panel = at("session");
const notice = at("session-notice");
const camera = at("session-camera");

let live = null; // Shown session.

const sessionPath = (id) => `v1/sessions/${encodeURIComponent(id)}`;

/** Returns the path that the camera's frames are sent to. */
export function framePath() {
  return live && camera.checked ? `${sessionPath(live.id)}/frames` : "process_frame";
}

// --- opening and closing ---

/** Shows a session until `closeSession`. `summary` is its state, if it is known. */
function openSession(id, summary) {
  const sendsCamera = live?.id === id && camera.checked;
  closeSession();
  const session = { id, path: sessionPath(id), stop: new AbortController(), rows: new Map(), after: null, isOpen: true, reading: null };
  live = session;
  history.replaceState(null, "", `#${new URLSearchParams({ session: id })}`);
  panel.open = true;
  at("session-start").hidden = true;
  at("session-live").hidden = false;
  at("session-id").textContent = id;
  camera.disabled = false;
  camera.checked = sendsCamera;
  if (summary) showSession(session, summary);
  else setText(at("session-state"), "opening…");
  watch(session);
}

function closeSession() {
  say(notice, "");
  if (!live) return;
  live.stop.abort();
  live = null;
  history.replaceState(null, "", location.pathname + location.search);
  camera.checked = false;
  at("session-start").hidden = false;
  at("session-live").hidden = true;
  at("session-people").hidden = true;
  setText(at("session-state"), "");
  for (const id of ["session-facts", "session-id", "session-summary", "session-events", ...LISTS]) at(id).replaceChildren();
}

/** Opens the session of the address, `#session=ID`. */
function openAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("session");
  if (!id || id === live?.id) return;
  openSession(id);
  panel.scrollIntoView();
}

/** Reads the session until it is closed. Every connection begins with the whole attendance. */
async function watch(session) {
  const { signal } = session.stop;
  const timer = setInterval(() => { if (session.isOpen && !document.hidden) refresh(session); }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  try {
    await keepConnected(async (connected) => {
      await readAttendance(session);
      const options = { headers: { "last-event-id": `${session.id}-${session.after}` }, signal };
      if (session.after === 0) delete options.headers["last-event-id"];
      const alive = () => {
        connected();
        showState(session, session.isOpen ? "live" : "ended");
        say(notice, "");
      };
      await readEvents(`${session.path}/events`, { ...options, alive, receive: (event) => receive(session, event) });
    }, { signal, lost: () => showState(session, "connecting again…") });
  } catch (refusal) {
    refuse(session, refusal);
  }
}

/** Stops reading after a refusal. The session stays open for its other operations, if it exists. */
function refuse(session, refusal) {
  if (session !== live) return;
  session.stop.abort();
  if (refusal.status === 404) closeSession();
  else showState(session, "not readable");
  say(notice, refusal.message);
}

/** Reads a refused session again after the user has entered another key. */
onKeyChange(() => {
  if (live?.stop.signal.aborted) openSession(live.id);
});

// --- the attendance ---

/** Reads the attendance now, and once more if it is called meanwhile. */
function readAttendance(session) {
  session.isStale = true;
  session.reading ??= readUntilFresh(session);
  return session.reading;
}

async function readUntilFresh(session) {
  try {
    while (session.isStale) {
      session.isStale = false;
      const view = await requestJson("GET", session.path);
      session.after ??= Math.max(0, view.last_event - SHOWN_EVENTS);
      session.known ??= view.last_event;
      showSession(session, view);
    }
  } finally {
    session.reading = null;
  }
}

/** Reads the attendance. The event stream reports a lost connection. */
function refresh(session) {
  if (session.stop.signal.aborted) return;
  readAttendance(session).catch((refusal) => { if (isFinal(refusal)) refuse(session, refusal); });
}

/** Shows a session; a summary has no people. */
function showSession(session, view) {
  if (session !== live) return;
  session.stream = view.stream;
  session.rule = view.rule;
  session.isOpen = !view.ended;
  if (view.ended) showState(session, "ended");
  const facts = [view.group ? `group ${view.group}` : "all people", ruleText(view.rule), `since ${clock(view.created)}`];
  if (view.ended) facts.push(`ended ${clock(view.ended)}`);
  setText(at("session-facts"), facts.join(" · "));
  at("session-end").hidden = Boolean(view.ended);
  camera.disabled = Boolean(view.ended);
  if (view.ended) camera.checked = false;
  if (view.present) showPeople(session, view);
}

function showState(session, state) {
  if (session === live) setText(at("session-state"), [session.stream, state].filter(Boolean).join(" · "));
}

function ruleText({ seen, within_s: within, late_after: lateAfter }) {
  const rule = `${seen} ${seen === 1 ? "frame" : `frames within ${within} s`}`;
  return lateAfter ? `${rule}, late after ${clock(lateAfter)}` : rule;
}

/** Formats a time of RFC 3339 for people here: the time of today, or else with the date. */
function clock(text) {
  const time = new Date(text);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? time.toLocaleTimeString() : time.toLocaleString();
}

/** Shows people in their lists. Keeps the rows, so that the focus and an open selection stay. */
function showPeople(session, view) {
  at("session-people").hidden = false;
  const focused = document.activeElement;
  const gone = new Set(session.rows.keys());
  const late = view.present.filter(({ status }) => status === "late").length;
  for (const name of LISTS) {
    view[name].forEach((attendance, n) => {
      gone.delete(attendance.id);
      const row = session.rows.get(attendance.id) ?? addRow(session, attendance.id);
      fillRow(row, attendance, session.rule);
      if (at(name).children[n] !== row.item) at(name).insertBefore(row.item, at(name).children[n] ?? null);
    });
    setText(at(`${name}-count`), name === "present" && late ? `${view[name].length}, ${late} late` : String(view[name].length));
  }
  for (const id of gone) {
    session.rows.get(id).item.remove();
    session.rows.delete(id);
  }
  if (focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  const present = late ? `${view.present.length} present, of them ${late} late` : `${view.present.length} present`;
  setText(at("session-summary"), `${present}; ${view.uncertain.length} uncertain; ${view.absent.length} absent`);
}

function addRow(session, id) {
  const choices = [["As counted", ""], ["Present", "present"], ["Late", "late"], ["Absent", "absent"]];
  const select = make("select", "");
  select.append(...choices.map(([text, value]) => new Option(text, value)));
  select.setAttribute("aria-label", `Attendance of ${id}`);
  const row = { name: make("b", "", id), facts: make("small", ""), select, pending: 0 };
  row.item = make("li", "attendee", row.name, select, row.facts);
  select.addEventListener("change", () => correct(session, id, row));
  session.rows.set(id, row);
  return row;
}

function fillRow(row, attendance, rule) {
  row.item.dataset.status = attendance.status;
  setText(row.facts, attendanceFacts(attendance, rule).join(" · "));
  const value = attendance.correction?.status ?? "";
  if (row.pending === 0 && row.select.value !== value) row.select.value = value;
}

const REASONS = {
  seen_too_rarely: ({ seen, within_s: within }) => `seen too rarely: ${seen} frames within ${within} s are needed`,
};

function attendanceFacts(attendance, rule) {
  const { status, times_seen: times, best_similarity: best, correction } = attendance;
  const reasons = (attendance.reasons ?? []).map((reason) => REASONS[reason]?.(rule) ?? reason.replaceAll("_", " "));
  const facts = status === "late" ? ["late"] : [];
  if (attendance.first_seen) facts.push(`first ${clock(attendance.first_seen)}`);
  if (attendance.last_seen) facts.push(`last ${clock(attendance.last_seen)}`);
  facts.push(times ? `seen ${times === 1 ? "once" : `${times} times`}` : "not seen");
  if (typeof best === "number") facts.push(`best ${best.toFixed(2)}`);
  if (correction) facts.push(`corrected${correction.by ? ` by ${correction.by}` : ""}`);
  // Lines break between facts only.
  return [...reasons, ...facts.map((fact) => fact.replaceAll(" ", "\u00a0"))];
}

/** Sends the correction of a person. Corrections are sent one after another. */
function correct(session, person, row) {
  const status = row.select.value || null;
  row.pending += 1;
  const send = async () => {
    try {
      await requestJson("PATCH", session.path, { person, status });
      say(notice, "");
    } catch (refusal) {
      say(notice, refusal.message);
    }
    row.pending -= 1;
    refresh(session);
  };
  session.corrections = (session.corrections ?? Promise.resolve()).then(send);
}

// --- events ---

const EVENT_TEXTS = {
  started: () => ["The session began"],
  arrived: ({ person, similarity }) => [make("b", "", person), " arrived", ...bestText(similarity)],
  late: ({ person, similarity }) => [make("b", "", person), " came late", ...bestText(similarity)],
  corrected: ({ person, status, by }) => [make("b", "", person), status ? ` corrected to ${status}` : " counts again", by ? ` by ${by}` : ""],
  policy: ({ code, person, message }) => [person ? make("b", "", person) : "", person ? ": " : "", message ?? code ?? "event of the policy"],
  person_removed: () => ["A person was deleted"],
  too_many_events: () => ["Too many events: counting continues without them"],
  ended: () => ["The session ended"],
};

const bestText = (similarity) => (typeof similarity === "number" ? [`, best ${similarity.toFixed(2)}`] : []);

/** Shows an event of the stream, and reads the attendance that it changed. */
function receive(session, { data }) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return; // Not an event of a session.
  }
  if (session !== live || !(event.number > session.after)) return; // Received before.
  session.after = event.number;
  const isNew = event.number > session.known;
  // The events of a deleted person go from the page, too.
  if (isNew && event.kind === "person_removed") return openSession(session.id);
  const text = EVENT_TEXTS[event.kind]?.(event) ?? [String(event.kind).replaceAll("_", " ")];
  const time = make("time", "", clock(event.at));
  time.dateTime = event.at;
  at("session-events").prepend(make("li", "", time, " ", make("span", "", ...text)));
  at("session-events").children[SHOWN_EVENTS]?.remove();
  if (isNew) refresh(session);
}

// --- operations ---

/** Runs an operation and shows its refusal. */
async function attempt(operation) {
  try {
    await operation();
  } catch (refusal) {
    say(notice, refusal.message);
  }
}

/** Returns the session that the form describes. */
function wantedSession() {
  const rule = { seen: Number(at("session-seen").value), within_s: Number(at("session-within").value) };
  const lateAfter = at("session-late").value;
  if (lateAfter) rule.late_after = new Date(lateAfter).toISOString();
  const group = at("session-group").value.trim();
  return { stream: at("session-stream").value.trim(), ...(group && { group }), rule };
}

/** Saves the attendance as a file. A link cannot send the API key. */
async function saveAttendance({ id, path }) {
  const response = await request(`${path}/attendance.csv`);
  const link = make("a", "");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `attendance-${id}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function endSession(session) {
  if (!window.confirm("End this session? It takes no more frames; its attendance stays and can be corrected.")) return;
  await requestJson("DELETE", session.path);
  showSession(session, await requestJson("GET", session.path));
}

at("session-create").addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  attempt(async () => {
    const created = await requestJson("POST", "v1/sessions", wantedSession());
    openSession(created.id, created);
  }).finally(() => button.removeAttribute("aria-busy"));
});
at("session-open").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("session-wanted").value.trim();
  if (id) openSession(id);
});
at("session-end").addEventListener("click", () => attempt(() => endSession(live)));
at("session-csv").addEventListener("click", () => attempt(() => saveAttendance(live)));
at("session-close").addEventListener("click", closeSession);
document.addEventListener("visibilitychange", () => { if (live && !document.hidden) refresh(live); });
window.addEventListener("hashchange", openAddress);
openAddress();
