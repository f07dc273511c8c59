package app_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// pinning is somebody who pins models of metadata that is valid for another month.
type pinning struct {
	t             *testing.T
	dir           string
	service       *passkeytest.Metadata
	maker         *passkeytest.Maker
	root, anchors string // files
}

func newPinning(t *testing.T) *pinning {
	t.Helper()
	p := &pinning{t: t, dir: t.TempDir()}
	var err error
	if p.service, err = passkeytest.NewMetadata(time.Now()); err != nil {
		t.Fatal(err)
	}
	if p.maker, err = passkeytest.NewMaker([16]byte{1}); err != nil {
		t.Fatal(err)
	}
	p.root = write(t, p.dir, "root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.service.Root.Raw})))
	p.anchors = filepath.Join(p.dir, "anchors.json")
	return p
}

// blob writes metadata that should be replaced so many days from now.
func (p *pinning) blob(number int64, days int, entries ...map[string]any) string {
	p.t.Helper()
	data, err := p.service.Blob(number, time.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly), entries...)
	if err != nil {
		p.t.Fatal(err)
	}
	return write(p.t, p.t.TempDir(), "blob.jwt", string(data))
}

func (p *pinning) run(blob string, more ...string) (code int, out, errs string) {
	p.t.Helper()
	return command(p.t, append([]string{
		"anchors", "models", "--metadata=" + blob, "--root=" + p.root, "--signer=" + passkeytest.MetadataSigner, "--aaguid=" + p.maker.Model, "-o", p.anchors,
	}, more...)...)
}

func (p *pinning) read() evidence.Anchors {
	p.t.Helper()
	raw, err := os.ReadFile(p.anchors)
	if err != nil {
		p.t.Fatal(err)
	}
	anchors, err := evidence.ParseAnchors(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return anchors
}

func TestAnchorsModels(t *testing.T) {
	t.Parallel()
	p := newPinning(t)
	code, out, errs := p.run(p.blob(7, 30, p.maker.Entry("FIDO_CERTIFIED_L1")))
	if code != 0 || errs != "" || !strings.Contains(out, p.maker.Model+": Example Key") || !strings.Contains(out, "FIDO_CERTIFIED_L1") || strings.Contains(out, "proves nothing") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	first := p.read()
	if m := first.Models; m.Number != 7 || m.NextUpdate != time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly) || len(m.Entries) != 1 || string(m.Entries[0].Roots[0]) != string(p.maker.Root.Raw) {
		t.Errorf("pinned: %+v", m)
	}

	// What else is pinned stays, and what a newer snapshot says replaces the models.
	first.Genesis = evidence.Digest(strings.Repeat("ab", 32))
	first.RelyingParties = []evidence.RelyingParty{{ID: "approvals.example", Origin: "https://approvals.example"}}
	text, err := json.Marshal(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, first})
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.dir, "anchors.json", string(text))
	code, out, errs = p.run(p.blob(8, 30, p.maker.Entry("FIDO_CERTIFIED_L1", "REVOKED")))
	if code != 0 || !strings.Contains(out, "proves nothing: REVOKED") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	second := p.read()
	first.Models.Number, first.Models.Entries[0].Statuses = 8, []string{"FIDO_CERTIFIED_L1", "REVOKED"}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Older metadata, in which the model is good, is not taken unless somebody insists.
	older := p.blob(7, 30, p.maker.Entry("FIDO_CERTIFIED_L1"))
	if code, _, errs := p.run(older); code != 1 || !strings.Contains(errs, "was made from metadata number 8, and this is number 7") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if diff := cmp.Diff(second, p.read()); diff != "" {
		t.Errorf("a refusal changed the file (-want +got):\n%s", diff)
	}
	if code, _, errs := p.run(older, "--force"); code != 0 || p.read().Models.Number != 7 {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestAnchorsModelsRefuses(t *testing.T) {
	t.Parallel()
	p := newPinning(t)
	good := p.blob(7, 30, p.maker.Entry())
	otherRoot := write(t, p.dir, "other.der", string(p.maker.Root.Raw))
	two := strings.Repeat(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.service.Root.Raw})), 2)
	for _, test := range []struct {
		name, says, blob string
		more             []string
	}{
		{"a file that is absent", "no such file", filepath.Join(p.dir, "absent"), nil},
		{"what is no BLOB", "metadata: token is malformed", write(t, p.dir, "text", "text"), nil},
		{"another root", "unknown authority", good, []string{"--root=" + otherRoot}},
		{"a root that is absent", "no such file", good, []string{"--root=" + filepath.Join(p.dir, "absent")}},
		{"a root that is none", "bad.pem: x509", good, []string{"--root=" + write(t, p.dir, "bad.pem", "root")}},
		{"two roots", "must hold one certificate", good, []string{"--root=" + write(t, p.dir, "two.pem", two)}},
		{"a key for a root", "must hold one certificate", good, []string{"--root=" + write(t, p.dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})))}},
		{"another signer", "not mds.fidoalliance.org", good, []string{"--signer=mds.fidoalliance.org"}},
		{"a model that it does not have", "metadata: no model 02000000", good, []string{"--aaguid=02000000-0000-0000-0000-000000000000"}},
		{"a model twice", "is named twice", good, []string{"--aaguid=" + strings.ToUpper(p.maker.Model)}},
		{"a stale one", "it should have been replaced by", p.blob(7, -2, p.maker.Entry()), nil},
		{"a file that holds no anchors", "notes.json", good, []string{"-o", write(t, p.dir, "notes.json", "{}")}},
	} {
		if code, _, errs := p.run(test.blob, test.more...); code != 1 || !strings.Contains(errs, test.says) {
			t.Errorf("%s: exit %d, %s", test.name, code, errs)
		}
	}
	if _, err := os.Stat(p.anchors); err == nil {
		t.Error("something was written")
	}
	if code, _, errs := command(t, "anchors", "models"); code != 1 || !strings.Contains(errs, "--metadata") {
		t.Errorf("without flags: exit %d, %s", code, errs)
	}
	if code, _, errs := p.run(p.blob(7, -2, p.maker.Entry()), "--stale"); code != 0 {
		t.Errorf("stale, and may be: exit %d, %s", code, errs)
	}
	if code, _, errs := p.run(good, "--root="+write(t, p.dir, "root.der", string(p.service.Root.Raw))); code != 0 {
		t.Errorf("a root in DER: exit %d, %s", code, errs)
	}
}

