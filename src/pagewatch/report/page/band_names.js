let band = 0
while (band + 1 < first.length && first[band + 1] <= tick) {
  band++
}
const name = label[band]
if (window.innerWidth >= 760 || name.length <= 11) {
  return name
}
// What tells one nameless mapping from the next is the end of its address.
const nameless = name.match(/^\[anon(?:ymous)?\] ([0-9a-f]+)/)
return nameless ? "…" + nameless[1].slice(-9) : name.slice(0, 10) + "…"
