let band = 0
while (band + 1 < first.length && first[band + 1] <= tick) {
  band++
}
const name = label[band]
return window.innerWidth < 760 && name.length > 11 ? name.slice(0, 10) + "…" : name
