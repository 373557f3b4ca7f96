"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0], place = head.cellIndex;
    const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && !head.classList.contains("number"));
    const value = (row) => row.cells[place].dataset.value;
    const order = (a, b) => value(a) === undefined || value(b) === undefined
      ? a.cells[place].textContent.localeCompare(b.cells[place].textContent, "en", {numeric: true})
      : (Number(value(a).replace("inf", "Infinity")) - Number(value(b).replace("inf", "Infinity"))) || 0;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
  });
}
