"use strict";
(function () {
  var doc = document, boxes = [], zoomed = null, found = null;
  var root = doc.getElementById("flame"), side = +root.dataset.side, total = +root.dataset.total, wide = root.viewBox.baseVal.width - 2 * side;
  var $ = function (id) { return doc.getElementById(id); };
  doc.querySelectorAll("g.b").forEach(function (g) {
    var r = g.querySelector("rect");
    boxes.push({ g: g, rect: r, text: g.querySelector("text"), title: g.querySelector("title").textContent, name: g.dataset.n.replace(/_\[k\]$/, ""),
      from: +g.dataset.s, value: +g.dataset.v, row: +g.dataset.r, fill: r.getAttribute("fill") });
    g.style.cursor = "pointer";
  });
  function draw() {
    var from = zoomed ? zoomed.from : 0, value = zoomed ? zoomed.value : total;
    boxes.forEach(function (b) {
      var above = zoomed && b.row < zoomed.row && b.from <= from && b.from + b.value >= from + value;
      var shown = above || (b.from >= from && b.from + b.value <= from + value && (!zoomed || b.row >= zoomed.row));
      b.g.style.display = shown ? "" : "none";
      if (!shown) return;
      var x = above ? side : side + (b.from - from) / value * wide, w = above ? wide : b.value / value * wide;
      b.rect.setAttribute("x", x); b.rect.setAttribute("width", w);
      b.text.setAttribute("x", x + 3);
      var n = Math.floor((w - 6) / 6.6);
      b.text.textContent = n < 3 ? "" : b.name.length <= n ? b.name : b.name.slice(0, n - 2) + "..";
      b.rect.setAttribute("opacity", above ? 0.5 : 1);
      b.rect.setAttribute("fill", found && found.test(b.name) ? "rgb(230,0,230)" : b.fill);
    });
    $("reset").style.visibility = zoomed ? "visible" : "hidden";
  }
  function search(term) {
    try { found = term ? new RegExp(term) : null; } catch (e) { found = null; }
    // A sample counts once, however many of its functions match.
    var sum = 0, end = -1;
    if (found) boxes.filter(function (b) { return found.test(b.name); }).sort(function (a, b) { return a.from - b.from || b.value - a.value; })
      .forEach(function (b) { if (b.from >= end) { sum += b.value; end = b.from + b.value; } });
    $("matched").textContent = found ? "matched: " + (100 * sum / total).toFixed(1) + "%" : "";
    $("search").textContent = found ? "clear search" : "search";
    draw();
  }
  function ask() { if (found) { search(""); return; } var t = window.prompt("a regular expression to search for", ""); if (t) search(t); }
  boxes.forEach(function (b) {
    b.g.addEventListener("click", function () { zoomed = b.row === 0 ? null : b; draw(); });
    b.g.addEventListener("mouseover", function () { $("details").textContent = b.title; });
    b.g.addEventListener("mouseout", function () { $("details").textContent = " "; });
  });
  $("reset").addEventListener("click", function () { zoomed = null; draw(); });
  $("search").addEventListener("click", ask);
  window.addEventListener("keydown", function (e) {
    if (e.key === "F3" || (e.ctrlKey && e.key === "f")) { e.preventDefault(); ask(); }
    if (e.key === "Escape") { zoomed = null; search(""); }
  });
})();