// A server does not start with a file that pins no models, or that cannot be read.
func TestConfigurationsOfModels(t *testing.T) {
	t.Parallel()
	p := newPinning(t)
	if code, _, errs := p.run(p.blob(7, 30, p.maker.Entry())); code != 0 {
		t.Fatal(errs)
	}
	config := app.Config{
		Origin: "https://approvals.example", DatabaseURL: "postgres://x", RedisURL: "redis://x", Keyset: "{}", LogKey: "x",
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org",
	}
	for file, says := range map[string]string{
		p.anchors:                       "",
		filepath.Join(p.dir, "absent"):  "SIGNEDAPPROVAL_MODELS: open",
		write(t, p.dir, "none", "none"): "SIGNEDAPPROVAL_MODELS:",
		write(t, p.dir, "empty.json", `{"format":"`+evidence.AnchorsFormat+`"}`): "pins no models",
	} {
		config.Models = file
		if err := config.Validate(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A server that starts with metadata that should have been replaced says so in its log, and serves.
func TestOldModelsAreWarnedOf(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	config := app.Config{
		Origin: "http://localhost:8080", DatabaseURL: db.AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		LogKey: newLogKey(t, "localhost:8080/log"), ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org",
	}
	for days, warned := range map[int]bool{30: false, -2: true} {
		p := newPinning(t)
		if code, _, errs := p.run(p.blob(7, days, p.maker.Entry()), "--stale"); code != 0 {
			t.Fatal(errs)
		}
		config.Models = p.anchors
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		server, err := app.New(t.Context(), config, slog.New(slog.NewJSONHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
		if got := strings.Contains(log.String(), `"level":"WARN","msg":"the pinned metadata of authenticators is older`); got != warned {
			t.Errorf("%d days: warned %t\n%s", days, got, &log)
		}
	}
}
