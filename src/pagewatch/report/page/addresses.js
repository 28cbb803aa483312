const row = Math.floor(tick)
return row >= 0 && row < starts.length ? starts[row] : ""
