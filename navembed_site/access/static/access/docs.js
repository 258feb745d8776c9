// The API's description is as light or dark as the console is.
"use strict";

function wanted() {
  try {
    return JSON.parse(localStorage.getItem("adminTheme")) ?? "auto";
  } catch {
    return "auto";
  }
}

const isDark = wanted() === "dark" || (wanted() === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
document.documentElement.classList.toggle("dark-mode", isDark);
