// Every word of the page, in English and Chinese. A node says which it holds by data-t; switching the language says
// all of them anew, so that nothing that was typed, chosen or answered is lost.

const WORDS = {
  en: {
    "skip": "Skip to the page",
    "tabs": "What to do",
    "language": "Language",
    "loading": "One moment …",
    "cancel": "Cancel",
    "close": "Close",
    "remove": "Remove",
    "tab.ask": "Ask",
    "tab.search": "Search",
    "about": "Answered on this server by {name}. Polymodal {version}.",

    "token.title": "This server asks who you are",
    "token.about": "Enter the token that its owner gave you. It is kept until you close this tab.",
    "token.label": "Token",
    "token.use": "Go on",
    "token.wrong": "The server does not know this token.",

    "ask.title": "What do you have?",
    "ask.about": "Fill in what you have and leave the rest empty.",
    "ask.go": "Answer",
    "ask.busy": "Answering …",
    "ask.clear": "Start over",
    "ask.nothing": "Give me something first: at least one of the fields.",

    "picture.drop": "Drop a picture here, or choose one",
    "picture.take": "Take a photo",
    "picture.alt": "{name}: the chosen picture",
    "picture.wrong": "“{file}” is no picture.",
    "photo.title": "Take a photo",
    "photo.snap": "Take it",
    "photo.refused": "The camera cannot be used. Allow it in the browser, or choose a file.",
    "sound.choose": "Choose a sound",
    "sound.record": "Record",
    "sound.stop": "Stop",
    "sound.recording": "Recording, {seconds} s",
    "sound.refused": "The microphone cannot be used. Allow it in the browser, or choose a file.",
    "sound.insecure": "Browsers record only on https pages or on this machine itself. Choose a file instead.",
    "sound.wrong": "“{file}” is no sound that this browser can read.",
    "video.choose": "Choose a video",
    "file.choose": "Choose a file",
    "file.large": "“{file}” is larger than this server takes ({most}).",
    "number.typical": "such as {value}",
    "choice.none": "not given",
    "text.placeholder": "Type here",

    "answer.title": "Answer",
    "answer.empty": "The answer will stand here, with how sure it is, and why.",
    "answer.sure": "{percent} sure",
    "answer.nothing": "nothing",
    "answer.interval": "between {low} and {high}",
    "answer.set": "or one of: {set}",
    "answer.raw": "As JSON",
    "answer.unread": "This could not be answered",
    "answer.part": "Some of it could not be read; the answer is about the rest.",
    "answer.fit": "How well what was given belongs together: 1 is as well as can be.",
    "answer.likely": "How likely each is",
    "why.title": "Why",
    "why.about": "Each bar shows how much surer the answer is because of this input: the same was asked again without it.",
    "why.value": "Each bar shows how much this input moves the answer: the same was asked again without it.",
    "why.more": "adds {points}",
    "why.less": "takes away {points}",
    "why.none": "changes nothing",
    "why.up": "raises it by {value}",
    "why.down": "lowers it by {value}",
    "why.instead": "without it: {said}",
    "why.same": "without it: the same, {percent} sure",
    "why.needed": "no answer without it",
    "why.nobody": "Nothing was given, so nothing can be taken away.",
    "why.looked": "Where it looked",
    "why.looked.about": "Light is where the model looked most.",
    "why.word": "Where it looked for “{word}”",
    "why.words.about": "Point at a word, or tap it, to see where it looked when it said that word.",
    "why.shares": "How the inputs were weighed",
    "why.plain": "Show the picture alone",
    "why.heat": "Show where it looked",
    "points": "{n} points",
    "point": "{n} point",

    "search.title": "What are you looking for?",
    "search.about": "{rows} things are in this index. Describe one in any of these ways, or in several at once.",
    "search.weight": "How much {name} counts",
    "search.more": "Filter and words",
    "search.words": "With these words",
    "search.words.example": "red mug",
    "search.words.about": "Things that hold these words come first.",
    "search.where": "Only where",
    "search.where.about": "Columns:",
    "search.go": "Search",
    "search.busy": "Searching …",
    "search.found": "What was found",
    "search.count": "{n} shown, the nearest first",
    "search.shown": "{n} shown",
    "search.none": "Nothing fits. Try other words, or take the filter away.",
    "search.further": "Show more",
    "search.nothing": "Say what you are looking for first: a word, a picture, a sound, or a filter.",
    "search.like": "More like this",
    "search.unlike": "Less like this",
    "search.score": "Nearness {score}",
    "search.open": "Look closer: {id}",

    "wrong.unreachable": "The server cannot be reached. Is it still running, and are you connected?",
    "wrong.busy": "The server has more to do than it can just now. Try again in a moment.",
    "wrong.often": "That was a lot in a short time. Wait {seconds} seconds, then try again.",
    "wrong.large": "That is more than this server takes. Choose a smaller file.",
    "wrong.input": "Something that was given cannot be used.",
    "wrong.file": "“{name}” cannot be read. Is it a good file of this kind?",
    "wrong.number": "“{name}” needs a number.",
    "wrong.date": "“{name}” needs a date, such as 2024-05-31.",
    "wrong.cell": "“{name}” cannot be read.",
    "wrong.where": "The filter cannot be understood. Write it like: price < 50 and brand = 'Acme'",
    "wrong.gone": "This is not there (any more).",
    "wrong.server": "Something went wrong on the server. It is not your fault.",
    "wrong.page": "Something went wrong on this page.",
    "wrong.details": "What the server said",
    "wrong.id": "Request {id}",
  },
  zh: {
    "skip": "跳到正文",
    "tabs": "要做什么",
    "language": "语言",
    "loading": "请稍候……",
    "cancel": "取消",
    "close": "关闭",
    "remove": "移除",
    "tab.ask": "提问",
    "tab.search": "搜索",
    "about": "由本服务器上的 {name} 回答。Polymodal {version}。",

    "token.title": "此服务器需要验证身份",
    "token.about": "请输入服务器所有者给您的令牌。它只保留到您关闭此标签页为止。",
    "token.label": "令牌",
    "token.use": "继续",
    "token.wrong": "服务器不认识这个令牌。",

    "ask.title": "您手头有什么？",
    "ask.about": "有什么就填什么，没有的留空即可。",
    "ask.go": "回答",
    "ask.busy": "正在回答……",
    "ask.clear": "重新开始",
    "ask.nothing": "请先给出一些内容：至少填一项。",

    "picture.drop": "把图片拖到这里，或选择一张",
    "picture.take": "拍照",
    "picture.alt": "{name}：所选的图片",
    "picture.wrong": "“{file}”不是图片。",
    "photo.title": "拍照",
    "photo.snap": "拍摄",
    "photo.refused": "无法使用摄像头。请在浏览器中允许，或选择文件。",
    "sound.choose": "选择声音",
    "sound.record": "录音",
    "sound.stop": "停止",
    "sound.recording": "正在录音，{seconds} 秒",
    "sound.refused": "无法使用麦克风。请在浏览器中允许，或选择文件。",
    "sound.insecure": "浏览器只在 https 页面或本机上允许录音。请改为选择文件。",
    "sound.wrong": "此浏览器无法读取声音“{file}”。",
    "video.choose": "选择视频",
    "file.choose": "选择文件",
    "file.large": "“{file}”超过了此服务器的上限（{most}）。",
    "number.typical": "例如 {value}",
    "choice.none": "未给出",
    "text.placeholder": "在此输入",

    "answer.title": "答案",
    "answer.empty": "答案会显示在这里，并说明有多大把握、为什么。",
    "answer.sure": "把握 {percent}",
    "answer.nothing": "无",
    "answer.interval": "在 {low} 与 {high} 之间",
    "answer.set": "或其中之一：{set}",
    "answer.raw": "JSON 原文",
    "answer.unread": "无法回答",
    "answer.part": "有一部分无法读取；答案只根据其余部分。",
    "answer.fit": "所给内容彼此相配的程度：1 表示最相配。",
    "answer.likely": "各种可能",
    "why.title": "理由",
    "why.about": "每条横条表示：因为有这项输入，把握增加了多少（把它拿掉后再问一遍得出）。",
    "why.value": "每条横条表示：这项输入使答案变动了多少（把它拿掉后再问一遍得出）。",
    "why.more": "增加 {points}",
    "why.less": "减少 {points}",
    "why.none": "没有影响",
    "why.up": "使它增加 {value}",
    "why.down": "使它减少 {value}",
    "why.instead": "没有它：{said}",
    "why.same": "没有它：答案不变，把握 {percent}",
    "why.needed": "没有它就没有答案",
    "why.nobody": "什么都没有给，所以没有可以拿掉的。",
    "why.looked": "它看了哪里",
    "why.looked.about": "越亮的地方，模型看得越多。",
    "why.word": "说“{word}”时看了哪里",
    "why.words.about": "指向或点按一个词，可以看到说这个词时看了哪里。",
    "why.shares": "各项输入的权重",
    "why.plain": "只看图片",
    "why.heat": "显示看了哪里",
    "points": "{n} 个百分点",
    "point": "{n} 个百分点",

    "search.title": "您要找什么？",
    "search.about": "索引中有 {rows} 项。可以用下面任何一种方式来描述，也可以同时用几种。",
    "search.weight": "{name} 的权重",
    "search.more": "筛选与关键词",
    "search.words": "含有这些词",
    "search.words.example": "红 杯子",
    "search.words.about": "含有这些词的排在前面。",
    "search.where": "只要满足",
    "search.where.about": "可用的列：",
    "search.go": "搜索",
    "search.busy": "正在搜索……",
    "search.found": "搜索结果",
    "search.count": "显示 {n} 项，最接近的在前",
    "search.shown": "显示 {n} 项",
    "search.none": "没有符合的。换个说法，或去掉筛选。",
    "search.further": "显示更多",
    "search.nothing": "请先说明要找什么：文字、图片、声音或筛选条件。",
    "search.like": "多些这样的",
    "search.unlike": "少些这样的",
    "search.score": "接近度 {score}",
    "search.open": "仔细看：{id}",

    "wrong.unreachable": "连不上服务器。它还在运行吗？网络正常吗？",
    "wrong.busy": "服务器现在忙不过来，请稍后再试。",
    "wrong.often": "短时间内请求太多。请等 {seconds} 秒再试。",
    "wrong.large": "内容超过了此服务器的上限，请选小一些的文件。",
    "wrong.input": "给出的内容里有些不能用。",
    "wrong.file": "“{name}”无法读取。它是这种类型的完好文件吗？",
    "wrong.number": "“{name}”需要填数字。",
    "wrong.date": "“{name}”需要填日期，例如 2024-05-31。",
    "wrong.cell": "“{name}”无法读取。",
    "wrong.where": "看不懂筛选条件。请这样写：price < 50 and brand = 'Acme'",
    "wrong.gone": "它不在了。",
    "wrong.server": "服务器出了问题，不是您的错。",
    "wrong.page": "此页面出了问题。",
    "wrong.details": "服务器的原话",
    "wrong.id": "请求 {id}",
  },
};

