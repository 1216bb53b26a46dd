// Asks several routes at once and shows each answer as it comes: the same form as without scripts, sent once per route.

import { element } from "./elements.js";
import { events } from "./events.js";
import { hear } from "./heard.js";

const form = document.getElementById("playground");
const tries = document.getElementById("tries");
const stop = document.getElementById("stop");

function begin(route) {
  const card = element("article", "try card");
  const state = element("p", "soft small", "Waiting for the first token …");
  const answer = element("div", "answer streaming");
  hear(state.textContent);
  card.append(element("h2", "", route), state, answer);
  tries.append(card);
  return { card, state, answer };
}

function fail(shown, text) {
  shown.state.replaceWith(element("p", "note bad", text));
  hear(text);
}

async function ask(route, control, submitter) {
  const shown = begin(route);
  const body = new URLSearchParams(new FormData(form));
  if (submitter?.name) body.append(submitter.name, submitter.value);
  body.delete("routes");
  body.append("routes", route);
  try {
    const answer = await fetch("/console/playground/stream", { method: "POST", body, signal: control.signal });
    if (answer.status === 422) { form.submit(); return; }  // the page says what the prompt holds
    if (!answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      fail(shown, page.querySelector(".what")?.textContent ?? "The server did not take the prompt.");
      return;
    }
    for await (const { name, value } of events(answer.body)) {
      if (name === "text") {
        shown.state.textContent = "Answering …";
        shown.answer.append(value.text);
      } else if (name === "done") {
        const page = new DOMParser().parseFromString(value.html, "text/html");
        const finished = document.adoptNode(page.querySelector(".try"));
        shown.card.replaceWith(finished);
        hear(`${route}: ${finished.querySelector(".answer, .note")?.textContent.trim()}`);
        return;
      }
    }
    fail(shown, "The connection broke before the answer was complete.");
  } catch (error) {
    fail(shown, error.name === "AbortError" ? "Stopped. The model is no longer asked."
      : "The connection broke before the answer was complete.");
  }
}

if (form && tries && stop) {
  let control = null;
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.hasAttribute("formaction")) return;
    event.preventDefault();
    if (control) return;
    const routes = new FormData(form).getAll("routes");
    if (!form.elements.prompt.value.trim()) { form.elements.prompt.focus(); return; }
    if (!routes.length || routes.length > Number(form.dataset.routesMax)) { form.submit(); return; }
    tries.replaceChildren();
    control = new AbortController();
    stop.hidden = false;
    const button = form.querySelector("button.first:not([formaction])");
    button.disabled = true;
    await Promise.all(routes.map((route) => ask(route, control, event.submitter)));
    control = null;
    stop.hidden = true;
    button.disabled = false;
  });
  stop.addEventListener("click", () => control?.abort());
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
  });
}
