// The player of the user's motion sends the span that is chosen on its time line.
window.addEventListener("message", (event) => {
  const frame = element.querySelector("iframe");
  if (!frame || event.source !== frame.contentWindow || event.data?.type !== "lamp-hf-span") return;
  trigger("span", { start: event.data.start, end: event.data.end });
});