const KEEP = "polymodal.language";
const ATTRIBUTES = { tLabel: "aria-label", tPlaceholder: "placeholder", tTitle: "title", tAlt: "alt" };
const values = new WeakMap(); // node -> what stands in the braces of its words
let language = remembered() ?? (navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en");

function remembered() {
  try {
    const kept = localStorage.getItem(KEEP);
    return kept in WORDS ? kept : null;
  } catch {
    return null; // storage may be forbidden
  }
}

/** The words of a key in the language chosen; {name} gives way to given.name, a function to what it gives now. */
export function words(key, given = {}) {
  const text = WORDS[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = typeof given[name] === "function" ? given[name]() : given[name];
    return value ?? whole;
  });
}

/** Let a node say these words, now and in any language that is chosen later. */
export function say(node, key, given) {
  node.dataset.t = key;
  if (given) values.set(node, given);
  node.textContent = words(key, given);
  return node;
}

/** The same for an attribute: label, placeholder, title, alt. */
export function call(node, kind, key, given) {
  const name = `t${kind[0].toUpperCase()}${kind.slice(1)}`;
  node.dataset[name] = key;
  if (given) values.set(node, given);
  node.setAttribute(ATTRIBUTES[name], words(key, given));
  return node;
}

/** A text that is made anew whenever the language changes, such as a number. */
export function tell(node, make) {
  node.dataset.t = "";
  values.set(node, make);
  node.textContent = make();
  return node;
}

