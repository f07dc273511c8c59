package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// Figure is one thing that was measured, as it stands in results.json.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Limit is what the machine, or the bare counterpart, reaches in the same run; nil where there is nothing to compare with.
	Limit *float64 `json:"limit"`
	// Ratio is Value / Limit.
	Ratio *float64 `json:"ratio"`
	// Goal is what is demanded, in words; "" for a figure that is shown for its own sake.
	Goal string `json:"goal"`
	// OK tells whether the goal is met; true where there is none.
	OK bool `json:"ok"`
	// Note says what a reader must know.
	Note string `json:"note,omitempty"`
	// Less tells that less is better: the guard needs it.
	Less bool `json:"less_is_better"`
}

// shown is a figure for its own sake; less tells that less is better.
func shown(name string, value float64, unit string, less bool) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Less: less, OK: true}
}

// beside adds a limit that was measured in the same run.
func (f Figure) beside(limit float64) Figure {
	ratio := f.Value / limit
	f.Limit = &limit
	if !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
		f.Ratio = &ratio
	}
	return f
}

// atMost demands a value.
func (f Figure) atMost(goal float64) Figure {
	f.Less = true
	return f.demand(fmt.Sprintf("at most %s %s", number(goal), f.Unit), f.Value <= goal)
}

// exactly demands a value.
func (f Figure) exactly(goal float64) Figure {
	return f.demand(fmt.Sprintf("%s %s", number(goal), f.Unit), f.Value == goal)
}

// times demands that the value is at most so many times the limit.
func (f Figure) times(goal float64) Figure {
	f.Less = true
	return f.demand(fmt.Sprintf("at most %sx the limit", number(goal)), f.Ratio != nil && *f.Ratio <= goal)
}

// share demands that the value is at least this share of the limit.
func (f Figure) share(goal float64) Figure {
	f.Less = false
	return f.demand(fmt.Sprintf("at least %sx the limit", number(goal)), f.Ratio != nil && *f.Ratio >= goal)
}

// demand adds a goal to those before.
func (f Figure) demand(goal string, met bool) Figure {
	if f.Goal == "" {
		f.Goal, f.OK = goal, met
		return f
	}
	f.Goal += ", " + goal
	f.OK = f.OK && met
	return f
}

func (f Figure) noting(format string, args ...any) Figure {
	f.Note = fmt.Sprintf(format, args...)
	return f
}

// number writes a value with three digits that tell something.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e15:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// table prints figures for people.
func table(to io.Writer, figures []Figure) {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "\nfigure\tvalue\tlimit\tratio\tgoal\tok")
	for _, f := range figures {
		limit, ratio, ok := "", "", ""
		if f.Limit != nil {
			limit = number(*f.Limit)
		}
		if f.Ratio != nil {
			ratio = number(*f.Ratio)
		}
		if f.Goal != "" {
			ok = strconv.FormatBool(f.OK)
		}
		fmt.Fprintf(out, "%s\t%s %s\t%s\t%s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, limit, ratio, f.Goal, ok)
	}
	_ = out.Flush() // what cannot be printed is in the file
	for _, f := range figures {
		if f.Note != "" {
			fmt.Fprintf(to, "  %s: %s\n", f.Name, f.Note)
		}
	}
}

// write writes results.json whole or not at all.
func write(path string, figures []Figure) error {
	if figures == nil {
		figures = []Figure{}
	}
	data, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// percentile is the value that this share of the sample does not exceed, by the nearest rank; 0 for an empty sample.
func percentile(sample []time.Duration, share float64) time.Duration {
	if len(sample) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(sample))
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the middle of a sample; 0 for an empty one.
func median(sample []float64) float64 {
	if len(sample) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(sample))
	return sorted[(len(sorted)-1)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
