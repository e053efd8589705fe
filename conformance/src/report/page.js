"use strict";
const form = document.querySelector(".filter");
const words = form.querySelector("input[type=search]");
const boxes = [...form.querySelectorAll("input[type=checkbox]")];
const button = form.querySelector("button");
const checks = [...document.querySelectorAll("details.check")].map(
  element => ({ element, text: element.textContent.toLowerCase() }));

function choose() {
  const outcomes = new Set(boxes.filter(box => box.checked).map(box => box.value));
  const wanted = words.value.toLowerCase().split(/\s+/).filter(word => word);
  let shown = 0;
  for (const { element, text } of checks) {
    const is = outcomes.has(element.dataset.outcome) && wanted.every(word => text.includes(word));
    element.hidden = !is;
    shown += is;
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("details.check:not([hidden])");
  }
  document.querySelector(".none").hidden = shown > 0;
}

let unfold = true;
button.addEventListener("click", () => {
  for (const { element } of checks) element.open = unfold;
  unfold = !unfold;
  button.textContent = unfold ? "unfold all" : "fold all";
});
form.addEventListener("input", choose);
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
choose();
