// Draw strokes, send them, and show the answer. Uses no library; sends requests to this server only.
"use strict";

const SENT = 112; // pixels along each side of the image that is sent
const PEN = 0.06; // width, as a fraction of the canvas
const STEP = 0.03; // of an arrow key, as a fraction of the canvas
const INTERVAL = 60; // milliseconds between requests while drawing
const BARS = 12; // classes; of more, the most probable are shown

const $ = (id) => document.getElementById(id);
const paper = $("paper"), context = paper.getContext("2d");
let strokes = []; // each is a list of [x, y], 0 to 1
let picture = null; // the opened file, which replaces the drawing
let bitmap = null; // of that file
let active = null; // id of the pointer that draws
let cursor = { x: 0.5, y: 0.5, down: false, visible: false };
let classes = [..."0123456789"]; // names, of the network that answered last
let busy = false, again = false, timer = 0; // of requests

function trace(target, side) {
  target.lineCap = target.lineJoin = "round";
  target.lineWidth = PEN * side;
  for (const stroke of strokes) {
    target.beginPath();
    stroke.forEach(([x, y], i) => (i ? target.lineTo(x * side, y * side) : target.moveTo(x * side, y * side)));
    if (stroke.length === 1) target.lineTo(stroke[0][0] * side, stroke[0][1] * side + 0.01);
    target.stroke();
  }
}

function paint() {
  const side = paper.width;
  context.clearRect(0, 0, side, side);
  if (bitmap) {
    const scale = side / Math.max(bitmap.width, bitmap.height);
    const width = bitmap.width * scale, height = bitmap.height * scale;
    context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  }
  context.strokeStyle = getComputedStyle(paper).color;
  trace(context, side);
  if (cursor.visible) {
    context.lineWidth = 3;
    context.beginPath();
    context.arc(cursor.x * side, cursor.y * side, (PEN * side) / 2 + 4, 0, 7);
    if (!cursor.down) context.setLineDash([6, 6]);
    context.stroke();
    context.setLineDash([]);
  }
  $("undo").disabled = $("clear").disabled = !strokes.length && !picture;
}

function changed() {
  paint();
  if (busy) { again = true; return; }
  if (!timer) timer = setTimeout(() => { timer = 0; predict(); }, INTERVAL);
}

function body() {
  if (picture) return [picture, picture.type];
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SENT;
  const target = canvas.getContext("2d");
  target.fillRect(0, 0, SENT, SENT);
  target.strokeStyle = "#fff";
  trace(target, SENT);
  const rgba = target.getImageData(0, 0, SENT, SENT).data;
  return [Uint8Array.from({ length: SENT * SENT }, (_, i) => rgba[4 * i]), "application/octet-stream"];
}

async function predict() {
  if (!strokes.length && !picture) { show(null, "Nothing drawn yet."); return; }
  busy = true;
  again = false;
  const [content, type] = body();
  const query = new URLSearchParams({ model: $("models").value, width: SENT, height: SENT });
  try {
    const reply = await fetch("api/predict?" + query, { method: "POST", body: content, headers: { "Content-Type": type } });
    const answer = await reply.json();
    if (reply.ok) name(answer);
    if (reply.ok) show(answer, describe(answer));
    else show(null, answer.error);
  } catch {
    show(null, "The server is not responding. Is it still running?");
  }
  busy = false;
  if (again) changed();
}

function percent(p) {
  return p > 0.9995 ? "> 99.9 %" : (100 * p).toFixed(1) + " %";
}

function describe(answer) {
  if (answer.digit === null) return sentence(answer.problem);
  const text = `${answer.class}, with probability ${percent(answer.probability)}.`;
  const article = digits() ? `${answer.digit === 8 ? "an" : "a"} ` : "";
  return answer.unsure ? `Unsure: perhaps ${text}` : `This is ${article}${text}`;
}

function digits() {
  return classes.length === 10 && classes.every((name, number) => name === String(number));
}

function name(network) {
  classes = network.classes;
  document.title = $("title").textContent = network.title;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + ".";
}

