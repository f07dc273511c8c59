package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var sample []time.Duration
	for i := 100; i >= 1; i-- {
		sample = append(sample, time.Duration(i))
	}
	for _, c := range []struct {
		sample []time.Duration
		share  float64
		want   time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.99, 7},
		{sample, 0.5, 50},
		{sample, 0.99, 99},
		{sample, 1, 100},
		{sample, 0, 1},
		{[]time.Duration{3, 1, 2}, 0.5, 2},
	} {
		if got := percentile(c.sample, c.share); got != c.want {
			t.Errorf("percentile of %d at %v is %d, want %d", len(c.sample), c.share, got, c.want)
		}
	}
	if sample[0] != 100 {
		t.Error("the sample was sorted in place")
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		figure Figure
		ok     bool
	}{
		"no goal":         {shown("f", 1, "ms", true), true},
		"share met":       {shown("f", 85, "/s", false).beside(100).share(0.85), true},
		"share missed":    {shown("f", 84, "/s", false).beside(100).share(0.85), false},
		"times met":       {shown("f", 3, "ms", true).beside(1).times(3), true},
		"times missed":    {shown("f", 3.01, "ms", true).beside(1).times(3), false},
		"no limit":        {shown("f", 1, "ms", true).times(3), false},
		"limit of zero":   {shown("f", 1, "ms", true).beside(0).times(3), false},
		"at most":         {shown("f", 60, "MB", true).atMost(60), true},
		"above":           {shown("f", 61, "MB", true).atMost(60), false},
		"exactly":         {shown("f", 0, "", true).exactly(0), true},
		"not exactly":     {shown("f", 1, "", true).exactly(0), false},
		"one of two met":  {shown("f", 3, "ms", true).beside(2).times(3).demand("below 2", false), false},
		"first not met":   {shown("f", 9, "ms", true).beside(2).times(3).demand("below 10", true), false},
		"both of two met": {shown("f", 3, "ms", true).beside(2).times(3).demand("below 4", true), true},
	} {
		if c.figure.OK != c.ok {
			t.Errorf("%s: OK is %t", name, c.figure.OK)
		}
	}
}

func TestResultsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	figures := []Figure{
		shown("accepted", 900, "/s", false).beside(1000).share(0.85),
		shown("idle", 41, "MB", true).atMost(40).noting("of %d", 2),
		shown("of nothing", 1, "ms", true).beside(0),
	}
	if err := write(path, figures); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"name": "accepted", "value": 900.0, "unit": "/s", "limit": 1000.0, "ratio": 0.9, "goal": "at least 0.85x the limit", "ok": true},
		{"name": "idle", "value": 41.0, "unit": "MB", "limit": nil, "ratio": nil, "goal": "at most 40 MB", "ok": false, "note": "of 2"},
		{"name": "of nothing", "value": 1.0, "unit": "ms", "limit": 0.0, "ratio": nil, "goal": "", "ok": true},
	}
	if len(list) != len(want) {
		t.Fatalf("%d figures, want %d", len(list), len(want))
	}
	for i := range want {
		for key, value := range want[i] {
			if got, there := list[i][key]; !there || got != value {
				t.Errorf("%s: %s is %v, want %v", want[i]["name"], key, got, value)
			}
		}
	}
	var printed bytes.Buffer
	table(&printed, figures)
	for _, text := range []string{"900 /s", "0.90", "at least 0.85x the limit", "false", "idle: of 2"} {
		if !strings.Contains(printed.String(), text) {
			t.Errorf("the table does not say %q:\n%s", text, printed.String())
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bench", "baseline.json")
	m := mode{quick: true}
	before := []Figure{
		shown("rate", 90, "/s", false).beside(100), shown("latency", 2, "ms", true).beside(1), shown("gone", 1, "ms", true).beside(1),
	}
	if err := compare(&bytes.Buffer{}, path, m, before); err != nil {
		t.Errorf("without a baseline: %v", err)
	}
	if err := writeBaseline(path, m, "0.10", before); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		rate, latency float64
		worse         bool
	}{
		"the same":             {90, 2, false},
		"better":               {99, 1, false},
		"within the tolerance": {61, 2.9, false},
		"a rate that fell":     {59, 2, true},
		"a latency that grew":  {90, 3.1, true},
	} {
		now := []Figure{
			shown("rate", c.rate, "/s", false).beside(100), shown("latency", c.latency, "ms", true).beside(1),
			shown("new", 100, "ms", true).beside(1), shown("without a limit", math.Inf(1), "ms", true),
		}
		var out bytes.Buffer
		err := compare(&out, path, m, now)
		if errors.Is(err, errRegression) != c.worse || err != nil && !c.worse {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
		if !strings.Contains(out.String(), "2 ratios compared") {
			t.Errorf("%s: %s", name, out.String())
		}
	}
	slow := []Figure{shown("rate", 1, "/s", false).beside(100)}
	if err := compare(&bytes.Buffer{}, path, mode{}, slow); err != nil {
		t.Errorf("a whole run was compared with a quick one: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"tolerance": 0.5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := compare(&bytes.Buffer{}, path, m, slow); err == nil || errors.Is(err, errRegression) {
		t.Errorf("a tolerance of 0.5 was taken: %v", err)
	}
}

func TestInSequence(t *testing.T) {
	t.Parallel()
	at := func(began, ended int) span {
		zero := time.Unix(0, 0)
		return span{zero.Add(time.Duration(began)), zero.Add(time.Duration(ended))}
	}
	for name, c := range map[string]struct {
		calls []span
		want  int
	}{
		"none":                    {nil, 0},
		"side by side":            {[]span{at(0, 50), at(1, 51)}, 1},
		"two, then one":           {[]span{at(0, 50), at(1, 51), at(52, 102)}, 2},
		"three after one another": {[]span{at(60, 110), at(0, 50), at(120, 170)}, 3},
		"one that spans all":      {[]span{at(0, 200), at(0, 50), at(60, 110)}, 2},
	} {
		if got := inSequence(c.calls); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestReadBench(t *testing.T) {
	t.Parallel()
	const printed = `goos: linux
BenchmarkVerifyBundle/roster=3-2         	     100	   2309000 ns/op	  11.53 MB/s	       433.0 bundles/s	         7.10 x-raw
BenchmarkP256-2   	   10000	     67000 ns/op
PASS
`
	found := readBench(printed)
	if got := found["BenchmarkVerifyBundle/roster=3"]; got["x-raw"] != 7.1 || got["bundles/s"] != 433 {
		t.Errorf("the verifier: %v", got)
	}
	if got := found["BenchmarkP256"]["ns/op"]; got != 67000 {
		t.Errorf("P-256: %v", got)
	}
}

func TestPadded(t *testing.T) {
	t.Parallel()
	body, err := padded([]byte(`{"repository": {"uuid": "{x}"}, "pullrequest": {"id": 7}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) < bodySize || len(body) > bodySize+200 {
		t.Errorf("the body has %d bytes", len(body))
	}
	if !bytes.Contains(body, []byte(`"pullrequest":{"id":7}`)) {
		t.Error("the body lost its pull request")
	}
}

func TestTheGuardAllowsTheSlowestMore(t *testing.T) {
	t.Parallel()
	b := baseline{Tolerance: 1.5}
	for name, want := range map[string]map[float64]bool{
		"road, p50": {1.4: false, 1.6: true, 2.3: true}, "road, p99": {1.6: false, 2.2: false, 2.3: true},
	} {
		for ratio, worse := range want {
			f := shown(name, ratio, "ms", true).beside(1)
			if got := regressed(f, 1, b.allowed(f)); got != worse {
				t.Errorf("%s at %v: worse %t, want %t", name, ratio, got, worse)
			}
		}
	}
}
