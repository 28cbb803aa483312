// One line of the tooltip of the cell under the mouse; `format` says which.
const row = Math.min(Math.max(Math.floor(special_vars.y), 0), rows.data.pages.length - 1)
let column = 0
while (column + 2 < edges.length && edges[column + 1] <= special_vars.x) {
  column++
}
if (format == "time") {
  return edges[column].toFixed(2) + " – " + edges[column + 1].toFixed(2) + " s"
}
if (format == "written") {
  const written = cells.data.page_writes[0][row * (edges.length - 1) + column]
  const chances = rows.data.pages[row] * cells.data.rounds[0][column]
  const n_collects = cells.data.rounds[0][column]
  const collects = n_collects == 1 ? "" : " in " + n_collects + " collects"
  const share = 100 * written / chances
  const digits = share > 0 && share < 10 ? 2 : 0
  return written.toLocaleString("en") + " of " + rows.data.pages[row].toLocaleString("en") + " pages" + collects +
    " (" + share.toFixed(digits) + " %)"
}
return rows.data[format][row]