export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of root.querySelectorAll("[data-t]")) {
    const given = values.get(node);
    node.textContent = typeof given === "function" ? given() : words(node.dataset.t, given);
  }
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    const selector = `[data-${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}]`;
    for (const node of root.querySelectorAll(selector)) {
      node.setAttribute(attribute, words(node.dataset[name], values.get(node)));
    }
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}

export function listen() {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => {
      language = button.dataset.language;
      try {
        localStorage.setItem(KEEP, language);
      } catch {
        // it is chosen again next time
      }
      translate();
    });
  }
  translate();
}

/** A number as the language writes it. */
export function number(value, digits = 4) {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits }).format(value);
}

/** 0.973 -> 97 %; what rounds to all or nothing without being it gets another digit, or a sign that it is not. */
export function percent(value) {
  const edge = (value > 0.995 && value < 1) || (value < 0.005 && value > 0);
  const shown = edge ? Math.min(Math.max(value, 0.001), 0.999) : value;
  const sign = shown > value ? "<" : shown < value ? ">" : "";
  const form = { style: "percent", maximumFractionDigits: edge ? 1 : 0 };
  return sign + new Intl.NumberFormat(language, form).format(shown);
}

/** A value of the table's own, for a person. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return words("answer.nothing");
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : words("answer.nothing");
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
