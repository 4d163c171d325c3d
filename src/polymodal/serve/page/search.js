// Searching an index: by words, pictures and sounds, several at once, and by what was found already.

import { encoded, picture, search } from "./api.js";
import { build } from "./fields.js";
import { $, fresh, make } from "./nodes.js";
import { hint, note } from "./problems.js";
import { call, number, plain, say, tell } from "./words.js";

const PAGE = 24; // hits at once
const ASKED = ["text", "picture", "sound", "video", "file"]; // what is asked by, in this order
const CAPTION = 3; // columns beside a picture

export function searching(run) {
  const parts = offered(run).map((field) => part(field, run));
  const liked = new Map(); // id -> {more, hit}
  let shown = []; // hits
  let under = null; // the search that is being made

  say($("search-about"), "search.about", { rows: () => number(run.index.rows, 12) });
  $("columns").textContent = run.index.columns.map((column) => column.name).join(", ");
  $("where").placeholder = example(run.index);
  $("parts").replaceChildren(...parts.map((one) => one.node));
  $("query").addEventListener("submit", (event) => {
    event.preventDefault();
    find(0);
  });
  $("query").addEventListener("change", weights);
  $("query").addEventListener("input", weights);
  $("further").addEventListener("click", () => find(shown.length));
  $("forget").addEventListener("click", () => {
    under?.abort();
    for (const one of parts) one.clear();
    for (const id of ["words", "where"]) $(id).value = "";
    liked.clear();
    remember();
    put([]);
    $("count").replaceChildren();
  });

  /** Sliders make sense where there are two things to weigh. */
  function weights() {
    const given = parts.filter((one) => one.value());
    for (const one of parts) one.slider.hidden = given.length < 2 || !one.value();
  }
  for (const one of parts) new MutationObserver(weights).observe(one.preview, { childList: true });

  async function body(offset) {
    const queries = await Promise.all(parts.filter((one) => one.value()).map(async (one) => {
      const value = one.value();
      return { input: one.column, value: value instanceof File ? await encoded(value) : value, weight: one.weight() };
    }));
    const ids = (more) => [...liked].filter(([, one]) => one.more === more).map(([id]) => id);
    const made = { queries, k: PAGE, offset, like: ids(true), unlike: ids(false) };
    for (const name of ["words", "where"]) if ($(name).value.trim()) made[name] = $(name).value.trim();
    return made;
  }

  async function find(offset) {
    const asked = await body(offset);
    if (!asked.queries.length && !asked.words && !asked.where && !liked.size) {
      put([]);
      $("count").replaceChildren(hint("search.nothing"));
      return;
    }
    under?.abort();
    const mine = (under = new AbortController());
    busy(true);
    try {
      const { hits } = await search(asked, mine.signal);
      if (mine !== under) return;
      put(hits, offset);
      $("further").hidden = hits.length < PAGE;
      const near = asked.queries.length + liked.size > 0;
      say($("count"), !shown.length ? "search.none" : near ? "search.count" : "search.shown", { n: () => number(shown.length, 12) });
      tell($("status"), () => $("count").textContent);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!offset) put([]);
      $("count").replaceChildren(note(problem, run));
      delete $("count").dataset.t;
    }
    if (mine === under) busy(false);
  }

  function busy(yes) {
    say($("find"), yes ? "search.busy" : "search.go");
    $("found").setAttribute("aria-busy", String(yes));
  }

  function put(hits, offset = 0) {
    if (!offset) {
      for (const one of $("hits").querySelectorAll("img")) URL.revokeObjectURL(one.src);
      $("hits").replaceChildren();
      delete $("count").dataset.t;
      $("further").hidden = true;
      shown = [];
    }
    shown = [...shown, ...hits];
    $("hits").append(...hits.map((hit) => card(hit)));
  }

  function card(hit) {
    const caption = captioned(hit, run);
    const open = make("button.open", { type: "button", onclick: () => closer(hit, caption) }, cover(hit));
    call(open, "label", "search.open", { id: caption });
    return make("article.hit", { "data-id": hit.id }, open, make("div.under", {},
      make("p.caption", { textContent: caption }), thumbs(hit)));
  }

  function thumbs(hit) {
    const thumb = (more, sign) => call(make("button.thumb", { type: "button", textContent: sign,
      onclick: () => like(hit, more) }), "label", more ? "search.like" : "search.unlike");
    return make("div.thumbs", {}, tell(make("span.quiet"), () => (hit.score ? number(hit.score, 3) : "")), thumb(true, "+"), thumb(false, "−"));
  }

  function closer(hit, caption) {
    const dialog = $("hit");
    const decide = (more) => say(make("button.plain", { type: "button", onclick: () => {
      dialog.close();
      like(hit, more);
    } }), more ? "search.like" : "search.unlike");
    const lines = [["id", hit.id], ...Object.entries(hit.row).filter(([column]) => !(column in (hit.pictures ?? {})))].flatMap(([column, value]) =>
      [make("dt", { textContent: column }), tell(make("dd"), () => plain(value))]);
    $("hit-body").replaceChildren(
      make("h2", { id: "hit-title", textContent: caption }),
      make("div.closer", {},
        make("div.glasses", {}, ...Object.entries(hit.pictures ?? {}).map(([column, path]) => shownPicture(path, column))),
        make("div", {}, hit.score ? say(make("p.quiet"), "search.score", { score: () => number(hit.score, 4) }) : null,
          make("dl.row-of", {}, ...lines))),
      make("div.actions", {}, decide(true), decide(false),
        say(make("button.plain", { type: "button", onclick: () => dialog.close() }), "close")));
    dialog.showModal();
  }

  function like(hit, more) {
    liked.set(hit.id, { more, hit });
    remember();
    find(0);
    $("query").scrollIntoView({ block: "start" });
  }

  function remember() {
    $("liked").replaceChildren(...[...liked].map(([id, { more, hit }]) => {
      const away = call(make("button.away", { type: "button", onclick: () => {
        liked.delete(id);
        remember();
        find(0);
      } }), "label", "remove");
      return make(more ? "span.chip" : "span.chip.against", {},
        say(make("span"), more ? "search.like" : "search.unlike"), make("span.tiny", {}, cover(hit)), away);
    }));
  }
}

