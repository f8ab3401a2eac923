// Takes an image by choice, drop, paste or camera, asks POST invocations, and shows what the model says.
"use strict";

const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp", "image/gif"];
const LONGER_SIDE_PX = 2048; // of an image that has to be made smaller; the network sees far fewer
const MAX_TRIES = 4; // while the server says that it is busy
const MAX_BYTES = Number(document.body.dataset.maxBytes);
const COVERAGE = Number(document.body.dataset.coverage);

const at = (id) => document.getElementById(id);
const percent = (share) => (share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const listed = (counts) => (counts.length < 2 ? `${counts}` : `${counts.slice(0, -1).join(", ")} or ${counts.at(-1)}`);

let image = null; // a Blob that the server takes
let taken = null; // the file of the last choice; an older one may still be on its way
let asking = null; // the AbortController of the request under way

class Trouble extends Error {
  constructor(error, hint) {
    super(error);
    this.hint = hint;
  }
}

/** Returns what can be sent, the file itself or a JPEG drawn from it if it is too large or of another kind, and why. */
async function sendable(file) {
  const isReadable = SENT_AS_IT_IS.includes(file.type);
  if (isReadable && file.size <= MAX_BYTES) return [file, ""];
  let drawn;
  try {
    drawn = await createImageBitmap(file);
  } catch {
    throw new Trouble("This is no image that your browser can read.", "Choose a JPEG or PNG file.");
  }
  const { width, height } = drawn;
  for (let side = LONGER_SIDE_PX; side >= 256; side /= 2) {
    const scale = Math.min(1, side / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
    const jpeg = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    if (jpeg && jpeg.size <= MAX_BYTES) {
      const why = isReadable ? `it has ${mebibytes(file.size)}, and ${mebibytes(MAX_BYTES)} can be sent` : "only JPEG, PNG, WebP and GIF can be sent";
      return [jpeg, `Sent as a JPEG of ${canvas.width} × ${canvas.height} px instead of ${width} × ${height}: ${why}.`];
    }
  }
  throw new Trouble("The image cannot be made small enough.", "Choose a smaller one.");
}

async function take(file) {
  if (!file) return;
  asking?.abort();
  const own = (taken = { file });
  image = null;
  at("scaled").textContent = "";
  URL.revokeObjectURL(at("preview").src); // nothing of the image before stays beside what is said of this one
  at("preview").removeAttribute("src");
  at("preview").hidden = true;
  at("invitation").textContent = file.name || "Pasted image";
  let sent, why;
  try {
    [sent, why] = await sendable(file);
  } catch (error) {
    return own === taken ? showTrouble(error) : undefined;
  }
  if (own !== taken) return; // a large file takes longer to draw than the next one to choose
  image = sent;
  at("scaled").textContent = why;
  at("preview").src = URL.createObjectURL(image);
  at("preview").hidden = false;
  await ask();
}

function expectedCount() {
  const field = at("record");
  if (!field.validity.valid) {
    field.focus();
    throw new Trouble("The record's number is none that this model can check.", `Type a whole number from ${field.min} to ${field.max}, or nothing.`);
  }
  return field.value === "" ? null : Number(field.value);
}

async function ask() {
  asking?.abort();
  const own = (asking = new AbortController());
  at("result").setAttribute("aria-busy", "true");
  at("count").textContent = "Counting…";
  try {
    if (!image) throw new Trouble("There is no image yet.", "Choose, drop or paste a photo of a bin first.");
    const expected = expectedCount();
    showPrediction(await answerOf(expected, own.signal), expected);
  } catch (error) {
    if (!own.signal.aborted) showTrouble(error);
  }
  if (own === asking) {
    at("result").removeAttribute("aria-busy");
    at("count").textContent = "Count";
  }
}

async function answerOf(expected, signal) {
  const address = expected === null ? "invocations" : `invocations?expected_count=${expected}`;
  for (let attempt = 1; ; attempt += 1) {
    let response, body;
    try {
      response = await fetch(address, { method: "POST", body: image, headers: { "Content-Type": image.type }, signal });
      body = await response.json();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Trouble("The server did not answer.", "Check that it is running, then press Count.");
    }
    if (response.ok) return body;
    if (response.status !== 503 || attempt === MAX_TRIES) throw new Trouble(body.error, body.hint);
    const wait = Number(response.headers.get("Retry-After") || 1);
    await new Promise((done) => setTimeout(done, 1000 * wait));
    signal.throwIfAborted();
  }
}

function show(id) {
  for (const part of ["empty", "trouble", "prediction"]) at(part).hidden = part !== id;
  at("details").hidden = id !== "prediction";
  at("result").scrollIntoView({ block: "nearest" }); // on a phone it lies below the image
}

function showTrouble(error) {
  at("error").textContent = error.message;
  at("hint").textContent = error.hint ?? "";
  at("result").removeAttribute("aria-busy");
  show("trouble");
}

function showPrediction(prediction, expected) {
  const { count, probabilities, conformal_set: set } = prediction;
  at("number").textContent = count;
  at("items").textContent = count === 1 ? "item" : "items";
  at("against").hidden = expected === null;
  at("says").textContent = `Record says ${expected}`;
  const ruling = expected === count ? "agrees" : set.includes(expected) ? "possible" : "recount";
  at("ruling").className = ruling;
  at("ruling").textContent = ruling;
  at("verdict").textContent = prediction.verdict;
  at("warning").textContent = prediction.warning ?? "";
  at("warning").hidden = !prediction.warning;
  at("set").hidden = Boolean(prediction.warning); // of what the model has never seen it cannot rule anything out
  at("bars").replaceChildren(...Object.entries(probabilities).map(([name, p]) => bar(Number(name), p, count, expected)));
  at("set").textContent =
    set.length === 1
      ? `Every count but ${set[0]} can be ruled out.`
      : `The photo leaves open ${listed(set)}. In ${Math.round(100 * COVERAGE)} of 100 bins the record is among the counts left open.`;
  at("facts").textContent = `Counted in ${prediction.milliseconds.toFixed(0)} ms.`;
  show("prediction");
}

function bar(name, p, count, expected) {
  const row = document.createElement("li");
  row.classList.toggle("predicted", name === count);
  row.classList.toggle("recorded", name === expected);
  row.append(part("name", name), part("track", ""), part("share", percent(p)));
  row.style.setProperty("--p", p);
  if (name === expected) {
    const tag = part("tag", "record");
    tag.classList.toggle("inside", p > 0.85);
    row.children[1].append(tag);
  }
  return row;
}

function part(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

at("preview").addEventListener("error", () => (at("preview").hidden = true));
for (const id of ["file", "camera"]) {
  at(id).addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same file can be chosen again
    take(file);
  });
}
at("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("record").addEventListener("change", () => image && ask());
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) take(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
