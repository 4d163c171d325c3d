// Making and finding elements.

export const $ = (id) => document.getElementById(id);

/** make("p.quiet", {hidden: true}, child, …): an element with classes, properties and children. */
export function make(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  node.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

let made = 0;

/** A name for an element that nothing else on the page has. */
export function fresh(start) {
  made += 1;
  return `${start}-${made}`;
}
