// An answer as a person reads it: what was said of each task, how sure it is, and why.

import { heat } from "./heat.js";
import { make } from "./nodes.js";
import { unread } from "./problems.js";
import { call, number, percent, plain, say, tell, words } from "./words.js";

const SHOWN = 6; // classes with a bar
const FEW = 2; // tasks whose reasons are all unfolded
const FITS = new Set(["retrieve", "match", "recommend"]); // what these say is how well things go together

/** Sentences as they are being said: `hear(task, piece)` puts each piece where it belongs. */
export function listening(place, run) {
  const heard = {};
  place.replaceChildren();
  return (task, piece) => {
    if (!heard[task]) {
      heard[task] = make("blockquote.said.talking");
      place.append(make("article.task", {}, title(task, run), heard[task]));
    }
    heard[task].textContent += piece;
  };
}

/** The whole answer: {id, rows: [row]}. */
export function show(place, reply, run) {
  const row = reply.rows[0];
  const tasks = Object.keys(run.tasks);
  const answered = tasks.filter((task) => row[task] !== null && row[task] !== undefined);
  const parts = [];
  if (row.error) parts.push(unread(row.error, answered.length > 0, run));
  for (const task of answered) parts.push(article(task, row, run, answered.length <= FEW));
  const common = Object.values(row.reason ?? {}).map((reason) => reason.attention).filter(Boolean);
  parts.push(looked(common, run), raw(reply));
  place.replaceChildren(...parts.filter(Boolean));
}

const title = (task, run) => (Object.keys(run.tasks).length > 1 ? make("h3", { textContent: task }) : null);

function article(task, row, run, open) {
  const reason = row.reason?.[task];
  const parts = [title(task, run), ...value(task, row, run)];
  const classes = reason?.likely?.length > 1 ? reason.likely : null;
  const p = row[`${task}.confidence`];
  if (typeof p === "number") parts.push(sureness(p, !classes));
  if (classes) parts.push(likely(classes, row[task]));
  if (reason) parts.push(why(reason, row[task], open, run));
  return make("article.task", { "data-task": task }, ...parts);
}

function value(task, row, run) {
  const said = row[task];
  const others = (run.tasks[task].says ?? [])
    .filter((column) => column.startsWith(`${task}.`) && column !== `${task}.confidence` && typeof row[column] === "string");
  const shown = run.tasks[task].speaks
    ? [make("blockquote.said", { textContent: said }),
      ...others.map((column) => make("blockquote.said", { lang: column.slice(task.length + 1), textContent: row[column] }))]
    : [make("p.value", {}, Array.isArray(said) && said.length ? chips(said) : tell(make("span"), () => plain(said)))];
  if (FITS.has(run.tasks[task].type)) shown.push(say(make("p.quiet"), "answer.fit"));
  if (typeof row[`${task}.low`] === "number") {
    const given = { low: () => plain(row[`${task}.low`]), high: () => plain(row[`${task}.high`]) };
    shown.push(say(make("p.quiet"), "answer.interval", given));
  }
  const set = row[`${task}.set`];
  if (Array.isArray(set) && set.length > 1) shown.push(say(make("p.quiet"), "answer.set", { set: () => plain(set) }));
  return shown;
}

function chips(values) {
  const told = (one) => (one && typeof one === "object" && "label" in one
    ? `${one.label} ${number(one.start, 4)}–${number(one.end, 4)}` : plain(one));
  return make("span.chips", {}, ...values.map((one) => make("span.chip", { textContent: told(one) })));
}

function sureness(p, drawn) {
  return make("div.sure", {}, drawn ? bar(p, "main") : null, say(make("span"), "answer.sure", { percent: () => percent(p) }));
}

/** A bar as long as a share of 1, beside words that say as much. */
function bar(share, kind) {
  const full = make(`div.fill.${kind}`);
  full.style.inlineSize = `${100 * Math.min(1, Math.max(0, share))}%`;
  return make("div.bar", { "aria-hidden": "true" }, full);
}

