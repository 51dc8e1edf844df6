// The server's API. Every refusal is a Refused with its problems.

import { parse, stringify } from "./exact.js";

export class Refused extends Error {
  constructor(message, problems = []) {
    super(message);
    this.problems = problems;
  }
}

/** GET, or POST where there is a body. Raises Refused. */
export async function ask(path, body, more = {}) {
  const form = body instanceof FormData;
  const options =
    body === undefined
      ? {}
      : {
          method: "POST",
          body: form ? body : stringify(body),
          headers: form ? {} : { "Content-Type": "application/json" },
        };
  let answer;
  try {
    answer = await fetch(path, { ...options, ...more });
  } catch {
    throw new Refused("The server cannot be reached.");
  }
  if (answer.status === 401) location.assign("/login");
  const text = await answer.text();
  if (answer.ok) return text ? parse(text) : null;
  let refusal = {};
  try {
    refusal = JSON.parse(text);
  } catch {
    // what stands before the server answers in its own words
  }
  const problems = refusal.problems ?? [];
  throw new Refused(
    problems[0]?.message ?? refusal.error?.message ?? "The server answered " + answer.status + ".",
    problems,
  );
}

/** Where a file of a run is; `small` for a tile. */
export function address(file, small) {
  const query = new URLSearchParams({
    filename: file.filename,
    subfolder: file.subfolder || "",
    type: file.type || "output",
  });
  if (small) query.set("preview", "webp;80");
  return "/view?" + query;
}

/** Queue a workflow; what the server answered. Its place among those that wait is `place`, from 1. */
export async function queue(workflow, { name = null, extra = {}, front = false } = {}) {
  const accepted = await ask("/prompt", {
    prompt: workflow,
    front,
    extra_data: { ...extra, workflow_name: name ?? extra.workflow_name, client_name: "status page" },
  });
  const { pagination } = await ask("/jobs?status=pending,in_progress&limit=1");
  return { ...accepted, place: pagination.total };
}

/** Bring an image into the input folder; its name there. */
export async function upload(file) {
  const form = new FormData();
  form.append("image", file, file.name);
  const kept = await ask("/upload/image", form);
  return kept.subfolder ? kept.subfolder + "/" + kept.name : kept.name;
}

/** The form of a workflow file. */
export async function formOf(file) {
  const form = new FormData();
  form.append("file", file, file.name);
  return ask("/forms", form);
}
