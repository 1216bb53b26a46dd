// Says what changed to those who listen to the page: one polite region, told whole sentences and never single tokens.

const region = document.getElementById("heard");

export function hear(text) {
  if (region && text && region.textContent !== text) region.textContent = text;
}
