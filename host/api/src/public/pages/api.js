// Shows the operations of openapi.json, each with a form that sends it. Text of the document becomes
// text nodes only.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Resolves a reference within the document. */
function resolved(api, schema) {
  return schema?.$ref ? schema.$ref.slice(2).split("/").reduce((part, key) => part[key], api) : schema;
}

/** Returns the input fields of an operation: path, query, form and the members of a JSON body. */
function fields(api, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => ({
    name: parameter.name, place: parameter.in, required: parameter.required, hint: parameter.description,
  }));
  const form = resolved(api, operation.requestBody?.content?.["multipart/form-data"]?.schema);
  const parts = Object.entries(form?.properties ?? {}).map(([name, schema]) => {
    const items = schema.items ?? schema;
    const isFile = items.format === "binary" || items.contentMediaType !== undefined;
    const required = form.required?.includes(name);
    return { name, place: "form", required, hint: schema.description, isFile, isMany: schema.type === "array" };
  });
  const json = resolved(api, operation.requestBody?.content?.["application/json"]?.schema);
  const members = Object.entries(json?.properties ?? {}).map(([name, schema]) => ({
    name, place: "json", required: json.required?.includes(name), hint: schema.description ?? resolved(api, schema).description,
  }));
  return [...parameters, ...parts, ...members];
}

function input(field) {
  const made = element("input", { name: field.name, required: Boolean(field.required), title: field.hint ?? "" });
  if (field.isFile) Object.assign(made, { type: "file", multiple: field.isMany, accept: "image/jpeg,image/png,image/webp,image/bmp,image/gif,image/tiff" });
  else made.placeholder = field.required ? "" : "optional";
  return element("label", {}, `${field.name} `, made);
}

/** Reads the value of a JSON member: an object, a list or `null` as such, anything else as text. */
function json(text) {
  return /^\s*([[{]|null\s*$)/.test(text) ? JSON.parse(text) : text;
}

async function send(path, method, wanted, form) {
  const query = new URLSearchParams();
  const body = new FormData();
  const members = {};
  for (const field of wanted) {
    const control = form.elements.namedItem(field.name);
    if (field.isFile) for (const file of control.files) body.append(field.name, file);
    else if (control.value === "") continue;
    else if (field.place === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(control.value));
    else if (field.place === "query") query.set(field.name, control.value);
    else if (field.place === "json") members[field.name] = json(control.value);
    else body.append(field.name, control.value);
  }
  const key = document.getElementById("key").value;
  const headers = key === "" ? {} : { "x-api-key": key };
  const request = { method: method.toUpperCase(), headers };
  if (wanted.some((field) => field.place === "form")) request.body = body;
  if (wanted.some((field) => field.place === "json")) {
    request.body = JSON.stringify(members);
    headers["content-type"] = "application/json";
  }
  const answer = await fetch(query.size > 0 ? `${path}?${query}` : path, request);
  const text = await answer.text();
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch { /* Not JSON: shown as text. */ }
  return `${answer.status} ${answer.statusText}\n${shown}`;
}

function operation(api, path, method, described) {
  const wanted = fields(api, described);
  const output = element("pre", { hidden: true });
  const button = element("button", { type: "submit" }, "Send");
  const form = element("form", {}, ...wanted.map((field) => element("p", {}, input(field))), button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    output.hidden = false;
    output.textContent = "…";
    output.textContent = await send(path, method, wanted, form).catch((error) => `No answer: ${error.message}`);
    button.disabled = false;
  });
  const statuses = Object.entries(described.responses).map(([status, response]) =>
    element("li", {}, `${status}: ${response.description}`));
  return element("details", { id: described.operationId },
    element("summary", {}, element("code", {}, `${method.toUpperCase()} ${path}`), ` ${described.summary ?? ""}`),
    form, output, element("ul", {}, ...statuses));
}

async function show() {
  const place = document.getElementById("operations");
  const api = await (await fetch("openapi.json")).json();
  const sections = (api.tags ?? []).map((tag) => {
    const operations = Object.entries(api.paths).flatMap(([path, item]) => METHODS
      .filter((method) => item[method]?.tags?.includes(tag.name))
      .map((method) => operation(api, path, method, item[method])));
    return element("section", {}, element("h2", {}, tag.name), element("p", {}, tag.description ?? ""), ...operations);
  });
  place.replaceChildren(...sections);
  place.removeAttribute("aria-busy");
}

show().catch((error) => { document.getElementById("operations").textContent = `The document cannot be read: ${error.message}`; });
