// Rows at which names stand: the tallest bands in view first, as many as have room for a line of text.
const {start, end} = cb_data.range
const top = Math.min(start, end)
const bottom = Math.max(start, end)
const room = (bottom - top) * 15 / height
const visible = []
for (let i = 0; i < first.length; i++) {
  const from = Math.max(first[i], top)
  const to = Math.min(band_end[i], bottom)
  if (from < to) {
    visible.push([to - from, (from + to) / 2])
  }
}
visible.sort((a, b) => b[0] - a[0])
const ticks = []
for (const [, middle] of visible) {
  if (ticks.every((other) => Math.abs(other - middle) >= room)) {
    ticks.push(middle)
  }
}
return ticks
