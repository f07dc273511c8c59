package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// baseline is the committed file: ratios by mode and name.
type baseline struct {
	// Tolerance is by which factor a ratio may be worse. Runs on shared machines differ by a third, ratios too.
	Tolerance float64 `json:"tolerance"`
	// Load is how busy the machine was with other work when it was recorded last. Of a busy one the ratios are worse, so
	// that the guard lets more pass.
	Load   string                        `json:"load"`
	Ratios map[string]map[string]float64 `json:"ratios"`
}

// usualTolerance is that of a new baseline.
const usualTolerance = 1.5

func readBaseline(path string) (baseline, error) {
	b := baseline{Tolerance: usualTolerance, Ratios: map[string]map[string]float64{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("%s: %w", path, err)
	}
	if b.Tolerance <= 1 {
		return b, fmt.Errorf("%s: its tolerance must be above 1", path)
	}
	if b.Ratios == nil {
		b.Ratios = map[string]map[string]float64{}
	}
	return b, nil
}

// writeBaseline puts the ratios of this run in the place of those of the same name and mode.
func writeBaseline(path string, m mode, load string, figures []Figure) error {
	b, err := readBaseline(path)
	if err != nil {
		return err
	}
	if b.Ratios[m.String()] == nil {
		b.Ratios[m.String()] = map[string]float64{}
	}
	for _, f := range figures {
		if f.Ratio != nil {
			b.Ratios[m.String()][f.Name] = *f.Ratio
		}
	}
	b.Load = load
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// compare fails with errRegression where a ratio is worse than the baseline's by more than its tolerance. What only one
// of the two has is not compared.
func compare(to io.Writer, path string, m mode, figures []Figure) error {
	b, err := readBaseline(path)
	if err != nil {
		return err
	}
	compared, worse := 0, 0
	for _, f := range figures {
		before, known := b.Ratios[m.String()][f.Name]
		if !known || f.Ratio == nil {
			continue
		}
		compared++
		if regressed(f, before, b.allowed(f)) {
			worse++
			fmt.Fprintf(to, "worse than the baseline: %s has a ratio of %s, and had %s\n", f.Name, number(*f.Ratio), number(before))
		}
	}
	fmt.Fprintf(to, "%d ratios compared with %s, %d worse by more than %sx\n", compared, path, worse, number(b.Tolerance))
	if worse > 0 {
		return errRegression
	}
	return nil
}

// allowed is by which factor the ratio of a figure may be worse. The slowest hundredth is a handful of a run's sample, and
// one hiccup of the disk is among them.
func (b baseline) allowed(f Figure) float64 {
	if strings.HasSuffix(f.Name, ", p99") {
		return b.Tolerance * b.Tolerance
	}
	return b.Tolerance
}

// regressed tells whether a ratio is worse than before by more than the factor.
func regressed(f Figure, before, tolerance float64) bool {
	if f.Less {
		return *f.Ratio > before*tolerance
	}
	return *f.Ratio < before/tolerance
}
