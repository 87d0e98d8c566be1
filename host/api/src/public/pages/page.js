// The page at `/`: recognises people in front of a camera or in a photo, and enrols people. It calls
// the two endpoints of the replaced service, or sends the camera to a session.

import { at, make, post, Refusal, say } from "./service.js";
import { framePath } from "./session.js";

const JPEG_QUALITY = 0.9;
const CROWD = 12; // Number of faces above which labels are small.
const GOLDEN_ANGLE = 137.5; // Degrees between the hues of tracks, so that near numbers differ.

let waiting = 0; // Number of running or queued tasks. Frames of the camera are skipped meanwhile.
let last = Promise.resolve();

/** Runs tasks one after another, so that at most one request is in flight. */
function alone(task) {
  waiting += 1;
  const result = last.then(task).finally(() => { waiting -= 1; });
  last = result.catch(() => {});
  return result;
}

// --- the picture ---

const stage = at("stage");
const video = at("video");
const photo = at("photo");
let subject = null; // Shown camera stream or photo. An answer about an earlier one is discarded.

/** Switches the view to "empty", "camera" or "photo", without faces. */
function show(view, what) {
  subject = what;
  stage.dataset.view = view;
  forgetFaces();
  at("timing").hidden = true;
  say(at("notice"), "");
}

const shape = (width, height) => stage.style.setProperty("--ratio", width / height);
video.addEventListener("resize", () => { if (video.videoHeight) shape(video.videoWidth, video.videoHeight); });
photo.addEventListener("load", () => shape(photo.naturalWidth, photo.naturalHeight));
photo.addEventListener("error", () => { if (!isLive()) stage.dataset.view = "empty"; }); // The service reports the cause.

/** Sends an image and shows the answer, if the image is still shown. Never throws. */
async function recognize(image, name, about = subject, path = "process_frame") {
  const form = new FormData();
  form.append("image", image, name);
  try {
    const { body, roundTrip } = await post(path, form);
    if (about !== subject) return;
    showFaces(body.recognized_faces, body.frame);
    showTimings(body.timings_ms, roundTrip);
    showPipeline(body.pipeline);
    say(at("notice"), "");
  } catch (refusal) {
    if (about !== subject) return;
    forgetFaces();
    say(at("notice"), refusal.message);
    notBefore = performance.now() + 1000 * (refusal.retryAfter ?? 0);
  }
}

const isKnown = (face) => face.confidence !== "N/A";
const isTracked = (face) => typeof face.track === "number"; // Only in sessions.

/** Draws and lists the faces. Boxes use percent of the frame, so that they follow its displayed size. */
function showFaces(faces, frame) {
  const x = (pixels) => `${(100 * pixels) / frame.width}%`;
  const y = (pixels) => `${(100 * pixels) / frame.height}%`;
  const crowd = faces.length > CROWD;
  const drawn = faces.flatMap((face) => {
    const [x1, y1, x2, y2] = face.bbox;
    const name = make("span", "name", make("span", "", face.identity));
    if (isKnown(face)) name.append(make("span", "", face.confidence));
    const box = make("div", `face${isKnown(face) ? "" : " unknown"}`, name);
    if (isTracked(face)) {
      name.append(make("span", "", `#${face.track}`));
      box.classList.add("tracked");
      box.style.setProperty("--hue", (face.track * GOLDEN_ANGLE) % 360);
    }
    box.classList.toggle("at-top", y1 < (crowd ? 0.03 : 0.06) * frame.height);
    box.classList.toggle("at-right", x1 > 0.75 * frame.width);
    box.style.inset = `${y(y1)} ${x(frame.width - x2)} ${y(frame.height - y2)} ${x(x1)}`;
    const landmarks = face.landmarks.map((point) => {
      const dot = make("i", "landmark");
      [dot.style.left, dot.style.top] = [x(point[0]), y(point[1])];
      return dot;
    });
    return [box, ...landmarks];
  });
  at("faces").classList.toggle("crowd", crowd);
  at("faces").replaceChildren(...drawn);
  listFaces(faces);
}

function listFaces(faces) {
  at("people").replaceChildren(...faces.map((face) => {
    const nearest = face.candidates.map(({ identity, similarity }) => `${identity}\u00a0${similarity.toFixed(2)}`).join(", ");
    const facts = [`detected ${face.det_score.toFixed(2)}`];
    if (isTracked(face)) facts.push(`track ${face.track}`);
    if (nearest) facts.push(`nearest ${nearest}`);
    if (face.reason) facts.push(face.reason.replaceAll("_", " "));
    return make("li", `person${isKnown(face) ? "" : " unknown"}`,
      make("b", "", face.identity), make("span", "confidence", face.confidence), make("small", "", facts.join(" · ")));
  }));
  at("count").textContent = faces.length || "";
  const summary = faces.map((face) => face.identity).join(", ") || "No face was found";
  if (at("summary").textContent !== summary) at("summary").textContent = summary;
  at("nobody").textContent = faces.length ? "" : summary;
}

