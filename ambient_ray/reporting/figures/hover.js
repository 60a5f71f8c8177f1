// Beside the point under the pointer: its numbers, and samples of its model. A click keeps the card until the next one
// or Escape.
// Needs nothing but the page itself: it runs in a sandboxed frame without a network and without storage.
(function () {
  "use strict";
  const data = __DATA__;
  const plot = document.getElementById("{plot_id}");
  const card = document.createElement("div");
  card.id = "front-card";
  card.setAttribute("role", "status");
  const picture = document.createElement("img");
  const caption = document.createElement("div");
  caption.className = "caption";
  const head = document.createElement("div");
  head.className = "head";
  const table = document.createElement("table");
  card.append(head, table, picture, caption);
  card.style.display = "none";
  document.body.append(card);
  let kept = false;

  function interval(value, low, high) {
    return low === null || high === null ? String(value) : value + "  [" + low + ", " + high + "]";
  }

  function row(name, value) {
    const line = table.insertRow();
    line.insertCell().textContent = name;
    line.insertCell().textContent = value;
  }

  function fill(index, point) {
    const [trial, rung, seen, fidelity, fLow, fHigh, memory, mLow, mHigh, image, from] = data.points[index];
    const about = data.trials[trial];
    head.textContent = about.label;
    table.replaceChildren();
    row("trial", about.state);
    row("trained on", seen + " images, rung " + (rung + 1) + " of " + data.rungs);
    row(data.fidelity, interval(fidelity, fLow, fHigh));
    row(data.memorization, interval(memory, mLow, mHigh));
    for (const [name, value] of about.settings) row(name, value);
    const found = image !== null;
    picture.style.display = found ? "block" : "none";
    if (found) {
      picture.src = data.images[image];
      picture.alt = "samples of trial " + trial + " at " + from + " images";
      picture.onload = function () {
        picture.style.imageRendering = picture.naturalWidth < 120 ? "pixelated" : "auto";
        if (card.style.display === "block") place(point); // only now is its height known
      };
      caption.textContent = from === seen ? "its samples" : "this trial's samples at " + from + " images";
    } else {
      caption.textContent = "no samples kept here";
    }
    card.dataset.trial = trial;
    card.dataset.rung = rung;
  }

  function place(point) {
    const frame = plot.getBoundingClientRect();
    const x = frame.left + (point.bbox.x0 + point.bbox.x1) / 2;
    const y = frame.top + (point.bbox.y0 + point.bbox.y1) / 2;
    card.style.display = "block";
    const wide = card.offsetWidth, high = card.offsetHeight, gap = 16;
    const right = x + gap + wide <= window.innerWidth;
    const left = right ? x + gap : Math.max(x - gap - wide, 0);
    card.style.left = left + window.scrollX + "px";
    card.style.top = Math.min(Math.max(y - high / 2, 4), Math.max(window.innerHeight - high - 4, 4)) + window.scrollY + "px";
  }

  function show(event) {
    const point = event.points.find((p) => typeof p.customdata === "number");
    if (point === undefined) return false;
    fill(point.customdata, point);
    place(point);
    return true;
  }

  function hide() {
    kept = false;
    card.style.display = "none";
    card.classList.remove("kept");
  }

  let over = false;
  plot.on("plotly_hover", (event) => { over = true; if (!kept) show(event); });
  plot.on("plotly_unhover", () => { over = false; if (!kept) hide(); });
  plot.on("plotly_click", (event) => {
    hide();
    kept = show(event);
    card.classList.toggle("kept", kept);
    window.focus(); // plotly keeps the click from doing so, and Escape would go elsewhere
  });
  plot.on("plotly_relayout", hide);
  document.addEventListener("pointerdown", () => { if (kept && !over) hide(); }, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
