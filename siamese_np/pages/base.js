"use strict";
// What the pages share: their data, and how an element is made.

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const count = (n) => n.toLocaleString("en");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}