function forgetFaces() {
  for (const id of ["faces", "people", "count", "summary"]) at(id).replaceChildren();
  at("nobody").textContent = "Who is in the picture will be listed here";
}

function showTimings(timings, roundTrip) {
  const { total, ...stages } = timings;
  at("timing").hidden = false;
  at("round-trip").textContent = roundTrip.toFixed(0);
  at("server-total").textContent = total.toFixed(1);
  at("stages").replaceChildren(...Object.entries(stages).flatMap(([name, milliseconds]) => {
    const fill = make("i", "");
    fill.style.width = `${Math.min(100, (100 * milliseconds) / total)}%`;
    return [make("dt", "", name), make("div", "bar", fill), make("dd", "", `${milliseconds.toFixed(1)} ms`)];
  }));
}

function showPipeline({ name, version, digest }) {
  at("pipeline").textContent = `${name} ${version}`;
  at("pipeline").title = digest;
  at("pipeline").hidden = false;
}

at("landmarks").addEventListener("change", (event) => at("faces").classList.toggle("with-landmarks", event.target.checked));

// --- the camera ---

const isLive = () => stage.dataset.view === "camera";

const CAMERA_REFUSALS = {
  NotAllowedError: "The camera is blocked for this page; allow it in the browser's site settings and try again",
  NotFoundError: "No camera was found; connect one, or drop a photo on the picture instead",
  OverconstrainedError: "That camera is gone; choose another one",
  NotReadableError: "The camera is in use by another program; close that one and try again",
};

let opening = null; // Pending request, so that a second press does not open a second stream.

/** Opens the camera and shows it, or throws a `Refusal` with the remedy. */
function openCamera() {
  opening ??= startCamera().finally(() => { opening = null; });
  return opening;
}

async function startCamera() {
  if (!window.isSecureContext) throw new Refusal("Browsers open the camera only on https pages and on localhost; open this page at one of these");
  if (!navigator.mediaDevices?.getUserMedia) throw new Refusal("This browser gives pages no camera; drop a photo on the picture instead");
  const chosen = at("device").value;
  const which = chosen ? { deviceId: { exact: chosen } } : { facingMode: "user" };
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...which } }).catch((cause) => {
    throw new Refusal(CAMERA_REFUSALS[cause.name] ?? `The camera cannot be opened: ${cause.message}`);
  });
  closeCamera();
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    closeCamera();
    say(at("notice"), "The camera was disconnected");
  });
  video.srcObject = stream;
  await video.play();
  show("camera", stream);
  at("camera").textContent = "Stop camera";
  at("strip").hidden = true;
  [sent, skipped] = [0, 0];
  sendFrame();
  await listCameras(stream);
}

function closeCamera() {
  clearTimeout(timer);
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  at("camera").textContent = "Open camera";
  at("frames").hidden = true;
  if (isLive()) show("empty", null);
}

/** Lists the cameras if there are several. Browsers reveal their names only while one is open. */
async function listCameras(stream) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  at("device").replaceChildren(...cameras.map(({ deviceId, label }, n) => new Option(label || `Camera ${n + 1}`, deviceId)));
  at("device").value = stream.getVideoTracks()[0].getSettings().deviceId ?? "";
  at("device-field").hidden = cameras.length < 2;
}

/** Returns the current picture of the camera as a JPEG. */
function snapshot() {
  const canvas = make("canvas", "");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
}

let timer = 0;
let notBefore = 0; // Time before which no frame is sent, after `retry-after`.
let [sent, skipped] = [0, 0];

function scheduleFrame() {
  clearTimeout(timer);
  timer = setTimeout(sendFrame, 1000 / at("rate").value);
}

/** Sends the camera's picture, unless an earlier request is still in flight. */
function sendFrame() {
  scheduleFrame();
  if (document.hidden || performance.now() < notBefore) return;
  if (waiting > 0) skipped += 1;
  else {
    sent += 1;
    const about = subject;
    alone(async () => recognize(await snapshot(), "frame.jpg", about, framePath()));
  }
  at("frames").hidden = false;
  at("frames").textContent = `${sent} frames sent, ${skipped} skipped while one was in flight`;
}

/** Opens the camera or shows the error. Returns true if the camera is open. */
async function tryOpeningCamera(notice = at("notice")) {
  await openCamera().catch((refusal) => say(notice, refusal.message));
  return isLive();
}

at("camera").addEventListener("click", () => (isLive() ? closeCamera() : tryOpeningCamera()));
at("device").addEventListener("change", () => tryOpeningCamera());
at("rate").addEventListener("input", () => {
  at("rate-value").textContent = `${Number(at("rate").value)} fps`;
  if (isLive()) scheduleFrame();
});

