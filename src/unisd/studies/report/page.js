"use strict";
// Texts come from models: they are only ever set as text, never as markup.
function element(name, given, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given || {})) {
    if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) return;
  const said = element("span", { className: "hidden", role: "status" });
  table.parentElement.append(said);
  const order = [...body.rows];
  heads.forEach((head, column) => {
    const title = head.textContent.trim() || "name";
    const button = element("button", { type: "button" }, head.textContent.trim() || "name");
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const now = was === "none" ? "ascending" : was === "ascending" ? "descending" : "none";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", now);
      const key = (row) => { const cell = row.cells[column]; return cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : cell.textContent; };
      const sign = now === "descending" ? -1 : 1;
      const rows = now === "none" ? order : [...order].sort((a, b) => {
        const x = key(a), y = key(b);
        if (typeof x === "number" && typeof y === "number") return sign * (x - y);
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return sign * x.localeCompare(y, "en", { numeric: true });
      });
      body.append(...rows);
      said.textContent = now === "none" ? "in the first order" : `sorted by ${title}, ${now}`;
    });
  });
}

const KINDS = {
  gained: (b, a) => !b[2] && a[2], lost: (b, a) => b[2] && !a[2],
  unchanged: (b, a) => b[2] === a[2],
  right: (b, a) => a[2] === 1, wrong: (b, a) => a[2] === 0 && a[1] !== null,
  unreadable: (b, a) => a[1] === null,
};

function verdict(answer, graded) {
  if (answer[2] === null) return ["", "not graded"];
  if (graded && answer[1] === null) return ["bad", "no answer could be read"];
  return [answer[2] ? "good" : "bad", (graded ? `${answer[1]}: ` : "") + (answer[2] ? "right" : "wrong")];
}

function browser(place) {
  const data = JSON.parse(document.getElementById(place.dataset.items).textContent);
  const state = { kind: "all", words: "", many: 10, before: data.before, after: data.after };
  const list = element("div"), count = element("p", { className: "soft", role: "status" });
  const more = element("button", { type: "button" }, "Show 20 more");
  const choices = element("div", { className: "choices", role: "group", "aria-label": "Which items" });
  const search = element("input", { type: "search", placeholder: "in questions and answers" });
  const controls = element("div", { className: "controls" });
  const choose = (label, which) => {
    const field = element("select");
    data.models.forEach((name, index) => field.append(element("option", { value: String(index) }, name)));
    field.value = String(state[which]);
    field.addEventListener("change", () => { state[which] = Number(field.value); state.many = 10; show(); });
    controls.append(element("label", {}, label, field));
  };
  if (data.models.length > 2) { choose("before", "before"); choose("after", "after"); }
  controls.append(element("label", { className: "find" }, "Search", search), choices);
  place.append(controls, count, list, more);
  const two = data.models.length > 1;
  const kinds = ["all", ...(two ? ["gained", "lost", "unchanged"] : ["right", "wrong"]), ...(data.readable ? ["unreadable"] : [])];
  const buttons = kinds.map((kind) => {
    const button = element("button", { type: "button" }, kind);
    button.addEventListener("click", () => { state.kind = kind; state.many = 10; show(); });
    choices.append(button);
    return button;
  });
  const is = (item, kind) => {
    const before = item.a[two ? state.before : state.after], after = item.a[state.after];
    return before && after && (kind === "all" || KINDS[kind](before, after));
  };
  const holds = (item, words) => {
    if (!words) return true;
    const shown = [...new Set(two ? [state.before, state.after] : [state.after])];
    return [item.i, item.q, item.k, item.d, ...shown.map((m) => item.a[m] && item.a[m][0])].some((t) => t && t.toLowerCase().includes(words));
  };
  function block(title, text) {
    return element("details", {}, element("summary", {}, title), element("div", { className: "answer", dir: "auto" }, text));
  }
  function answer(index, item) {
    const given = item.a[index], [style, said] = verdict(given, data.readable);
    const about = [given[3] ? "" : "cut off", given[4]].filter(Boolean).join("; ");
    return element("div", {}, element("p", {}, element("strong", {}, data.models[index]), " ", element("span", { className: style }, said)),
      element("div", { className: "answer", dir: "auto" }, given[0] || "(nothing)"), ...(about ? [element("p", { className: "soft" }, about)] : []));
  }
  function entry(item) {
    const shown = [...new Set(two ? [state.before, state.after] : [state.after])];
    const label = two ? ["gained", "lost", "unchanged"].find((kind) => is(item, kind)) : "";
    return element("article", { className: "item" }, element("h3", {}, [item.i, label, item.g].filter(Boolean).join(" · ")),
      element("div", { className: "answer", dir: "auto" }, item.q), ...(item.k ? [element("p", { className: "soft" }, `key: ${item.k}`)] : []),
      ...(item.d ? [block("What the teacher is shown", item.d)] : []), element("div", { className: "pair" }, ...shown.map((index) => answer(index, item))));
  }
  function show(from) {
    const found = data.items.filter((item) => holds(item, state.words));
    buttons.forEach((button, index) => {
      button.textContent = `${kinds[index]} (${found.filter((item) => is(item, kinds[index])).length})`;
      button.setAttribute("aria-pressed", String(kinds[index] === state.kind));
    });
    const chosen = found.filter((item) => is(item, state.kind));
    if (from) list.append(...chosen.slice(from, state.many).map(entry));
    else list.replaceChildren(...chosen.slice(0, state.many).map(entry));
    count.textContent = `${Math.min(state.many, chosen.length)} of ${chosen.length} items shown`;
    more.hidden = chosen.length <= state.many;
  }
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.words = search.value.toLowerCase(); state.many = 10; show(); }, 120);
  });
  more.addEventListener("click", () => { const had = state.many; state.many += 20; show(had); });
  show();
}

document.querySelectorAll("table").forEach(sortable);
const seen = new IntersectionObserver((entries) => entries.filter((each) => each.isIntersecting).forEach((each) => {
  seen.unobserve(each.target); browser(each.target);
}), { rootMargin: "600px" });
document.querySelectorAll(".browser").forEach((place) => seen.observe(place));
