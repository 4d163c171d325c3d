// Asking: the form, made of what the run reads, and its answer.

import { predict, stream } from "./api.js";
import { listening, show } from "./answer.js";
import { build } from "./fields.js";
import { $, make } from "./nodes.js";
import { hint, note } from "./problems.js";
import { percent, plain, say, tell, words } from "./words.js";

/** The answer in a line, for who does not see it. */
function brief(row, run) {
  const told = Object.keys(run.tasks).filter((task) => row[task] !== null && row[task] !== undefined).map((task) => {
    const p = row[`${task}.confidence`];
    return `${task}: ${plain(row[task])}${typeof p === "number" ? `, ${words("answer.sure", { percent: percent(p) })}` : ""}`;
  });
  return told.join("; ") || words("answer.unread");
}

export function asking(run) {
  const fields = run.form.map((field) => build(field, run.limits));
  const speaks = Object.values(run.tasks).some((task) => task.speaks);
  const said = $("said");
  let asked = null; // the question that is being answered

  $("fields").replaceChildren(...fields.map((field) => field.node));
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("clear").addEventListener("click", () => {
    asked?.abort();
    for (const field of fields) field.clear();
    said.replaceChildren(say(make("p.quiet.empty"), "answer.empty"));
    fields[0]?.control.focus();
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    const free = fields.find((field) => field.node.classList.contains("picture") && !field.value());
    if (file && free && !$("ask").hidden) free.take(file);
  });

  async function ask() {
    const row = Object.fromEntries(run.form.map((field, at) => [field.column, fields[at].value()]).filter(([, v]) => v));
    if (!Object.keys(row).length) {
      said.replaceChildren(hint("ask.nothing"));
      fields[0]?.control.focus();
      return;
    }
    asked?.abort();
    const mine = (asked = new AbortController());
    busy(true);
    try {
      const reply = speaks ? await stream(row, listening(said, run), mine.signal) : await predict(row, mine.signal);
      if (mine === asked) {
        show(said, reply, run);
        tell($("status"), () => brief(reply.rows[0], run));
      }
    } catch (problem) {
      if (problem.name !== "AbortError") said.replaceChildren(note(problem, run));
    }
    if (mine !== asked) return;
    busy(false);
    if (matchMedia("(max-width: 60rem)").matches) $("answer").scrollIntoView({ block: "start" });
  }

  function busy(yes) {
    say($("go"), yes ? "ask.busy" : "ask.go");
    $("go").setAttribute("aria-disabled", String(yes));
    $("answer").setAttribute("aria-busy", String(yes));
    if (yes) said.replaceChildren(make("div.waiting", { "aria-hidden": "true" }, make("div"), make("div"), make("div")));
  }
}
