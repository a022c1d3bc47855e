"use strict";
// Draws the charts of the page, and moves what follows its slider.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const views = {}; // of charts that have a name

  const draw = async (place) => {
    // ast: expressions are interpreted, as the page forbids eval
    const options = { actions: false, renderer: "svg", ast: true, config: data.config };
    try {
      const { view } = await vegaEmbed(place, data.charts[place.id], options);
      view.description(place.dataset.label);
      await view.runAsync();
      if (place.dataset.name) views[place.dataset.name] = view;
    } catch (error) {
      place.textContent = `This chart cannot be drawn: ${error.message}`;
    }
  };

  const follow = (box, slider) => {
    const input = box.querySelector("input");
    const rows = [...box.nextElementSibling.querySelectorAll("tbody tr")];
    const move = () => {
      const at = Number(input.value);
      slider.cells[at].forEach((texts, row) =>
        texts.forEach((text, column) => { rows[row].cells[column + 1].textContent = text; }));
      const [right, , share] = slider.cells[at][0];
      input.setAttribute("aria-valuetext", `${right} % right at ${share} % of the operations`);
      for (const [name, values] of Object.entries(slider.charts))
        if (views[name]) views[name].data("now", structuredClone(values[at])).runAsync();
    };
    input.addEventListener("input", move);
    move();
  };

  const start = async () => {
    for (const place of document.querySelectorAll(".chart")) await draw(place);
    document.querySelectorAll("[data-slider]").forEach((box, at) => follow(box, data.sliders[at]));
    document.documentElement.dataset.drawn = "yes";
  };
  start();
})();