function show(answer, text) {
  const hasDigit = answer && answer.digit !== null;
  $("digit").textContent = hasDigit ? answer.class : answer ? "–" : "?";
  $("digit").classList.toggle("unsure", Boolean(answer && answer.unsure));
  $("digit").classList.toggle("long", $("digit").textContent.length > 2);
  if ($("words").textContent !== text) $("words").textContent = text;
  bars(hasDigit ? answer.probabilities : null);
  const input = $("input"), target = input.getContext("2d");
  target.clearRect(0, 0, input.width, input.height);
  if (!hasDigit) return;
  const [rows, columns, depth = 1] = answer.seen_shape;
  [input.height, input.width] = [rows, columns];
  const image = target.createImageData(columns, rows), seen = atob(answer.seen);
  for (let i = 0; i < rows * columns; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = seen.charCodeAt(depth * i + (c % depth));
    image.data[4 * i + 3] = 255;
  }
  target.putImageData(image, 0, 0);
}

function bars(probabilities) {
  const values = probabilities || classes.map(() => 0), table = $("bars");
  const top = probabilities ? values.indexOf(Math.max(...values)) : -1;
  let shown = [...values.keys()];
  if (shown.length > BARS) shown = shown.sort((a, b) => values[b] - values[a]).slice(0, BARS);
  while (table.rows.length > shown.length) table.deleteRow(-1);
  shown.forEach((number, line) => {
    const row = table.rows[line] || newBar(table), p = values[number];
    row.className = number === top ? "top" : "";
    row.cells[0].textContent = classes[number];
    row.querySelector("progress").value = p;
    row.lastChild.textContent = probabilities ? percent(p) : "";
  });
}

function newBar(table) {
  const row = table.insertRow(), head = document.createElement("th"), bar = document.createElement("progress");
  head.scope = "row";
  row.append(head);
  const cell = row.insertCell();
  cell.ariaHidden = "true"; // the next cell has the same value as text
  cell.append(bar);
  row.insertCell();
  return row;
}

function clear() {
  strokes = [];
  picture = bitmap = null;
  cursor.down = false;
  changed();
}

function undo() {
  if (picture) { clear(); return; }
  strokes.pop();
  cursor.down = false;
  changed();
}

async function open(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) { show(null, "The file must be a picture."); return; }
  clear();
  picture = file;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    bitmap = null; // the server reports what is wrong
  }
  changed();
}

function at(event) {
  const box = paper.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

paper.addEventListener("pointerdown", (event) => {
  if (active !== null || event.button !== 0) return;
  active = event.pointerId;
  paper.setPointerCapture(active);
  if (picture) clear();
  cursor.visible = cursor.down = false;
  strokes.push([at(event)]);
  changed();
});
paper.addEventListener("pointermove", (event) => {
  if (event.pointerId !== active) return;
  const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const each of all.length ? all : [event]) strokes.at(-1).push(at(each));
  changed();
});
for (const end of ["pointerup", "pointercancel"]) {
  paper.addEventListener(end, (event) => { if (event.pointerId === active) active = null; });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
paper.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const move = MOVES[event.key];
  if (move) {
    cursor.x = Math.min(1, Math.max(0, cursor.x + STEP * move[0]));
    cursor.y = Math.min(1, Math.max(0, cursor.y + STEP * move[1]));
    cursor.visible = true;
    if (cursor.down) strokes.at(-1).push([cursor.x, cursor.y]);
  } else if (event.key === " ") {
    cursor.visible = true;
    cursor.down = !cursor.down;
    if (picture) clear();
    if (cursor.down) strokes.push([[cursor.x, cursor.y]]);
  } else if (event.key.toLowerCase() === "u") undo();
  else if (event.key.toLowerCase() === "c") clear();
  else return;
  event.preventDefault();
  if (cursor.down) changed();
  else paint();
});
paper.addEventListener("blur", () => { cursor.visible = cursor.down = false; paint(); });

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
$("models").addEventListener("change", changed);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    paper.classList.toggle("drop", kind === "dragover");
    if (kind === "drop") open(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

async function start() {
  bars(null);
  paint();
  const { models, default: chosen, ...network } = await (await fetch("api/models")).json();
  for (const { id, name } of models) $("models").add(new Option(name, id, id === chosen, id === chosen));
  name(network);
  if (!strokes.length && !picture) bars(null);
}
start();
