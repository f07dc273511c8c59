package app_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/witness"
)

// newTransit is a key management service with one key, whose token is in a file.
func newTransit(t *testing.T) (url, tokenFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data := map[string]any{
			"type": "ed25519", "latest_version": 1, "min_decryption_version": 1,
			"keys": map[string]any{"1": map[string]any{"name": "ed25519", "public_key": []byte(public)}},
		}
		if r.Header.Get("X-Vault-Token") != "s.very-secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method == http.MethodPost {
			var question struct {
				Input []byte `json:"input"`
			}
			if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			signature, _ := json.Marshal(ed25519.Sign(private, question.Input))
			data["signature"] = fmt.Sprintf("vault:v1:%s", signature[1:len(signature)-1])
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"data": data}); err != nil {
			t.Errorf("answer: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/v1/transit/keys/log", write(t, t.TempDir(), "token", "s.very-secret\n")
}

// TestTheLogsKeysFromEverywhere reads them from the environment, a file, a key management service and both: whoever pinned one
// of the keys that are announced knows the checkpoint.
func TestTheLogsKeysFromEverywhere(t *testing.T) {
	t.Parallel()
	const log = "approvals.example/log"
	key := newLogKey(t, log)
	service, token := newTransit(t)
	for name, c := range map[string]struct {
		config app.Config
		keys   int
	}{
		"the environment":           {app.Config{LogKey: key}, 1},
		"two keys":                  {app.Config{LogKey: key + "\n" + newLogKey(t, log)}, 2},
		"a file":                    {app.Config{LogKeyFile: write(t, t.TempDir(), "log.key", key+"\n")}, 1},
		"a key service":             {app.Config{LogKeyKMS: service, LogKeyKMSTokenFile: token}, 1},
		"a file and a key service":  {app.Config{LogKeyFile: write(t, t.TempDir(), "log.key", key), LogKeyKMS: service, LogKeyKMSTokenFile: token}, 2},
		"no such file":              {app.Config{LogKeyFile: filepath.Join(t.TempDir(), "absent")}, 0},
		"a file that is no key":     {app.Config{LogKeyFile: write(t, t.TempDir(), "log.key", "x"), LogKeyKMS: service, LogKeyKMSTokenFile: token}, 0},
		"a service that refuses":    {app.Config{LogKey: key, LogKeyKMS: service, LogKeyKMSTokenFile: write(t, t.TempDir(), "token", "wrong")}, 0},
		"a service out of reach":    {app.Config{LogKey: key, LogKeyKMS: "http://127.0.0.1:1/v1/transit/keys/log", LogKeyKMSTokenFile: token}, 0},
		"a token that is not there": {app.Config{LogKeyKMS: service, LogKeyKMSTokenFile: filepath.Join(t.TempDir(), "absent")}, 0},
	} {
		c.config.LogOrigin = log
		keys, err := c.config.ReadLogKeys(t.Context())
		if (err == nil) != (c.keys > 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got := keys.Verifiers(); len(got) != c.keys {
			t.Errorf("%s: announces %q", name, got)
		}
		note, err := keys.Sign(witness.Head{Size: 7, Root: tlog.Hash{7}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, verifier := range keys.Verifiers() {
			anchors := evidence.Anchors{Log: &evidence.LogAnchor{Origin: log, Keys: []string{verifier}}}
			if shown, err := monitor.Open(note, anchors); err != nil || shown.N != 7 {
				t.Errorf("%s: by %s alone: %v", name, verifier, err)
			}
		}
	}
}
