// One prompt whole, and what can be done with it.

import { address, ask, queue } from "./api.js";
import { stringify } from "./exact.js";
import { copy, sorry, toast } from "./toast.js";

const KINDS = ["images", "gifs", "audio"];
const ended = new Map();

/** `GET /jobs/{id}`; one that has ended is asked for once. */
export async function whole(id) {
  if (ended.has(id)) return ended.get(id);
  const job = await ask("/jobs/" + encodeURIComponent(id));
  if (!["pending", "in_progress"].includes(job.status)) ended.set(id, job);
  if (ended.size > 200) ended.delete(ended.keys().next().value);
  return job;
}

export const forget = id => ended.delete(id);

/** The images, videos and sounds of a prompt: results before previews. */
export function imagesOf(job) {
  const files = Object.values(job.outputs).flatMap(shown => KINDS.flatMap(kind => shown[kind] ?? []));
  const results = files.filter(file => file.type !== "temp");
  return results.length ? results : files;
}

/** Whether a file is shown by a player. */
export const isVideo = file => /\.(mp4|webm|mkv)$/i.test(file.filename);

export const isSound = file => /\.(flac|mp3|opus|ogg|wav|m4a|aac)$/i.test(file.filename);

/** Whether the tile of a prompt shows it: sounds cannot be seen. */
export const isImage = file => Boolean(file) && KINDS.includes(file.mediaType) && !isSound(file);

/** The texts that its nodes have shown. */
export const textsOf = job =>
  Object.values(job.outputs)
    .flatMap(shown => shown.text ?? [])
    .filter(text => typeof text === "string");

/** `{title, message, hint}` of what went wrong. */
export function failure(job) {
  const error = job.execution_error ?? {};
  const problem = error.problems?.[0] ?? {};
  const title = problem.title ?? job.titles?.[error.node_id] ?? error.node_type;
  return {
    node: error.node_id ?? null,
    title: title ? title + " failed" : "Failed",
    message: (problem.message ?? error.exception_message ?? "The server gives no reason.").trim(),
    hint: problem.hint ?? null,
  };
}

const extraOf = job => {
  const { client_id: _, ...extra } = job.workflow.extra_data;
  return extra;
};

const queuedNote = (accepted, words) =>
  toast(words + " at place " + accepted.place, "Undo", () =>
    ask("/jobs/" + accepted.prompt_id + "/cancel", {}).catch(sorry),
  );

export async function runAgain(id) {
  const job = await whole(id);
  queuedNote(await queue(job.workflow.prompt, { extra: extraOf(job) }), "Queued");
}

export const newSeed = () => Math.floor(Math.random() * 2 ** 32);

export async function runWithNewSeed(id) {
  const job = await whole(id),
    seed = newSeed();
  const fields = job.fields.filter(field => field.name === "seed");
  if (!fields.length) return toast("This workflow has no seed.");
  const workflow = structuredClone(job.workflow.prompt);
  for (const [node, input] of fields[0].places) workflow[node].inputs[input] = seed;
  const { extra_pnginfo: _, ...extra } = extraOf(job); // the editor's document has the old seed in it
  queuedNote(await queue(workflow, { extra, name: job.summary.workflow }), "Queued with seed " + seed);
}

export async function copyWorkflow(id) {
  await copy(stringify((await whole(id)).workflow.prompt, 2), "Workflow");
}

export const openGraph = id => window.open("/?template=job-" + encodeURIComponent(id), "_blank", "noopener");

export function download(file) {
  const link = document.createElement("a");
  link.href = address(file);
  link.download = file.filename;
  link.click();
}
