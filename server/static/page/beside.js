// The prompts at work besides the one on the card: which worker has each, and stopping it.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { sorry, toast } from "./toast.js";
import { nameOf, plural } from "./words.js";

const SHOWN = 8;
const list = h("ul", { "aria-labelledby": "beside-h" });
const heading = h("h3.soft", { id: "beside-h" });
const card = h("div.card.beside", { hidden: true }, heading, list);

const at = { work: [], total: 0 };

export const besideCard = () => card;

/** The seconds that each of them still takes, by what such prompts took before; null where that is not known. */
export function leftBeside() {
  const left = at.work.map(job => {
    const seconds = job.expected_seconds;
    return seconds === undefined ? null : Math.max(0, seconds - (Date.now() - job.execution_start_time) / 1000);
  });
  return left.length < at.total ? [...left, null] : left;
}

/** Draw these jobs, the first of `total`. */
export async function refreshBeside(jobs, total) {
  Object.assign(at, { work: jobs, total });
  card.hidden = total === 0;
  if (total === 0) return list.replaceChildren();
  const { workers } = await ask("/workers");
  const worker = job => workers.find(each => each.prompts.includes(job.id))?.name.replace(/^@/, "");
  heading.textContent = plural(total, "more prompt") + " at work";
  const rows = jobs.slice(0, SHOWN).map(job => rowOf(job, worker(job)));
  if (total > rows.length) rows.push(h("li.faint.small", {}, "and " + (total - rows.length) + " more"));
  list.replaceChildren(...rows);
}

function rowOf(job, worker) {
  const name = nameOf(job),
    { client, steps } = job.summary ?? {};
  const about = [client, steps ? plural(steps, "step") : null, worker ? "on " + worker : null].filter(Boolean);
  const stop = h("button.btn.quiet.tight", { "aria-label": "Stop: " + name, onclick: () => end(job, stop) }, "Stop");
  return h(
    "li",
    {},
    h("span.dot.on"),
    h("span.cut.grow", { title: name }, name),
    h("span.small.soft.cut", {}, about.join(", ")),
    stop,
  );
}

async function end(job, button) {
  button.disabled = true;
  try {
    await ask("/interrupt", { prompt_id: job.id });
    toast("Stopping after this step");
  } catch (error) {
    button.disabled = false;
    sorry(error);
  }
}