// --- photos ---

/** Calls `take` with files that are dropped on an element. */
function acceptDrops(target, take) {
  const mark = (event) => {
    event.preventDefault();
    target.classList.toggle("drop", event.type === "dragover");
  };
  target.addEventListener("dragover", mark);
  target.addEventListener("dragleave", mark);
  target.addEventListener("drop", (event) => {
    mark(event);
    take([...event.dataTransfer.files]);
  });
}

/** Calls `take` with the chosen files, and allows the same files to be chosen again. */
function acceptChoice(input, take) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
}

function thumbnail(file) {
  const image = make("img", "");
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.addEventListener("error", () => image.replaceWith(make("span", "", file.name)), { once: true });
  return image;
}

/** Recognises the first photo, and others when they are picked from the strip. */
function openPhotos(files) {
  if (files.length === 0) return;
  closeCamera();
  const buttons = files.map((file) => {
    const button = make("button", "", thumbnail(file));
    button.type = "button";
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      openPhoto(file);
    });
    return button;
  });
  at("strip").replaceChildren(...buttons.map((button) => make("li", "", button)));
  at("strip").hidden = files.length < 2;
  buttons[0].click();
}

function openPhoto(file) {
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(file);
  photo.alt = file.name;
  show("photo", file);
  alone(() => recognize(file, file.name, file));
}

acceptDrops(stage, openPhotos);
acceptChoice(at("photos"), openPhotos);

// A photo that is dropped elsewhere must not replace the page.
for (const type of ["dragover", "drop"]) window.addEventListener(type, (event) => event.preventDefault());

// --- enrolment ---

const enrollNotice = at("enroll-notice");
const slots = [...at("shots").children].map((item, n) => {
  const [frame, button] = item.children;
  return { number: n + 1, item, frame, hint: frame.firstElementChild, button, file: null };
});

function fill(slot, file) {
  slot.file = file;
  slot.frame.replaceChildren(file ? thumbnail(file) : slot.hint);
  slot.button.textContent = file ? "Retake" : "Take";
  slot.button.setAttribute("aria-label", `${slot.button.textContent} shot ${slot.number}`);
  forgetVerdicts();
}

async function takeShot(slot) {
  if (isLive()) fill(slot, new File([await snapshot()], `shot-${slot.number}.jpg`, { type: "image/jpeg" }));
  else if (await tryOpeningCamera(enrollNotice)) say(enrollNotice, "The camera is open now: look into it and take the shot again", "plain");
}

function addShots(files) {
  const free = slots.filter((slot) => !slot.file);
  files.slice(0, free.length).forEach((file, n) => fill(free[n], file));
  if (files.length > free.length) say(enrollNotice, "Three photos are enough: the others were left out", "plain");
}

function forgetVerdicts() {
  for (const { item } of slots) item.className = "shot";
  at("verdicts").replaceChildren();
  say(enrollNotice, "");
}

/** Shows the result of each sent photo, on its slot and in a list. */
function showVerdicts({ accepted = [], rejected = [] }, sent) {
  const tell = (verdict, { image, file_name: name }, text) => {
    sent[image].item.classList.add(verdict);
    at("verdicts").append(make("li", verdict, make("b", "", `Photo ${sent[image].number} ${verdict}`), ` (${name}): ${text}`));
  };
  for (const photo of accepted) tell("accepted", photo, `face detected ${photo.det_score.toFixed(2)}`);
  for (const photo of rejected) tell("rejected", photo, photo.reasons.map(explain).join("; "));
}

/** Formats a reason with its value and limit, if it has them. */
function explain({ message, value, limit }) {
  const numbers = [];
  if (value !== null) numbers.push(Number(value.toFixed(2)));
  if (limit !== null) numbers.push(`limit ${Number(limit.toFixed(2))}`);
  return numbers.length ? `${message} (${numbers.join(", ")})` : message;
}

async function enroll() {
  const sent = slots.filter((slot) => slot.file);
  const form = new FormData();
  form.append("student_id", at("person").value.trim());
  for (const { file } of sent) form.append("images", file, file.name);
  forgetVerdicts();
  try {
    const { body } = await post("process-images", form);
    showVerdicts(body, sent);
    say(enrollNotice, body.message, "good");
  } catch (refusal) {
    showVerdicts(refusal.body.details ?? {}, sent);
    say(enrollNotice, refusal.message);
  }
}

for (const slot of slots) slot.button.addEventListener("click", () => takeShot(slot));
at("enroll-clear").addEventListener("click", () => slots.forEach((slot) => fill(slot, null)));
at("enroll-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = at("enroll-send");
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  await alone(enroll).finally(() => button.removeAttribute("aria-busy"));
});

acceptDrops(at("enroll"), addShots);
acceptChoice(at("enroll-photos"), addShots);
