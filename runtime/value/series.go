package value

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Point is one interval of a time series; a missing value has Kind Null.
type Point struct {
	Start time.Time
	Value V
}

const chartWidth = 53

func seriesNumber(v V) float64 {
	if v.Kind == Int {
		return float64(v.Int)
	}
	return float64(v.U)
}

// appendSeries draws the chart: one line per interval, a star at the value's place between the least and the greatest.
func appendSeries(dst []byte, points []Point) []byte {
	if len(points) == 0 {
		return append(dst, "<no data>"...)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		if p.Value.Kind != Null {
			lo, hi = math.Min(lo, seriesNumber(p.Value)), math.Max(hi, seriesNumber(p.Value))
		}
	}
	if lo > hi {
		lo, hi = 0, 0
	}
	if lo == hi {
		if lo > 0 || points[0].Value.Kind == Int {
			lo--
		}
		hi++
	}
	step := time.Duration(1) // one point alone says nothing of the interval
	if n := len(points); n > 1 {
		step = points[n-1].Start.Sub(points[0].Start) / time.Duration(n-1)
	}
	unit, digits := "", 0
	switch {
	case step%time.Second == 0:
	case step%time.Millisecond == 0:
		unit, digits = ".ms", 3
	case step%time.Microsecond == 0:
		unit, digits = ".us", 6
	default:
		unit, digits = ".ns", 9
	}
	head := "hh:mm:ss" + unit
	width := 8
	if digits > 0 {
		width += 1 + digits
	}
	legend := func() {
		dst = fmt.Appendf(dst, "%-21.0f%32.0f\n", lo, hi)
	}
	dst = fmt.Appendf(dst, "%*s", width+1, "")
	legend()
	dst = fmt.Appendf(dst, "%-*s|%s|\n", width+1, head, strings.Repeat("_", chartWidth-2))
	zero := 0
	if lo < 0 && hi > 0 {
		zero = int(chartWidth * -lo / (hi - lo))
	}
	for _, p := range points {
		line := []byte(strings.Repeat(" ", chartWidth))
		line[0], line[chartWidth-1] = '|', '|'
		if zero > 0 && zero < chartWidth {
			line[zero] = '.'
		}
		dst = append(append(dst, p.Start.Local().Format("15:04:05")...), "."...)
		dst = dst[:len(dst)-1]
		if digits > 0 {
			frac := fmt.Sprintf("%09d", p.Start.Nanosecond())
			dst = append(append(dst, '.'), frac[:digits]...)
		}
		dst = append(dst, ' ')
		if p.Value.Kind == Null {
			dst = append(append(dst, line...), " -\n"...)
			continue
		}
		at := int((chartWidth - 1) * (seriesNumber(p.Value) - lo) / (hi - lo))
		line[max(0, min(chartWidth-1, at))] = '*'
		dst = append(append(append(dst, line...), ' '), append(AppendText(nil, p.Value), '\n')...)
	}
	dst = fmt.Appendf(dst, "%*s v%sv\n%*s ", width, "", strings.Repeat("_", chartWidth-2), width, "")
	legend()
	return dst
}

func appendSeriesJSON(dst []byte, points []Point) []byte {
	dst = append(dst, '[')
	for i, p := range points {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p.Start.Local().AppendFormat(append(dst, `{"interval_start":"`...), "2006-01-02 15:04:05.000000000")
		dst = append(AppendJSON(append(dst, `","value":`...), p.Value), '}')
	}
	return append(dst, ']')
}
