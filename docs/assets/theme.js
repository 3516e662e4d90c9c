// The tables follow the colours that were chosen on the other pages.
"use strict";
{
  const place = new URL("../", document.currentScript.src).pathname;
  const chosen = JSON.parse(localStorage.getItem(`${place}.__palette`) ?? "null")?.color;
  const theme = { default: "light", slate: "dark" }[chosen?.media === "(prefers-color-scheme)" ? "" : chosen?.scheme];
  if (theme) document.documentElement.dataset.theme = theme;
}
