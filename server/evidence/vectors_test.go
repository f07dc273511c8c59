package evidence_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// The vectors are for those who write another verifier. They are made from the
// stories and forgeries of these tests, whose keys, salts and signatures are the
// same in every run, so a vector that no longer fits the code is noticed.
var update = flag.Bool("update", false, "write testdata/vectors anew")

// bundleVector is a file under testdata/vectors/bundles.
type bundleVector struct {
	Name     string           `json:"name"`
	ExitCode int              `json:"exitCode"`
	Step     string           `json:"step,omitempty"` // that fails
	Code     evidence.Code    `json:"code,omitempty"` // of the failure
	Sentence string           `json:"sentence"`
	Anchors  evidence.Anchors `json:"anchors"`
	// Bundle is the text of the bundle, whose bytes matter.
	Bundle string `json:"bundle"`
}

// assertionVector is an entry of testdata/vectors/assertions.json.
type assertionVector struct {
	Name         string                `json:"name"`
	Code         evidence.Code         `json:"code"` // empty when the assertion counts
	Statement    evidence.Bytes        `json:"statement"`
	Assertion    evidence.Assertion    `json:"assertion"`
	Keys         []evidence.Key        `json:"keys"`
	RelyingParty evidence.RelyingParty `json:"relyingParty"`
}

var digits = regexp.MustCompile(`[0-9a-f]*[0-9][0-9a-f]*`)

func bundleVectors(t *testing.T) (list []bundleVector) {
	t.Helper()
	exitCodes := map[string]int{}
	for name, good := range map[string]struct {
		story    func(w *world)
		exitCode int
	}{
		"good approved":   {(*world).story, 0},
		"good rejected":   {rejection, 0},
		"good overridden": {broken, 0},
		"good closed":     {closedStory, 0},
		"good approved too late": {func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("carol", evidence.Approve)
			w.append(evidence.Merged{Request: w.request().ID, Kind: "violation", Commit: w.commit("landed")})
			w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "cancelled"})
		}, 0},
		"good approved and superseded": {func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("carol", evidence.Approve)
			w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "superseded"})
			w.publish()
		}, 0},
		"good asked for again when it had been rejected": {askedAgain, 0},
		"good pending": {func(w *world) { w.open("old") }, 0},
		"good merge checked": {func(w *world) {
			w.open("old")
			w.check(evidence.AnswerNo, "PENDING")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.check(evidence.AnswerYes, evidence.CheckApproved)
		}, 0},
		"good erased": {func(w *world) {
			w.story()
			w.decisions[0].Approver, w.decisions[0].Author, w.outcome = nil, nil, nil
		}, 2},
		"good erased people whose accounts are pinned": {erasedStory, 2},
		"good pinned in another encoding":              {(*world).story, 2},
		"good issued in the second in which it was filed": {func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.IssuedAt = s.IssuedAt.Add(time.Minute) }
			w.story()
		}, 0},
		"good erased people":                      {erasedStory, 2},
		"good erased people who overrode":         {erasedOverride, 2},
		"good roster":                             {rosterStory, 0},
		"good compromised":                        {compromisedStory, 0},
		"good enrolled by a compromised key":      {found(steal), 0},
		"good countersigned by a compromised key": {countersigningThief, 0},
		"good agreed by a compromised key":        {agreeingThief, 0},
		"good countersigned": {func(w *world) {
			w.vouch("bob", w.tokens["dave"])
			w.vouch("carol", w.tokens["dave"])
			w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
			w.story()
		}, 0},
		"good cosigned":                   {cosignedStory(2), 0},
		"good cosigned by who is unknown": {cosignedStory(4), 2},
		"good agreed": {func(w *world) {
			w.vouch("carol", w.tokens["bob"], w.tokens["dave"])
			w.story()
			w.revoke("carol", w.token("bob"), nil, w.tokens["dave"])
		}, 0},
		"good without roster": {func(w *world) {
			w.roster = nil
			w.open("old")
		}, 2},
	} {
		w := newWorld(t)
		good.story(w)
		exitCodes[name] = good.exitCode
		anchors := w.anchors()
		switch name {
		case "good roster": // as of before it moved
			anchors.Roster = newWorld(t).newest()
		case "good erased people whose accounts are pinned":
			anchors.Keys = w.pins()
		case "good pinned in another encoding":
			anchors.Roster, anchors.Keys = "", w.pins()
			anchors.Keys[0].PublicKey = otherEncoding(anchors.Keys[0].PublicKey)
		}
		list = append(list, bundleVector{Name: name, Anchors: anchors, Bundle: string(w.encoded())})
	}
	for _, r := range reports() {
		if r.exit != 1 {
			data, anchors := r.make(t)
			exitCodes["good stolen "+r.name] = r.exit
			list = append(list, bundleVector{Name: "good stolen " + r.name, Anchors: anchors, Bundle: string(data)})
		}
	}
	for _, v := range vouchings() {
		if v.exit != 1 {
			data, anchors := v.make(t)
			exitCodes["good vouched for by "+v.name] = v.exit
			list = append(list, bundleVector{Name: "good vouched for by " + v.name, Anchors: anchors, Bundle: string(data)})
		}
	}
	for _, r := range revokedKeys() {
		if r.step == "" {
			data, anchors := r.make(t)
			list = append(list, bundleVector{Name: "good revoked " + r.name, Anchors: anchors, Bundle: string(data)})
			exitCodes["good revoked "+r.name] = 0
		}
	}
	w := newWorld(t)
	w.story()
	exitCodes["good without anchors"] = 2
	list = append(list, bundleVector{Name: "good without anchors", Bundle: string(w.encoded())})
	elsewhere := w.anchors()
	elsewhere.Policies = policiesOf(otherRepository, w.policy.Digest())
	exitCodes["good without policies of its repository"] = 2
	list = append(list, bundleVector{Name: "good without policies of its repository", Anchors: elsewhere, Bundle: string(w.encoded())})
	w, _, _ = modelWorld(t)
	modelStory(w)
	exitCodes["good models"], exitCodes["good models without metadata"] = 0, 2
	for name, models := range map[string]*evidence.Models{"good models": w.models, "good models without metadata": nil} {
		anchors := w.anchors()
		anchors.Models = models
		list = append(list, bundleVector{Name: name, Anchors: anchors, Bundle: string(w.encoded())})
	}
	told := map[string]bool{}
	for _, f := range allForgeries() {
		// One is enough of those that are refused in the same words; but what is worse than a stolen key is said beside one too.
		data, anchors := f.make(t)
		if _, err := evidence.ParseAnchors(anchorsText(t, anchors)); err != nil {
			continue // no file can hold them
		}
		report := evidence.Verify(data, anchors)
		if said := digits.ReplaceAllString(report.Sentence(), "0"); !told[said] || strings.HasPrefix(f.name, "stolen in the tally, and") {
			told[said] = true
			list = append(list, bundleVector{Name: "bad " + f.name, Anchors: anchors, Bundle: string(data)})
		}
	}
	for i := range list {
		v := &list[i]
		report := evidence.Verify([]byte(v.Bundle), v.Anchors)
		v.ExitCode, v.Sentence = report.ExitCode(), report.Sentence()
		if failed, ok := report.Failed(); ok {
			v.Step, v.Code = failed.Name, failed.Code
		}
		if want, good := exitCodes[v.Name]; good && v.ExitCode != want || !good && v.ExitCode != 1 {
			t.Errorf("%s: %s", v.Name, v.Sentence)
		}
	}
	return list
}