/** One field for every input that can be searched by. */
function offered(run) {
  const named = new Set(run.space?.names ?? []);
  const able = run.form.filter((field) => ASKED.includes(field.kind));
  const own = able.filter((field) => named.has(field.input) || named.has(field.column));
  const seen = new Set();
  return (own.length ? own : able)
    .filter((field) => !seen.has(field.input) && seen.add(field.input))
    .map((field) => ({ ...field, label: field.input }))
    .sort((one, other) => ASKED.indexOf(one.kind) - ASKED.indexOf(other.kind));
}

function part(field, run) {
  const made = build(field, run.limits);
  const id = fresh("weight");
  const range = make("input", { id, type: "range", min: "0", max: "2", step: "0.1", value: "1" });
  const slider = make("div.weight", { hidden: true },
    say(make("label", { for: id }), "search.weight", { name: made.name }), range);
  made.node.append(slider);
  return {
    ...made, slider, column: field.column,
    preview: made.node.querySelector(".preview") ?? made.node,
    weight: () => Number(range.value),
    clear: () => (made.clear(), (range.value = "1"), (slider.hidden = true)),
  };
}

/** A filter that this index could take. */
function example({ columns, pictures }) {
  const numeric = columns.find((column) => /int|float|double|decimal|number/.test(column.type));
  const text = columns.find((column) => /str|utf|text/.test(column.type) && !pictures.includes(column.name));
  return [numeric && `${numeric.name} < 50`, text && `${text.name} = 'Acme'`].filter(Boolean).join(" and ");
}

const captioned = (hit, run) => Object.entries(hit.row)
  .filter(([column, value]) => !(column in (hit.pictures ?? {})) && value !== null && value !== "")
  .filter(([column]) => !run.form.some((field) => field.column === column && field.kind !== "text" && !TABLE.has(field.kind)))
  .slice(0, CAPTION).map(([, value]) => plain(value)).join(" · ") || hit.id;

const TABLE = new Set(["number", "choice", "date"]);

/** A hit in small: its first picture, or what is said of it; the name stands on what holds it. */
function cover(hit) {
  const [path] = Object.values(hit.pictures ?? {});
  const caption = Object.values(hit.row).filter((value) => value !== null && value !== "").map(plain)[0] ?? hit.id;
  return path ? shownPicture(path, "", caption) : make("span.words-only", { textContent: caption });
}

function shownPicture(path, alt, instead = alt) {
  const view = make("img", { alt, loading: "lazy" });
  view.addEventListener("error", () => view.replaceWith(make("span.words-only", { textContent: instead })));
  picture(path).then((place) => (view.src = place), () => view.dispatchEvent(new Event("error")));
  return view;
}
