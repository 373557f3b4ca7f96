"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0], column = head.cellIndex;
    const ascending = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => value(a) === undefined || value(b) === undefined
      ? a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", {numeric: true})
      : (Number(value(a).replace("inf", "Infinity")) - Number(value(b).replace("inf", "Infinity"))) || 0;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => ascending ? compare(a, b) : compare(b, a)));
  });
}

const page = document.documentElement;
for (const group of document.querySelectorAll(".axes")) group.hidden = false;
// Labels of curves are buttons, for the keyboard and for screen readers too.
for (const svg of document.querySelectorAll(".plot svg")) {
  for (const text of svg.querySelectorAll("text")) {
    const label = text.closest("[data-method]");
    if (!label) {
      text.setAttribute("aria-hidden", "true");
      continue;
    }
    const name = document.querySelector(`.legend [data-method="${label.dataset.method}"]`).textContent.trim();
    const attributes = {role: "button", tabindex: "0", "aria-pressed": "false", "aria-label": name};
    for (const [attribute, value] of Object.entries(attributes)) label.setAttribute(attribute, value);
    svg.setAttribute("role", "group"); // screen readers ignore what is inside an image
  }
}
function showAxis(axis) {
  page.dataset.axis = axis;
  for (const button of document.querySelectorAll("button[data-axis]")) button.setAttribute("aria-pressed", button.dataset.axis === axis);
}
function pick(method) {
  const parts = [...document.querySelectorAll("[data-method]")];
  const others = new Set(parts.filter((part) => part.dataset.method !== method && part.classList.contains("picked")).map((part) => part.dataset.method));
  const wasPicked = parts.some((part) => part.dataset.method === method && part.classList.contains("picked"));
  page.classList.toggle("picking", others.size > 0 || !wasPicked);
  for (const part of parts) {
    if (part.dataset.method === method) part.classList.toggle("picked", !wasPicked);
    if (part.hasAttribute("aria-pressed")) part.setAttribute("aria-pressed", part.classList.contains("picked"));
  }
}
document.addEventListener("click", (event) => {
  const axis = event.target.closest("button[data-axis]"), part = event.target.closest("[data-method]");
  if (axis) showAxis(axis.dataset.axis);
  if (part) pick(part.dataset.method);
});
document.addEventListener("keydown", (event) => {
  const label = event.target.closest("svg [role=button]");
  if (!label || !["Enter", " "].includes(event.key)) return;
  event.preventDefault(); // Space scrolls the page
  if (!event.repeat) pick(label.dataset.method);
});
