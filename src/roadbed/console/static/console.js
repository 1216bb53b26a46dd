// What every page gains from scripts: keys, copying, and pages that are read again while something moves.

const root = document.documentElement;
root.classList.add("scripts");

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
const shortcuts = document.getElementById("shortcuts");

// -- keys ------------------------------------------------------------------------------------------------------------

const LETTERS = "roadbed-letters-off";
const letters = document.querySelector("[data-setting=letters]");

function stored(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

if (letters) {
  letters.checked = stored(LETTERS) !== "1";
  letters.addEventListener("change", () => {
    try { localStorage.setItem(LETTERS, letters.checked ? "0" : "1"); } catch { /* not kept, still in force */ }
  });
}

let awaitsPlace = 0;

function step(by) {
  const rows = [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector(".row-link"));
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("at"));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  rows.forEach((row) => row.classList.toggle("at", row === next));
  next.querySelector(".row-link").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || shortcuts?.open) return;
  if (letters && !letters.checked) return;
  if (Date.now() < awaitsPlace) {
    awaitsPlace = 0;
    const place = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (place) { event.preventDefault(); place.click(); }
    return;
  }
  switch (event.key) {
    case "g": awaitsPlace = Date.now() + 1500; break;
    case "?": shortcuts?.showModal(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "/": {
      const field = document.querySelector("[data-search]");
      if (field) { event.preventDefault(); field.focus(); }
    }
  }
});

// -- clicks ----------------------------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  const copier = event.target.closest("[data-copy]");
  if (!copier) return;
  let said = "copied";
  try { await navigator.clipboard.writeText(copier.dataset.copy); } catch { said = "select it and copy"; }
  copier.textContent = said;
  setTimeout(() => { copier.textContent = "copy"; }, 1500);
});

// -- pages that move -------------------------------------------------------------------------------------------------

const LOOK_MS = 2000;

async function look() {
  const live = document.querySelector("[data-live]");
  if (!live) return;
  if (!document.hidden && !live.contains(document.activeElement)) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok && !answer.redirected) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(live.id);
        if (fresh && !live.contains(document.activeElement)) live.replaceWith(document.adoptNode(fresh));
      }
    } catch { /* the server is away; look again */ }
  }
  setTimeout(look, LOOK_MS);
}
setTimeout(look, LOOK_MS);

document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// -- evidence beside the claim ---------------------------------------------------------------------------------------

function point(event) {
  const cite = event.target.closest?.("[data-cite]");
  for (const shown of document.querySelectorAll(".source.at")) shown.classList.remove("at");
  if (!cite) return;
  const turn = cite.closest(".turn");
  const beside = turn.matches(":last-child") ? document.getElementById("sources") : turn;
  beside?.querySelector(`[data-source="${CSS.escape(cite.dataset.cite)}"]`)?.classList.add("at");
}
document.addEventListener("mouseover", point);
document.addEventListener("focusin", point);
