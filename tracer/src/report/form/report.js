"use strict";
for (const box of document.querySelectorAll("[data-filter]")) {
  const rows = [...document.getElementById(box.dataset.filter).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const input = box.querySelector("input");
  const output = box.querySelector("output");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    output.textContent = shown + " of " + rows.length + " rows";
  };
  input.addEventListener("input", apply);
  box.hidden = false;
  apply();
}
for (const button of document.querySelectorAll("button[data-select]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(document.getElementById(button.dataset.select));
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(.fold)")) details.open = true;
});
const scrollable = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("resize", scrollable);
addEventListener("toggle", scrollable, true);
scrollable();
