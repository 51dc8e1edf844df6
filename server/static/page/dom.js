// Elements. Text goes into the page as text only, never as markup; there are no handlers or styles in markup.

const SVG = "http://www.w3.org/2000/svg";

export const at = id => document.getElementById(id);

/** An element: `h("button.btn.main", { onclick }, "Run")`. What is null, undefined or false is left out. */
export function h(tag, attributes = {}, ...kids) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && typeof value !== "string") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...kids.flat().filter(kid => kid !== null && kid !== undefined && kid !== false));
  return node;
}

export function s(tag, attributes, ...kids) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...kids);
  return node;
}

/** A symbol of status.html; words beside it or a label say what it means. */
export const icon = (name, small) =>
  s("svg", { class: small ? "i s" : "i", "aria-hidden": "true" }, s("use", { href: "#" + name }));

/** A text that may break after a dot or an underscore, as names of files do. */
export const breakable = text =>
  text.split(/(?<=[_.](?=\S))/).flatMap((part, index) => (index ? [h("wbr"), part] : [part]));

/** Give `parent` these children, moving only those that are not in their place: what has focus keeps it. */
export function sync(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}
