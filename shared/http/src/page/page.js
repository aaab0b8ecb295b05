// Lists the operations of the document and sends requests. Texts are never read as markup.

const byId = (id) => document.getElementById(id);

/** An element with attributes and what it holds. */
function make(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

/** What a reference leads to. */
function resolve(spec, value) {
  if (!value?.$ref) return value ?? {};
  return resolve(spec, value.$ref.slice(2).split("/").reduce((place, name) => place[name], spec));
}

/** A value that a schema describes, of what must be there. */
function example(spec, schema) {
  const { example: given, examples, default: usual, enum: values, oneOf, allOf, type, properties, required, items } =
    resolve(spec, schema);
  if (given !== undefined) return given;
  if (examples?.length) return examples[0];
  if (usual !== undefined) return usual;
  if (values) return values[0];
  if (oneOf) return example(spec, oneOf[0]);
  if (allOf) return Object.assign({}, ...allOf.map((part) => example(spec, part)));
  const kind = [type].flat()[0];
  if (kind === "object") {
    return Object.fromEntries((required ?? []).map((name) => [name, example(spec, properties?.[name])]));
  }
  if (kind === "array") return items ? [example(spec, items)] : [];
  return { boolean: false, integer: 0, number: 0, string: "" }[kind] ?? null;
}

/** A field for a parameter. */
function field(spec, parameter) {
  const { enum: values, type } = resolve(spec, parameter.schema);
  const options = values ?? ([type].flat()[0] === "boolean" ? ["true", "false"] : null);
  const input = options
    ? make("select", {}, ...["", ...options].map((value) => make("option", { value }, value)))
    : make("input", { autocomplete: "off", spellcheck: false });
  input.required = parameter.required ?? false;
  const name = `${parameter.name}${parameter.required ? " *" : ""}`;
  return { parameter, input, label: make("label", { title: parameter.description ?? "" }, name, input) };
}

/** What is sent, of what was typed in. */
function request(method, path, fields, body) {
  const headers = {};
  const query = new URLSearchParams();
  const token = byId("key").value.trim();
  const organization = byId("organization").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (organization) headers["X-Organization-Id"] = organization;
  for (const { parameter, input } of fields) {
    const value = input.value.trim();
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    if (!value) continue;
    if (parameter.in === "query") query.set(parameter.name, value);
    if (parameter.in === "header") headers[parameter.name] = value;
  }
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, body: body?.value, redirect: "manual", credentials: "omit", cache: "no-store" };
  return [query.size ? `${path}?${query}` : path, options];
}

/** What came back, as text. */
async function told(response) {
  if (response.type === "opaqueredirect") return "The answer leads elsewhere: open this address in a browser.";
  const text = await response.text();
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function send(output, method, path, fields, body) {
  const missing = fields.find(({ input }) => input.required && !input.value.trim());
  if (missing) {
    missing.input.focus();
    output.textContent = `${missing.parameter.name} is missing`;
    return;
  }
  output.textContent = "…";
  try {
    const [address, options] = request(method, path, fields, body);
    const response = await fetch(address, options);
    const name = response.headers.get("x-request-id");
    const head = `${method} ${address}\n${response.status} ${response.statusText}${name ? `, request ${name}` : ""}`;
    output.textContent = `${head}\n\n${await told(response)}`;
  } catch (error) {
    output.textContent = `nothing came back: ${error.message}`;
  }
}

/** The parts of an operation, made when it is first opened. */
function fill(details, spec, method, path, operation) {
  const known = (operation.parameters ?? []).map((parameter) => resolve(spec, parameter));
  const fields = known.filter(({ name }) => name !== "X-Organization-Id").map((parameter) => field(spec, parameter));
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const value = schema ? JSON.stringify(example(spec, schema), null, 2) : "";
  const body = schema ? make("textarea", { value, rows: value.split("\n").length + 1, spellcheck: false }) : null;
  const output = make("pre", { hidden: true });
  const button = make("button", { type: "button" }, "Send");
  button.addEventListener("click", () => {
    output.hidden = false;
    send(output, method, path, fields, body);
  });
  if (operation.description) details.append(make("p", { className: "description" }, operation.description));
  details.append(...fields.map(({ label }) => label));
  if (body) details.append(make("label", {}, "Body", body));
  details.append(button, output);
}

function show(spec, method, path, operation) {
  const verb = method.toUpperCase();
  const name = make("code", {}, make("span", { className: `method ${verb}` }, verb), " ", path);
  const details = make("details", {}, make("summary", {}, name, " ", operation.summary ?? ""));
  details.dataset.text = `${verb} ${path} ${operation.summary ?? ""}`.toLowerCase();
  details.addEventListener("toggle", () => fill(details, spec, verb, path, operation), { once: true });
  return details;
}

/** All operations, by tag, in the order of the document. */
function sections(spec) {
  const all = Object.entries(spec.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
  );
  return spec.tags.map((tag) => {
    const own = all.filter(({ operation }) => operation.tags.includes(tag.name));
    const shown = own.map(({ method, path, operation }) => show(spec, method, path, operation));
    return make("section", {}, make("h2", {}, tag.name), make("p", {}, tag.description ?? ""), ...shown);
  });
}

function find() {
  const wanted = byId("find").value.trim().toLowerCase();
  for (const section of document.querySelectorAll("section")) {
    const operations = [...section.querySelectorAll("details")];
    for (const one of operations) one.hidden = !one.dataset.text.includes(wanted);
    section.hidden = operations.every((one) => one.hidden);
  }
}

try {
  const spec = await (await fetch("/openapi.json")).json();
  byId("operations").replaceChildren(...sections(spec));
  byId("find").addEventListener("input", find);
} catch (error) {
  byId("operations").textContent = `The document cannot be read: ${error.message}`;
}
