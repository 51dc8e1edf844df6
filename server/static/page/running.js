// What runs: preview, facts, progress of the whole workflow, its nodes.

import { ask, queue } from "./api.js";
import { besideCard, leftBeside, refreshBeside } from "./beside.js";
import { at, h, icon, s, sync } from "./dom.js";
import { whole } from "./jobs.js";
import { on } from "./live.js";
import { needed, overall } from "./progress.js";
import { sorry, toast } from "./toast.js";
import { duration, elapsed, nameOf, plural, rough, size } from "./words.js";

const MANY = 16;
const SAID = { cached: ", from the cache", done: ", done", wait: ", waiting", fail: ", failed" };
const run = {
  id: null,
  job: null,
  began: 0,
  attempt: 1,
  cached: new Set(),
  states: new Map(),
  times: new Map(),
  preview: null,
  step: null,
  stopping: false,
};
let card = null;
let beside = 0;
let told = "";
let ends = () => {};

/** The seconds that each prompt at work still takes, null where that is not known. */
export const secondsLeft = () => (run.id === null ? [] : [run.job ? progress().left : null, ...leftBeside()]);
export const runningId = () => run.id;
export const runningCount = () => (run.id === null ? 0 : 1 + beside);

export function running(onEnd) {
  ends = onEnd;
  card = h("section.running", { "aria-labelledby": "run-h" });
  draw();
  setInterval(() => run.id !== null && tick(), 1000);
  return card;
}

/** Take up what runs already when the page is opened, or opened again. */
export async function pickUp() {
  const { jobs, pagination } = await ask("/jobs?status=in_progress&limit=20");
  const job = jobs.find(job => job.id === run.id) ?? jobs.at(-1); // one that is shown stays until it ends
  beside = Math.max(0, pagination.total - 1);
  await refreshBeside(
    jobs.filter(other => other !== job),
    beside,
  );
  if (!job) return run.id !== null && end(run.id);
  if (job.id === run.id) return;
  begin(job.id, 1);
  const { events } = await ask("/prompts/" + encodeURIComponent(job.id) + "/events");
  for (const { type, data } of events) {
    if (type === "execution_start") Object.assign(run, { attempt: data.attempt ?? 1, cached: new Set() });
    if (type === "execution_cached") data.nodes.forEach(node => run.cached.add(node));
  }
  draw();
}

async function begin(id, attempt) {
  dropPreview();
  Object.assign(run, {
    id,
    job: null,
    began: Date.now(),
    attempt,
    cached: new Set(),
    states: new Map(),
    times: new Map(),
    step: null,
    stopping: false,
  });
  draw();
  const job = await whole(id).catch(() => null);
  if (run.id !== id || job === null) return;
  run.job = job;
  run.nodes = needed(job.workflow.prompt, job.targets);
  run.began = job.execution_start_time ?? run.began;
  draw();
}

function end(id) {
  if (run.id !== id) return;
  dropPreview();
  run.id = null;
  if (!beside) draw(); // else the next one takes its place
  ends();
}

function dropPreview() {
  if (run.preview) URL.revokeObjectURL(run.preview);
  run.preview = null;
}

on("execution_start", data => {
  if (run.id === null || run.id === data.prompt_id) begin(data.prompt_id, data.attempt ?? 1);
});
on("execution_cached", data => {
  if (data.prompt_id !== run.id) return;
  data.nodes.forEach(node => run.cached.add(node));
  tick();
});
on("progress_state", data => {
  if (data.prompt_id !== run.id) return;
  for (const [node, state] of Object.entries(data.nodes)) {
    const name = state.display_node_id || node;
    const before = run.states.get(name);
    if (!before && state.state === "running") run.times.set(name, { began: Date.now() });
    if (before?.state === "running" && state.state !== "running")
      run.times.get(name).seconds = (Date.now() - run.times.get(name).began) / 1000;
    run.states.set(name, state);
  }
  tick();
});
for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
  on(kind, data => end(data.prompt_id));
on("preview", (metadata, image) => {
  if (metadata.prompt_id !== run.id || !card) return;
  dropPreview();
  run.preview = URL.createObjectURL(image);
  run.step = run.states.get(metadata.display_node_id ?? metadata.node_id)?.value ?? null;
  drawPreview();
});

const progress = () => overall(run.nodes, run.cached, run.states, run.job.expected_nodes);
const title = node => run.job.titles[node] ?? node;