func assertionVectors(t *testing.T) (list []assertionVector) {
	t.Helper()
	for _, r := range accepted(t) {
		list = append(list, assertionVector{"good " + r.name, "", r.statement, r.assertion, r.keys, r.rp})
	}
	for _, r := range refusals(t) {
		list = append(list, assertionVector{"bad " + r.name, r.code, r.statement, r.assertion, r.keys, r.rp})
	}
	return list
}

func TestVectors(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("testdata", "vectors")
	documents := documentVectors(t)
	slices.SortStableFunc(documents, func(a, b documentVector) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	files := map[string]any{filepath.Join(folder, "assertions.json"): assertionVectors(t), filepath.Join(folder, "documents.json"): documents, filepath.Join(folder, "attestations.json"): attestationVectors(t)}
	for _, v := range bundleVectors(t) {
		files[filepath.Join(folder, "bundles", strings.ReplaceAll(strings.ReplaceAll(v.Name, "'", ""), " ", "-")+".json")] = v
	}
	for path, v := range files {
		var made bytes.Buffer
		encoder := json.NewEncoder(&made)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", " ")
		if err := encoder.Encode(v); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, made.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(read(t, path), made.Bytes()) {
			t.Errorf("%s is not what the tests make; run go test -run TestVectors -update and say in FORMAT.md what changed", path)
		}
	}
	stored, err := filepath.Glob(filepath.Join(folder, "bundles", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(files)-3 {
		t.Errorf("%d files, %d vectors", len(stored), len(files)-3)
	}
	// What is published is checked from the files, as a stranger would.
	for _, path := range stored {
		var v bundleVector
		if err := json.Unmarshal(read(t, path), &v); err != nil {
			t.Fatal(err)
		}
		report := evidence.Verify([]byte(v.Bundle), v.Anchors)
		if report.ExitCode() != v.ExitCode || report.Sentence() != v.Sentence {
			t.Errorf("%s: %d, %s", path, report.ExitCode(), report.Sentence())
		}
	}
	var assertions []assertionVector
	if err := json.Unmarshal(read(t, filepath.Join(folder, "assertions.json")), &assertions); err != nil {
		t.Fatal(err)
	}
	for _, v := range assertions {
		if _, err := evidence.VerifyAssertion(v.Statement, v.Assertion, v.Keys, v.RelyingParty); evidence.CodeOf(err) != v.Code || (v.Code == "") != (err == nil) {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	var attestations []attestationVector
	if err := json.Unmarshal(read(t, filepath.Join(folder, "attestations.json")), &attestations); err != nil {
		t.Fatal(err)
	}
	for _, v := range attestations {
		if model, err := v.judge(); model != v.Model || evidence.CodeOf(err) != v.Code || (v.Code == "") != (err == nil) || err != nil && err.Error() != v.Sentence {
			t.Errorf("%s: %q, %v", v.Name, model, err)
		}
	}
	var single []documentVector
	if err := json.Unmarshal(read(t, filepath.Join(folder, "documents.json")), &single); err != nil {
		t.Fatal(err)
	}
	for _, v := range single {
		if err := readDocument(v); evidence.CodeOf(err) != v.Code || (v.Code == "") != (err == nil) {
			t.Errorf("%s %s: %v", v.Kind, v.Name, err)
		}
	}
	t.Logf("%d bundles, %d assertions, %d documents", len(stored), len(assertions), len(single))
}
