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
