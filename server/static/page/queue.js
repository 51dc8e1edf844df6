// What waits: when it starts, another place, removing.

import { ask } from "./api.js";
import { h, icon, sync } from "./dom.js";
import { runningId, secondsLeft } from "./running.js";
import { startsOf } from "./starts.js";
import { sorry, toast, undoable } from "./toast.js";
import { clock, nameOf, plural, rough } from "./words.js";

const SHOWN = 20;
const state = { jobs: [], total: 0, paused: false, waits: {} };
const removed = new Set();
const order = { changes: 0 }; // moves made here: what was asked for before the last of them is older than the page
const drawing = { held: false, late: false }; // a row that is moved in the page would lose the mouse that drags it
const rows = new Map();
const list = h("ol", { "aria-label": "Waiting prompts, next first" });
const count = h("span.count.num");
const pause = h("button.btn.quiet.tight", { onclick: changePause });
const clear = h("button.btn.quiet.tight", { onclick: removeAll }, "Clear");
const foot = h("span.num"),
  narrowFoot = h("span.num");
const more = h("button.btn.tight.narrow", {
  onclick: () => {
    card.classList.add("all");
    more.hidden = true;
  },
});
const rest = h("p.queue-rest", { hidden: true });
const none = h("p.queue-none", {}, "Nothing waits.");
const how = h("div.queue-foot.wide", {}, h("span", {}, "Drag or press ↑ ↓ to reorder"), foot);
const narrowHow = h("div.queue-foot.narrow", {}, more, narrowFoot);
const card = h("div.card.queue", {}, list, rest, none, how, narrowHow);

export function queueCard() {
  return h(
    "section",
    { "aria-labelledby": "q-h" },
    h("div.head", {}, h("h2.grow", { id: "q-h" }, "Up next ", count), pause, clear),
    h("p.vh", { id: "grip-how" }, "Arrow up and arrow down move it."),
    card,
  );
}

export const waiting = () => state.total - [...removed].filter(id => state.jobs.some(job => job.id === id)).length;
export const isPaused = () => state.paused;

/** Ask for what waits, and draw it. */
export async function refreshQueue() {
  const changes = order.changes;
  const [page, health, workers] = await Promise.all([
    ask("/jobs?status=pending&limit=100&sort_by=priority&sort_order=asc"),
    ask("/health"),
    ask("/workers"),
  ]);
  if (changes !== order.changes) return refreshQueue();
  Object.assign(state, {
    jobs: page.jobs,
    total: page.pagination.total,
    paused: health.paused,
    waits: workers.waiting,
  });
  drawQueue();
}

export function drawQueue() {
  if (drawing.held) {
    drawing.late = true;
    return;
  }
  const jobs = state.jobs.filter(job => !removed.has(job.id)),
    shown = jobs.slice(0, SHOWN),
    total = waiting();
  const { starts, end } = startsOf(jobs, state.paused ? null : secondsLeft());
  count.textContent = total ? String(total) : "";
  pause.replaceChildren(icon(state.paused ? "play" : "pause"), state.paused ? "Resume" : "Pause");
  clear.hidden = total === 0;
  none.hidden = total > 0;
  none.textContent = state.paused ? "Paused. Nothing waits." : "Nothing waits.";
  how.hidden = narrowHow.hidden = total === 0;
  const isKnown = total > 0 && total <= jobs.length && end !== null;
  foot.textContent = narrowFoot.textContent = isKnown ? "done " + moment(end) : state.paused ? "paused" : "";
  rest.hidden = total <= shown.length;
  rest.textContent = "and " + (total - shown.length) + " more";
  more.hidden = shown.length <= 2 || card.classList.contains("all");
  more.textContent = "Show " + (shown.length - 2) + " more";
  for (const id of rows.keys()) if (!shown.some(job => job.id === id)) rows.delete(id);
  const had = document.activeElement;
  sync(
    list,
    shown.map((job, index) => {
      const row = rows.get(job.id) ?? rowOf(job);
      rows.set(job.id, row);
      const start = starts.get(job.id);
      const reason = state.waits[job.id] ?? "";
      const stuck = reason.startsWith("no worker") ? "no worker can run it" : "";
      row.querySelector(".when").textContent = stuck || (start === null ? "" : moment(start));
      row.querySelector(".when").title = reason;
      const isPlain = reason === "" || state.paused || reason.endsWith(" before it"); // the page shows it elsewhere
      row.querySelector(".why").textContent = isPlain ? "" : reason;
      row
        .querySelector(".grip")
        .setAttribute("aria-label", "Move “" + nameOf(job) + "”, place " + (index + 1) + " of " + total);
      return row;
    }),
  );
  // A row that is moved takes the focus with it out of the page for a moment.
  if (document.activeElement !== had && list.contains(had)) had.focus();
}

