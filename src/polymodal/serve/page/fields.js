// Fields to be filled in, one for each column. Every field has `node`, `value()` (null when it is empty: a text or a
// File), `clear()`, and `name`, for people.

import { photograph, usable } from "./camera.js";
import { fresh, make } from "./nodes.js";
import { readable, record } from "./sound.js";
import { call, number, say, tell, words } from "./words.js";

/** `field` is {column, input, kind, …} as the server tells it; `limits` what it takes. */
export function build(field, limits = {}) {
  const makers = { picture, sound, video, file, number: numeric, choice, date, text };
  return (makers[field.kind] ?? text)(field, limits);
}

const label = (field) => (field.label ?? field.column).replaceAll("_", " ");

function frame(field, control, ...beside) {
  const id = fresh("field");
  control.id = id;
  const name = make("label", { for: id, textContent: label(field) });
  return make(`div.field.${field.kind}`, { "data-column": field.column }, name, control, ...beside);
}

function typed(field, control) {
  const named = label(field);
  return {
    name: named,
    node: frame(field, control),
    value: () => control.value.trim() || null,
    clear: () => (control.value = ""),
    control,
  };
}

function text(field) {
  const control = make("textarea", { rows: field.rows ?? 2, autocomplete: "off" });
  call(control, "placeholder", "text.placeholder");
  return typed(field, control);
}

function numeric(field) {
  const control = make("input", { type: "text", inputMode: "decimal", autocomplete: "off" });
  if (field.typical !== undefined) call(control, "placeholder", "number.typical", { value: () => number(field.typical, 3) });
  return typed(field, control);
}

function date(field) {
  return typed(field, make("input", { type: "date" }));
}

function choice(field) {
  if (field.more) {
    const list = make("datalist", { id: fresh("list") }, ...field.choices.map((value) => make("option", { value })));
    const control = make("input", { autocomplete: "off" });
    control.setAttribute("list", list.id);
    const made = typed(field, control);
    made.node.append(list);
    return made;
  }
  const control = make("select", {}, say(make("option", { value: "" }), "choice.none"),
    ...[...field.choices].sort().map((value) => make("option", { value, textContent: value })));
  return typed(field, control);
}

/** A field that holds a file: a chosen, dropped, pasted or recorded one, with a preview. */
function holder(field, limits, { accept, shown, prepare = async (one) => one, wrong, invite, extra = [] }) {
  let held = null;
  const named = label(field);
  const control = make("input.unseen", { type: "file", accept });
  const preview = make("div.preview", { hidden: true });
  const told = make("p.told", { role: "status" });
  const drop = make("label.drop", {}, make("span.icon", { "aria-hidden": "true" }), say(make("span"), invite));
  const node = frame(field, control, drop, preview, ...extra, told);
  drop.setAttribute("for", control.id);

  const clear = () => {
    held = null;
    control.value = "";
    for (const one of preview.querySelectorAll("[src]")) URL.revokeObjectURL(one.src);
    preview.replaceChildren();
    preview.hidden = true;
    drop.hidden = false;
    told.textContent = "";
    delete told.dataset.t;
  };
  const refuse = (key, given) => {
    clear();
    say(told, key, given);
  };
  const take = async (given) => {
    if (!given) return;
    clear();
    const most = (limits.body_mb ?? Infinity) * 2 ** 20;
    try {
      const ready = await prepare(given);
      if (ready.size > most) {
        refuse("file.large", { file: given.name, most: () => `${number(limits.body_mb, 2)} MB` });
        return;
      }
      const view = await shown(ready, named);
      const away = call(make("button.away", { type: "button", onclick: () => (clear(), control.focus()) }), "label", "remove");
      preview.append(view, away);
      held = ready;
      preview.hidden = false;
      drop.hidden = true;
    } catch {
      refuse(wrong, { file: given.name });
    }
  };
  control.addEventListener("change", () => take(control.files[0]));
  for (const kind of ["dragenter", "dragover"]) {
    node.addEventListener(kind, (event) => (event.preventDefault(), node.classList.add("over")));
  }
  for (const kind of ["dragleave", "drop"]) node.addEventListener(kind, () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  return { name: named, node, value: () => held, clear, take, refuse, control };
}

function picture(field, limits) {
  const button = say(make("button.plain.small", { type: "button" }), "picture.take");
  const made = holder(field, limits, {
    accept: "image/*", invite: "picture.drop", wrong: "picture.wrong", extra: [button],
    shown: async (one, name) => {
      const view = call(make("img", { src: URL.createObjectURL(one) }), "alt", "picture.alt", { name });
      await view.decode();
      return view;
    },
  });
  const shot = make("input.unseen", { type: "file", accept: "image/*", tabIndex: -1, "aria-hidden": "true" });
  shot.setAttribute("capture", "environment"); // where the page may not use the camera, a phone's own does
  shot.addEventListener("change", () => made.take(shot.files[0]));
  button.addEventListener("click", async () => {
    if (!usable()) return shot.click();
    try {
      await made.take(await photograph());
    } catch {
      made.refuse("photo.refused");
    }
  });
  made.node.append(shot);
  return made;
}

function sound(field, limits) {
  const button = say(make("button.plain.small", { type: "button" }), "sound.record");
  const level = make("div.level", { hidden: true, "aria-hidden": "true" }, make("div"));
  const made = holder(field, limits, {
    accept: "audio/*,.wav,.flac,.ogg", invite: "sound.choose", wrong: "sound.wrong", prepare: readable,
    extra: [make("div.row", {}, button, level)],
    shown: async (one, name) => make("audio", { src: URL.createObjectURL(one), controls: true, "aria-label": name }),
  });
  let recording = null;
  const told = made.node.querySelector(".told");
  const follow = (begun) => {
    if (!recording) return;
    level.firstChild.style.transform = `scaleX(${recording.level()})`;
    tell(told, () => words("sound.recording", { seconds: Math.round((performance.now() - begun) / 1000) }));
    setTimeout(follow, 200, begun);
  };
  button.addEventListener("click", async () => {
    if (recording) {
      const ended = recording;
      recording = null;
      level.hidden = true;
      say(button, "sound.record");
      try {
        await made.take(await ended.stop());
      } catch {
        made.refuse("sound.refused");
      }
      return;
    }
    made.clear();
    if (!window.isSecureContext) return made.refuse("sound.insecure");
    try {
      recording = await record();
    } catch {
      return made.refuse("sound.refused");
    }
    level.hidden = false;
    say(button, "sound.stop");
    follow(performance.now());
  });
  const { clear } = made;
  made.clear = () => {
    if (recording) {
      recording.drop();
      recording = null;
      level.hidden = true;
      say(button, "sound.record");
    }
    clear();
  };
  return made;
}

function video(field, limits) {
  return holder(field, limits, {
    accept: "video/*", invite: "video.choose", wrong: "picture.wrong",
    shown: async (one, name) =>
      make("video", { src: URL.createObjectURL(one), controls: true, muted: true, "aria-label": name }),
  });
}

function file(field, limits) {
  return holder(field, limits, {
    accept: "", invite: "file.choose", wrong: "picture.wrong",
    shown: async (one) => make("span.filename", { textContent: one.name }),
  });
}
