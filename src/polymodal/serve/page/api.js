// Talking to the server that this page comes from, and to nobody else.

const KEEP = "polymodal.token";
let token = null;
try {
  token = sessionStorage.getItem(KEEP);
} catch {
  // storage may be forbidden: the token is then asked for again
}

/** What the server refused, or that it could not be reached (status 0). */
export class Wrong extends Error {
  constructor(status, body = {}, wait = null) {
    super(body.error?.problem ?? body.detail ?? `status ${status}`);
    this.status = status;
    this.error = body.error ?? null; // {where, problem, given, advice}
    this.id = body.id ?? null;
    this.wait = wait; // seconds, where the server says so
  }
}

export const known = () => token !== null;

export function use(given) {
  token = given;
  try {
    sessionStorage.setItem(KEEP, given);
  } catch {
    // it is used as long as the page stands
  }
}

async function fetched(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let reply;
  try {
    reply = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Wrong(0);
  }
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => ({}));
  throw new Wrong(reply.status, body, Number(reply.headers.get("Retry-After")) || null);
}

const json = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

export const about = async () => (await fetched("v1/run")).json();

/** A row: column -> text or file. */
function sheet(row, options) {
  const form = new FormData();
  for (const [column, value] of Object.entries(row)) form.append(column, value);
  form.append("options", JSON.stringify(options));
  return { method: "POST", body: form };
}

export const predict = async (row, signal) =>
  (await fetched("v1/predict", { ...sheet(row, { reason: true }), signal })).json();

/** The same, where something speaks: `hear(task, text)` is called with every piece; the whole reply at the end. */
export async function stream(row, hear, signal) {
  const reply = await fetched("v1/stream", { ...sheet(row, { reason: true }), signal });
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    waiting += decoder.decode(value ?? new Uint8Array(), { stream: !done }).replaceAll("\r\n", "\n");
    const events = waiting.split("\n\n");
    waiting = done ? "" : events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (!data.length) continue;
      const piece = JSON.parse(data.map((line) => line.slice(5)).join("\n"));
      if (piece.error) throw new Wrong(500, piece);
      if (piece.done) return { id: piece.id ?? reply.headers.get("X-Request-Id"), rows: [piece.row] };
      hear(piece.task, piece.text);
    }
    if (done) throw new Wrong(0); // it ended before its end
  }
}

export const search = async (body, signal) => (await fetched("v1/search", { ...json(body), signal })).json();

/** Something of a search's answer for an <img>: with a token it has to be fetched by hand. */
export async function picture(path) {
  const place = path.replace(/^\//, "");
  return token ? URL.createObjectURL(await (await fetched(place)).blob()) : place;
}

/** A file as JSON can hold it. */
export function encoded(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ base64: reader.result.split(",", 2)[1] ?? "", name: file.name });
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
