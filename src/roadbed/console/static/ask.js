// Streams an answer into the page: the same form as without scripts, read as server-sent events.

import { element } from "./elements.js";
import { events } from "./events.js";
import { hear } from "./heard.js";

const TURNS_MAX = 50;
const form = document.getElementById("ask");
const turns = document.getElementById("turns");
const stop = document.getElementById("stop");

function begin(question) {
  const turn = element("article", "turn card");
  const state = element("p", "soft small", "Looking through the documents …");
  const answer = element("div", "answer streaming");
  hear(state.textContent);
  turn.setAttribute("aria-busy", "true");
  turn.append(element("h2", "question", question), state, answer);
  turns.append(turn);
  while (turns.childElementCount > TURNS_MAX) turns.firstElementChild.remove();
  document.querySelector(".examples")?.remove();
  document.getElementById("sources").hidden = true;
  turn.closest(".ask").classList.add("begun");
  turn.scrollIntoView({ block: "start" });
  return { turn, state, answer };
}

function fail(shown, text, needsSignIn) {
  const note = element("div", "note bad");
  note.append(element("p", "", text));
  if (needsSignIn) {
    const link = element("a", "", "Sign in in a new tab, then ask again");
    link.href = "/console/sign-in";
    link.target = "_blank";
    link.rel = "noopener";
    note.append(link);
  }
  shown.state.replaceWith(note);
  shown.turn.removeAttribute("aria-busy");
  hear(text);
}

async function ask(body, question, control) {
  const shown = begin(question);
  let isDone = false;
  try {
    const answer = await fetch("/console/ask/stream", { method: "POST", body, signal: control.signal });
    if (!answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const what = page.querySelector(".what")?.textContent ?? "The server did not take the question.";
      fail(shown, `${what} Your question is kept in the form.`, answer.status === 401 || answer.status === 403);
      return false;
    }
    for await (const { name, value } of events(answer.body)) {
      if (name === "text") {
        shown.state.textContent = "Answering …";
        hear(shown.state.textContent);
        shown.answer.append(value.text);
      } else if (name === "progress") {
        shown.state.textContent = value.text[0].toUpperCase() + value.text.slice(1);
        hear(shown.state.textContent);
      } else if (name === "done") {
        isDone = true;
        const page = new DOMParser().parseFromString(value.turn, "text/html");
        const finished = document.adoptNode(page.querySelector(".turn"));
        shown.turn.replaceWith(finished);
        hear(finished.querySelector(".answer, .note")?.textContent.trim());
        document.getElementById("sources").replaceWith(document.adoptNode(page.getElementById("sources")));
        form.elements.history.value = value.history;
        return !finished.querySelector(":scope > .note.bad");
      }
    }
  } catch (error) {
    if (error.name === "AbortError") { fail(shown, "Stopped. The model is no longer asked."); return false; }
  }
  if (!isDone) fail(shown, "The connection broke before the answer was complete. Your question is kept in the form.");
  return false;
}

if (form && turns && stop) {
  const field = form.elements.question;
  let control = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (control) return;
    const example = event.submitter?.name === "example" ? event.submitter.value : "";
    const question = (example || field.value).trim();
    if (!question) { field.focus(); return; }
    const body = new URLSearchParams(new FormData(form));
    body.set("question", question);
    field.value = question;
    control = new AbortController();
    stop.hidden = false;
    for (const button of document.querySelectorAll("button.first, .example")) button.disabled = true;
    const isAnswered = await ask(body, question, control);
    control = null;
    stop.hidden = true;
    for (const button of document.querySelectorAll("button.first, .example")) button.disabled = false;
    if (document.activeElement === document.body || document.activeElement?.disabled) field.focus({ preventScroll: true });
    if (isAnswered) { field.value = ""; field.placeholder = "Ask about what was just said, or something new"; }
  });
  stop.addEventListener("click", () => control?.abort());
  // A keyboard on glass has no Shift + Enter, so there Enter makes the new line. While an input method composes a word
  // (229 in Safari), Enter takes the word.
  const isTouch = matchMedia("(hover: none)").matches;
  if (!isTouch) field.setAttribute("aria-describedby", `${field.getAttribute("aria-describedby") ?? ""} question-keys`.trim());
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey || event.isComposing || event.keyCode === 229) return;
    if (isTouch && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    if (!event.repeat) form.requestSubmit();
  });
}