function likely(classes, said) {
  const chosen = (one) => (Array.isArray(said) ? said.includes(one) : one === said);
  const lines = classes.slice(0, SHOWN).map(([one, p]) => [
    tell(make(chosen(one) ? "dt.chosen" : "dt"), () => plain(one)),
    make("dd", {}, bar(p, chosen(one) ? "main" : "other"), tell(make("span.amount"), () => percent(p))),
  ]);
  return call(make("dl.bars.likely", {}, ...lines.flat()), "label", "answer.likely");
}

function why(reason, said, open, run) {
  const own = reason.attention?.words ? heat(reason.attention) : [];
  return make("details.why", { open }, make("summary", {}, say(make("h4"), "why.title")), withheld(reason, said, run), ...own);
}

/** Where it looked, for all tasks that share one look, and how the inputs were weighed. */
function looked(seen, run) {
  const shared = seen.find((one) => one.places && !one.words);
  const weights = seen.find((one) => one.shares)?.shares ?? {};
  const weighed = Object.values(weights).filter((share) => share > 0).length > 1;
  const nodes = [...(shared ? heat(shared) : []), ...(weighed ? [shares(weights, run)] : [])];
  return nodes.length ? make("article.task.looked", {}, ...nodes) : null;
}

/** An input by what it is made of, where that is not its name. */
function named(input, run) {
  const columns = run.inputs[input]?.columns ?? [input];
  return columns.length === 1 ? columns[0] : `${input} (${columns.join(", ")})`;
}

function withheld(reason, said, run) {
  const sure = reason.measure === "confidence";
  const changes = Object.entries(reason.withheld);
  const known = changes.map(([, change]) => change).filter((change) => change !== null);
  if (!changes.length) return say(make("p.quiet"), "why.nobody");
  const most = sure ? 1 : Math.max(0, ...known.map(Math.abs));
  const lines = changes.map(([name, change]) => {
    if (change === null) {
      const needed = say(make("span.amount"), "why.needed");
      return [make("dt", { textContent: named(name, run) }), make("dd", { "data-input": name }, bar(1, "main"), needed)];
    }
    const gained = -change;
    const told = say(make("span.amount"), ...effect(gained, sure, reason.whole));
    const share = most ? Math.abs(gained) / most : 0;
    return [
      make("dt", { textContent: named(name, run) }),
      make("dd", { "data-input": name }, bar(share, gained < 0 ? "against" : "main"), told,
        instead(reason.without?.[name], said)),
    ];
  });
  return make("div", {}, make("dl.bars.withheld", {}, ...lines.flat()),
    known.length ? say(make("p.hint"), sure ? "why.about" : "why.value") : null);
}

function effect(gained, sure, whole) {
  if (sure) {
    const points = Math.round(100 * Math.abs(gained));
    if (!points) return ["why.none"];
    return [gained > 0 ? "why.more" : "why.less", { points: () => words(points === 1 ? "point" : "points", { n: points }) }];
  }
  if (Math.abs(gained) < 1e-6 * Math.abs(whole)) return ["why.none"];
  return [gained > 0 ? "why.up" : "why.down", { value: () => number(Math.abs(gained), 3) }];
}

/** What would be said without the input. */
function instead(other, said) {
  if (!other) return null;
  const p = other.confidence;
  const same = typeof p === "number" && JSON.stringify(other.value) === JSON.stringify(said);
  const told = () => plain(other.value) + (typeof p === "number" ? ` (${percent(p)})` : "");
  return say(make("span.instead.quiet"), ...(same ? ["why.same", { percent: () => percent(p) }] : ["why.instead", { said: told }]));
}

function shares(weights, run) {
  const lines = Object.entries(weights).filter(([, share]) => share > 0).map(([name, share]) => [
    make("dt", { textContent: named(name, run) }),
    make("dd", {}, bar(share, "other"), tell(make("span.amount"), () => percent(share))),
  ]);
  return make("div", {}, say(make("h4"), "why.shares"), make("dl.bars", {}, ...lines.flat()));
}

function raw(reply) {
  const text = JSON.stringify(reply, (key, one) => (key === "picture" && typeof one === "string" ? `${one.slice(0, 24)}…` : one), 2);
  return make("details.raw", {}, say(make("summary"), "answer.raw"), make("pre", { tabIndex: 0, textContent: text }));
}
