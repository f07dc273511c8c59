package monitor

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestTheFormOfTheStateHasAName: what is kept in another form has another name, or a program would misread the folder of an older one.
func TestTheFormOfTheStateHasAName(t *testing.T) {
	t.Parallel()
	at, index := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), int64(7)
	end := chainEnd{
		sequence: 3, leaf: tlog.Hash{1}, workspace: tlog.Hash{2}, signed: at.Unix(), request: "r", verdict: "APPROVED", lit: true, decided: true, unjudged: true, hurried: index, ended: []string{"cancelled/q"},
	}
	form := bytes.NewBuffer(end.marshal())
	for _, kept := range []any{
		progress{Format: "f", Origin: "o", Next: 1, Latest: at, Seen: []seen{{1, tlog.Hash{2}, "n", at}}},
		judged{
			By: "b", ID: "i", Versions: 1, Next: 2, Answers: 3, Size: 4, Settled: true, Ahead: map[string]time.Time{"a": at}, Withheld: at, Unowned: map[int64]time.Time{1: at},
			Rules: rulebook{
				Roster: 1, Force: evidence.ProtectionDocument{Version: 1, Previous: "p", Quorum: 1, People: []string{"x"}}, Newest: map[evidence.Digest]evidence.Digest{"r": "d"},
				InForce: map[evidence.Digest]ruled{"r": {1, 2, "s", []agreed{{evidence.Bytes{1}, at}}}},
			},
		},
		doubt{"s", at, "d", 1, at, "b", "c"},
		past{1, evidence.Bytes{1}},
		Finding{Fork, true, "s", "d", &index, "p", at},
		string(turnKey("w", index)), string(historyKey("w", "roster", 1)), string(findingKey(Finding{Code: Fork, Subject: "s"})),
	} {
		if err := json.NewEncoder(form).Encode(kept); err != nil {
			t.Fatal(err)
		}
	}
	const name, sum = "signedapproval.monitor/v6", "cbf4f263bb996690a8a355c5ab442f5912c436d41239683da28a92e1f51191f0"
	if got := fmt.Sprintf("%x", sha256.Sum256(form.Bytes())); stateFormat != name || got != sum {
		t.Errorf("the state has the form %s under the name %s; give a new form a new name, and put both here", got, stateFormat)
	}
	var again chainEnd
	if err := again.unmarshal(end.marshal()); err != nil || fmt.Sprint(again) != fmt.Sprint(end) || again.hurried != index {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestAStateOfAnotherFormIsRefused: it says what is to be done, and nothing in the folder changes.
func TestAStateOfAnotherFormIsRefused(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "state")
	state, err := OpenState(folder, false)
	if err != nil {
		t.Fatal(err)
	}
	err = state.db.Update(func(tx *bbolt.Tx) error {
		return put(tx.Bucket(tableMeta), keyProgress, progress{Format: "signedapproval.monitor/v2", Origin: "o"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(folder, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false} {
		_, err := OpenState(folder, readOnly)
		if err == nil || !strings.Contains(err.Error(), `"signedapproval.monitor/v2", and this version of the program reads signedapproval.monitor/v6: give another folder`) {
			t.Errorf("read only %t: %v", readOnly, err)
		}
	}
	after, err := os.ReadFile(filepath.Join(folder, databaseFile))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the folder was changed: %v", err)
	}
}
