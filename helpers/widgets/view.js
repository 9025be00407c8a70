// The page's half of a view: shows the HTML that Python wrote, and sends back what is done to it.
// Nodes that stay the same stay in the page, so that focus and half-typed text do, too.

const key = (node) => node.dataset?.key;

function morph(old, now) {
  if (old.nodeName !== now.nodeName) return old.replaceWith(now);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // A field of the map shows the map's value again, also when a change was refused; what is typed
  // into a form stays.
  if (old.matches("input[data-act]") && old !== document.activeElement) old.value = now.value;
  children(old, now);
}

function children(old, now) {
  const kept = new Map([...old.childNodes].filter(key).map((node) => [key(node), node]));
  for (const child of [...old.childNodes]) {
    if (key(child) && ![...now.childNodes].some((other) => key(other) === key(child))) {
      child.remove();
    }
  }
  const total = now.childNodes.length; // those that are inserted leave it
  [...now.childNodes].forEach((child, i) => {
    const here = old.childNodes[i];
    const mine = key(child) ? kept.get(key(child)) : here && !key(here) ? here : undefined;
    if (!mine) return old.insertBefore(child, here ?? null);
    if (mine !== here) old.insertBefore(mine, here ?? null);
    morph(mine, child);
  });
  while (old.childNodes.length > total) old.lastChild.remove();
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "course-view";
  // JupyterLab takes keys for itself, unless it is told that they are the widget's.
  root.dataset.lmSuppressShortcuts = "true";
  el.append(root);

  const show = () => {
    const template = document.createElement("template");
    template.innerHTML = model.get("html");
    children(root, template.content);
  };
  const send = (node, more = {}) => {
    const { act, key, ...given } = node.dataset;
    model.send({ ...given, ...more, act });
  };
  const stop = new AbortController();
  const on = (kind, work) => root.addEventListener(kind, work, { signal: stop.signal });

  on("click", (event) => {
    const node = event.target.closest("button[data-act], g[data-act]");
    if (node) send(node);
  });
  // A search follows each letter; a change of the map waits until it is typed.
  on("input", ({ target }) => {
    if (target.matches("[data-live]")) send(target, { value: target.value });
  });
  on("change", ({ target }) => {
    if (target.matches("[data-act]:not([data-live])")) send(target, { value: target.value });
  });
  on("submit", (event) => {
    event.preventDefault();
    send(event.target, Object.fromEntries(new FormData(event.target)));
  });
  on("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.matches("g[data-act]")) {
      event.preventDefault();
      send(event.target);
    }
  });
  model.on("change:html", show);
  show();
  return () => {
    stop.abort();
    model.off("change:html", show);
  };
}

export default { render };