/** "in 14 s", "about 14:06". */
const moment = seconds => (seconds < 60 ? "in " + rough(seconds) : "about " + clock(Date.now() + 1000 * seconds));

function rowOf(job) {
  const name = nameOf(job),
    { workflow, client } = job.summary ?? {};
  const small = [workflow, [client, clock(job.create_time)].filter(Boolean).join(", ")].filter(Boolean).join(" · ");
  const grip = h(
    "button.grip",
    {
      "aria-describedby": "grip-how",
      onkeydown: event => {
        const by = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
        if (by) {
          event.preventDefault();
          move(job, by);
        }
      },
    },
    icon("grip"),
  );
  const row = h(
    "li.q",
    {},
    grip,
    h("span.t.cut", { title: name }, name),
    h("span.when.num"),
    h("span.about.small.soft", {}, h("span.why"), h("span.cut", {}, small)),
    h(
      "span.acts",
      {},
      h(
        "button.btn.quiet.tight.square.mv",
        { "aria-label": "To the front: " + name, title: "To the front", onclick: () => move(job, -Infinity) },
        icon("up"),
      ),
      h(
        "button.btn.quiet.tight.square",
        { "aria-label": "Remove: " + name, title: "Remove", onclick: () => remove([job.id]) },
        icon("x"),
      ),
    ),
  );
  grip.addEventListener("pointerdown", event => drag(grip, row, job, event));
  return row;
}

function drag(grip, row, job, down) {
  grip.setPointerCapture(down.pointerId);
  row.classList.add("lift");
  drawing.held = true;
  const by = event => Math.round((event.clientY - down.clientY) / row.offsetHeight);
  const follow = event => {
    row.style.transform = "translateY(" + (event.clientY - down.clientY) + "px)";
  };
  const drop = event => {
    row.classList.remove("lift");
    row.style.transform = "";
    grip.removeEventListener("pointermove", follow);
    drawing.held = false;
    if (drawing.late) {
      drawing.late = false;
      drawQueue();
    }
    if (event.type === "pointerup" && by(event)) move(job, by(event));
  };
  grip.addEventListener("pointermove", follow);
  grip.addEventListener("pointerup", drop, { once: true });
  grip.addEventListener("pointercancel", drop, { once: true });
}

async function move(job, by) {
  const jobs = state.jobs.filter(each => !removed.has(each.id)),
    from = jobs.findIndex(each => each.id === job.id);
  const to = Math.max(0, Math.min(jobs.length - 1, from + by));
  if (from < 0 || to === from) return;
  jobs.splice(to, 0, jobs.splice(from, 1)[0]);
  state.jobs = jobs;
  drawQueue();
  // Behind the last that is known here there may be more: then it goes before none of them.
  const before = jobs[to + 1]?.id ?? null;
  order.changes += 1;
  try {
    await ask("/queue", { move: { id: job.id, before } });
    order.changes += 1;
    toast("Now at place " + (to + 1) + " of " + jobs.length);
  } catch (error) {
    sorry(error);
    await refreshQueue();
  }
}

/**
 * Out of the list now, out of the queue in ten seconds, unless somebody undoes it. One that begins meanwhile is
 * stopped.
 */
function remove(ids, words = "Removed from the queue") {
  const index = [...list.children].findIndex(row => row.contains(document.activeElement));
  ids.forEach(id => removed.add(id));
  drawQueue();
  if (index >= 0) (list.children[Math.min(index, list.children.length - 1)]?.querySelector(".grip") ?? pause).focus();
  undoable(
    words,
    () => {
      ids.forEach(id => removed.delete(id));
      drawQueue();
    },
    leaving => send(ids, leaving),
  );
}

async function removeAll() {
  const ids =
    state.jobs.length === state.total
      ? state.jobs.map(job => job.id)
      : (await ask("/queue?limit=100000")).queue_pending.map(item => item[1]);
  remove(ids, plural(ids.length, "prompt") + " removed");
}

async function send(ids, leaving) {
  try {
    await ask("/jobs/cancel", { job_ids: ids }, { keepalive: leaving });
  } catch (error) {
    sorry(error);
  }
  ids.forEach(id => removed.delete(id));
  if (!leaving) await refreshQueue();
}

/** A prompt that is to be removed must not get to run in the seconds in which that could be undone. */
export function stopRemoved() {
  const id = runningId();
  if (id !== null && removed.has(id)) send([id], false);
}

async function changePause() {
  const paused = !state.paused;
  try {
    await ask("/queue", { paused });
    state.paused = paused;
    drawQueue();
    toast(paused ? "Paused. What runs, runs on." : "The queue goes on.", paused ? "Resume" : undefined, changePause);
  } catch (error) {
    sorry(error);
  }
}
