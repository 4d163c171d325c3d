// What went wrong, told kindly: in the language chosen first, then in the server's own words for whoever can mend it.

import { Wrong } from "./api.js";
import { make } from "./nodes.js";
import { say } from "./words.js";

/** The key of the words for a problem, and what they name. */
function kind(problem, run) {
  if (!(problem instanceof Wrong)) return ["wrong.page"];
  const { status, error } = problem;
  if (status === 0) return ["wrong.unreachable"];
  if (status === 401 || status === 403) return ["token.wrong"];
  if (status === 404) return ["wrong.gone"];
  if (status === 413) return ["wrong.large"];
  if (status === 429) return ["wrong.often", { seconds: Math.ceil(problem.wait ?? 5) }];
  if (status === 503) return ["wrong.busy"];
  if (status >= 500) return ["wrong.server"];
  if (error?.where === "where") return ["wrong.where"];
  const steps = (error?.where ?? "").split(".");
  return cell((run?.form ?? []).find((field) => steps.includes(field.column)));
}

const CELLS = { number: "wrong.number", date: "wrong.date", text: "wrong.cell", choice: "wrong.cell" };

/** The same for a field that cannot be read. */
function cell(field) {
  return field ? [CELLS[field.kind] ?? "wrong.file", { name: field.column }] : ["wrong.input"];
}

/** The error of a row, "column: reason; columns: column: reason": what could not be read. */
export function unread(text, some, run) {
  const parts = text.split("; ").map((part) => {
    const places = part.split(": ").slice(0, -1).reverse().flatMap((place) => [place, ...place.split(", ")]);
    return places.map((place) => run.form.find((field) => field.column === place)).find(Boolean);
  });
  const fields = [...new Set(parts.filter(Boolean))];
  return make("div.note.bad", { role: "alert" }, say(make("strong"), some ? "answer.part" : "answer.unread"),
    ...fields.map((field) => say(make("p"), ...cell(field))), details([text]));
}

const details = (lines) => make("details", {}, say(make("summary"), "wrong.details"),
  ...lines.map((textContent) => make("p.code", { textContent })));

export function note(problem, run) {
  const [key, given] = kind(problem, run);
  const node = make("div.note.bad", { role: "alert" }, say(make("strong"), key, given));
  const { error, id } = problem;
  if (error) {
    const told = [[error.where, error.problem].filter(Boolean).join(": "), error.advice].filter(Boolean);
    const fold = details(told);
    if (id) fold.append(say(make("p.code"), "wrong.id", { id }));
    node.append(fold);
  } else if (!(problem instanceof Wrong)) {
    console.error(problem);
    node.append(make("p.code", { textContent: String(problem?.message ?? problem) }));
  }
  return node;
}

/** A hint that is no problem of the server's. */
export const hint = (key, given) => make("div.note", { role: "alert" }, say(make("strong"), key, given));
