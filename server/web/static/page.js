"use strict";
// The pages work without this file. It adds: new entries on the timeline as they come, and buttons that copy.
(() => {
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).value);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  const list = document.getElementById("entries");
  if (!list || !list.dataset.poll) return;
  const status = document.getElementById("live-status");
  const every = 4000;
  let url = new URL(list.dataset.poll, location.href);
  let seen = 0;

  function take(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    let count = 0;
    for (const day of [...fresh.querySelectorAll("section.day")].reverse()) {
      const items = [...day.querySelectorAll("li.entry")];
      count += items.length;
      for (const item of items) item.classList.add("new");
      const first = list.querySelector("section.day");
      if (first && first.dataset.day === day.dataset.day) first.querySelector("ol").prepend(...items);
      else list.prepend(document.adoptNode(day));
    }
    seen += count;
    status.textContent = seen === 1 ? "1 new change" : `${seen} new changes`;
  }

  async function look() {
    if (!document.hidden) {
      try {
        const answer = await fetch(url, { redirect: "error" });
        if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) return;
        if (answer.ok) {
          const text = await answer.text();
          if (text) take(text);
          const newest = answer.headers.get("X-Gitstore-Newest");
          if (newest) url.searchParams.set("after", newest);
        }
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // the server is away, or the session has ended
      }
    }
    setTimeout(look, every);
  }
  setTimeout(look, every);
})();
