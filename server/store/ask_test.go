package store_test

import (
	"encoding/json"
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

// The words of the ledger outlive a release: jobs that wait in it are done by the next one.
func TestAskWritesTheWordsOfTheLedger(t *testing.T) {
	t.Parallel()
	const commit = "1111111111111111111111111111111111111111"
	for _, test := range []struct {
		spec               store.JobSpec
		kind, key, payload string
	}{
		{store.AskEvaluate(acme, repo, 7), "evaluate", acme + "/" + repo + ":7", `{"workspace":"` + acme + `","repository":"` + repo + `","number":7}`},
		{store.AskFan(acme, repo, "release/1"), "fan", acme + "/" + repo + ":release/1", `{"workspace":"` + acme + `","repository":"` + repo + `","branch":"release/1"}`},
		{store.AskFan(acme, repo, ""), "fan", acme + "/" + repo, `{"workspace":"` + acme + `","repository":"` + repo + `"}`},
		{store.AskReconcile(acme, repo), "reconcile", acme + "/" + repo, `{"workspace":"` + acme + `","repository":"` + repo + `"}`},
		{store.AskStatusSeen(acme, repo, "signedapproval-x"), "status-seen", acme + "/" + repo + ":signedapproval-x", `{"workspace":"` + acme + `","repository":"` + repo + `","key":"signedapproval-x"}`},
		{store.AskStatus(acme, alice, commit), "status", alice + ":" + commit, `{"workspace":"` + acme + `","pull_request":"` + alice + `","commit":"` + commit + `"}`},
		{store.AskMerge(acme, alice, commit), "merge", alice + ":" + commit, `{"workspace":"` + acme + `","pull_request":"` + alice + `","commit":"` + commit + `"}`},
		{store.AskRoster(acme, alice), "roster", acme + "/" + alice, `{"workspace":"` + acme + `","person":"` + alice + `"}`},
		{store.AskFallen(acme, 7), "fallen", acme + "/7", `{"workspace":"` + acme + `","version":7}`},
		{store.AskNotify(acme, alice), "notify", alice, `{"workspace":"` + acme + `","notice":"` + alice + `"}`},
	} {
		payload, err := json.Marshal(test.spec.Payload)
		must(t, err)
		same(t, "kind", test.spec.Kind, test.kind)
		same(t, "key of "+test.kind, test.spec.Key, test.key)
		same(t, "workspace of "+test.kind, test.spec.Workspace, acme)
		same(t, "payload of "+test.kind, string(payload), test.payload)
		same(t, test.kind+" is due at once", test.spec.RunAt.IsZero(), true)
	}
	same(t, "the sweep", store.AskSweep(), store.JobSpec{Kind: "sweep", Key: "global"})
}
