// The page as a whole: what the run is, which tabs there are, and who may use it.

import { Wrong, about, known, use } from "./api.js";
import { asking } from "./ask.js";
import { $ } from "./nodes.js";
import { note } from "./problems.js";
import { searching } from "./search.js";
import { listen, say } from "./words.js";

const TABS = ["ask", "search"];

async function begin() {
  $("loading").hidden = false;
  $("unreachable").hidden = true;
  try {
    ready(await about());
  } catch (problem) {
    if (problem instanceof Wrong && [401, 403].includes(problem.status)) return askToken();
    $("unreachable").replaceChildren(note(problem));
    $("unreachable").hidden = false;
  } finally {
    $("loading").hidden = true;
  }
}

function askToken() {
  $("token").hidden = false;
  if (known()) {
    $("unreachable").replaceChildren(note(new Wrong(401)));
    $("unreachable").hidden = false;
  }
  $("token-field").focus();
}

function ready(told) {
  const run = { ...told, form: told.form ?? guessed(told), limits: told.limits ?? {} };
  $("token").hidden = true;
  $("title").textContent = document.title = run.name;
  say($("about"), "about", { name: run.name, version: run.version });
  const asks = Object.keys(run.tasks).length > 0;
  const searches = Boolean(run.index);
  if (asks) asking(run);
  if (searches) searching(run);
  const can = { ask: asks, search: searches };
  for (const name of TABS) {
    $(`tab-${name}`).hidden = !can[name];
    $(`tab-${name}`).addEventListener("click", () => open(name));
  }
  document.querySelector("[role=tablist]").hidden = !(asks && searches);
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const other = TABS.find((name) => $(`tab-${name}`).getAttribute("aria-selected") === "false");
    open(other);
    $(`tab-${other}`).focus();
  });
  open(searches && (!asks || location.hash === "#search") ? "search" : "ask");
}

function open(name) {
  for (const one of TABS) {
    $(one).hidden = one !== name;
    $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
  history.replaceState(null, "", name === "search" ? "#search" : location.pathname);
}

/** Fields of a server that does not tell them: what can be seen of the inputs' types. */
function guessed(told) {
  const kinds = { image: "picture", audio: "sound", video: "video" };
  return Object.entries(told.inputs).flatMap(([input, one]) =>
    one.columns.map((column) => ({ column, input, kind: one.file ? (kinds[one.type] ?? "file") : "text" })));
}

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  use($("token-field").value.trim());
  begin();
});
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
listen();
begin();