function draw() {
  if (!card) return;
  const heading = h("h2.vh", { id: "run-h" }, "Running");
  if (run.id === null) return card.replaceChildren(heading, h("p.card.idle", {}, h("span.dot"), "Nothing runs"));
  const about = run.job?.summary ?? {};
  const who = [about.client, run.attempt > 1 ? "attempt " + run.attempt : null].filter(Boolean).join(", ");
  const fact = (name, value) => (value ? h("div", {}, h("dt", {}, name), h("dd.num", {}, String(value))) : null);
  const batch = Number(about.batch) > 1 ? ", " + about.batch + " images" : "";
  card.replaceChildren(
    heading,
    h(
      "article.card.run",
      {},
      h(
        "figure.live",
        {},
        h("img", { id: "live", alt: "", hidden: true, onerror: (event) => (event.target.hidden = true) }),
        h("figcaption.tag", { id: "live-step" }, "No preview yet"),
      ),
      h(
        "div.run-body",
        {},
        h(
          "div.run-head",
          {},
          h("span.dot.on"),
          h("b", {}, about.workflow ?? "Workflow"),
          h("span.cut.grow", {}, who ? who + ", " : "", h("span.num", { id: "run-time" })),
          h("button.btn.tight", { id: "run-stop", onclick: stop }, icon("stop"), "Stop"),
        ),
        h("h3", {}, run.job ? nameOf(run.job) : "Reading the workflow"),
        h(
          "dl.facts",
          {},
          fact("Model", about.model),
          fact("Size", size(about) ? size(about) + batch : null),
          fact("Seed", about.seed),
        ),
        h(
          "div.progress",
          {},
          h(
            "div.progress-line",
            {},
            h("b.num", { id: "run-share" }),
            h("span.soft", { id: "run-count" }),
            h("span.grow"),
            h("span.num", { id: "run-left" }),
          ),
          h("progress.bar", { id: "run-bar", max: 1, value: 0, "aria-label": "Whole workflow" }),
          h("ol.chips.flow", { id: "run-nodes", "aria-label": "Nodes", tabindex: "0" }),
        ),
        h("p.vh", { role: "status", id: "run-said" }),
      ),
    ),
    besideCard(),
  );
  drawPreview();
  tick();
}

function drawPreview() {
  if (!run.preview || !at("live")) return;
  at("live").hidden = false;
  at("live").src = run.preview;
  at("live").alt = run.step === null ? "Preview" : "Preview at step " + run.step;
  at("live-step").textContent = run.step === null ? "Preview" : "Preview, step " + run.step;
}

/** What changes while it runs. */
function tick() {
  if (run.id === null || !at("run-time")) return;
  at("run-time").textContent = elapsed((Date.now() - run.began) / 1000);
  at("run-stop").disabled = run.stopping;
  at("run-stop").lastChild.textContent = run.stopping ? "Stopping" : "Stop";
  if (!run.job) return;
  const whole = progress();
  at("run-share").textContent = Math.floor(100 * whole.share) + " %";
  at("run-bar").value = whole.share;
  at("run-count").textContent =
    whole.done + " of " + plural(whole.total, "node") + (whole.cached ? ", " + whole.cached + " from the cache" : "");
  at("run-left").textContent = whole.left === null ? "" : rough(whole.left) + " left";
  drawChips();
}

const stateOf = node => {
  if (run.cached.has(node)) return "cached";
  const state = run.states.get(node)?.state;
  return state === "running" ? "now" : state === "error" ? "fail" : state ? "done" : "wait";
};

function drawChips() {
  const states = run.nodes.map(node => [node, stateOf(node)]);
  const list = at("run-nodes");
  const known = new Map([...list.children].map(item => [item.dataset.key, item]));
  const chips = folded(states).map(([key, state, label]) => {
    const old = known.get(key);
    if (old && old.dataset.state === state && old.dataset.label === label)
      return state === "now" ? filled(old, key) : old;
    return chip(key, state, label);
  });
  sync(list, chips);
  const now = states
    .filter(([, state]) => state === "now")
    .map(([node]) => title(node))
    .join(", ");
  if (now && now !== told) {
    told = at("run-said").textContent = now; // each node is announced once, its steps are not
    const item = list.querySelector(".now");
    if (item) list.scrollLeft = item.offsetLeft - list.offsetLeft - 80;
  }
}

/** `[key, state, label]` of each chip; of a large graph neighbours in the same state are one. */
function folded(states) {
  if (states.length <= MANY) return states.map(([node, state]) => [node, state, title(node)]);
  const words = { cached: "from the cache", done: "done", wait: "waiting" },
    chips = [];
  for (const [node, state] of states) {
    const last = chips.at(-1);
    if (last && last[1] === state && state in words) last[3].push(node);
    else chips.push([node, state, title(node), [node]]);
  }
  return chips.map(([key, state, label, nodes]) => [
    key,
    state,
    nodes.length > 1 ? nodes.length + " " + words[state] : label,
  ]);
}

function chip(key, state, label) {
  const mark = { cached: "bolt", done: "check", fail: "warn" }[state];
  const seconds = run.times.get(key)?.seconds;
  const item = h(
    "li.chip." + state,
    state === "now" ? { "aria-current": "step" } : {},
    mark ? icon(mark, true) : null,
    h("span", {}, label),
    SAID[state] ? h("span.vh", {}, SAID[state]) : null,
    state === "done" && seconds >= 0.1 ? h("span.num.faint", {}, duration(seconds)) : null,
  );
  if (state === "now") {
    item.prepend(s("svg", { class: "fill", "aria-hidden": "true" }, s("rect", { width: "0%", height: "100%" })));
    item.append(h("span.num"));
    filled(item, key);
  }
  Object.assign(item.dataset, { key, state, label });
  return item;
}

function filled(item, node) {
  const { value, max } = run.states.get(node),
    expected = run.job.expected_nodes[node];
  const left = max > 1 && expected !== undefined ? ", " + rough(expected * (1 - value / max)) + " left" : "";
  item.querySelector("rect").setAttribute("width", (max > 1 ? (100 * value) / max : 0) + "%");
  item.lastChild.textContent = max > 1 ? value + "/" + max + left : "";
  return item;
}

async function stop() {
  const { id, job } = run;
  run.stopping = true;
  tick();
  try {
    await ask("/interrupt", { prompt_id: id });
    toast(
      "Stopping after this step",
      "Run again",
      () => job && queue(job.workflow.prompt, { name: job.summary.workflow }).catch(sorry),
    );
  } catch (error) {
    run.stopping = false;
    sorry(error);
    tick();
  }
}
