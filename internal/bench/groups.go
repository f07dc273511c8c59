package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// group measures figures that belong together.
type group struct {
	name    string
	measure func(ctx context.Context, w *world) ([]Figure, error)
}

// groups are in the order in which they run: what wants a server that has done nothing yet comes first.
var groups = []group{
	{"idle", idle},
	{"start", coldStart},
	{"intake", intake},
	{"log", appends},
	{"road", road},
	{"bundles", bundles},
	{"remote", remote},
	{"evaluations", evaluations},
	{"kill", kill},
	{"burst", burst},
	{"graphql", queries},
	{"subscribers", subscribers},
	{"sweeps", sweeps},
	{"evidence", evidenceFigures},
}

func groupNames() (names []string) {
	for _, g := range groups {
		names = append(names, g.name)
	}
	return append(names, "growth", "retention", "whole log", "backup")
}

// measure runs the groups. One that fails is a figure that is not OK, and the others go on.
func measure(ctx context.Context, m mode, dir string, wanted *regexp.Regexp) (figures []Figure, err error) {
	if m.growth > 0 {
		return growth(ctx, m, dir, wanted)
	}
	w, err := newWorld(ctx, dir, m)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	return w.measure(ctx, wanted)
}

func (w *world) measure(ctx context.Context, wanted *regexp.Regexp) (figures []Figure, failed error) {
	for _, g := range groups {
		if !wanted.MatchString(g.name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		found, err := g.measure(ctx, w)
		figures = append(figures, found...)
		fmt.Fprintf(os.Stderr, "%-12s %s\n", g.name, time.Since(began).Round(100*time.Millisecond))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", g.name, err))
			figures = append(figures, Figure{Name: g.name + ": not measured", Goal: "to be measured", Note: err.Error()})
			w.front.delay.Store(0)
		}
	}
	return figures, failed
}
