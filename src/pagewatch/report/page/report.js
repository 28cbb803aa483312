"use strict"

function plotNamed(name) {
  for (const shown of (window.Bokeh ? Bokeh.documents : [])) {
    const model = shown.get_model_by_name(name)
    if (model) {
      return model
    }
  }
  return null
}

// Canvases know nothing of the page's colours: hand them on.
function paint(plot) {
  const style = getComputedStyle(document.documentElement)
  const [ink, soft, line, empty] = ["--ink", "--soft", "--line", "--empty"].map((name) => style.getPropertyValue(name).trim())
  for (const side of [plot.left, plot.right, plot.below]) {
    for (const axis of side) {
      axis.setv({major_label_text_color: soft, axis_label_text_color: soft, axis_line_color: line,
        major_tick_line_color: line, minor_tick_line_color: null, axis_label_text_font_style: "normal"})
    }
  }
  plot.setv({background_fill_color: empty, outline_line_color: line})
  const bars = plot.renderers.find((renderer) => renderer.name == "bars")
  if (bars) {
    const accent = style.getPropertyValue("--accent").trim()
    bars.glyph.setv({fill_color: accent, line_color: accent})
  }
  const narrow = window.innerWidth < 760
  plot.setv({min_border_left: narrow ? 84 : 180, min_border_right: narrow ? 12 : 112})
  for (const axis of plot.right) {
    axis.visible = !narrow
  }
}

function repaint() {
  const theme = document.documentElement.dataset.theme
  const heat = plotNamed("heat")
  if (heat) {
    heat.palette = ["#00000000", ...PALETTES[theme]]
  }
  for (const plot of [plotNamed("heatmap"), plotNamed("rate")]) {
    if (plot) {
      paint(plot)
    }
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme
  repaint()
}

function sortBy(table, index) {
  const heading = table.tHead.rows[0].cells[index]
  const isText = heading.dataset.kind == "text"
  const ascending = heading.ariaSort ? heading.ariaSort == "descending" : isText
  for (const cell of table.tHead.rows[0].cells) {
    cell.removeAttribute("aria-sort")
  }
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending")
  const key = (row) => isText ? row.cells[index].textContent : Number(row.cells[index].dataset.value)
  const order = (a, b) => isText ? a.localeCompare(b) : a - b
  const rows = Array.from(table.tBodies[0].rows, (row) => [key(row), row])
  rows.sort((a, b) => (ascending ? 1 : -1) * order(a[0], b[0]))
  table.tBodies[0].append(...rows.map(([, row]) => row))
}

const dark = window.matchMedia("(prefers-color-scheme: dark)")
setTheme(dark.matches ? "dark" : "light")
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"))
window.addEventListener("resize", repaint)
document.getElementById("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme == "dark" ? "light" : "dark")
})
const table = document.getElementById("mappings")
Array.from(table.tHead.rows[0].cells).forEach((cell, index) => {
  cell.querySelector("button").addEventListener("click", () => sortBy(table, index))
})
// BokehJS builds its documents once the page is loaded, and not before this script has run.
const waiting = setInterval(() => {
  if (!document.getElementById("heatmap") || plotNamed("rate")) {
    clearInterval(waiting)
    repaint()
  }
}, 20)
